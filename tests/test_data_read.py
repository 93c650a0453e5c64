"""Reading rows: every rule of the bad-input table that concerns single rows and files."""

import csv
import gzip
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bert_cls.data import (
    Example,
    Problem,
    read,
    read_label_merges,
    read_labels,
    stream,
    summarise,
    write_quarantine,
)
from bert_cls.data.encoding import guess_chinese
from bert_cls.data.nearest import edit_distance, nearest
from bert_cls.data.problems import KINDS, raise_errors
from bert_cls.data.read import READERS
from bert_cls.errors import ConfigError, DataError

ROWS = [
    {"index": 0, "text_a": "前大灯的亮度不够，晚上开车看不清", "text_b": None, "label": ["灯光"]},
    {
        "index": 1,
        "text_a": "座椅很舒服，这个价格还是很值的",
        "text_b": None,
        "label": ["内饰", "价格"],
    },
    {"index": "third", "text_a": "今天路上没有什么车", "text_b": None, "label": []},
]
EXAMPLES = [
    Example(0, "前大灯的亮度不够，晚上开车看不清", None, ("灯光",)),
    Example(1, "座椅很舒服，这个价格还是很值的", None, ("内饰", "价格")),
    Example("third", "今天路上没有什么车", None, ()),
]
TRADITIONAL = "這個車的外觀是很好看的，我們都說這樣的價錢不貴，大家都想要買"


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def errors_of(path: Path, **options) -> list[Problem]:
    """The error problems of a file, whose rows are all kept that can be."""
    found = [item for item in stream(path, **options) if isinstance(item, Problem)]
    return [problem for problem in found if problem.severity == "error"]


def only_error(folder: Path, name: str, content: str | bytes, **options) -> Problem:
    (problem,) = errors_of(put(folder, name, content), **options)
    with pytest.raises(DataError) as caught:
        read(folder / name, **options)
    assert str(problem) in str(caught.value)
    return problem


def notes_of(path: Path, **options) -> list[str]:
    return [str(problem) for problem in read(path, **options).problems]


# ---- the formats ----------------------------------------------------------------------------


def as_json(path: Path, rows: list[dict]) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")


def as_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text(lines(*rows), encoding="utf-8")


def as_cells(path: Path, rows: list[dict]) -> None:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(rows[0])
        for row in rows:
            cells = dict(row, label=json.dumps(row["label"], ensure_ascii=False))
            writer.writerow("" if cell is None else cell for cell in cells.values())


def as_parquet(path: Path, rows: list[dict]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [dict(row, index=str(row["index"])) for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(texts), path)


def as_xlsx(path: Path, rows: list[dict]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        cells = dict(row, label=json.dumps(row["label"], ensure_ascii=False))
        book.active.append(list(cells.values()))
    book.save(path)


WRITERS = {
    ".json": as_json,
    ".jsonl": as_jsonl,
    ".ndjson": as_jsonl,
    ".csv": as_cells,
    ".tsv": as_cells,
    ".parquet": as_parquet,
    ".xlsx": as_xlsx,
}
TEXT_INDICES = (".csv", ".tsv", ".parquet")


@pytest.mark.parametrize("suffix", READERS)
def test_every_format_gives_the_same_examples(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, ROWS)
    rows = read(path)
    wanted = [
        Example(str(e.index) if suffix in TEXT_INDICES else e.index, e.text_a, e.text_b, e.label)
        for e in EXAMPLES
    ]
    assert rows.examples == wanted
    assert [item for item in stream(path) if isinstance(item, Example)] == wanted
    assert rows.problems == []


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_text_formats_are_read_packed(tmp_path, suffix):
    plain = tmp_path / f"rows{suffix}"
    WRITERS[suffix](plain, ROWS)
    packed = put(tmp_path, f"packed{suffix}.gz", gzip.compress(plain.read_bytes()))
    assert read(packed).examples == read(plain).examples


def test_places_are_lines_and_rows_from_1(tmp_path):
    array = put(tmp_path, "rows.json", json.dumps(ROWS, ensure_ascii=False, indent=1))
    assert read(array).place(1) == "row 2 (line 10)"
    blank_lines = put(tmp_path, "rows.jsonl", f"\n{lines(ROWS[0])}\r\n\n{lines(ROWS[1])}")
    assert [read(blank_lines).place(i) for i in (0, 1)] == ["line 2", "line 5"]
    cells = put(tmp_path, "rows.csv", 'text_a,label\n"two\nlines",a\nb,c\n')
    assert [read(cells).place(i) for i in (0, 1)] == ["line 2", "line 4"]


def test_standard_input_is_json_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines(*ROWS).encode())))
    assert [item for item in stream("-") if isinstance(item, Example)] == EXAMPLES


def test_a_pipe_may_give_single_bytes(monkeypatch):
    class Drip(io.BytesIO):
        def read1(self, size: int = -1, /) -> bytes:
            return super().read1(1)

    content = ("\ufeff" + lines(*ROWS)).encode("utf-16-le")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Drip(content)))
    items = list(stream("-"))
    assert str(items[0]) == "stdin: read as utf-16."
    assert items[1:] == EXAMPLES


def test_json_lines_under_another_suffix_are_read_and_said(tmp_path):
    path = put(tmp_path, "train.json", lines(*ROWS))
    assert read(path).examples == EXAMPLES
    assert notes_of(path) == ["train.json: read as JSON Lines, which it holds."]
    array = put(tmp_path, "train.jsonl", json.dumps(ROWS))
    assert read(array).examples == EXAMPLES
    assert notes_of(array) == ["train.jsonl: read as one JSON list, which it holds."]


def test_unknown_suffix_lists_the_known_ones(tmp_path):
    with pytest.raises(
        DataError, match=r"rows\.doc: the suffix must be one of \['\.csv', '\.json'"
    ):
        read(put(tmp_path, "rows.doc", "x"))


