"""Cells of several labels: where they are split, what is said of it, and of cells that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import Workbook

from bert_cls.data import load, read
from bert_cls.data.audit import audit
from bert_cls.data.findings import Audit, Finding
from bert_cls.errors import DataError
from doors import main
from small import FAST, multilabel_rows
from test_audit import NO_ENCODER, labelled, of_code, put

# labels alone, and in cells of several; SEP is what stands between them
CELLS = [
    "物流",
    "客服",
    "质量",
    "物流",
    "客服",
    "质量",
    "物流SEP客服",
    "质量SEP物流",
    "客服SEP质量SEP物流",
]


def table(cells: list[str], key: str = "labels") -> str:
    texts = [row["text_a"] for row in labelled(*cells)]
    lines = [
        f'{text},"{cell.replace(chr(34), chr(34) * 2)}"'
        for text, cell in zip(texts, cells, strict=True)
    ]
    return "\n".join([f"text_a,{key}", *lines, ""])


def joined(separator: str) -> list[str]:
    return [cell.replace("SEP", separator) for cell in CELLS]


def looked(tmp_path: Path, files: dict[str, object], **options: object) -> Audit:
    return audit(put(tmp_path / "data", files), **NO_ENCODER, **options)


def warned(found: Audit, code: str = "D32") -> list[Finding]:
    return [finding for finding in of_code(found, code) if finding.severity == "warning"]


@pytest.mark.parametrize("separator", ["|", ";", "；", "｜", "、", "; "])
def test_cells_of_several_labels_are_split_and_that_is_counted(tmp_path, separator):
    data = put(tmp_path / "data", {"train.csv": table(joined(separator))})
    found = audit(data, **NO_ENCODER)
    assert found.labels == {"物流": {"train": 5}, "客服": {"train": 4}, "质量": {"train": 4}}
    said = [finding.message for finding in of_code(found, "D32")]
    plain = separator.strip() in "|;"
    assert said == ([] if plain else [f"3 rows with labels separated by {separator!r}."])
    assert load(data).space.names == tuple(sorted(found.labels))


def test_an_excel_sheet_is_split_in_the_same_way(tmp_path):
    book = Workbook()
    book.active.append(["text_a", "labels"])
    for row, cell in zip(labelled(*CELLS), joined("、"), strict=True):
        book.active.append([row["text_a"], cell])
    book.save(tmp_path / "rows.xlsx")
    rows = read(tmp_path / "rows.xlsx")
    assert rows.examples[6].label == ("物流", "客服")
    [note] = [problem for problem in rows.problems if problem.code == "D32"]
    assert str(note) == "rows.xlsx: row 8: 3 rows with labels separated by '、'."


def test_each_separator_is_said_where_there_are_several(tmp_path):
    rows = read(put(tmp_path, {"rows.csv": table(["a|b", "a;b", "b|c"])}) / "rows.csv")
    assert [problem.message for problem in rows.problems if problem.code == "D32"] == [
        "2 rows with labels separated by '|'.",
        "1 row with labels separated by ';'.",
    ]


def test_a_declared_name_is_never_split(tmp_path):
    cells = ["退款、退货", "物流", "物流、退款、退货、客服", "客服"]
    names = ["退款、退货", "物流", "客服"]
    split = put(tmp_path / "split", {"train.csv": table(cells)})
    assert set(load(split).space.names) == {"退款", "退货", "物流", "客服"}
    data = put(tmp_path / "data", {"train.csv": table(cells), "labels.json": names})
    assert [e.label for e in load(data).train] == [
        ("退款、退货",),
        ("物流",),
        ("物流", "退款、退货", "客服"),
        ("客服",),
    ]
    assert audit(data, **NO_ENCODER).labels["退款、退货"] == {"train": 2}
    assert load(split, labels=names).space.names == tuple(names)
    merged = load(split, label_merges={"退款、退货": "退换"})
    assert set(merged.space.names) == {"退换", "物流", "客服"}
    assert read(split / "train.csv", names=names).examples[0].label == ("退款、退货",)


@pytest.mark.parametrize("separator", ["，", ",", "/"])
def test_labels_joined_by_what_names_have_in_them_are_a_warning(tmp_path, separator):
    found = looked(tmp_path, {"train.csv": table(joined(separator))})
    [warning] = warned(found)
    assert warning.count == 3
    assert f"3 rows with labels that are several joined by {separator!r}" in warning.message
    assert f"'物流{separator}客服'" in warning.message
    assert warning.remedy == "write 客服|质量|物流 in the cell"
    assert warning.examples[0].row == "line 10"


@pytest.mark.parametrize("separator", ["|", ";", "；", "、", "，", ",", "/"])
def test_a_column_of_single_names_that_are_several_is_a_warning(tmp_path, separator):
    [warning] = warned(looked(tmp_path, {"train.csv": table(joined(separator), "label")}))
    assert warning.count == 3
    assert warning.remedy.endswith("rename the column to labels, or give --task multilabel")
    assert ("write 客服|质量|物流 in the cell" in warning.remedy) == (separator in "，,/")


def test_nobody_is_told_to_merge_what_is_several_labels(tmp_path):
    cells = [*["物流", "客服", "质量"] * 3, "物流；客服", "物流;客服", "质量;客服"]
    found = looked(tmp_path, {"train.csv": table(cells, "label")})
    for code in ("D27", "D30"):
        [finding] = of_code(found, code)
        assert finding.remedy.startswith("if each is several labels, rename the column to labels")
    split = looked(tmp_path / "split", {"train.csv": table(cells)})
    assert not of_code(split, "D27")
    assert not of_code(split, "D30")
    ordinary = looked(tmp_path / "ordinary", {"train.csv": table(["Ａ", "A", "b;c"], "label")})
    assert "--merge-labels" in of_code(ordinary, "D27")[0].remedy


def test_rows_of_json_are_told_to_hold_lists(tmp_path):
    [warning] = warned(looked(tmp_path, {"train.json": labelled(*joined("、"))}))
    assert warning.remedy == 'write a list, such as ["客服", "质量", "物流"]'


@pytest.mark.parametrize(
    "cells",
    [
        # a part is no label
        ["物流", "客服", "物流", "客服", *["售前,售后", "物流,仓储"] * 3],
        # one class of its own
        ["茶", "茶", "咖啡", "咖啡", *["茶/咖啡"] * 5],
        # too few
        ["物流", "客服", "质量", "物流", "客服", "质量", "物流/客服", "质量/物流"],
        # most names with a slash are names
        ["A", "B", "C", "A", "B", "C", "A/B", "A/C", "B/C", *["TCP/IP", "I/O"] * 3],
    ],
)
def test_names_with_commas_and_slashes_are_names(tmp_path, cells):
    assert not warned(looked(tmp_path, {"train.csv": table(cells, "label")}))


def test_declared_names_are_no_joined_labels(tmp_path):
    cells = joined("/")
    files = {"train.csv": table(cells, "label"), "labels.json": sorted(set(cells))}
    assert not warned(looked(tmp_path, files))


def test_empty_cells_of_several_labels_are_a_warning_where_they_are_many(tmp_path):
    found = looked(tmp_path, {"train.csv": table([*joined("|"), "", "", ""])})
    [warning] = warned(found, "D31")
    assert warning.message == "3 rows of train without a label: set aside."
    assert warning.remedy.startswith("write [] in the cell of a row that has none of the labels")
    few = looked(tmp_path / "few", {"train.csv": table([*joined("|") * 2, ""])})
    [note] = of_code(few, "D31")
    assert (note.severity, note.remedy) == ("note", warning.remedy)
    single = looked(tmp_path / "single", {"train.csv": table(["甲", "乙", "甲", ""], "label")})
    [note] = of_code(single, "D31")
    assert (note.severity, note.remedy) == ("note", "label them, or not")


def test_a_separator_behind_the_last_label_is_passed_over_and_counted(tmp_path):
    data = put(tmp_path / "data", {"train.csv": table(["物流; 客服;", "客服;", "物流"])})
    assert [e.label for e in load(data).train] == [("物流", "客服"), ("客服",), ("物流",)]
    found = audit(data, **NO_ENCODER)
    assert found.of("error") == []
    [note] = of_code(found, "D32")
    assert note.message == "2 rows with a separator behind the last label: passed over."


def test_an_empty_name_between_two_is_to_be_taken_out(tmp_path):
    found = looked(tmp_path, {"train.csv": table(["物流||客服", "客服", "物流"])})
    [error] = found.of("error")
    assert (error.code, error.count) == ("D40", 1)
    assert error.remedy.startswith("take the empty name out of the list")


@pytest.mark.parametrize("task", [None, "multilabel"])
def test_refused_labels_are_not_also_said_to_be_missing(tmp_path, task):
    files = {"train.csv": table(["物流||客服", "客服||", "", ""])}
    assert [f.code for f in looked(tmp_path, files, task=task).of("error")] == ["D40"]
    # where such rows are set aside, that no label is left is what stops the run
    quarantined = looked(tmp_path, files, task=task, on_bad_row="quarantine")
    assert [f.code for f in quarantined.of("error")] == ["D31"]


def test_refused_labels_of_train_alone_are_not_said_to_be_missing(tmp_path):
    files = {"train.csv": table(["物流||", "", ""]), "dev.csv": table(["物流", "客服"])}
    assert {f.code for f in looked(tmp_path, files).of("error")} <= {"D40", "D25", "D34"}


def test_a_list_as_python_writes_it_has_a_remedy_to_follow(tmp_path):
    found = looked(tmp_path, {"train.csv": table(["['质量好', '退款难;慢']", "[]", "质量好"])})
    [error] = found.of("error")
    assert error.code == "D32"
    assert error.remedy == (
        'write the list itself: ["质量好", "退款难;慢"] with double quotes, or in a table '
        "质量好|退款难;慢"
    )


def test_labels_in_lines_of_their_own_have_a_remedy_to_follow(tmp_path):
    found = looked(tmp_path, {"train.csv": table(["物流\n客服", "客服", "物流"])})
    [error] = found.of("error")
    assert error.code == "D40"
    assert error.remedy.endswith("several labels are a list, in a table separated by |")


def test_only_keys_that_are_passed_over_are_to_be_renamed(tmp_path):
    text = table(joined("|")).replace("text_a,labels", "text,labels")
    found = looked(tmp_path, {"train.csv": text})
    notes = {note.message: note.remedy for note in of_code(found, "D08")}
    assert notes == {
        "'text' is read as 'text_a'.": None,
        "'labels' is read as 'label'.": None,
    }
    passed = looked(
        tmp_path / "passed", {"train.json": [{**r, "日期": 1} for r in labelled("a", "b")]}
    )
    [note] = of_code(passed, "D08")
    assert note.remedy == "rename the keys if they were meant to be read"


@pytest.mark.parametrize(
    ("header", "remedy"),
    [
        ("编号,投诉内容,类别", "the text to text_a, that of labels, if there is one, to label"),
        ("编号,投诉内容,label", "rename the column that holds the text to text_a"),
    ],
)
def test_headings_of_ones_own_are_told_their_names(tmp_path, header, remedy):
    with pytest.raises(DataError, match="text_a is missing") as caught:
        read(put(tmp_path, {"rows.csv": f"{header}\n1,箱子破了,物流\n"}) / "rows.csv")
    assert caught.value.hint.endswith(remedy)


def test_training_evaluating_and_comparing_keep_declared_names_whole(tmp_path, encoder):
    names = ["灯、灯罩", "天窗", "轮胎"]
    cells = [r["label"] for r in multilabel_rows(48)]
    renamed = [["灯、灯罩" if name == "尾灯" else name for name in cell] for cell in cells]
    rows = [(r["text_a"], c) for r, c in zip(multilabel_rows(48), renamed, strict=True)]
    made = [f"{text},{'、'.join(cell) or '[]'}" for text, cell in rows]
    train, test = ("\n".join(["text_a,labels", *part, ""]) for part in (made[:36], made[36:]))
    data = put(tmp_path / "data", {"train.csv": train, "labels.json": names})
    model, file = tmp_path / "model", put(tmp_path, {"rows.csv": test}) / "rows.csv"
    settings = [f"--set={key}={value}".replace("False", "false") for key, value in FAST.items()]
    done = main("train", data, "-o", model, "--encoder", encoder("bert"), *settings)
    assert done.code == 0, done
    assert main("evaluate", model, file, "--resamples", 0).code == 0
    predicted = tmp_path / "out.jsonl"
    assert main("predict", model, file, "-o", predicted).code == 0
    assert len(predicted.read_text("utf-8").splitlines()) == 12
    assert main("compare", model, predicted, file, "--resamples", 100).code == 0
