"""Explanations of models whose decisive words are known, and the laws all of them keep."""

from __future__ import annotations

import io
import json
import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from bert_cls import Classifier
from bert_cls.cli import app
from bert_cls.commands.explain import _show as show
from bert_cls.config import resolve_config
from bert_cls.data import Example, read
from bert_cls.decision import Rule
from bert_cls.engines import gradients
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import ConfigError, DataError
from bert_cls.explain import (
    Span,
    check_lengths,
    occlude,
    only_read,
    put_back,
    stand_in,
    unknown_id,
    weigher,
    whole_text,
)
from bert_cls.folding import folded
from bert_cls.text import TextEncoder, TextSettings
from bert_cls.training import Request, Silent, train
from bert_cls.units import units
from small import paired
from tiny import FAMILIES, tiny_encoder, tiny_tokenizer

DECISIVE = {"灯": "尾灯", "窗": "天窗", "胎": "轮胎", "led": "LED"}
FILLER = "这车的很亮晚上开着放心下雨座椅都湿了换条花三百块一直不稳朋友问我怎么样修今气错"
FAST = {
    "training.epochs": 10,
    "training.batch_size": 16,
    "training.learning_rate": 2e-3,
    "training.precision": "float32",
    "report.linear_bar": False,
    "report.resamples": 0,
}


def word_rows(count, seed=0):
    """Class rows whose label depends on one word among random characters; 无 is without any.

    Without such rows a class could be what is left when the words of the others are absent.
    """
    chooser = random.Random(seed)
    rows = []
    for index in range(count):
        label = chooser.choice([*sorted(DECISIVE), "无"])
        text = [chooser.choice(FILLER) for _ in range(chooser.randint(6, 14))]
        text.insert(chooser.randint(0, len(text)), DECISIVE.get(label, "很"))
        rows.append({"index": index, "text_a": "".join(text), "text_b": None, "label": label})
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("explain")
    data = root / "data"
    data.mkdir()
    rows = word_rows(300)
    for name, part in (("train", rows[:200]), ("dev", rows[200:240]), ("test", rows[240:])):
        (data / f"{name}.json").write_text(json.dumps(part, ensure_ascii=False), "utf-8")
    encoder = str(tiny_encoder("bert", root / "encoder"))
    config, origins = resolve_config(flags={"encoder.name": encoder, **FAST})
    trained = train(Request(data, root / "model", config, origins), Silent())
    assert trained.evaluations["test"].metrics["accuracy"] > 0.97
    return root


@pytest.fixture(scope="module")
def model(folder):
    return Classifier.load(folder / "model")


@pytest.fixture(scope="module")
def rows(folder):
    return read(folder / "data" / "test.json").examples


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_the_decisive_word_weighs_most(method, model, rows):
    rows = [row for row in rows if row.label in DECISIVE]
    found = model.explain(rows, method=method)
    hits = []
    for row, why in zip(rows, found, strict=True):
        label = why.labels[0].label
        top = max(why.labels[0].spans, key=lambda span: span.weight)
        at = row.text_a.index(DECISIVE[row.label])
        end = at + len(DECISIVE[row.label])
        hits.append(label == row.label and at <= top.start < end)
    assert np.mean(hits) >= 0.95, np.mean(hits)


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_a_random_head_is_explained_otherwise(method, folder, model, rows):
    # Adebayo et al. 2018: what does not follow the weights explains nothing. A head of one's own
    # direction may turn out alike by chance, many heads may not
    other = Classifier.load(folder / "model")
    before = weights_of(model.explain(rows[:20], ["灯"], method=method))
    alike = []
    torch.manual_seed(0)
    for _ in range(12):
        with torch.no_grad():
            other.engine.network.head.weight.normal_()
        after = weights_of(other.explain(rows[:20], ["灯"], method=method))
        pairs = zip(before, after, strict=True)
        alike.append(np.mean([stats.spearmanr(*pair).statistic for pair in pairs]))
    assert abs(np.mean(alike)) < 0.4, np.mean(alike)


def weights_of(found):
    return [[span.weight for span in each.labels[0].spans] for each in found]


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_pieces_are_the_text_and_neighbours_change_nothing(method, model):
    texts = ["  这车的尾灯 很亮  ok 2.0！", "天窗", "轮胎" * 90 + "尾", "𪛖👍🏽尾灯é"]
    together = model.explain(texts, ["灯", "窗"], method=method)
    for text, why in zip(texts, together, strict=True):
        for label in ("灯", "窗"):
            pieces = why.pieces(label)
            assert "".join(piece for piece, _ in pieces) == text
            assert all(np.isfinite(weight) for _, weight in pieces)
        # all windows of two units are three; of each label 16 points of a path
        counted = {"occlusion": 5 if text == "天窗" else why.passes, "gradient": 33}
        assert why.passes == counted[method] <= 130
        alone = model.explain([text], ["灯", "窗"], method=method)[0]
        for a, b in zip(alone.labels, why.labels, strict=True):
            assert [s.weight for s in a.spans] == pytest.approx(
                [s.weight for s in b.spans], abs=1e-3
            )