def test_missing_extra_names_the_pip_line(tmp_path, monkeypatch):
    for suffix, module in ((".parquet", "pyarrow"), (".xlsx", "openpyxl")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(DataError, match=f"needs {module}") as caught:
            read(put(tmp_path, f"rows{suffix}", b"x"))
        assert caught.value.hint == 'pip install "bert-cls[tables]"'


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_damaged_tables_are_data_errors(tmp_path, suffix):
    with pytest.raises(DataError, match=f"rows{suffix}: cannot be read as {suffix[1:]}"):
        read(put(tmp_path, f"rows{suffix}", b"not a table"))


def test_numbers_that_tables_hold(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text_a": ["a", "b"], "label": [0.5, float("nan")], "x": [b"1", b"2"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read(tmp_path / "rows.parquet", on_bad_row="quarantine")
    assert rows.examples == [Example(0, "a", None, 0.5)]
    (problem,) = [p for p in rows.problems if p.severity == "error"]
    assert (problem.code, problem.message) == ("D06", "label is not a number (NaN).")


def test_xlsx_passes_over_empty_rows_and_counts_sheet_rows(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    import datetime

    book = openpyxl.Workbook()
    for cells in (
        ["text_a", "label", None],
        ["a", "x", None],
        [None, None],
        [123, "x"],
        ["b", datetime.datetime(2024, 1, 1)],
        ["c", "x", "beside the table"],
    ):
        book.active.append(cells)
    book.save(tmp_path / "rows.xlsx")
    found = errors_of(tmp_path / "rows.xlsx")
    assert [(p.code, p.row) for p in found] == [("D09", "row 4"), ("D11", "row 5")]
    assert found[1].hint == "this is a date: make the column a text column"
    rows = read(tmp_path / "rows.xlsx", on_bad_row="quarantine", coerce_numbers=True)
    assert [e.text_a for e in rows.examples] == ["a", "123", "c"]
    assert "ignored: the keys 'column 3'." in str([str(p) for p in rows.problems])


def test_xlsx_reads_the_first_sheet_and_says_so(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "rows"
    book.active.append(["text_a", "label"])
    book.active.append(["十分满意", "好"])
    book.create_sheet("notes")
    book.save(tmp_path / "rows.xlsx")
    assert notes_of(tmp_path / "rows.xlsx") == [
        "rows.xlsx: sheet 'rows' is read, and not 'notes'.",
        "rows.xlsx: row 2: rows without an index are numbered from 0.",
    ]


def test_cells_of_a_table_follow_the_stated_rule(tmp_path):
    joined = put(tmp_path, "a.csv", 'text_a,labels\na,x|y\nb,x;y\nc,"[""x;y""]"\nd,[]\ne,\nf,007\n')
    labels = [example.label for example in read(joined).examples]
    assert labels == [("x", "y"), ("x", "y"), ("x;y",), (), None, ("007",)]
    single = put(tmp_path, "b.csv", 'text_a,label\na,x|y\nb,007\nc,"[""x"",""y""]"\nd,[x]\n')
    assert [e.label for e in stream(single) if isinstance(e, Example)] == [
        "x|y",
        "007",
        ("x", "y"),
        "[x]",
    ]
    assert "b.csv: line 2: 1 row with | or ; in the label: each is read as one name." in str(
        [str(item) for item in stream(single)]
    )
    asked = put(tmp_path, "c.csv", "text_a,label\na,x|y\nb,z\n")
    assert [e.label for e in read(asked, task="multilabel").examples] == [("x", "y"), ("z",)]
    numbers = put(tmp_path, "d.csv", "text_a,label\na,1.5\nb,-2\n")
    assert [e.label for e in read(numbers, task="regression").examples] == [1.5, -2]


def test_a_table_without_a_text_column_says_what_it_has(tmp_path):
    with pytest.raises(DataError, match=r"text_a is missing\. Got 'txet', 'label'") as caught:
        read(put(tmp_path, "rows.csv", "txet,label\na,b\n"))
    assert caught.value.hint == "unknown key 'txet'; did you mean 'text'?"
    with pytest.raises(DataError, match="columns are named twice: 'text'"):
        read(put(tmp_path, "rows.csv", "text,text\na,b\n"))


# ---- exports of annotation programs ---------------------------------------------------------


def label_studio(task: int, text: str, *answers: object) -> dict:
    results = [
        [{"from_name": "aspect", "type": "choices", "value": {"choices": answer}}] if answer else []
        for answer in answers
    ]
    annotations = [{"result": result, "was_cancelled": False} for result in results]
    return {"id": task, "data": {"text": text}, "annotations": annotations, "predictions": []}


def test_label_studio_tasks(tmp_path):
    cancelled = label_studio(4, "没有看", ["灯光"])
    cancelled["annotations"][0]["was_cancelled"] = True
    tasks = [
        label_studio(1, "灯很亮", ["灯光"]),
        label_studio(2, "都不错", ["灯光", "内饰"], ["内饰", "灯光"]),
        label_studio(3, "下雨了", None),
        cancelled,
    ]
    rows = read(put(tmp_path, "export.json", json.dumps(tasks)))
    assert [(e.index, e.label) for e in rows.examples] == [
        (1, ("灯光",)),
        (2, ("灯光", "内饰")),
        (3, ()),
        (4, None),
    ]
    assert str(rows.problems[0]) == "export.json: read as an export of Label Studio."


def test_label_studio_annotators_who_disagree_are_an_error(tmp_path):
    tasks = [label_studio(1, "灯很亮", ["灯光"], ["内饰"])]
    problem = only_error(tmp_path, "export.json", json.dumps(tasks))
    assert problem.code == "D36"
    assert "2 annotations contradict each other: ['灯光'], ['内饰']." in problem.message


def test_label_studio_in_short_form(tmp_path):
    rest = {"annotation_id": 5, "annotator": 1, "lead_time": 2.5, "created_at": "2024-01-01"}
    items = [
        {"id": 1, "text": "灯很亮", "aspect": "灯光", **rest},
        {"id": 2, "text": "都不错", "aspect": {"choices": ["灯光", "内饰"]}, **rest},
    ]
    path = put(tmp_path, "export.json", json.dumps(items))
    assert [e.label for e in read(path).examples] == [("灯光",), ("灯光", "内饰")]
    two = [{"text": "a", "aspect": "x", "tone": "y", **rest}]
    problem = only_error(tmp_path, "two.json", json.dumps(two))
    assert problem.message == "which of 'aspect', 'tone' is the label cannot be told."


def test_doccano_rows_and_single_label_tasks(tmp_path):
    items = [
        {"id": 8, "text": "灯很亮", "label": ["灯光"], "Comments": []},
        {"id": 9, "text": "都不错", "label": ["内饰"], "Comments": []},
    ]
    path = put(tmp_path, "export.jsonl", lines(*items))
    assert [e.label for e in read(path).examples] == [("灯光",), ("内饰",)]
    assert [e.label for e in read(path, task="multiclass").examples] == ["灯光", "内饰"]
    two = put(tmp_path, "two.jsonl", lines(dict(items[0], label=["灯光", "内饰"])))
    assert errors_of(two, task="binary")[0].message == "2 labels where the task wants one."
    spans = put(tmp_path, "spans.jsonl", lines(dict(items[0], label=[[0, 2, "灯光"]])))
    assert "labelled spans" in errors_of(spans)[0].message


def with_result(*parts: dict, **data: str) -> str:
    return json.dumps([{"id": 1, "data": data, "annotations": [{"result": list(parts)}]}])


def test_label_studio_rows_that_cannot_be_told(tmp_path):
    choice = {"from_name": "aspect", "value": {"choices": ["x"]}}
    other = {"from_name": "tone", "value": {"choices": ["y"]}}
    region = {"from_name": "spans", "value": {"start": 0, "end": 2, "labels": ["x"]}}
    for content, message in (
        (with_result(choice, title="a", body="b"), "which of 'title', 'body' is the text"),
        (with_result(choice, other, text="a"), "answers several questions: 'aspect', 'tone'"),
        (with_result(region, text="a"), "has regions and no choices"),
        ('[{"data": 3, "annotations": []}]', "data must be an object. Got 3 instead"),
    ):
        problem = only_error(tmp_path, "export.json", content)
        assert message in problem.message
        assert problem.raw
    assert read(put(tmp_path, "one.json", with_result(choice, body="b"))).examples[0].text_a == "b"


def test_label_studio_ratings_pairs_and_broken_lines(tmp_path):
    rating = {"from_name": "stars", "value": {"rating": 4}}
    pair = json.loads(with_result(rating, text_a="a", text_b="b"))[0]
    path = put(tmp_path, "export.jsonl", lines(pair) + "{oops}\n")
    rows = read(path, on_bad_row="quarantine", task="regression")
    assert rows.examples == [Example(1, "a", "b", 4)]
    assert [p.row for p in rows.problems if p.severity == "error"] == ["line 2"]
    short = {"text": "a", "stars": [{"rating": 3}], "annotation_id": 1, "lead_time": 1.0}
    assert read(put(tmp_path, "min.json", json.dumps([short]))).examples[0].label == 3
    no_text = {"body": "a", "annotation_id": 1, "lead_time": 1.0}
    problem = only_error(tmp_path, "min.json", json.dumps([no_text]))
    assert problem.message == "which of 'body' is the text cannot be told."


# ---- D01 to D06: bytes and JSON --------------------------------------------------------------


def test_d01_byte_order_mark_is_read_and_noted(tmp_path):
    text = lines(*ROWS)
    path = put(tmp_path, "rows.jsonl", "\ufeff" + text)
    assert read(path).examples == EXAMPLES
    assert notes_of(path) == ["rows.jsonl: BOM: the byte order mark at the start was skipped."]
    joined = put(tmp_path, "joined.jsonl", "\ufeff" + lines(ROWS[0]) + "\ufeff" + lines(ROWS[1]))
    assert read(joined).examples == EXAMPLES[:2]
    assert notes_of(joined)[1].startswith("joined.jsonl: line 2: BOM")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_d02_gb18030_is_recognised_and_said(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"utf8{suffix}", ROWS)
    content = (tmp_path / f"utf8{suffix}").read_text(encoding="utf-8")
    path = put(tmp_path, f"rows{suffix}", content.encode("gb18030"))
    assert [e.text_a for e in read(path).examples] == [e.text_a for e in EXAMPLES]
    assert notes_of(path)[0] == f"rows{suffix}: read as gb18030."


def test_d02_big5_is_recognised_and_said(tmp_path):
    path = put(tmp_path, "rows.jsonl", lines({"index": 0, "text_a": TRADITIONAL}).encode("big5"))
    assert read(path).examples[0].text_a == TRADITIONAL
    assert notes_of(path) == ["rows.jsonl: read as big5."]


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Das Gerät ist schön, aber für mich zu groß", "latin-1"),
        ("Хорошая машина, но очень шумная", "cp1251"),
        ("이 자동차는 아주 좋고 가격도 저렴합니다", "cp949"),
        ("この車はとても静かで、乗り心地が良いです", "euc_jp"),
        ("この車はとても静かで、乗り心地が良いです", "shift_jis"),
    ],
)
def test_d02_other_encodings_are_asked_for(tmp_path, text, codec):
    path = put(
        tmp_path,
        "rows.jsonl",
        lines(*[{"index": i, "text_a": text} for i in range(5)]).encode(codec),
    )
    with pytest.raises(DataError, match=r"byte \d+ is not UTF-8") as caught:
        read(path)
    assert "--encoding" in caught.value.hint
    assert read(path, encoding=codec).examples[4].text_a == text


def test_d02_bytes_after_the_first_block_decide_too(tmp_path):
    ascii_rows = lines(*[{"index": i, "text_a": "plain " * 50} for i in range(5000)])
    tail = lines({"index": "last", "text_a": EXAMPLES[0].text_a})
    assert len(ascii_rows) > 1 << 20
    path = put(tmp_path, "rows.jsonl", ascii_rows.encode() + tail.encode("gb18030"))
    assert read(path).examples[-1].text_a == EXAMPLES[0].text_a


def test_d02_a_broken_line_in_utf8_is_that_lines_problem(tmp_path):
    broken = '{"text_a": "好\udcff"}\n'.encode("utf-8", "surrogateescape")
    path = put(tmp_path, "rows.jsonl", lines(*ROWS).encode() + broken)
    (problem,) = errors_of(path)
    assert (problem.code, problem.row) == ("D02", "line 4")
    assert problem.message == "column 14: 0xFF is not utf-8."
    cells = "text_a,label\n好,a\n好的,b\n".encode() + b"\xff,c\n"
    assert errors_of(put(tmp_path, "rows.csv", cells))[0].row == "line 4"


def test_d01_the_mark_is_skipped_when_utf8_is_asked_for_too(tmp_path):
    path = put(tmp_path, "rows.jsonl", "\ufeff" + lines(*ROWS))
    for name in ("utf-8", "UTF-8", "utf8", "utf-8-sig"):
        assert read(path, encoding=name).examples == EXAMPLES


def test_d02_a_broken_byte_in_a_list_is_located(tmp_path):
    content = json.dumps(ROWS, ensure_ascii=False, indent=1).encode()
    path = put(tmp_path, "rows.json", content.replace("今".encode(), b"\xff"))
    with pytest.raises(DataError, match=r"line 21: byte \d+ is not utf-8 \(invalid start byte\)"):
        read(path)


def test_d02_unknown_encodings_are_named(tmp_path):
    path = put(tmp_path, "rows.jsonl", lines(*ROWS))
    for name in ("klingon", "base64", "\0"):
        with pytest.raises(DataError, match="encoding must be a text encoding"):
            read(path, encoding=name)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_d03_utf16_is_read_when_it_has_its_mark(tmp_path, codec, suffix):
    WRITERS[suffix](tmp_path / f"utf8{suffix}", ROWS)
    content = (tmp_path / f"utf8{suffix}").read_text(encoding="utf-8")
    path = put(tmp_path, f"rows{suffix}", f"\ufeff{content}".encode(codec))
    assert read(path).examples == read(tmp_path / f"utf8{suffix}").examples
    assert notes_of(path)[0] == f"rows{suffix}: read as {codec[:6]}."
    with pytest.raises(DataError, match="the file ends inside a character"):
        read(put(tmp_path, f"cut{suffix}", path.read_bytes()[:-1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[{"text_a": "好"}, {"text_a": "bro',
            "rows.json: line 1 (byte 31): the file ends inside a string",
        ),
        ('[{"text_a": "好"}, {"text_a": ', "the file ends inside a row"),
        ('[{"text_a": "好"},\n', "line 2 (byte 20): the file ends before the list does"),
        ('\ufeff[{"text_a": "好"}', "line 1 (byte 21): the file ends before the list does"),
    ],
)
def test_d04_a_cut_list_says_where_it_ends(tmp_path, content, message):
    with pytest.raises(DataError) as caught:
        read(put(tmp_path, "rows.json", content))
    assert message in str(caught.value)
    assert "is it still being written?" in str(caught.value)


@pytest.mark.parametrize("codec", ["utf-8", "gb18030", "utf-16"])
@pytest.mark.parametrize("lost", [0, 1])
def test_d04_a_list_cut_inside_a_character(tmp_path, codec, lost):
    whole = json.dumps([{"text_a": "天窗漏水了很久"}] * 30, ensure_ascii=False)
    at = len(whole[: whole.rindex("久")].encode(codec)) + 1
    path = tmp_path / "rows.json"
    path.write_bytes(whole.encode(codec)[: at - lost])
    with pytest.raises(DataError, match="still being written") as caught:
        read(path, encoding=codec)
    assert "--encoding" not in str(caught.value)


def test_d04_a_cut_last_line_is_that_lines_problem(tmp_path):
    problem = only_error(tmp_path, "rows.jsonl", lines(*ROWS) + '{"text_a": "half of')
    assert (problem.code, problem.row) == ("D04", "line 4")
    assert "ends inside a string" in problem.message
    cut = lines(*ROWS).encode()[:-1] + '\n{"text_a": "好'.encode()[:-1]
    assert errors_of(put(tmp_path, "cut.jsonl", cut))[0].code == "D04"
    quoted = only_error(tmp_path, "rows.csv", 'text_a\na\n"half\n')
    assert (quoted.code, quoted.row) == ("D04", "line 3")


@pytest.mark.parametrize(
    ("lost", "codec", "at"),
    [
        ("", "utf-8", '"好'),
        ("", "utf-8-sig", '"好'),
        ("", "gb18030", '"好'),
        ("half of a character", "utf-8", "好"),
        ("", "utf-16", None),
    ],
)
def test_d04_a_cut_line_says_the_byte(tmp_path, lost, codec, at):
    before = "".join(f'{{"text_a": "第{n}句话很好"}}\n' for n in range(9)) + '  {"text_a": '
    content = (before + '"好').encode(codec)
    path = put(tmp_path, "rows.jsonl", content[:-1] if lost else content)
    (problem,) = errors_of(path, encoding=codec if codec == "gb18030" else None)
    assert (problem.code, problem.row) == ("D04", "line 10")
    told = problem.message.partition("(byte ")[2].partition(")")[0]
    begin = (before + '"好').index(at, len(before)) if at else 0
    assert told == (str(len((before + '"好')[:begin].encode(codec))) if at else "")


def test_d04_a_cut_gzip_file(tmp_path):
    path = put(tmp_path, "rows.jsonl.gz", gzip.compress(lines(*ROWS).encode())[:-9])
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz: cannot be read past byte"):
        read(path)


def test_d05_a_malformed_line_fails_or_is_set_aside(tmp_path):
    path = put(tmp_path, "rows.jsonl", lines(ROWS[0]) + "{oops}\n" + lines(ROWS[1]))
    with pytest.raises(DataError, match=r"rows\.jsonl: line 2: not JSON at column 2"):
        read(path)
    rows = read(path, on_bad_row="quarantine")
    assert rows.examples == EXAMPLES[:2]
    assert [(p.row, p.raw) for p in rows.problems] == [("line 2", "{oops}")]
    out = tmp_path / "bad.jsonl"
    assert write_quarantine(out, rows.problems) == 1
    assert json.loads(out.read_text(encoding="utf-8"))["raw"] == "{oops}"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ('[{"text_a": "a"},]', "take away the comma before it"),
        ('[{"text_a": "a",}]', "take away the comma before it"),
        ('[{"text_a": "a"}\n{"text_a": "b"}]', "put a comma between the rows"),
        ("[{'text_a': 'a'}]", 'Write {"text_a": "a"}'),
        ('[{"text_a": None}]', "null, true, false instead of None, True, False"),
    ],
)
def test_d05_common_slips_get_their_remedy(tmp_path, content, hint):
    with pytest.raises(DataError) as caught:
        read(put(tmp_path, "rows.json", content))
    assert hint in caught.value.hint


def test_d05_lines_with_commas_between_them(tmp_path):
    for more in (",", " ,", ' {"text_a": "b"}'):
        problem = only_error(tmp_path, "rows.jsonl", f"{lines(ROWS[0])[:-1]}{more}\n")
        assert problem.hint == "each row needs a line of its own, without a comma at its end"


def test_d05_rows_that_are_no_objects_and_cells_that_do_not_fit(tmp_path):
    assert "Got 3 instead" in only_error(tmp_path, "rows.jsonl", "3\n").message
    assert "Got null instead" in only_error(tmp_path, "rows.json", "[null]").message
    cells = only_error(tmp_path, "rows.csv", "text_a,label\na,b\nc\n")
    assert cells.message == "1 cell where the first line names 2 columns."
    assert "not csv" in only_error(tmp_path, "quote.csv", 'text_a\n"a"b\n').message


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_d06_nan_and_infinity_are_not_json(tmp_path, word):
    row = f'{{"text_a": "a", "meta": [{word}]}}'
    problem = only_error(tmp_path, "rows.jsonl", row)
    assert (problem.code, problem.row) == ("D06", "line 1")
    assert problem.message == f"{word} is not JSON."
    assert only_error(tmp_path, "rows.json", f"[{row}]").row == "row 1 (line 1)"


# ---- D07 to D16: keys, texts, characters ------------------------------------------------------


def test_d07_a_missing_text_is_named(tmp_path):
    missing, null = errors_of(put(tmp_path, "a.jsonl", lines({"label": "x"}, {"text_a": None})))
    assert (missing.code, missing.message) == ("D07", "text_a is missing.")
    assert missing.hint == "the keys of this row are 'label'"
    assert (null.code, null.message) == ("D07", "text_a is null.")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("txet", "text"),
        ("text_s", "text_a"),
        ("Text_A", "text_a"),
        ("setnence", "sentence"),
        ("lable", "label"),
        ("Label", "label"),
        ("idnex", "index"),
    ],
)
def test_d08_misspelt_keys_get_the_nearest_name(tmp_path, key, meant):
    row = {"text_a": "a", key: "x"} if meant in ("label", "index") else {key: "x"}
    problem = only_error(tmp_path, "rows.jsonl", lines(row))
    assert problem.code == "D08"
    assert problem.message == f"unknown key {key!r}; did you mean {meant!r}?"


