"""Whole files: which task they make, their label names, and folders of splits as one Dataset."""

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_cls.config import RunConfig
from bert_cls.data import (
    Example,
    LabelSpace,
    Rows,
    infer_task,
    label_space,
    load,
    read,
    read_label_merges,
    read_labels,
    unknown_labels,
)
from bert_cls.data import split as splitting
from bert_cls.data.audit import audit
from bert_cls.data.repair import repair
from bert_cls.errors import ConfigError, DataError
from bert_cls.run_rows import read_dataset

SPLITS = {
    "train": [("灯很亮", "好"), ("座椅太硬", "差"), ("一般般吧", "好")],
    "dev": [("味道不对", "差"), ("开着舒服", "好")],
    "test": [("声音很大", "差"), ("颜色漂亮", "好")],
}


def table(*labels: object, file: str = "train.json") -> Rows:
    """Rows with these labels, one a line."""
    examples = [
        Example(i, f"text {i}", None, tuple(v) if isinstance(v, list) else v)
        for i, v in enumerate(labels)
    ]
    positions = range(len(labels))
    return Rows(examples, [], file, [i + 1 for i in positions], positions, "line {number}")


def put_rows(path: Path, *pairs: tuple[str, object]) -> Path:
    rows = [{"index": i, "text_a": text, "label": label} for i, (text, label) in enumerate(pairs)]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def put_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    for split, pairs in SPLITS.items():
        put_rows(tmp_path / f"{split}.json", *pairs)
    return tmp_path


# ---- the task ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names", "task"),
    [
        (["a", "b", "a"], None, "binary"),
        (["a", "b", "c"], None, "multiclass"),
        (["a", "a", "b"], ["a", "b", "c"], "multiclass"),
        ([["a"], [], ["b", "c"]], None, "multilabel"),
        ([[], []], ["a"], "multilabel"),
        ([1, 0, 2.5], None, "regression"),
        ([1, 0], None, "regression"),
        ([1, 0, None], ["0", "1"], "binary"),
        ([1.0, 2], ["0", "1", "2"], "multiclass"),
        ([None, "a", "b"], None, "binary"),
    ],
)
def test_the_task_is_read_from_the_whole_file(labels, names, task):
    assert infer_task([table(*labels)], names=names) == task


def test_the_task_is_read_from_all_files_together():
    assert infer_task([table("a", "b"), table("a", "c", file="dev.json")]) == "multiclass"


def test_no_label_at_all_is_no_task():
    with pytest.raises(DataError, match=r"train\.json, dev\.json: no row has a label\."):
        infer_task([table(None), table(None, file="dev.json")])


def test_numbers_that_are_not_among_the_names_are_no_task():
    with pytest.raises(DataError, match="labels are numbers such as '3', and the label names"):
        infer_task([table(3)], names=["a", "b"])


def test_d11_mixed_names_and_numbers_name_the_rows():
    with pytest.raises(DataError) as caught:
        infer_task([table("1", "2"), table("1", 2, file="dev.json")])
    assert caught.value.message == (
        "labels are of different types: 3 rows with a name, 1 row with a number "
        "(dev.json: line 2: 2)."
    )
    assert caught.value.hint == 'write every label as a name, such as "1"'


def test_d33_mixed_lists_and_names_name_the_rows():
    with pytest.raises(DataError) as caught:
        infer_task([table(["a"], ["b"], ["c"], ["d"], ["e"], "a", "b", "c", "d")])
    assert caught.value.message == (
        "labels are of different types: 5 rows with a list, 4 rows with a name "
        "(train.json: line 6: 'a', train.json: line 7: 'b', train.json: line 8: 'c' ...)."
    )
    assert caught.value.hint == 'write every label as a list, such as ["a"]'


