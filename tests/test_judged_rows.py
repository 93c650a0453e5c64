"""Rows that are judged: not labelled, of merged labels, unreadable, undecided; all of it said."""

from __future__ import annotations

import json
import shutil

import pytest

from bert_cls import Classifier
from bert_cls.bundle import load
from bert_cls.comparison import compare
from bert_cls.errors import BundleError, DataError
from bert_cls.folders import write_manifest
from bert_cls.legacy.held import held_rows
from bert_cls.legacy.log import logging_to_stderr
from doors import main
from small import FAST, class_rows, multilabel_rows, paired, write_folder
from tiny import tiny_encoder

NAMES = ["甲", "乙", "丙"]


def written(path, rows):
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    return path


def rows_of(file):
    return json.loads(file.read_text("utf-8"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Models of three classes: plain, with two of them merged, of pairs, and one that abstains."""
    root = tmp_path_factory.mktemp("judged")
    encoder = str(tiny_encoder("bert", root / "encoder"))
    data = write_folder(root / "data", lambda n: class_rows(n, NAMES), sizes=(32, 24, 24))
    pairs = write_folder(root / "pairs", lambda n: paired(class_rows(n, NAMES)), sizes=(32, 16, 16))
    merges = written(root / "merges.json", {"乙": "甲"})
    merging = {"data.merge_labels": merges}
    for name, where, more in (
        ("plain", data, {}),
        ("merged", data, merging),
        ("again", data, {**merging, "training.seed": 3}),
        ("paired", pairs, {}),
        ("shy", data, {"decision.abstain": 0.25}),
    ):
        Classifier.train(where, root / name, encoder=encoder, settings={**FAST, **more})
    many = write_folder(root / "many", multilabel_rows, sizes=(32, 16, 16))
    more = {"data.merge_labels": written(root / "parts.json", {"尾灯": "天窗"})}
    Classifier.train(many, root / "parts", encoder=encoder, settings={**FAST, **more})
    Classifier.train(many, root / "whole", encoder=encoder, settings=FAST)
    merges.unlink()
    return root


# --- rows without a label


def test_rows_without_a_label_are_counted_and_said(root, tmp_path):
    rows = rows_of(root / "data/test.json")
    for row in rows[:10]:
        row["label"] = None
    file, said = written(tmp_path / "rows.json", rows), "10 rows without a label are not counted."
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    done = main("evaluate", root / "plain", file, "-o", out, "--report", page)
    assert done.code == 0, done
    assert said in done.out
    assert said in rows_of(out)["notes"]
    assert said in page.read_text("utf-8")
    done = main("compare", root / "plain", root / "shy", file, "--json", out)
    assert done.code == 0, done
    assert said in done.out
    assert said in rows_of(out)["notes"]
    file = written(tmp_path / "rows.json", [{**rows[0]}, *rows[10:]])
    assert "1 row without a label is not counted." in main("evaluate", root / "plain", file).out
    assert "without a label" not in main("evaluate", root / "plain", root / "data/test.json").out


# --- merged labels


def test_a_model_with_merged_labels_judges_its_own_test_file(root, tmp_path):
    test, out = root / "data/test.json", tmp_path / "out.json"
    merged = sum(row["label"] == "乙" for row in rows_of(test))
    said = f"labels of {merged} rows merged as in training."
    done = main("evaluate", root / "merged", test, "-o", out)
    assert done.code == 0, done
    assert said in done.out
    content = rows_of(out)
    assert said in content["notes"]
    trained = rows_of(root / "merged/evaluation.json")["evaluations"]["test"]
    assert content["metrics"] == trained["metrics"]
    assert {name for row in content["worst"] for name in row["true"]} <= {"甲", "丙"}
    done = main("compare", root / "merged", root / "again", test, "--json", out)
    assert done.code == 0, done
    assert said in done.out
    assert said in rows_of(out)["notes"]
    done = main("explain", root / "merged", "尾灯", "--neighbours", 40, "--json", out)
    assert {near["label"] for near in rows_of(out)[0]["neighbours"]} == {"甲", "丙"}


def test_names_of_label_sets_are_merged_to_one(root):
    test = root / "many/test.json"
    found = Classifier.load(root / "parts")
    rows, _ = held_rows(root / "many", "test", found.bundle)
    assert {name for row in rows for name in row.label} == {"天窗", "轮胎"}
    assert all(len(set(row.label)) == len(row.label) for row in rows)
    assert main("evaluate", root / "parts", test).code == 0


def test_a_label_that_one_model_knows_is_not_merged_for_the_other(root):
    found = compare([root / "whole", root / "parts"], root / "many/test.json", resamples=5)
    assert not any("merged as" in note for note in found.notes)
    assert any("parts does not know 1 of 3 labels (尾灯)" in note for note in found.notes)


def test_models_that_merged_a_label_into_different_ones_are_not_compared(root, tmp_path):
    other = shutil.copytree(root / "merged", tmp_path / "other")
    change(other, {"format": 1, "names": {"乙": "丙"}})
    with pytest.raises(DataError, match="'乙' merged into '丙', a model before it with '乙'"):
        compare([root / "merged", other], root / "data/test.json", resamples=5)


def change(folder, merges):
    file = folder / "bert_cls.json"
    content = rows_of(file)
    content.pop("label_merges")
    written(file, content if merges is None else {**content, "label_merges": merges})
    names = [e["name"] for e in rows_of(folder / "MANIFEST.json")["files"]]
    write_manifest(folder, names)


@pytest.mark.parametrize(
    ("merges", "said"),
    [
        ([], "no map of names"),
        ({"format": 2, "names": {}}, "no map of names"),
        ({"format": 1, "names": ["乙"]}, "no map of names"),
        ({"format": 1, "names": {"乙": "丁"}}, "contradicts itself: label_merges has '乙'"),
        ({"format": 1, "names": {"丙": "甲"}}, "contradicts itself: label_merges has '丙'"),
        ({"format": 1, "names": {"乙": ["甲"]}}, "contradicts itself: label_merges has '乙'"),
    ],
)
def test_a_strangers_map_of_labels_is_checked(root, tmp_path, merges, said):
    folder = shutil.copytree(root / "merged", tmp_path / "model")
    change(folder, merges)
    with pytest.raises(BundleError, match=said):
        load(folder)


def test_a_folder_from_before_the_map_was_kept_opens_and_says_what_it_lacks(root, tmp_path):
    folder = shutil.copytree(root / "merged", tmp_path / "model")
    change(folder, None)
    assert load(folder).merges == {}
    done = main("evaluate", folder, root / "data/test.json")
    assert done.code == 2
    assert "'乙' is not in the model" in done.err


def test_the_old_script_judges_merged_labels_too(root, capsys):
    bundle = load(root / "merged")
    with logging_to_stderr():
        rows, _ = held_rows(root / "data", "dev", bundle)
    assert {row.label for row in rows} == {"甲", "丙"}
    assert "merged as in training" in capsys.readouterr().err


# --- rows and files that cannot be compared


def test_a_row_that_one_model_cannot_read_is_named_with_its_place_and_that_model(root):
    done = main("compare", root / "paired", root / "plain", root / "data/test.json")
    assert done.code == 2
    assert (
        "test.json: row 1 (line 1): paired: this model reads pairs; text_b is missing" in done.err
    )


def test_a_comparison_says_which_models_leave_rows_undecided(root, tmp_path):
    test, out = root / "data/test.json", tmp_path / "out.json"
    done = main("compare", root / "plain", root / "shy", test, "--json", out)
    assert done.code == 0, done
    least = load(root / "shy").rule.min_confidence
    said = f"shy leaves rows below confidence {least:.4f} undecided; here every row is decided."
    assert said in done.out
    assert said in rows_of(out)["notes"]
    assert "plain leaves rows" not in done.out


def test_undecided_predictions_are_compared_after_what_the_error_says(root, tmp_path):
    test, said = root / "data/test.json", tmp_path / "said.jsonl"
    predict = ["predict", root / "shy", test, "-o", said]
    assert main(*predict, "--min-confidence", 1).code == 0
    done = main("compare", root / "plain", said, test)
    assert done.code == 2
    assert "the model abstained; predict again with --min-confidence 0)" in done.err
    assert main(*predict, "--min-confidence", 0).code == 0
    assert main("compare", root / "plain", said, test).code == 0


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predictions_that_are_no_json_lines_are_answered_with_how_to_make_them(
    root, tmp_path, suffix
):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    test, said = root / "data/test.json", tmp_path / f"said.{suffix}"
    assert main("predict", root / "plain", test, "-o", said).code == 0
    done = main("compare", root / "plain", said, test)
    assert done.code == 2
    assert f"predictions are read from .jsonl and .json. Got .{suffix} instead." in done.err
    assert "-o OUT.jsonl" in done.err


def test_json_lines_with_a_byte_order_mark_are_read(root, tmp_path):
    test, said = root / "data/test.json", tmp_path / "said.jsonl"
    assert main("predict", root / "plain", test, "-o", said).code == 0
    said.write_bytes(b"\xef\xbb\xbf" + said.read_bytes())
    assert main("compare", root / "shy", said, test).code == 0


def test_a_model_is_not_compared_with_itself(root, tmp_path):
    (tmp_path / "link").symlink_to(root / "plain")
    for other in (root / "plain", tmp_path / "link"):
        done = main("compare", root / "plain", other, root / "data/test.json")
        assert done.code == 2
        assert "is given twice: the same folder cannot differ from itself" in done.err


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_split_whose_file_is_gone_is_not_made_of_training_rows(root, tmp_path, split):
    data = shutil.copytree(root / "data", tmp_path / "data")
    (data / f"{split}.json").unlink()
    bundle = Classifier.load(root / "plain").bundle
    with pytest.raises(DataError, match=rf"has no {split}\.json, which the model's training had"):
        held_rows(data, split, bundle)