def test_d08_other_keys_are_passed_over_and_said(tmp_path):
    row = {"id": 7, "sentence": "a", "labels": ["x"], "source": "web", "level": 3}
    path = put(tmp_path, "rows.jsonl", lines(row))
    assert read(path).examples == [Example(7, "a", None, ("x",))]
    assert notes_of(path) == [
        "rows.jsonl: line 1: 'id' is read as 'index'.",
        "rows.jsonl: line 1: 'sentence' is read as 'text_a'.",
        "rows.jsonl: line 1: 'labels' is read as 'label'.",
        "rows.jsonl: line 1: ignored: the keys 'level', 'source'.",
    ]


def test_d08_two_keys_for_one_field_are_an_error(tmp_path):
    problem = only_error(tmp_path, "rows.jsonl", lines({"text": "a", "text_a": "b"}))
    assert problem.message == "the row has the keys 'text_a', 'text', which mean the same."


@pytest.mark.parametrize("literal", ["123", "1.50", "-0", "1e3", "123456789012345678901"])
def test_d09_numbers_as_text_are_refused_or_kept_as_spelled(tmp_path, literal):
    content = f'{{"index": 4, "text_a": {literal}, "label": 2}}\n'
    problem = only_error(tmp_path, "rows.jsonl", content)
    assert (problem.code, problem.hint) == ("D09", "--coerce-numbers reads it as text")
    rows = read(tmp_path / "rows.jsonl", coerce_numbers=True)
    assert rows.examples == [Example(4, literal, None, 2)]
    assert "1 row with a number as text_a: read as text." in str(rows.problems[0])