def test_passes_are_bounded_however_long_the_text():
    asked = []

    def margins(examples):
        asked.append(len(examples))
        return np.array([[e.text_a.count("中") * 1.0, len(e.text_a) * 0.0] for e in examples])

    for length, place in ((3, 1), (40, 30), (900, 700), (5000, 123)):
        asked.clear()
        text = "啊" * place + "中" + "啊" * (length - place - 1)
        [(spans, weights, passes)] = occlude(
            [Example(0, text)], [[0]], margins, passes=64, hidden="〇"
        )
        assert sum(asked) == passes <= 65
        assert text[spans[int(weights[:, 0].argmax())].start] == "中"
        assert weights[:, 0].max() > 0
    with pytest.raises(DataError, match="at most 100,000"):
        check_lengths([Example(7, "啊" * 100_001)])


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("尾灯 LED bright！", ["尾", "灯 ", "LED ", "bright", "！"]),
        ("नमस्ते दुनिया", ["नमस्ते ", "दुनिया"]),
        ("cafe\u0301 noir", ["cafe\u0301 ", "noir"]),
        ("مُحَمَّد كتب", ["مُحَمَّد ", "كتب"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("ครับ", ["ค", "รั", "บ"]),
        ("か\u3099灯", ["か\u3099", "灯"]),
        ("👩🏽\u200d🚀👍", ["👩🏽\u200d🚀", "👍"]),
        ("🇨🇳🇺🇸 灯🇨", ["🇨🇳", "🇺🇸 ", "灯", "🇨"]),
        (" \u0301❤\ufe0fx", [" ", "\u0301", "❤\ufe0f", "x"]),
    ],
)
def test_marks_and_joiners_belong_to_what_precedes_them(text, cut):
    assert [text[start:end] for start, end in units(text)] == cut


def test_hiding_keeps_everything_else_in_place():
    versions = []

    def margins(examples):
        versions.extend(e.text_a for e in examples)
        return np.zeros((len(examples), 1))

    occlude([Example(0, "尾灯 LED bright")], [[0]], margins, hidden="#")
    assert versions[0] == "尾灯 LED bright"
    assert {"#灯 LED bright", "尾# LED bright", "尾灯 # bright", "尾灯 LED #"} <= set(versions)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_tokenizer_has_a_stand_in_or_none_and_traces_its_tokens(family):
    text = TextEncoder(tiny_tokenizer(family), TextSettings(max_length=24))
    character = stand_in(text)
    if character:
        # between letters it is unknown by itself, and they stay known
        found = text.tokenizer.encode(f"a{character}a", add_special_tokens=False)
        unknown = [i for i, number in enumerate(found.ids) if number == unknown_id(text)]
        assert [found.offsets[i] for i in unknown] == [(1, 2)]
    for first, second in (
        ("这车的尾灯很亮，ok", None),
        ("ＬＥＤ light " * 12, "价格：１２８元" * 9),
    ):
        for settings in (
            TextSettings(24, "head", "nfkc"),
            TextSettings(24, "head_tail", "none"),
        ):
            encoder = TextEncoder(tiny_tokenizer(family), settings)
            tokens = encoder.encode([first], None if second is None else [second])
            places = encoder.places(first, second)
            assert len(places) == len(tokens.ids)
            texts = {"a": first, "b": second}
            for place in places:
                if place is not None:
                    assert 0 <= place[1] <= place[2] <= len(texts[place[0]])


class Reading:
    """An engine that remembers which tokens it was shown."""

    name = "reading"
    max_tokens = 4096

    def __init__(self, engine):
        self.engine = engine
        self.seen = set()

    def logits(self, batch):
        self.seen.update(batch.ids.ravel().tolist())
        return self.engine.logits(batch)


HEAD, UNREAD, TAIL = "zzzz 灯亮 xxxxx 放心 ", "窗漏胎，" * 30, " qqqqq 车好 zzzz 很"


