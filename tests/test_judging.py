"""Judging rows: what a model cannot read, what it has seen, flags that could do nothing."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from bert_cls import Classifier
from bert_cls.data import Example
from bert_cls.errors import ConfigError, DataError
from bert_cls.nearest import nearest
from bert_cls.training import spoken
from bert_cls.training.claim import ours
from doors import main
from small import FAST, MAKERS, paired, write_folder
from tiny import tiny_encoder

KINDS = {
    "multilabel": MAKERS["multilabel"],
    "pairs": lambda n: paired(MAKERS["multiclass"](n)),
    "regression": MAKERS["regression"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with data and model of each kind."""
    root = tmp_path_factory.mktemp("judging")
    encoder = str(tiny_encoder("bert", root / "encoder"))
    for kind, make in KINDS.items():
        data = write_folder(root / kind / "data", make, sizes=(32, 16, 24))
        Classifier.train(data, root / kind / "model", encoder=encoder, settings=FAST)
    return root


def written(path, rows):
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    return path


def rows_of(root, kind, split="test"):
    return json.loads((root / kind / "data" / f"{split}.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("pairs", {"text_b": None}, "this model reads pairs; text_b is missing."),
        ("multilabel", {"text_b": "多"}, "this model reads single texts; text_b was given."),
    ],
)
def test_rows_a_model_cannot_read_are_refused_by_every_command(root, tmp_path, kind, changed, said):
    rows = [{**row, **changed} for row in rows_of(root, kind)]
    file, model = written(tmp_path / "rows.json", rows), root / kind / "model"
    other = shutil.copytree(model, tmp_path / "other")
    for done in (main("evaluate", model, file), main("compare", model, other, file)):
        assert done.code == 2, done
        assert said in done.err
    done = main("predict", model, file, "-o", tmp_path / "out.jsonl")
    assert said in (tmp_path / "out.jsonl").read_text("utf-8")
    row = rows[0]
    label = tuple(row["label"]) if isinstance(row["label"], list) else row["label"]
    opened = Classifier.load(model)
    with pytest.raises(DataError, match=f"row 5: {said}"):
        opened.evaluate([Example(5, row["text_a"], row["text_b"], label)])


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("train", "warning: the model was trained on rows of this file"),
        ("dev", "warning: thresholds, calibration and the best epoch were chosen on these rows"),
        ("test", None),
    ],
)
def test_figures_on_rows_that_training_saw_are_called_too_good(root, tmp_path, split, said):
    model, file = root / "multilabel/model", root / f"multilabel/data/{split}.json"
    out = tmp_path / "out.json"
    done = main("evaluate", model, file, "-o", out)
    assert done.code == 0, done
    assert (said or "") in done.out
    assert ("too good" in done.out) == (said is not None)
    seen = {"train": "trained", "dev": "tuned", "test": None}[split]
    assert json.loads(out.read_text("utf-8"))["about"]["seen"] == seen
    done = main("compare", model, shutil.copytree(model, tmp_path / "other"), file)
    assert (said or "").removeprefix("warning: ") in done.out
    assert ("too good" in done.out) == (said is not None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evaluate regression --abstain", "--abstain is about labels"),
        ("evaluate regression --explain --report R", "--explain is about labels"),
        ("evaluate multilabel --explain", "--explain marks rows in the report"),
        ("evaluate multilabel --explain --no-texts --report R", "which are left out"),
        ("evaluate multilabel --neighbours 2", "--neighbours are shown beside rows in the report"),
        ("evaluate multilabel --neighbours 2 --no-texts --report R", "which are left out"),
        ("evaluate multilabel --train F --report R", "--train is where --neighbours are"),
        ("evaluate multilabel --resamples=-5", "Invalid value for '--resamples'"),
        ("explain multilabel --file F --text-b x", "--text-b belongs to a TEXT"),
        ("explain multilabel 尾灯 --train /nonexistent", "--train is where --neighbours are"),
        ("explain multilabel 尾灯 --method gradient --passes 64", "--passes is how often"),
        ("explain regression 尾灯 --label 好", "label must be one of ['score']"),
    ],
)
def test_flags_that_could_do_nothing_are_refused(root, tmp_path, arguments, said):
    command, kind, *rest = arguments.split()
    places = {"F": root / kind / "data/test.json", "R": tmp_path / "r.html"}
    rest = [places.get(word, word) for word in rest]
    if command == "evaluate":
        rest = [root / kind / "data/test.json", *rest]
    done = main(command, root / kind / "model", *rest)
    assert done.code == 2, done
    assert said in done.err
    assert not (tmp_path / "r.html").exists()