def test_d09_what_is_no_text_is_no_text(tmp_path):
    rows = ({"text_a": True}, {"text_a": ["a", "b"]}, {"text_a": {}})
    found = errors_of(put(tmp_path, "rows.jsonl", lines(*rows)), coerce_numbers=True)
    assert [p.code for p in found] == ["D09"] * 3
    assert found[1].hint == "a pair of texts goes into text_a and text_b"


def test_d10_text_that_looks_like_a_date_or_number_stays_text(tmp_path):
    for suffix, text in (
        (".csv", "text_a\n2024-01-01\n007\n"),
        (".jsonl", '{"text_a":"2024-01-01"}'),
    ):
        assert read(put(tmp_path, f"rows{suffix}", text)).examples[0].text_a == "2024-01-01"
    assert read(tmp_path / "rows.csv").examples[1].text_a == "007"


def test_d10_dates_in_tables_are_an_error(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import datetime

    from pyarrow import parquet

    table = pyarrow.table({"text_a": [datetime.date(2024, 1, 1)]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    (problem,) = errors_of(tmp_path / "rows.parquet")
    assert (problem.code, problem.row) == ("D10", "row 1")


@pytest.mark.parametrize(("value", "shown"), [(True, "true"), ({"a": 1}, "{'a': 1}")])
def test_d11_labels_of_other_types_are_refused(tmp_path, value, shown):
    problem = only_error(tmp_path, "rows.jsonl", lines({"text_a": "a", "label": value}))
    assert problem.code == "D11"
    assert f"Got {shown} instead" in problem.message
    assert problem.hint == ('write the name "yes", or 1 for regression' if value is True else None)


def test_d12_a_key_given_twice_is_named_at_any_depth(tmp_path):
    for row in (
        '{"text_a": "a", "text_a": "b"}',
        '{"text_a": "a", "meta": {"text_a": 1, "text_a": 2}}',
    ):
        for name, content in (("rows.jsonl", row), ("rows.json", f"[{row}]")):
            problem = only_error(tmp_path, name, content)
            assert problem.code == "D12"
            assert problem.message == "the object has the key 'text_a' more than once."


def test_d13_an_index_used_twice_names_both_lines(tmp_path):
    rows = [
        {"index": "a", "text_a": "x"},
        {"index": 1, "text_a": "y"},
        {"index": "a", "text_a": "z"},
    ]
    path = put(tmp_path, "rows.jsonl", lines(*rows))
    with pytest.raises(DataError, match=r"line 3: index 'a' is used again; it is also at line 1\."):
        read(path)
    kept = read(path, on_bad_row="quarantine")
    assert [e.text_a for e in kept.examples] == ["x", "y"]


def test_d13_an_index_must_be_an_integer_or_a_string(tmp_path):
    for value in (1.5, True, [1]):
        problem = only_error(tmp_path, "rows.jsonl", lines({"index": value, "text_a": "a"}))
        assert "index must be an integer or a string" in problem.message


def test_an_absent_index_is_the_position_and_said_once(tmp_path):
    rows = [{"text_a": "a"}, {"index": None, "text_a": "b"}, {"text_a": "c"}]
    path = put(tmp_path, "rows.jsonl", lines(*rows))
    assert [e.index for e in read(path).examples] == [0, 1, 2]
    assert notes_of(path) == ["rows.jsonl: line 1: rows without an index are numbered from 0."]


def said_of(path: Path) -> list[str]:
    return [p.message for p in stream(path) if isinstance(p, Problem) and p.severity == "note"]


def test_a_number_that_may_be_another_rows_index_is_said(tmp_path):
    numbered = "rows without an index are numbered from 0."
    doubled = (
        "rows without an index are numbered from 1 to 1, and other rows have indices from 1 to 1: "
        "two rows may have the same."
    )
    rows = [{"index": 1, "text_a": "a"}, {"text_a": "b"}, {"index": 1, "text_a": "c"}]
    assert said_of(put(tmp_path, "rows.jsonl", lines(*rows))) == [numbered, doubled]
    cells = put(tmp_path, "rows.csv", "index,text_a\n1,a\n,b\nx,c\n")
    assert [e.index for e in stream(cells) if isinstance(e, Example)] == ["1", 1, "x"]
    assert said_of(cells) == [numbered, doubled]
    apart = [
        {"index": 7, "text_a": "a"},
        {"index": None, "text_a": "b"},
        {"index": "x1", "text_a": "c"},
    ]
    assert said_of(put(tmp_path, "apart.jsonl", lines(*apart))) == [numbered]
    own = [{"index": 1, "text_a": "a"}, {"index": 0, "text_a": "b"}]
    assert said_of(put(tmp_path, "own.jsonl", lines(*own))) == []


def test_rows_to_be_predicted_are_not_asked_for_labels(tmp_path):
    path = put(tmp_path, "rows.jsonl", "3\n")
    [problem] = stream(path)
    assert problem.message == (
        "a row must be an object with text_a, and label where it has one. Got 3 instead."
    )
    with pytest.raises(DataError) as caught:
        list(stream(put(tmp_path, "rows.csv", "apple,pear\na,b\n")))
    assert caught.value.hint.startswith("rename the column that holds the text to text_a")


@pytest.mark.parametrize("key", ["index", "text_a", "text_b", "label"])
def test_d14_half_characters_are_refused_or_replaced(tmp_path, key):
    row = {"index": 1, "text_a": "a", "text_b": "b", "label": "c", key: "x\ud800"}
    path = put(tmp_path, "rows.jsonl", json.dumps(row))
    (problem,) = errors_of(path)
    assert problem.code == "D14"
    assert problem.message == f"{key} holds half a character, the lone surrogate U+D800."
    json.dumps(problem.index).encode("utf-8")
    assert not isinstance(problem.index, str)
    fixed = read(path, fix_unicode=True)
    assert getattr(fixed.examples[0], key) == "x\ufffd"
    assert f"1 row with half characters in {key}: U+FFFD put there." in str(fixed.problems[0])


def test_d14_whole_pairs_are_one_character(tmp_path):
    row = {"text_a": "\U0001f600", "label": ["\U0001f600"]}
    assert read(put(tmp_path, "rows.jsonl", json.dumps(row))).examples[0].text_a == "\U0001f600"


def test_d15_raw_control_characters_are_named(tmp_path):
    problem = only_error(tmp_path, "rows.jsonl", '{"text_a": "a\tb"}\n')
    assert problem.code == "D15"
    assert problem.message == "raw control character U+0009 in a string, column 14."
    array = put(tmp_path, "rows.json", '[{"text_a": "a\nb"},\n{"text_a": "c"}]')
    rows = read(array, on_bad_row="quarantine")
    assert [e.text_a for e in rows.examples] == ["c"]
    assert [(p.code, p.row) for p in rows.problems if p.severity == "error"] == [
        ("D15", "row 1 (line 1)")
    ]


def test_d16_escaped_controls_are_kept_and_counted(tmp_path):
    rows = [{"index": i, "text_a": text} for i, text in enumerate(["a\0b", "c", "d\x07", "e\nf"])]
    path = put(tmp_path, "rows.jsonl", lines(*rows))
    assert read(path).examples[0].text_a == "a\0b"
    assert notes_of(path) == [
        "rows.jsonl: line 1: 2 rows with control characters such as NUL in text_a: kept."
    ]


# ---- D17 to D22, D32, D39, D40 ----------------------------------------------------------------


def test_d17_blank_lines_crlf_and_unicode_line_ends(tmp_path):
    text = "a\u2028b\u0085c"
    content = f'\r\n{{"index": 0, "text_a": "{text}"}}\r\n \t\n{{"index": 1, "text_a": "d"}}'
    rows = read(put(tmp_path, "rows.jsonl", content))
    assert [e.text_a for e in rows.examples] == [text, "d"]
    cells = read(put(tmp_path, "rows.csv", f"text_a,label\r\n\r\n{text},x\r\n"))
    assert cells.examples[0] == Example(0, text, None, "x")


def test_d18_deep_nesting_is_said(tmp_path):
    deep = '{"text_a": ' + "[" * 50_000 + "]" * 50_000 + "}"
    assert only_error(tmp_path, "rows.jsonl", deep).message == "nested too deep to read."
    with pytest.raises(DataError, match=r"line 1 \(byte 1\): nested too deep"):
        read(put(tmp_path, "rows.json", f"[{deep}]"))


@pytest.mark.parametrize("depth", [100, 300, 600, 900, 960, 990])
def test_d18_nesting_near_the_limit_never_escapes(tmp_path, depth):
    nested = "[" * depth + "]" * depth
    for row in (f'{{"text_a": null, "x": {nested}}}', f'{{"text_a": "a", "label": {nested}}}'):
        assert errors_of(put(tmp_path, "rows.jsonl", row))[0].code in ("D07", "D18", "D32")


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ("9" * 400, "integer of more than 64 bits"),
        ("1" + "0" * 400 + ".5", "too large for a number"),
        ("-1e999", "too large for a number"),
        ("9" * 5000, "over 4,300 digits"),
    ],
)
def test_d19_numbers_out_of_range(tmp_path, literal, message):
    problem = only_error(tmp_path, "rows.jsonl", f'{{"text_a": "a", "label": {literal}}}')
    assert problem.code == "D19"
    assert message in problem.message
    assert errors_of(tmp_path / "rows.jsonl", coerce_numbers=True)[0].code == "D19"


@pytest.mark.parametrize("digits", [25, 5000])
def test_d19_numbers_out_of_range_in_cells(tmp_path, digits):
    content = f"text_a,label\n好,1\n坏,{'9' * digits}\n"
    problem = only_error(tmp_path, "a.csv", content, task="regression")
    assert (problem.code, problem.row) == ("D19", "line 3")
    assert "more than 64 bits" in problem.message


def test_d19_an_index_out_of_range(tmp_path):
    problem = only_error(tmp_path, "rows.jsonl", f'{{"text_a": "a", "index": {2**63}}}')
    assert problem.message == "index has more than 64 bits."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", ""),
        ("a.json", "[]"),
        ("a.json", " \n"),
        ("a.jsonl", "\n\n"),
        ("a.csv", "text_a\n"),
    ],
)
def test_d20_no_rows(tmp_path, name, content):
    path = put(tmp_path, name, content)
    with pytest.raises(DataError, match=f"^{name}: no rows\\.$"):
        read(path)
    with pytest.raises(DataError, match="no rows"):
        list(stream(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text_a": ["a"], "label": ["b"]}', "one object of columns, 'text_a', 'label', not rows"),
        (
            '{"version": 1, "data": [{"text_a": "a"}]}',
            "its rows stand under 'data': keep that list",
        ),
        ('{"text_a": "a"}', "holds a single object: put [ ] around it"),
        ('{"a": 1}', "holds an object with the keys 'a', not rows"),
        ('"a"', "the file holds a string"),
    ],
)
def test_d21_other_layouts_are_explained(tmp_path, content, message):
    with pytest.raises(DataError) as caught:
        read(put(tmp_path, "rows.json", content))
    assert message in caught.value.message
    assert "a list of rows" in caught.value.hint
    assert "JSON Lines" in caught.value.hint