@pytest.mark.parametrize(
    ("long", "first", "second", "unread"),
    [
        ("head", HEAD + "亮" * 20 + UNREAD, None, UNREAD),
        ("head_tail", HEAD[:8] + UNREAD + TAIL + "亮" * 20, None, UNREAD),
        ("windows", HEAD + "亮" * 40 + UNREAD + TAIL, None, UNREAD),
        ("head", HEAD + "亮" * 20 + UNREAD, "xxxx 放心" + "亮" * 20 + UNREAD, UNREAD),
        ("windows", HEAD + "亮" * 80, "xxxx 放心" + "亮" * 20 + UNREAD, UNREAD),
    ],
)
def test_what_is_not_read_weighs_nothing_and_does_not_move_up(long, first, second, unread, model):
    settings = TextSettings(max_length=24, long=long, max_windows=2, window_overlap=0.0)
    text = TextEncoder(tiny_tokenizer("bert"), settings)
    [cut] = text.encode([first], None if second is None else [second]).cut.tolist()
    assert cut
    engine = Reading(model.engine)
    read = Classifier(replace(model.bundle, pair=second is not None), engine, text)
    [why] = read.explain([Example(0, first, second)], ["灯"], passes=256)
    assert why.truncated
    tokens = text.encode([first], None if second is None else [second])
    known = {*tokens.pieces.ids.tolist(), text.tokenizer.token_to_id("[UNK]")}
    assert engine.seen <= known | {model.bundle.pad_id}
    places = [place for place in text.places(first, second) if place]
    for span in why.labels[0].spans:
        inside = any(p == span.part and s < span.end and span.start < e for p, s, e in places)
        assert inside or span.weight == 0
    stretches = text.stretches(first, second)
    shown = only_read(Example(0, first, second), stretches)
    for part, whole, read_of in (("a", first, shown.text_a), ("b", second, shown.text_b)):
        some = [Span(part, i, i + 1, 0.0) for i, c in enumerate(read_of or "") if not c.isspace()]
        for span, back in zip(some, put_back(some, stretches), strict=True):
            assert read_of[span.start] == whole[back.start]
            assert back.end == back.start + 1
    a, b = why.parts("灯")
    assert "".join(piece for piece, _ in a) == first
    assert "".join(piece for piece, _ in b) == (second or "")


def test_normalised_characters_are_traced_also_where_they_are_joined():
    for text in ("e\u0301ＬＥＤ", "①ｶﾞ灯", "\u1100\u1161\u11a8灯", "q\u0302\u0323x", "㍿灯ﬁ"):
        joined, origins = folded(text)
        assert joined == unicodedata.normalize("NFKC", text)
        assert len(origins) == len(joined)
        assert origins[0][0] == 0
        assert origins[-1][1] == len(text)
        assert all(s < e for s, e in origins)
    encoder = TextEncoder(tiny_tokenizer("bert"), TextSettings(24, "head", "nfkc"))
    assert encoder.places("e\u0301灯")[1:-1] == [("a", 0, 2), ("a", 2, 3)]


def test_tokens_that_share_a_character_become_one_span():
    spans = [Span("a", 1, 2, 0), Span("a", 1, 2, 0), Span("a", 3, 4, 0)]
    whole, weights = whole_text(Example(0, "abcde"), spans, np.array([[1.0], [2.0], [4.0]]))
    assert [(s.start, s.end) for s in whole] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert weights[:, 0].tolist() == [0, 3, 0, 4, 0]


def test_what_cannot_be_explained_is_said(model):
    with pytest.raises(ConfigError, match=r"^label must be one of"):
        model.explain(["尾灯"], ["灯泡"])
    with pytest.raises(ConfigError, match=r"^method must be one of"):
        model.explain(["尾灯"], method="lime")
    with pytest.raises(DataError, match="empty"):
        model.explain([" "])
    assert model.explain([]) == []
    for method in ("occlusion", "gradient"):
        with pytest.raises(ConfigError, match="must be one label or more"):
            model.explain(["尾灯"], [], method=method)
    [once] = model.explain(["尾灯"], ["灯", "灯"])
    assert [each.label for each in once.labels] == ["灯"]

    class Other:
        name = "other"
        max_tokens = 4096
        logits = model.engine.logits

    other = Classifier(model.bundle, Other(), model.text)
    assert other.explain(["这车的尾灯"])[0].pieces("灯") == model.explain(["这车的尾灯"])[0].pieces(
        "灯"
    )
    with pytest.raises(Exception, match="needs the torch engine"):
        other.explain(["尾灯"], method="gradient")


