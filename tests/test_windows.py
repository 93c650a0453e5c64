"""Long texts in windows: laws of where they lie, of pooling, and the way through a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_cls import Classifier
from bert_cls.config import resolve_config
from bert_cls.cuts import windows_notice
from bert_cls.data import read
from bert_cls.errors import ConfigError
from bert_cls.text import TextEncoder, TextSettings
from bert_cls.training import Request, Silent, train
from bert_cls.training.loop import _POOLS
from bert_cls.windows import Windows, pair_spans, spans
from counting import counting_classifier
from small import MAKERS, paired, write_folder
from tiny import TEXTS, tiny_tokenizer

lengths = st.integers(0, 400)
rooms = st.integers(1, 60)
overlaps = st.floats(0, 0.75)
mosts = st.integers(2, 12)


def reader(**options) -> TextEncoder:
    options = {"max_length": 24, "long": "windows", **options}
    return TextEncoder(tiny_tokenizer("bert"), TextSettings(**options))


# --- where windows lie


@given(lengths, rooms, overlaps, mosts)
def test_windows_cover_the_text_from_end_to_end_or_say_that_they_do_not(
    length, room, overlap, most
):
    found, lost = spans(length, room, overlap=overlap, most=most)
    assert 1 <= len(found) <= most
    assert found[0][0] == 0
    assert found[-1][1] == length
    covered = {i for start, end in found for i in range(start, end)}
    assert lost == (len(covered) < length)
    if len(found) > 1:
        assert all(end - start == room for start, end in found)
    steps = np.diff([start for start, _ in found])
    assert (steps > 0).all()
    wide = (steps > max(1, room - int(room * overlap))).any()
    assert not wide or len(found) == most


@given(lengths, lengths, st.integers(2, 60), overlaps, mosts)
def test_of_a_pair_the_longer_text_is_spread_and_the_shorter_repeated(a, b, room, overlap, most):
    found, lost = pair_spans(a, b, room, overlap=overlap, most=most)
    assert all((j - i) + (m - k) <= room for (i, j), (k, m) in found)
    shorter = {places[0 if a <= b else 1] for places in found} if a != b else set()
    assert len(shorter) <= 1
    covered = [{i for p in found for i in range(*p[side])} for side in (0, 1)]
    assert lost == (len(covered[0]) < a or len(covered[1]) < b)
    if a + b <= room:
        assert found == [((0, a), (0, b))]


# --- tokens


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(TEXTS), max_size=6).map("".join), min_size=1, max_size=6))
def test_windows_hold_the_texts_tokens_and_their_specials(texts):
    encoder = reader(max_windows=16)
    tokens, t = encoder.encode(texts), encoder.template
    whole = TextEncoder(tiny_tokenizer("bert"), TextSettings(4000)).encode(texts)
    assert tokens.full_lengths.tolist() == whole.lengths.tolist()
    assert len(tokens) == len(texts)
    pieces = tokens.pieces
    for row, text in enumerate(texts):
        ids = whole.ids[whole.starts[row] : whole.starts[row + 1]].tolist()[1:-1]
        places, lost = spans(len(ids), 22, overlap=0.25, most=16)
        assert tokens.cut[row] == lost, text
        expected = [[*t.before, *ids[i:j], *t.after] for i, j in places]
        numbers = tokens.windows.of([row])
        assert [pieces.ids[pieces.starts[n] : pieces.starts[n + 1]].tolist() for n in numbers] == (
            expected
        )
        assert tokens.lengths[row] == sum(map(len, expected))


def test_texts_that_fit_are_read_as_ever():
    short = [text[:20] for text in TEXTS]
    heads = TextEncoder(tiny_tokenizer("bert"), TextSettings(24)).encode(short, short[::-1])
    tokens = reader(max_length=64).encode(short)
    assert (tokens.windows.counts(range(len(short))) == 1).all()
    assert not tokens.cut.any()
    wide = TextEncoder(tiny_tokenizer("bert"), TextSettings(64)).encode(short)
    assert tokens.ids.tolist() == wide.ids.tolist()
    assert len(heads) == len(tokens)


def test_chunks_and_company_change_nothing():
    texts = [*TEXTS, "".join(TEXTS), "", "天窗" * 300]
    for second in (None, texts[::-1]):
        whole = reader().encode(texts, second)
        parts = reader().encode_in_chunks(texts, second, chunk=5)
        for name in ("ids", "types", "starts", "full_lengths", "cut"):
            assert getattr(whole, name).tolist() == getattr(parts, name).tolist(), name
        assert whole.windows.first.tolist() == parts.windows.first.tolist()


@pytest.mark.parametrize("first", ["天窗", "尾灯" * 40])
def test_a_question_stays_beside_every_window_of_its_answer(first):
    encoder = reader(max_windows=32)
    tokens = encoder.encode([first], ["轮胎" * 100])
    pieces = tokens.pieces
    assert len(pieces) > 3
    question = encoder.tokenizer.encode(first, add_special_tokens=False).ids[:10]
    for start, end in zip(pieces.starts[:-1], pieces.starts[1:], strict=True):
        row, types = pieces.ids[start:end].tolist(), pieces.types[start:end].tolist()
        assert row[1 : 1 + len(question)] == question
        assert types == sorted(types)
        assert types[1 + len(question)] == 0
        assert types[2 + len(question)] == 1
    assert tokens.cut[0] == (len(first) > 10)


def test_of_a_text_beyond_the_most_windows_the_end_is_read_and_it_counts_as_cut():
    encoder = reader(max_windows=3)
    for middle in (100, 500_000):
        tokens = encoder.encode(["天窗" + "好" * middle + "尾灯"])
        assert len(tokens.pieces) == 3
        assert tokens.cut.tolist() == [True]
        tail = encoder.tokenizer.encode("尾灯", add_special_tokens=False).ids
        assert tokens.ids[-1 - len(tail) : -1].tolist() == tail


def test_the_notice_tells_windows_from_cuts():
    texts = ["天窗", "天窗" * 20, "天窗" * 500]
    said = windows_notice(reader().encode(texts), reader().settings)
    assert "2 of 3" in said
    assert "1 need more than 8" in said
    assert windows_notice(reader().encode(texts[:1]), reader().settings) is None


# --- pooling


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.sampled_from(sorted(_POOLS)),
    st.integers(0, 99),
)
def test_training_and_prediction_pool_alike(counts, pooling, seed):
    logits = np.random.default_rng(seed).normal(0, 4, (sum(counts), 3)).astype(np.float32)
    first = np.cumsum([0, *counts])
    windows = Windows(first, np.zeros(len(counts), bool), pooling)
    parts = torch.split(torch.from_numpy(logits), counts)
    expected = torch.stack([_POOLS[pooling](part) for part in parts]).numpy()
    pooled = windows.pooled(logits)
    assert pooled.dtype == np.float32
    assert np.allclose(pooled, expected, atol=1e-5)
    for row, count in enumerate(counts):
        if count == 1:
            assert np.allclose(pooled[row], logits[first[row]], atol=1e-6)
        low, high = (getattr(logits[first[row] : first[row + 1]], f)(0) for f in ("min", "max"))
        assert ((pooled[row] >= low - 1e-5) & (pooled[row] <= high + 1e-5)).all()


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_a_row_does_not_depend_on_its_company(pair):
    classifier = counting_classifier(pair=pair, long="windows", window_pooling="max")
    texts = [*TEXTS, "".join(TEXTS)]
    rows = [(text, "问题") for text in texts] if pair else texts
    together = classifier.predict(rows)
    assert together == [classifier.predict([row])[0] for row in rows]
    assert together[::-1] == classifier.predict(rows[::-1])
    assert [p.truncated for p in together] == [False] * len(TEXTS) + [True]


# --- through a model


@pytest.mark.parametrize(
    ("task", "pair"), [("multilabel", False), ("multiclass", True), ("regression", False)]
)
def test_a_model_of_windows_trains_says_so_and_predicts(task, pair, encoder, tmp_path):
    def make(count):
        rows = [{**row, "text_a": row["text_a"] + "，好" * 20} for row in MAKERS[task](count)]
        return paired(rows) if pair else rows

    data = write_folder(tmp_path / "data", make, sizes=(24, 8, 8))
    flags = {
        "encoder.name": str(encoder("bert")),
        "text.long": "windows",
        "text.max_length": 24,
        "training.epochs": 1,
        "training.batch_size": 8,
        "training.micro_tokens": 64,
        "report.linear_bar": False,
        "report.resamples": 0,
    }
    config, origins = resolve_config(flags=flags)
    trained = train(Request(data, tmp_path / "model", config, origins), Silent())
    model = Classifier.load(tmp_path / "model")
    assert model.bundle.text == trained.bundle.text
    assert model.bundle.text.long == "windows"
    assert model.bundle.text.window_pooling == ("max" if task == "multilabel" else "mean")
    rows = read(data / "test.json", task=task).examples
    figures = model.evaluate(rows, resamples=0).metrics
    for name, value in trained.evaluations["test"].metrics.items():
        assert figures[name] == pytest.approx(value, abs=1e-6), name
    tokens = model.tokens(rows)
    assert len(tokens.pieces) > len(tokens)
    assert np.allclose(model.logits(tokens), tokens.pooled(model.logits(tokens.pieces)), atol=1e-5)


def test_settings_of_windows_are_checked():
    for setting in ("text.max_windows=1", "text.window_overlap=0.9", "text.window_pooling=sum"):
        with pytest.raises(ConfigError, match=setting.partition("=")[0]):
            resolve_config(settings=[setting])


def test_only_a_model_of_windows_stores_what_is_about_them():
    assert set(TextSettings().to_dict()) == {"max_length", "long", "normalise"}
    settings = TextSettings(long="windows", max_windows=5)
    assert TextSettings(**settings.to_dict()) == settings


def test_an_evaluation_says_what_cutting_costs():
    from bert_cls.data import Example

    classifier = counting_classifier("multiclass")
    texts = [text * (1 + 3 * (i % 2)) for i, text in enumerate(TEXTS)]
    rows = [Example(i, text, None, "甲乙丙"[i % 3]) for i, text in enumerate(texts)]
    (note,) = [n for n in classifier.evaluate(rows, resamples=0).notes if "cut to 32" in n]
    cut = classifier.tokens(rows).cut
    assert f"{cut.sum()} of {len(rows)} rows" in note
    right = np.array([p.labels[0] for p in classifier.predict(rows)]) == [r.label for r in rows]
    assert f"accuracy {right[cut].mean():.4f} on them, {right[~cut].mean():.4f}" in note