def test_d21_the_old_data_example_is_told_what_to_write(tmp_path):
    old = "{'index': 0, 'text_a': '前大灯很亮', 'text_b': None, 'label': ['灯光']}"
    with pytest.raises(DataError) as caught:
        read(put(tmp_path, "train.json", old))
    assert "a single object in Python's notation (single quotes)" in caught.value.message
    written = '[{"index": 0, "text_a": "前大灯很亮", "text_b": null, "label": ["灯光"]}]'
    assert f"write {written}: double quotes" in caught.value.hint
    mended = read(put(tmp_path, "train.json", written))
    assert mended.examples == [Example(0, "前大灯很亮", None, ("灯光",))]


@pytest.mark.parametrize(
    "text", ["", " ", "\u3000\t", "\u200b\u200d", "\ufeff", "\0\x01", "\u3164"]
)
@pytest.mark.parametrize("key", ["text_a", "text_b"])
def test_d22_blank_texts(tmp_path, text, key):
    row = {"index": 5, "text_a": "a", "text_b": "b", key: text}
    path = put(tmp_path, "rows.jsonl", json.dumps(row))
    if key == "text_b" and text == "":
        assert read(path).examples[0].text_b is None
        assert "empty text_b: read as null" in notes_of(path)[0]
        return
    (problem,) = errors_of(path)
    assert (problem.code, problem.index) == ("D22", 5)
    assert f"{key} is blank" in problem.message


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (["a", "b", "a"], "label names 'a' more than once."),
        (["a", 1], "label must be a list of strings. Got 1 in the list."),
        ([0, 1], "label must be a list of strings. Got 0 in the list."),
        ([None], "Got null in the list."),
        ("['a', 'b']", "label is a string that spells a list"),
        ('["a"]', "label is a string that spells a list"),
        ("[]", "label is a string that spells a list"),
    ],
)
def test_d32_lists_that_are_not_lists_of_distinct_names(tmp_path, label, message):
    problem = only_error(tmp_path, "rows.jsonl", lines({"text_a": "a", "label": label}))
    assert problem.code == "D32"
    assert message in problem.message


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "label is an empty name."),
        ("  ", "label is an empty name."),
        ("a\nb", "holds the control character U+000A"),
        ("a\tb", "holds the control character U+0009"),
        ("x" * 201, "label name has 201 characters; at most 200 are allowed."),
    ],
)
@pytest.mark.parametrize("in_list", [False, True])
def test_d40_names_that_are_no_names(tmp_path, label, message, in_list):
    row = {"text_a": "a", "label": [label] if in_list else label}
    problem = only_error(tmp_path, "rows.jsonl", lines(row))
    assert problem.code == "D40"
    assert message in problem.message