@pytest.mark.parametrize("task", [None, "regression"])
def test_d11_one_name_among_numbers_is_quoted_and_to_be_a_number(task):
    with pytest.raises(DataError) as caught:
        infer_task([table(1.0, 2.5, "3.5x")], task=task)
    assert "1 row with a name (train.json: line 3: '3.5x')" in caught.value.message
    assert caught.value.hint == "write every label as a number, such as 1.0"


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (["a", "b"], "multilabel", "needs lists of names as labels. Got single names in 2 rows"),
        ([["a"]], "multiclass", "needs single names as labels. Got lists of names in 1 row"),
        ([["a"]], "binary", "the file is multilabel"),
        (["a"], "regression", "needs numbers as labels. Got single names in 1 row"),
        ([1.0], "multilabel", "the file is regression"),
        ([1, 1.5], "multiclass", "needs names as labels. Got 1.5 instead."),
    ],
)
def test_d33_a_stated_task_that_does_not_fit_says_what_the_file_is(labels, task, message):
    with pytest.raises(DataError) as caught:
        infer_task([table(*labels)], task=task)
    assert message in caught.value.message
    assert "train.json: line" in caught.value.message
    assert caught.value.hint


def test_a_stated_task_that_fits_is_taken():
    assert infer_task([table("a", "b")], task="multiclass") == "multiclass"
    assert infer_task([table(1, 2)], task="binary") == "binary"
    with pytest.raises(ConfigError, match="task must be one of"):
        infer_task([table("a")], task="sorting")


def test_read_with_a_task_checks_and_converts(tmp_path):
    path = put_rows(tmp_path / "rows.json", ("a", 0), ("b", 1))
    assert [e.label for e in read(path).examples] == [0, 1]
    rows = read(path, task="binary")
    assert [e.label for e in rows.examples] == ["0", "1"]
    assert str(rows.problems[-1]) == (
        "rows.json: 2 integer labels read as class names: 1 is the class '1'."
    )
    with pytest.raises(DataError, match="the task multilabel needs lists of names"):
        read(path, task="multilabel")
    unlabelled = put_rows(tmp_path / "plain.json", ("a", None))
    assert read(unlabelled, task="multilabel").examples == [Example(0, "a")]


# ---- label names -------------------------------------------------------------------------------


def test_d25_an_unknown_label_gets_the_nearest_name_and_counts():
    train, dev = table("sport", "sport", "money"), table("sprot", "sprot", file="dev.json")
    _, problems = label_space(train, [dev], task="binary")
    assert [str(p) for p in problems if p.severity == "error"] == [
        "dev.json: line 1: label 'sprot' is not in train; 2 rows with it. "
        "The nearest is 'sport', with 2 rows in train."
    ]


def test_d25_declared_names_bind_every_file():
    _, problems = label_space(table("a", "b", "c"), task="multiclass", names=["a", "b"])
    assert [p.message for p in problems if p.code == "D25"] == [
        "label 'c' is not in the label names; 1 row with it. "
        "The nearest is 'a', with 1 row in train."
    ]
    found = unknown_labels(table(["a", "x"], ["x"]), {"a": 0})
    assert [p.message for p in found] == [
        "label 'x' is not in the label names; 2 rows with it. The nearest is 'a'."
    ]


def test_d26_a_label_without_rows_is_a_note():
    train, dev = table("a", "b", "c"), table("a", None, file="dev.json")
    space, problems = label_space(train, [dev], task="multiclass", names=["c", "b", "a", "z"])
    assert space.names == ("c", "b", "a", "z")
    assert [(p.severity, str(p)) for p in problems] == [
        (
            "note",
            "dev.json: no row has 2 labels of train: 'c', 'b'; metrics show support 0 for them.",
        ),
        ("note", "train.json: no row has the declared labels 'z': they cannot be learned."),
    ]


def test_d27_labels_that_look_the_same_are_listed_in_groups():
    train, dev = table("ABC", "b"), table("ＡＢＣ", "abc ", "b", file="dev.json")
    _, problems = label_space(train, [dev], task="binary")
    alike = [p for p in problems if p.code == "D27"]
    assert [p.message for p in alike] == ["labels look the same: 'ABC', 'ＡＢＣ', 'abc '."]
    assert "--merge-labels" in alike[0].hint


def test_d28_the_order_is_sorted_or_declared():
    assert label_space(table("b", "a", "c"), task="multiclass")[0] == LabelSpace(("a", "b", "c"))
    declared = label_space(table("b", "a", "c"), task="multiclass", names=["c", "a", "b"])[0]
    assert declared == LabelSpace(("c", "a", "b"))