def test_a_text_is_predicted_while_another_thread_takes_gradients(model, monkeypatch):
    [before], there = model.predict(["轮胎"]), gradients._margins

    def amid(logits, rule):
        with ThreadPoolExecutor(1) as other:
            [given] = other.submit(model.predict, ["轮胎"]).result()
        assert given.scores == pytest.approx(before.scores, abs=1e-6)
        return there(logits, rule)

    [expected] = model.explain(["这车的尾灯"], method="gradient")
    monkeypatch.setattr(gradients, "_margins", amid)
    assert model.explain(["这车的尾灯"], method="gradient") == [expected]


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        (Rule(task="multiclass", activation="softmax", temperature=3.0), 4),
        (Rule(task="binary", activation="softmax", temperature=0.5), 2),
        (Rule(task="binary", activation="sigmoid", temperature=2.0, bias=0.7), 1),
        (
            Rule(
                task="multilabel",
                activation="sigmoid",
                thresholds=(0.5, 0.5),
                slopes=(0.3, 2.0),
                offsets=(1.0, -1.0),
            ),
            2,
        ),
        (Rule(task="binary", activation="softmax", temperature=1.5, power=0.6), 2),
        (Rule(task="multiclass", activation="softmax", temperature=0.7, power=2.0), 3),
        (Rule(task="regression", activation="identity"), 1),
    ],
)
def test_gradients_are_of_the_log_odds_of_the_score_that_is_shown(rule, columns):
    logits = np.random.default_rng(0).normal(size=(6, columns))
    given = torch.tensor(logits, requires_grad=True)
    found = gradients._margins(given, rule)
    assert found.detach().numpy() == pytest.approx(rule.margins(logits), abs=2e-3)
    (slope,) = torch.autograd.grad(found[:, -1].sum(), given)
    step = 1e-5 * np.eye(columns)
    there = [
        (rule.margins(logits + way)[:, -1] - rule.margins(logits - way)[:, -1]) / 2e-5
        for way in step
    ]
    assert slope.numpy() == pytest.approx(np.stack(there, axis=1), abs=1e-3)


def test_a_row_that_the_model_leaves_undecided_is_explained_and_that_is_said(model):
    unsure = model.with_rule(min_confidence=1.0)
    for method in ("occlusion", "gradient"):
        [sure] = model.explain(["这车的尾灯"], method=method)
        [left] = unsure.explain(["这车的尾灯"], method=method)
        assert (left.labels, left.abstained) == (sure.labels, True)
        assert left.to_dict() == {**sure.to_dict(), "abstained": True}
        assert "abstained" not in sure.to_dict()
    for found, said in ((left, True), (sure, False)):
        console = Console(file=io.StringIO(), width=200)
        show(console, found, numbers=False)
        assert ("leaves this row undecided" in console.file.getvalue()) == said


def test_the_report_gets_pieces_of_both_texts(tmp_path, folder):
    rows = paired(word_rows(90))
    data = tmp_path / "data"
    data.mkdir()
    for name, part in (("train", rows[:60]), ("dev", rows[60:])):
        (data / f"{name}.json").write_text(json.dumps(part, ensure_ascii=False), "utf-8")
    flags = {"encoder.name": str(folder / "encoder"), **FAST, "training.epochs": 1}
    config, origins = resolve_config(flags=flags)
    train(Request(data, tmp_path / "model", config, origins), Silent())
    pairs = Classifier.load(tmp_path / "model")
    said = []
    weigh = weigher(pairs, passes=32, passed_over=said.append)
    rows = [Example(0, "这车的尾灯", "问题：亮"), Example(7, "长" * 100_001, "问题")]
    (first, second), nothing = weigh([(row, "灯") for row in rows])
    assert "".join(piece for piece, _ in first) == "这车的尾灯"
    assert "".join(piece for piece, _ in second) == "问题：亮"
    assert nothing is None
    assert said == ["text 7: it has 100,001 characters; at most 100,000 can be explained."]
    pieces = pairs.explain([rows[0]], ["灯"])[0].pieces("灯")
    assert "".join(piece for piece, _ in pieces) == "这车的尾灯 | 问题：亮"


def test_the_command_colours_counts_and_finds_neighbours(folder, tmp_path):
    command = ["explain", str(folder / "model"), "这车的尾灯很亮"]
    done = CliRunner().invoke(app, [*command, "--numbers", "--neighbours", "3"])
    assert done.exit_code == 0, done.output
    assert "灯" in done.output
    out = tmp_path / "why.json"
    done = CliRunner().invoke(app, [*command, "--json", str(out), "--neighbours", "3"])
    content = json.loads(out.read_text("utf-8"))
    assert [len(row["neighbours"]) for row in content] == [3]
    assert {n["label"] for n in content[0]["neighbours"]} == {"灯"}
    train_file = folder / "data" / "train.json"
    before = train_file.read_bytes()
    try:
        train_file.write_bytes(before + b" ")
        done = CliRunner().invoke(app, [*command, "--neighbours", "3"])
        assert "has changed since the model was trained" in str(done.exception)
        done = CliRunner().invoke(app, [*command, "--neighbours", "1", "--train", str(train_file)])
        assert done.exit_code == 0, done.output
    finally:
        train_file.write_bytes(before)
    assert isinstance(Classifier.load(folder / "model").engine, TorchEngine)