def test_numbers_have_no_labels_to_rename(root, tmp_path):
    names = written(tmp_path / "names.json", {"a": "b"})
    start = ["--init-from", root / "regression/model", "--rename-labels", names]
    done = main("train", root / "regression/data", "-o", tmp_path / "model", *start)
    assert done.code == 2, done
    assert "it has no labels that names.json could rename" in done.err


def test_one_text_too_long_to_be_explained_does_not_end_an_evaluation(root, tmp_path):
    rows = rows_of(root, "multilabel")
    for row in rows:  # whatever is given is wrong in one row or the other
        row["label"] = [] if row["index"] % 2 else ["天窗", "尾灯", "轮胎"]
    rows[0]["text_a"] = rows[1]["text_a"] = "油耗" * 50_001
    file, out = written(tmp_path / "rows.json", rows), tmp_path / "out.json"
    page = tmp_path / "r.html"
    model = root / "multilabel" / "model"
    done = main("evaluate", model, file, "--explain", "-o", out, "--report", page)
    assert done.code == 0, done
    content = json.loads(out.read_text("utf-8"))
    long = [
        row["index"]
        for row in content["worst"]
        if row["index"] in (rows[0]["index"], rows[1]["index"])
    ]
    assert long
    for row in content["worst"]:
        assert (row["spoke"] is None) == (row["index"] in long)
    assert done.out.count("not explained: text") == len(long)
    assert len(page.read_bytes()) < 3_000_000


def test_a_rule_that_does_not_fit_the_labels_is_refused(root, tmp_path):
    model, data = root / "multilabel/model", root / "multilabel/data"
    done = main("predict", model, "--text", "尾灯", "--min-labels", 99)
    assert (done.code, "min_labels must be at most 3" in done.err) == (2, True), done
    opened = Classifier.load(model)
    with pytest.raises(ConfigError, match=r"thresholds must be 3, one a label\. Got 2 instead"):
        opened.with_rule(thresholds=(0.9, 0.9))
    start = ["train", data, "-o", tmp_path / "model", "--encoder", root / "encoder"]
    done = main(*start, "--set", "decision.min_labels=99")
    assert (done.code, "min_labels must be at most 3" in done.err) == (2, True), done
    assert not (tmp_path / "model").exists()


def test_labels_that_a_model_does_not_have_are_named_with_their_places(root, tmp_path):
    rows = rows_of(root, "multilabel")
    rows[2]["label"], rows[4]["label"] = ["尾灯", "火箭"], ["天穹"]
    file = written(tmp_path / "rows.json", rows)
    done = main("evaluate", root / "multilabel/model", file)
    assert done.code == 2, done
    for part in (
        "rows.json: row 3",
        "'火箭' is not in the model",
        "row 5",
        "The nearest is '天窗'",
    ):
        assert part in done.err


def test_a_file_without_labels_is_named(root, tmp_path):
    rows = [{**row, "label": None} for row in rows_of(root, "multilabel")]
    file = written(tmp_path / "rows.json", rows)
    done = main("evaluate", root / "multilabel/model", file)
    assert done.code == 2, done
    assert f"{file}: no row has a label, so there is nothing to evaluate." in done.err


def test_predict_takes_a_file_or_texts(root):
    model, file = root / "multilabel/model", root / "multilabel/data/test.json"
    assert "needs a FILE or --text" in main("predict", model).err
    assert "not both" in main("predict", model, file, "--text", "尾灯").err


@pytest.mark.parametrize("kind", ["multilabel", "pairs", "regression"])
def test_worst_rows_have_the_training_rows_most_like_them(root, tmp_path, kind):
    model, data = root / kind / "model", root / kind / "data"
    rows = json.loads((data / "train.json").read_text("utf-8"))[:12]
    shifted = [row["label"] for row in rows[1:]] + [rows[0]["label"]]
    for row, label in zip(rows, shifted, strict=True):  # known texts, labels of others: wrong
        row["label"] = label
    file, out = written(tmp_path / "rows.json", rows), tmp_path / "out.json"
    done = main("evaluate", model, file, "--neighbours", 2, "-o", out, "--report", tmp_path / "r")
    assert done.code == 0, done
    assert "training rows" in done.err
    worst = json.loads(out.read_text("utf-8"))["worst"]
    assert worst
    for row in worst:
        assert len(row["nearest"]) == 2
        first, second = row["nearest"]
        assert first["similarity"] == pytest.approx(1, abs=1e-4)  # the row itself is in train
        assert first["similarity"] >= second["similarity"]
    assert main("evaluate", model, file, "-o", out).code == 0
    assert all(row["nearest"] == [] for row in json.loads(out.read_text("utf-8"))["worst"])
    assert main("evaluate", model, file, "-o", out, "--neighbours", 1, "--train", data).code == 0
    assert all(len(row["nearest"]) == 1 for row in json.loads(out.read_text("utf-8"))["worst"])