def test_d40_markup_and_200_characters_are_names(tmp_path):
    for name in ("<b>good</b>", "x" * 200, "[PAD]"):
        row = {"text_a": "a", "label": name}
        assert read(put(tmp_path, "rows.jsonl", lines(row))).examples[0].label == name


def test_d39_what_is_no_file_is_named(tmp_path):
    put(tmp_path, "train.json", "[]")
    with pytest.raises(DataError, match="is a folder") as caught:
        read(tmp_path)
    assert "train.json" in caught.value.hint
    with pytest.raises(DataError, match="no such file") as caught:
        read(tmp_path / "trian.json")
    assert "train.json" in caught.value.hint
    with pytest.raises(DataError, match=r"packed\.jsonl: the file is compressed") as caught:
        read(put(tmp_path, "packed.jsonl", gzip.compress(b"{}")))
    assert caught.value.hint == "rename it to packed.jsonl.gz"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_d39_a_pipe_is_named(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="is a pipe or a device") as caught:
        read(tmp_path / "rows.jsonl")
    assert "standard input" in caught.value.hint
    for read_names in (read_labels, read_label_merges):
        with pytest.raises(DataError, match="is a pipe or a device") as caught:
            read_names(tmp_path / "rows.jsonl")
        assert caught.value.hint == "give a file"