@given(
    st.lists(st.sampled_from("xyzw"), min_size=2).filter(lambda n: len(set(n)) > 1), st.randoms()
)
def test_d28_the_order_of_rows_does_not_matter(labels, random):
    shuffled = random.sample(labels, len(labels))
    task = infer_task([table(*labels)])
    assert infer_task([table(*shuffled)]) == task
    assert label_space(table(*labels), task=task) == label_space(table(*shuffled), task=task)


def test_d29_one_class_is_not_enough():
    with pytest.raises(DataError, match=r"train\.json: needs at least 2 classes\. Got only 'a'\."):
        label_space(table("a", "a"), task="multiclass", names=["a", "b"])
    with pytest.raises(DataError, match=r"no row has any label"):
        label_space(table([], []), task="multilabel")
    with pytest.raises(DataError, match=r"the task binary needs 2 classes\. Got 3"):
        label_space(table("a", "b", "c"), task="binary")
    assert len(label_space(table(["a"], []), task="multilabel")[0]) == 1


def test_d31_rows_with_an_empty_list_are_counted():
    _, problems = label_space(table(["a"], [], []), task="multilabel")
    assert [str(p) for p in problems] == ["train.json: 2 rows of 3 labelled []."]


# ---- files of labels ---------------------------------------------------------------------------


def test_labels_keep_their_order(tmp_path):
    assert read_labels(put_json(tmp_path / "labels.json", ["b", "a"])) == ("b", "a")
    gbk = tmp_path / "gbk.json"
    gbk.write_bytes('["这个是不好的", "大小的"]'.encode("gb18030"))
    assert read_labels(gbk) == ("这个是不好的", "大小的")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a", "b", "a"]', "name 3: 'a' is given twice."),
        ('["a", "Ａ"]', "name 2: 'Ａ' looks the same as 'a'."),
        ('["a", 1]', "name 2 must be a string. Got 1 instead."),
        ('["a", ""]', "name 2: label is an empty name."),
        ("[]", "must hold a list. Got [] instead."),
        ('{"0": "a"}', "must hold a list. Got {'0': 'a'} instead."),
        ("['a']", "line 1: not JSON at column 2"),
        ('["a"] x', "line 1: not JSON at column 7"),
        ('["a", NaN]', "NaN is not JSON."),
        ("", "the file is empty."),
    ],
)
def test_label_files_that_are_none_say_why(tmp_path, content, message):
    path = tmp_path / "labels.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert "labels.json: " in caught.value.message
    assert message in caught.value.message


def test_merges_are_an_object_of_names(tmp_path):
    path = put_json(tmp_path / "merges.json", {"A": "a"})
    assert read_label_merges(path) == {"A": "a"}
    for value, message in (
        (["a"], "must hold an object"),
        ({"A": 1}, "'A' must become a name. Got 1."),
        ({"A": ""}, "'A': label is an empty name."),
        ({"A": "b", "b": "c"}, "'b' is both merged away and merged into."),
    ):
        with pytest.raises(DataError, match=message):
            read_label_merges(put_json(path, value))


# ---- data sets ---------------------------------------------------------------------------------


def test_a_folder_becomes_a_data_set(folder):
    put_json(folder / "labels.json", ["差", "好"])
    data = load(folder)
    assert [len(rows) for rows in (data.train, data.dev, data.test)] == [3, 2, 2]
    assert (data.task, data.space, data.pair) == ("binary", LabelSpace(("差", "好")), False)
    assert (data.problems, data.unlabelled) == ([], [])
    assert sorted(data.files) == ["dev.json", "labels.json", "test.json", "train.json"]
    content = (folder / "dev.json").read_bytes()
    assert data.files["dev.json"] == hashlib.sha256(content).hexdigest()


def test_one_file_is_all_train(folder):
    data = load(folder / "train.json")
    assert len(data.train) == 3
    assert (data.dev, data.test, list(data.files)) == (None, None, ["train.json"])