def test_the_label_table_says_where_the_rest_is(root, tmp_path, monkeypatch):
    monkeypatch.setattr("bert_cls.terminal.label_table.__kwdefaults__", {"rows": 2})
    model, file = root / "multilabel/model", root / "multilabel/data/test.json"
    done = main("evaluate", model, file)
    assert "1 rarer labels are written by -o FILE.json" in done.out
    assert "average precision" in done.out
    assert "threshold" in done.out
    assert "macro F1 by training rows of the labels: head" in done.out
    out = tmp_path / "out.json"
    done = main("evaluate", model, file, "-o", out)
    assert f"1 rarer labels are in {out}" in done.out


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_an_explanation_says_what_the_model_did_not_read(root, tmp_path, method):
    out = tmp_path / "why.json"
    text = "这车的尾灯很亮" * 10
    command = ["explain", root / "multilabel/model", text, "--method", method]
    done = main(*command)
    assert "longer than the model reads" in done.out
    assert main(*command, "--json", out).code == 0
    assert json.loads(out.read_text("utf-8"))[0]["truncated"] is True
    command[2] = "这车的尾灯"
    assert "longer than" not in main(*command).out
    assert main(*command, "--json", out).code == 0
    assert "truncated" not in json.loads(out.read_text("utf-8"))[0]


def test_a_decision_that_fits_no_class_is_refused_before_the_first_step(root, tmp_path):
    start = ["train", root / "pairs/data", "-o", tmp_path / "model", "--encoder", root / "encoder"]
    for setting in ("objective=f1", "tuner=micromacro", "calibrate=platt", "max_labels=2"):
        done = main(*start, "--set", f"decision.{setting}")
        assert done.code == 2, done
        assert not (tmp_path / "model").exists()
        assert "tuning on dev" not in done.err


# --- the report of a training ---------------------------------------------------------------------


def shown(model):
    """What the page beside a model is made from."""
    content = (model / "report.html").read_text("utf-8")
    _, _, rest = content.partition('id="report-data">')
    return json.loads(rest.partition("</script>")[0])