def test_d39_a_large_list_is_advised_to_become_lines(tmp_path, monkeypatch):
    monkeypatch.setattr("bert_cls.data.json_array.LARGE_BYTES", 10)
    path = put(tmp_path, "rows.json", json.dumps(ROWS))
    (note,) = read(path).problems
    assert (note.code, note.severity) == ("D39", "note")
    assert "JSON Lines" in note.hint


def test_d39_a_list_that_does_not_fit_is_advised_too(tmp_path, monkeypatch):
    def full(self: object) -> str:
        raise MemoryError

    monkeypatch.setattr("bert_cls.data.source.Source.text", full)
    with pytest.raises(DataError, match=r"rows\.json: does not fit into memory") as caught:
        read(put(tmp_path, "rows.json", "[]"))
    assert "JSON Lines" in caught.value.hint


# ---- problems together -----------------------------------------------------------------------


def test_all_problems_of_a_file_are_said_at_once(tmp_path):
    rows = [{"text_a": None, "label": True}, *[{"txet": "a"}] * 30]
    with pytest.raises(DataError) as caught:
        read(put(tmp_path, "rows.jsonl", lines(*rows)))
    text = str(caught.value)
    assert text.startswith("32 errors in rows.jsonl\n")
    assert "D07 text missing: 1 error" in text
    assert "D11 label type: 1 error" in text
    assert "D08 keys: 30 errors" in text
    assert text.count("unknown key 'txet'") == 20
    assert "... and 10 more" in text


def test_stream_gives_one_item_a_row(tmp_path):
    rows = [{"index": 3, "text_a": None, "label": True}, {"index": 4, "text_a": "a"}]
    items = list(stream(put(tmp_path, "rows.jsonl", lines(*rows))))
    assert [item.index for item in items] == [3, 4]
    assert str(items[0]) == "rows.jsonl: line 1: text_a is null. (1 more problem in this row)"


def test_on_bad_row_is_one_of_two_words(tmp_path):
    with pytest.raises(ConfigError, match=r"on_bad_row must be one of .* Got 'skip' instead"):
        read(put(tmp_path, "rows.jsonl", lines(*ROWS)), on_bad_row="skip")


def test_quarantine_of_every_row_still_fails(tmp_path):
    with pytest.raises(DataError, match="text_a is null"):
        read(put(tmp_path, "rows.jsonl", lines({"text_a": None})), on_bad_row="quarantine")


def test_quarantined_rows_keep_their_escapes(tmp_path):
    path = put(tmp_path, "rows.jsonl", '{"text_a": "a"}\n{"text_a": "\\ud800"}\n')
    rows = read(path, on_bad_row="quarantine")
    write_quarantine(tmp_path / "bad.jsonl", rows.problems)
    raw = json.loads((tmp_path / "bad.jsonl").read_text(encoding="utf-8"))["raw"]
    assert json.loads(raw) == {"text_a": "\ud800"}


def test_a_row_with_several_problems_is_quarantined_once(tmp_path):
    bad = ['{"text_a": null, "label": 5, "index": []}', "{oops}", '{"labl": "a", "index": 2.5}']
    path = put(tmp_path, "rows.jsonl", lines(ROWS[0]) + "\n".join(bad))
    rows = read(path, on_bad_row="quarantine")
    assert len([p for p in rows.problems if p.severity == "error"]) == 6
    assert write_quarantine(tmp_path / "bad.jsonl", rows.problems) == 3
    text = (tmp_path / "bad.jsonl").read_text("utf-8")
    written = [json.loads(line) for line in text.splitlines()]
    assert [line["row"] for line in written] == ["line 2", "line 3", "line 4"]
    codes = [[line["code"], *(each["code"] for each in line["further"])] for line in written]
    assert codes == [["D13", "D07"], ["D05"], ["D08", "D07", "D13"]]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_quarantine_holds_rows_as_they_stood(tmp_path, suffix):
    deep = '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    bad = [
        ('{"text_a":12345678901234567.10,  "label":"a"}', "Got 12345678901234567.10 instead."),
        ('{"text_a": "a", "text_b": 1.50, "x": 1e400}', "Got 1.50 instead."),
        ('{"text": 1e400, "x": [-0, "\\u597d"]}', "Got 1e400 instead."),
        ('[1.50, "long", ' + "0, " * 40 + "1E5]", "a row must be an object"),
        ("1.50", "Got 1.5 instead."),
        ('{"text_a": "b", "index": []}', "Got [] instead."),
        ('{"text_a": "c", "x": 1.50, "index": 7}', "index 7 is used again"),
        *([(deep, "nested too deep")] if suffix == ".jsonl" else []),
    ]
    rows = ['{"text_a": "good", "index": 7}', *(row for row, _ in bad)]
    content = "\n".join(rows) if suffix == ".jsonl" else f"[{','.join(rows)}]"
    found = read(put(tmp_path, f"rows{suffix}", content), on_bad_row="quarantine")
    problems = [p for p in found.problems if p.severity == "error"]
    assert [p.raw for p in problems] == [row for row, _ in bad]
    for problem, (_, said) in zip(problems, bad, strict=True):
        assert said in problem.message