def test_a_folder_with_data_alone_is_like_one_file(folder, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    (folder / "train.json").rename(alone / "data.json")
    assert len(load(alone).train) == 3
    put_rows(alone / "dev.json", *SPLITS["dev"])
    beside = load(alone)
    assert (beside.train, len(beside.dev)) == (None, 2)
    assert "data.json: not read, because dev.json is there." in map(str, beside.problems)


@pytest.mark.parametrize("name", ["dev.json", "valid.json", "validation.json", "dev.jsonl"])
def test_dev_has_several_names(folder, name):
    rows = json.loads((folder / "dev.json").read_text(encoding="utf-8"))
    (folder / "dev.json").unlink()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(lines if name.endswith("l") else json.dumps(rows), encoding="utf-8")
    assert len(load(folder).dev) == 2


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_labels_of_one_or_two_rows_stay_in_train(share, task):
    names = ["常"] * 30 + ["多"] * 12 + ["双"] * 2 + ["单"]
    labels = names if task == "multiclass" else [(name, "常") for name in names]
    rows = [Example(i, f"第{i}句", label=label) for i, label in enumerate(labels)]
    for seed in range(20):
        kept, held = splitting.split(rows, share, task=task, seed=seed)
        assert sorted(kept + held) == list(range(len(rows)))
        assert not {"双", "单"} & {names[row] for row in held}
        assert held


@pytest.mark.parametrize(("classes", "rows"), [(40, 4), (30, 3), (20, 5), (77, 5), (1, 3)])
def test_small_classes_give_up_rows_and_keep_two(classes, rows):
    total = classes * rows
    examples = [Example(i, f"第{i}句", label=f"c{i % classes}") for i in range(total)]
    for seed in range(5):
        kept, held = splitting.split(examples, 0.1, task="multiclass", seed=seed)
        assert sorted(kept + held) == list(range(total))
        assert len(held) >= max(1, total // 20)
        assert min(Counter(examples[i].label for i in kept).values()) >= 2
    assert splitting.split(examples[: classes * 2], 0.1, task="multiclass")[1] == []


@pytest.mark.parametrize("rows", [2, 5, 9, 20, 30, 45, 60])
def test_few_numbers_are_held_out_too(rows):
    examples = [Example(i, f"第{i // 2}句" if i < 4 else f"{i}", label=i / 7) for i in range(rows)]
    examples = examples if rows > 2 else [replace(e, text_a=str(e.index)) for e in examples]
    kept, held = splitting.split(examples, 0.1, task="regression")
    assert sorted(kept + held) == list(range(rows))
    assert max(1, rows // 20) <= len(held) < rows
    texts = [{examples[i].text_a for i in side} for side in (kept, held)]
    assert not texts[0] & texts[1]


def test_a_split_that_had_its_share_is_the_same_for_ever():
    generator = random.Random(0)
    found = []
    for seed in range(12):
        names = [generator.choice("abcde") for _ in range(200)]
        sets = [tuple(n for n in "abcd" if generator.random() < 0.3) for _ in range(200)]
        values = [generator.random() for _ in range(200)]
        labels = {"multiclass": names, "multilabel": sets, "regression": values}
        for task, of_rows in labels.items():
            rows = [Example(i, f"第{i}句", label=label) for i, label in enumerate(of_rows)]
            found.append(splitting.split(rows, 0.2, task=task, seed=seed)[1])
    assert hashlib.sha256(repr(found).encode()).hexdigest()[:16] == "86c3c2fc8484751d"


def test_why_nothing_can_be_held_out_is_said_by_check_and_training(tmp_path):
    rows = [(f"第{i}句", f"c{i % 20}") for i in range(40)]
    put_rows(tmp_path / "train.json", *rows)
    (found,) = [f for f in audit(tmp_path).findings if f.code == "D30"]
    assert found.remedy.endswith("so give a dev file: none can be held out")
    with pytest.raises(DataError, match="no label has rows enough to give one up for a test split"):
        read_dataset(tmp_path, RunConfig(), print)
    put_rows(tmp_path / "dev.json", *rows[:1])
    (found,) = [f for f in audit(tmp_path, leak="allow").findings if f.code == "D30"]
    assert found.remedy.endswith("a split leaves them in train")


def test_of_names_that_look_the_same_a_tie_keeps_the_tidy_one(tmp_path):
    labels = ["Yes ", "yes", "ＮＯ", "no", "a", "a", "A "]
    put_rows(tmp_path / "train.json", *((f"第{i}句", name) for i, name in enumerate(labels)))
    (found,) = [f for f in audit(tmp_path).findings if f.code == "D27"]
    assert json.loads(found.remedy.partition("such as ")[2]) == {
        "Yes ": "yes",
        "ＮＯ": "no",
        "A ": "a",
    }


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_rows_without_a_label_are_shared_out_as_labels_are(share):
    generator = random.Random(0)
    for seed in range(10):
        names = [tuple(n for n in "abcdefgh" if generator.random() < 0.1) for _ in range(400)]
        rows = [Example(i, f"第{i}句", label=label) for i, label in enumerate(names)]
        kept, held = splitting.split(rows, share, task="multilabel", seed=seed)
        assert sorted(kept + held) == list(range(len(rows)))
        empty = sum(not label for label in names)
        assert abs(sum(not names[row] for row in held) - share * empty) <= 2
        assert abs(len(held) - share * len(rows)) <= 20


def test_of_two_files_for_a_split_json_is_read_and_the_other_said(folder):
    (folder / "train.csv").write_text("text_a,label\na,b\n", encoding="utf-8")
    put_rows(folder / "valid.json", ("a", "好"))
    assert [str(p) for p in load(folder).problems] == [
        "train.csv: not read, because train.json is there.",
        "valid.json: not read, because dev.json is there.",
    ]


def test_a_folder_without_data_says_what_is_there(tmp_path):
    put_json(tmp_path / "reviews.json", [])
    with pytest.raises(DataError, match=r"The folder holds 'reviews\.json'\.") as caught:
        load(tmp_path)
    assert caught.value.hint == "give the file itself, or rename it to train.json"
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "nothing")


def test_test_without_train_takes_its_names_as_they_are(folder):
    (folder / "train.json").unlink()
    (folder / "dev.json").unlink()
    assert load(folder).space.names == ("好", "差")
    assert load(folder, labels=["差", "好", "中"], task="multiclass").space.names == (
        "差",
        "好",
        "中",
    )
    with pytest.raises(DataError, match="label '差' is not in the label names"):
        load(folder, labels=["好", "中"])


def test_problems_of_all_files_are_said_at_once(folder):
    put_rows(folder / "train.json", ("", "好"), *SPLITS["train"])
    put_rows(folder / "dev.json", ("a", "好"), ("b", True))
    with pytest.raises(DataError) as caught:
        load(folder)
    assert str(caught.value).startswith("2 errors in train.json (1) and dev.json (1)\n")
    data = load(folder, on_bad_row="quarantine")
    assert [p.code for p in data.problems if p.severity == "error"] == ["D22", "D11"]


def test_integers_are_classes_when_the_names_say_so(folder):
    for split in SPLITS:
        put_rows(folder / f"{split}.json", ("a", 1), ("b", 0), ("c", 1))
    assert load(folder).task == "regression"
    put_json(folder / "labels.json", ["0", "1"])
    data = load(folder)
    assert (data.task, [e.label for e in data.train]) == ("binary", ["1", "0", "1"])
    assert "train.json: 3 integer labels read as class names: 1 is the class '1'." in map(
        str, data.problems
    )
    assert load(folder, task="regression").train[0].label == 1
    assert "the label names are not used in regression." in map(
        str, load(folder, task="regression").problems
    )


def test_d25_d27_stop_the_load(folder):
    put_rows(folder / "dev.json", ("a", "很好"), ("b", "差 "))
    with pytest.raises(DataError) as caught:
        load(folder)
    text = str(caught.value)
    assert "label '很好' is not in train; 1 row with it. The nearest is '好'" in text
    assert "labels look the same: '差', '差 '." in text


def test_merged_labels_are_counted(folder):
    put_rows(folder / "dev.json", ("a", "很好"), ("b", "差 "))
    data = load(folder, label_merges={"很好": "好", "差 ": "差"})
    assert [e.label for e in data.dev] == ["好", "差"]
    assert "dev.json: labels of 2 rows merged." in map(str, data.problems)
    put_rows(folder / "many.json", ("a", ["x", "y", "z"]), ("b", ["x"]))
    merged = load(folder / "many.json", label_merges={"y": "x"})
    assert merged.train[0].label == ("x", "z")


def test_declared_names_are_merged_like_the_labels(folder):
    put_json(folder / "labels.json", ["Sport", "坏", "好", "sport", "差", "棒"])
    with pytest.raises(DataError, match="'sport' looks the same as 'Sport'"):
        load(folder)
    merges = {"Sport": "sport", "坏": "差", "棒": "好"}
    found = load(folder, label_merges=merges)
    assert found.space.names == ("sport", "差", "好")
    given = load(folder, label_merges=merges, labels=["Sport", "差", "好", "sport"])
    assert given.space.names == found.space.names
    put_json(folder / "labels.json", ["差", "差", "好", "棒"])
    with pytest.raises(DataError, match="'差' is given twice"):
        load(folder, label_merges={"棒": "好"})


def test_d28_two_declarations_must_agree(folder):
    put_json(folder / "labels.json", ["差", "好"])
    assert load(folder, labels=folder / "labels.json").space.names == ("差", "好")
    with pytest.raises(DataError, match=r"labels\.json: another order of labels"):
        load(folder, labels=["好", "差"])
    with pytest.raises(DataError, match=r"labels\.json: another set of labels"):
        load(folder, labels=["好", "差", "中"])
    other = put_json(folder / "names.json", ["好", "差"])
    (folder / "labels.json").unlink()
    data = load(folder, labels=other)
    assert data.space.names == ("好", "差")
    assert "names.json" in data.files


def test_unlabelled_rows_are_set_aside_and_counted(folder):
    put_rows(folder / "train.json", *SPLITS["train"], ("不知道", None))
    put_rows(folder / "test.json", *SPLITS["test"], ("也不知道", None))
    data = load(folder)
    assert len(data.train) == 3
    assert [e.text_a for e in data.unlabelled] == ["不知道"]
    assert data.test[-1] == Example(2, "也不知道")
    assert [str(p) for p in data.problems] == [
        "train.json: 1 row without a label: set aside.",
        "test.json: 1 row without a label: kept for prediction, not for evaluation.",
    ]


def test_d37_pairs_are_all_or_none(folder):
    rows = [{"index": i, "text_a": "a", "text_b": "b", "label": "xyx"[i]} for i in range(3)]
    put_json(folder / "all.json", rows)
    assert load(folder / "all.json").pair
    rows[1]["text_b"] = None
    put_json(folder / "some.json", rows)
    with pytest.raises(DataError) as caught:
        load(folder / "some.json")
    assert caught.value.message == (
        "1 row of 3 with no text_b, against the others: some.json: row 2 (line 1)."
    )
    put_json(folder / "train.json", rows[:1] + rows[2:])
    with pytest.raises(DataError, match="2 rows of 6 with a text_b"):
        load(folder)


def test_labels_that_can_be_meant_otherwise_are_said(folder):
    put_rows(folder / "single.json", ("a", ["x"]), ("b", ["y"]))
    (note,) = load(folder / "single.json").problems
    assert str(note) == (
        "single.json: each list has exactly one label: read as multilabel all the same."
    )
    assert "multiclass" in note.hint
    put_rows(folder / "numbers.json", ("a", "1"), ("b", "2"))
    (note,) = load(folder / "numbers.json").problems
    assert str(note) == "numbers.json: labels are numbers written as text: read as class names."
    assert load(folder / "numbers.json", labels=["1", "2"]).problems == []


@pytest.mark.parametrize("names", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("rows", ["utf-8", "gb18030"])
def test_label_files_that_do_not_say_their_encoding_are_read_as_the_data(rows, names, tmp_path):
    content = [{"text_a": f"第{n}句", "label": ["天窗" if n % 2 else "大灯"]} for n in range(4)]
    for name, value in (("train", content), ("labels", ["天窗", "大灯"])):
        text = json.dumps(value, ensure_ascii=False)
        (tmp_path / f"{name}.json").write_bytes(text.encode(rows if name == "train" else names))
    merges = tmp_path / "merges"
    merges.write_bytes(json.dumps({"大灯": "天窗"}, ensure_ascii=False).encode(names))
    if (rows, names) == ("utf-8", "gb18030"):
        with pytest.raises(DataError, match=r"labels.json: byte 2 is not UTF-8"):
            load(tmp_path)
        return
    encoding = "gb18030" if rows == "gb18030" else None
    assert load(tmp_path, encoding=encoding).space.names == ("天窗", "大灯")
    assert audit(tmp_path, encoding=encoding).of("error") == []
    found = read_label_merges(merges, encoding=encoding)
    assert found == {"大灯": "天窗"}
    copy = repair(tmp_path, tmp_path / "copy", encoding=encoding, label_merges=found).data
    assert load(copy).space.names == ("天窗",)


label_lists = st.lists(
    st.one_of(
        st.none(),
        st.sampled_from(["a", "b", "A", "c "]),
        st.integers(0, 2),
        st.floats(0, 2),
        st.lists(st.sampled_from(["a", "b", "A"]), max_size=2, unique=True),
    ),
    max_size=5,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    train=label_lists,
    dev=label_lists,
    task=st.sampled_from([None, "binary", "multiclass", "multilabel", "regression"]),
    names=st.sampled_from([None, ["a", "b"], ["0", "1", "2"]]),
)
def test_a_load_gives_a_fitting_data_set_or_a_data_error(tmp_path, train, dev, task, names):
    for split, labels in (("train", train), ("dev", dev)):
        put_rows(tmp_path / f"{split}.json", *((f"text {i}", v) for i, v in enumerate(labels)))
    try:
        data = load(tmp_path, task=task, labels=names)
    except DataError:
        return
    assert task in (None, data.task)
    kept = [e.label for e in (*data.train, *data.dev)]
    assert len(kept) + len(data.unlabelled) == len(train) + len(dev)
    if data.task == "regression":
        assert all(isinstance(label, (int, float)) for label in kept)
        assert len(data.space) == 0
    elif data.task == "multilabel":
        assert all(set(label) <= set(data.space.names) for label in kept)
    else:
        assert set(kept) <= set(data.space.names)
        assert (len(data.space) == 2) == (data.task == "binary") or task == "multiclass"


def test_multilabel_rows_without_the_key_label_go_to_quarantine(tmp_path):
    rows = [{"text_a": f"第{n}句", "label": ["甲"] if n % 2 else ["乙"]} for n in range(4)]
    rows += [{"text_a": "没人看过", "label": None}, {"text_a": "缺了键", "来源": "论坛"}]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f"{json.dumps(r, ensure_ascii=False)}\n" for r in rows), "utf-8")
    for refuse in (load, lambda path: read(path, task="multilabel")):  # evaluate reads like this
        with pytest.raises(DataError, match=r"1 row without the key label, .*: line 6"):
            refuse(path)
    found = load(path, on_bad_row="quarantine")
    assert [e.text_a for e in found.train] == [f"第{n}句" for n in range(4)]
    assert [e.text_a for e in found.unlabelled] == ["没人看过"]
    (problem,) = (p for p in found.problems if p.severity == "error")
    assert (problem.code, problem.row, problem.key) == ("D31", "line 6", "label")
    assert json.loads(problem.raw) == rows[5]


def test_a_row_with_an_index_again_is_kept_whole_for_quarantine(tmp_path):
    rows = [{"index": 1, "text_a": t, "label": t, "来源": "论坛"} for t in ("甲", "乙")]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f"{json.dumps(r, ensure_ascii=False)}\n" for r in rows), "utf-8")
    (problem,) = (p for p in read(path, on_bad_row="quarantine").problems if p.code == "D13")
    assert json.loads(problem.raw) == rows[1]