@pytest.mark.parametrize("kind", ["multilabel", "pairs"])
def test_the_report_of_a_training_marks_what_spoke_for_errors(root, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(spoken, "SHARE", 100)
    monkeypatch.setattr(spoken, "MOST_TOKENS", 150)
    data, model = root / kind / "data", tmp_path / "model"
    trained = Classifier.train(data, model, encoder=str(root / "encoder"), settings=FAST)
    by_index = {str(row["index"]): row for row in rows_of(root, kind)}
    left, marked = 150, 0
    opened = Classifier.load(model, engine="torch")
    for row in shown(model)["worst"]:
        blamed = next((each for each in row["wrong"] if each["given"]), row["wrong"][0])
        label, sign = blamed["label"], 1 if blamed["given"] else -1
        example = Example(0, by_index[row["index"]]["text_a"], by_index[row["index"]]["text_b"])
        left -= int(opened.tokens([example]).lengths[0])
        assert (row["spoke"] is not None) == (left >= 0)
        if left < 0:
            continue
        marked += 1
        parts = opened.explain([example], [label], method="gradient")[0].parts(label)
        for pieces, there in zip(parts, (row["spoke"], row["spoke_b"] or []), strict=True):
            # joined where they do not speak for it
            weighed = [(p, sign * w) for p, w in pieces if sign * w > 1e-9]
            assert [p for p, w in there if w] == [p for p, _ in weighed]
            assert [w for _, w in there if w] == pytest.approx([w for _, w in weighed], rel=0.02)
    assert marked
    assert left < 0
    known = {str(row["index"]): row for row in rows_of(root, kind, "train")}
    page = shown(model)
    names = [*(each["name"] for each in page["per_label"]), *page["other_names"]]
    for row in page["worst"]:
        assert len(row["nearest"]) == 2
        for near in row["nearest"]:
            there, label = known[near["index"]], near["label"]
            label = [names[place] for place in label] if isinstance(label, list) else label
            assert (near["text_a"], near["text_b"], label) == (
                there["text_a"],
                there["text_b"],
                there["label"],
            )
    asked = [Example(0, by_index[row["index"]]["text_a"], by_index[row["index"]]["text_b"])]
    rows = [Example(i, known[i]["text_a"], known[i]["text_b"]) for i in known]
    [found] = nearest(opened, asked, rows, count=2)
    assert [near["similarity"] for near in row["nearest"]] == pytest.approx(
        [each.similarity for each in found], rel=1e-3
    )
    assert trained.bundle.task == opened.bundle.task


@pytest.mark.parametrize("off", ["report.explain", "report.texts"])
def test_a_training_explains_nothing_where_it_is_not_to(root, tmp_path, off, monkeypatch):
    monkeypatch.setattr(spoken, "SHARE", 100)
    data, settings = root / "multilabel/data", {**FAST, off: False}
    Classifier.train(data, tmp_path / "m", encoder=str(root / "encoder"), settings=settings)
    rows = shown(tmp_path / "m")["worst"]
    assert rows
    assert all(row["spoke"] is None for row in rows)
    assert all(bool(row["nearest"]) == (off != "report.texts") for row in rows)


def test_explaining_takes_a_share_of_the_training_and_no_more():
    progress = SimpleNamespace(history=[0] * 4)
    trainer = SimpleNamespace(progress=progress, tokens=SimpleNamespace(lengths=np.full(800, 20)))
    passes = 3 * 4 * 800 * 20
    assert spoken.affordable(trainer) * 3 * 2 * 16 == pytest.approx(passes / 20, rel=0.01)
    trainer.tokens.lengths = np.full(100_000, 200)
    assert spoken.affordable(trainer) == spoken.MOST_TOKENS


def test_a_training_leaves_the_report_as_json_without_texts(root, tmp_path):
    model, data = root / "multilabel/model", root / "multilabel/data"
    content = json.loads((model / "report.json").read_text("utf-8"))
    out = tmp_path / "out.json"
    assert main("evaluate", model, data / "test.json", "--no-texts", "-o", out).code == 0
    again = json.loads(out.read_text("utf-8"))
    assert content.keys() == again.keys()
    for part in ("worst", "mistakes", "per_label", "metrics", "truncation", "settings"):
        assert content[part] == again[part], part
    written = (model / "report.json").read_text("utf-8")
    assert not any(row["text_a"] in written for row in rows_of(root, "multilabel"))
    assert "report.json" not in (model / "MANIFEST.json").read_text("utf-8")
    assert "report.json" in ours(model)  # overwriting takes it away


def test_long_texts_read_in_windows_have_neighbours_and_a_report(root, tmp_path):
    settings = {**FAST, "text.max_length": 12, "text.long": "windows"}
    model = tmp_path / "model"
    encoder = str(root / "encoder")
    opened = Classifier.train(root / "multilabel/data", model, encoder=encoder, settings=settings)
    rows = [Example(i, text * 9) for i, text in enumerate(("这车的尾灯很亮", "天窗漏水"))]
    for place, [near] in enumerate(nearest(opened, rows, rows, count=1)):
        assert near.example.index == place
        assert near.similarity == pytest.approx(1, abs=1e-5)
    assert shown(model)["worst"]


def test_of_texts_read_in_windows_those_that_need_more_are_called_cut(root, tmp_path):
    settings = {**FAST, "text.max_length": 12, "text.long": "windows", "text.max_windows": 3}
    options = {"encoder": str(root / "encoder"), "settings": settings}
    model, file = tmp_path / "model", tmp_path / "rows.json"
    opened = Classifier.train(root / "multilabel/data", model, **options)
    rows = [
        {"index": i, "text_a": "车灯" * (5 if i < 4 else 10 if i < 10 else 60), "label": ["尾灯"]}
        for i in range(24)  # one window, two or three, more
    ]
    written(file, rows)
    tokens = opened.tokens([Example(i, row["text_a"]) for i, row in enumerate(rows)])
    assert (tokens.full_lengths > 12).sum() == 20
    assert tokens.cut.sum() == 14
    done = main("evaluate", model, file)
    said = "14 of 24 rows (58.3%) need more than 3 windows of 12 tokens and are cut"
    assert said in " ".join(done.out.split()), done
    assert shown(model)["truncation"]["windows"] == 3
    done = main("predict", model, file, "-o", tmp_path / "out.jsonl")
    assert "24 rows, 14 longer than 3 windows of 12 tokens and cut" in done.err, done