def test_notes_alone_are_no_error():
    note = Problem("D01", "a.json", "", None, "skipped.", "note")
    raise_errors([note])
    assert summarise([note]) == "D01 byte order mark: 1 note\n  a.json: skipped."


def test_every_code_in_the_sources_has_a_title():
    import re

    import bert_cls.data

    folder = Path(bert_cls.data.__file__).parent
    used = {
        code
        for name in folder.glob("*.py")
        for code in re.findall(r'"(D\d\d)"', name.read_text(encoding="utf-8"))
    }
    assert used <= set(KINDS)


# ---- laws --------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["index", "id", "text_a", "text", "text_b", "label", "labels", "txet", "x"])
loose_rows = st.lists(st.dictionaries(keys, json_values, max_size=5) | json_values, max_size=5)
texts = st.builds("{}好{}".format, *[st.text(st.characters(codec="utf-8"))] * 2)
names = st.text(st.sampled_from("abc好坏 |;[]\"'"), min_size=1, max_size=8).map(lambda n: f"n{n}n")
good_labels = st.one_of(
    st.none(),
    names,
    st.lists(names, unique=True, max_size=3),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
)
good_rows = st.lists(
    st.fixed_dictionaries(
        {"text_a": texts, "text_b": st.none() | texts, "label": good_labels},
        optional={},
    ),
    min_size=1,
    max_size=6,
)
fast = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def as_example(position: int, row: dict) -> Example:
    label = tuple(row["label"]) if isinstance(row["label"], list) else row["label"]
    return Example(position, row["text_a"], row["text_b"], label)


@fast
@given(rows=loose_rows, mode=st.sampled_from(["lines", "list", "value"]), repair=st.booleans())
@example(rows=[{"text_a": "a", "label": 10**400}], mode="list", repair=True)
def test_no_rows_raise_anything_but_data_errors(tmp_path, rows, mode, repair):
    if mode == "lines":
        path = put(tmp_path, "rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        path = put(tmp_path, "rows.json", json.dumps(rows[0] if mode == "value" and rows else rows))
    options = {"coerce_numbers": repair, "fix_unicode": repair}
    for attempt in (
        lambda: read(path, **options),
        lambda: read(path, on_bad_row="quarantine", **options),
        lambda: list(stream(path, **options)),
    ):
        try:
            attempt()
        except DataError as error:
            assert str(error)  # noqa: PT017 - any DataError is right


@fast
@given(
    content=st.binary(max_size=80), suffix=st.sampled_from(sorted(READERS)), packed=st.booleans()
)
def test_no_bytes_raise_anything_but_data_errors(tmp_path, content, suffix, packed):
    path = put(tmp_path, f"rows{suffix}{'.gz' if packed else ''}", content)
    try:
        read(path, on_bad_row="quarantine")
    except DataError as error:
        assert str(error)  # noqa: PT017 - any DataError is right


@fast
@given(rows=good_rows, suffix=st.sampled_from([".json", ".jsonl"]), ascii_only=st.booleans())
def test_what_is_written_is_read_back_in_order(tmp_path, rows, suffix, ascii_only):
    if suffix == ".json":
        content = json.dumps(rows, ensure_ascii=ascii_only)
    else:
        content = "".join(f"{json.dumps(row, ensure_ascii=ascii_only)}\n" for row in rows)
    path = put(tmp_path, f"rows{suffix}", content)
    wanted = [as_example(i, row) for i, row in enumerate(rows)]
    assert read(path).examples == wanted
    assert [item for item in stream(path) if isinstance(item, Example)] == wanted


@fast
@given(rows=good_rows, suffix=st.sampled_from([".csv", ".tsv"]))
def test_cells_are_read_back_as_they_were_written(tmp_path, rows, suffix):
    path = tmp_path / f"rows{suffix}"
    # A line break inside a cell is whatever the file has; csv gives it back unchanged.
    names = [row["label"] if isinstance(row["label"], list) else ["one"] for row in rows]
    as_cells(
        path, [{"text_a": row["text_a"], "label": n} for row, n in zip(rows, names, strict=True)]
    )
    found = read(path).examples
    assert [(e.text_a, e.label) for e in found] == [
        (row["text_a"], tuple(n)) for row, n in zip(rows, names, strict=True)
    ]


@fast
@given(rows=loose_rows)
def test_read_and_stream_agree(tmp_path, rows):
    # Indices that are positions cannot be used twice, which only read looks at.
    rows = [
        {k: v for k, v in r.items() if k not in ("index", "id")}
        for r in rows
        if isinstance(r, dict)
    ]
    path = put(tmp_path, "rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    try:
        streamed = list(stream(path))
    except DataError:
        assert not rows
        return
    examples = [item for item in streamed if isinstance(item, Example)]
    errors = [p for p in streamed if isinstance(p, Problem) and p.severity == "error"]
    assert len(examples) + len(errors) == len(rows)
    if examples:
        assert read(path, on_bad_row="quarantine").examples == examples


@fast
@given(a=st.text("abc", max_size=5), b=st.text("abc", max_size=5))
def test_edit_distance_is_symmetric_and_bounded(a, b):
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_edit_distance_and_nearest_by_hand():
    assert [edit_distance("txet", other) for other in ("text", "xet", "tent", "")] == [1, 1, 2, 4]
    assert nearest("ABC", ["xbc", "abd", "abc"], furthest=1) == "abc"
    assert nearest("abc", ["xyz"], furthest=2) is None


def test_too_few_characters_are_never_guessed():
    assert guess_chinese("好".encode("gb18030")) is None
    assert guess_chinese("这个的".encode("gb18030")) == "gb18030"
    assert guess_chinese(b"") is None


def test_lines_are_streamed_in_constant_memory(tmp_path):
    row = lines({"index": "x", "text_a": "长" * 200, "label": "好"})
    peaks = []
    for n in (5_000, 20_000):
        path = put(tmp_path, "rows.jsonl", row * n)
        tracemalloc.start()
        assert sum(isinstance(item, Example) for item in stream(path)) == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2
    assert peaks[1] < 8 << 20
