"""csv, xlsx and parquet: no line, cell or column goes missing, whatever is wrong with them."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from datetime import datetime
from decimal import Decimal

import openpyxl
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl.chart import BarChart, Reference
from pyarrow import parquet

from bert_cls.data import Example, load, read, stream, write_quarantine
from bert_cls.data.problems import Problem
from bert_cls.data.repair import repair
from bert_cls.errors import DataError
from doors import main
from test_audit import changes_of, put

OPEN = '"没有关上,甲\n'
WORDS = st.text("天窗异响座椅 \"'a1", min_size=1, max_size=6).filter(lambda word: word.strip(" "))


def items_of(path, **options) -> list[Example | Problem]:
    found = stream(path, **options)
    return [i for i in found if isinstance(i, Example) or i.severity == "error"]


def notes_of(path, **options) -> list[str]:
    return [str(i) for i in stream(path, **options) if isinstance(i, Problem)]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(WORDS, min_size=1, max_size=8),
    at=st.integers(0, 7),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_a_quote_without_an_end_costs_only_its_own_line(tmp_path, texts, at, quoting):
    at = min(at, len(texts))
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n", quoting=quoting)
    rows.writerows((text, "甲") for text in texts)
    lines = file.getvalue().splitlines(keepends=True)
    lines.insert(at, OPEN)
    path = tmp_path / "rows.csv"
    path.write_text("text_a,label\n" + "".join(lines), "utf-8")
    found = items_of(path)
    problem = found.pop(at)
    assert (problem.code in ("D04", "D05"), problem.row) == (True, f"line {at + 2}")
    assert problem.raw == OPEN[:-1]
    assert [item.text_a for item in found] == texts


def test_rows_after_an_open_quote_are_neither_lost_nor_silent(tmp_path):
    good = [f"第{n}句,{'甲乙'[n % 2]}\n" for n in range(40)]
    content = "text_a,label\n" + "".join(good[:10]) + OPEN + "".join(good[10:])
    data = put(tmp_path / "data", {"train.csv": content})
    with pytest.raises(DataError, match="line 12: the file ends inside a quoted cell that begins"):
        load(data)
    loaded = load(data, on_bad_row="quarantine")
    assert len(loaded.train) == 40
    write_quarantine(tmp_path / "bad.jsonl", loaded.problems)
    (line,) = map(json.loads, (tmp_path / "bad.jsonl").read_text("utf-8").splitlines())
    assert (line["row"], line["code"], line["raw"]) == ("line 12", "D04", OPEN[:-1])
    copy = repair(data, tmp_path / "copy").data
    assert (copy / "train.csv").read_text("utf-8") == content.replace(OPEN, "")
    (change,) = changes_of(copy)
    assert (change["row"], change["before"]) == ("line 12", OPEN[:-1])


def test_a_quote_that_closes_lines_later_is_noticed(tmp_path):
    inside = "".join(f"第{n}句,甲\n" for n in range(6))
    rows = f'text_a,label\n头,甲\n"开,甲\n{inside}末",乙\n尾,甲\n'
    path = tmp_path / "rows.csv"
    path.write_text(rows, "utf-8")
    assert [item.text_a for item in items_of(path)] == ["头", f"开,甲\n{inside}末", "尾"]
    assert "line 3: 1 row of many lines that look like rows of their own" in "".join(notes_of(path))
    wide = path.with_name("wide.csv")  # the closing quote stands where there are too many cells
    wide.write_text(rows.replace('末",乙', '末",乙,丙'), "utf-8")
    found = items_of(wide)
    assert len(found) == 10
    assert [i.row for i in found if isinstance(i, Problem)] == ["line 3", "line 10"]


def test_a_cell_of_many_lines_stays_one_cell(tmp_path):
    letter = "您好：\n车窗,有异响。\n\n谢谢\n"
    path = tmp_path / "rows.csv"
    path.write_text(f'text_a,label\n"{letter}",甲\n"{letter}",乙,多\n', "utf-8")
    good, bad = items_of(path)
    assert good.text_a == letter
    assert "(lines 7 to 11)" in bad.message
    assert bad.raw == f'"{letter}",乙,多'


def test_a_header_with_an_open_quote_is_an_error_of_the_file(tmp_path):
    for names in ('text_a,"label\n', 'text_a,"label\n天,甲\n窗,乙\n尾,甲"\n'):
        path = tmp_path / "rows.csv"
        path.write_text(f"{names}灯,甲\n", "utf-8")
        with pytest.raises(DataError, match="line 1"):
            list(stream(path))


def test_quotes_in_utter_disorder_end_with_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("bert_cls.data.csv_rows.MOST_REREAD", 1000)
    path = tmp_path / "rows.csv"
    path.write_text("text_a,label\n" + 'a","\n' * 500, "utf-8")
    with pytest.raises(DataError, match=r"line \d+: too many quotes"):
        list(stream(path))


@pytest.mark.parametrize("bad", ['"a"b,甲', "a\rb,甲", "a,b,c"])
def test_what_is_left_out_stands_in_the_log_as_it_was(tmp_path, bad):
    data = put(tmp_path / "data", {"train.csv": f"text_a,label\n天窗,甲\n{bad}\n尾灯,乙\n"})
    (change,) = changes_of(repair(data, tmp_path / "copy").data)
    assert (change["row"], change["before"]) == ("line 3", bad)


def test_bytes_that_are_no_text_stand_in_the_log_as_escapes(tmp_path):
    content = "text_a,label\n天窗,甲\n尾灯,乙\n".encode() + b"\xff,a\n"
    copy = repair(put(tmp_path / "data", {"train.csv": content}), tmp_path / "copy").data
    assert [c["before"] for c in changes_of(copy)] == ["\udcff,a"]


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("a.csv", "text_a;label\n天窗;甲\n", "separated by ';': save it with commas"),
        ("a.csv", "text_a\tlabel\n天窗\t甲\n", "name the file .tsv"),
        ("a.tsv", "text_a,label\n天窗,甲\n", "name the file .csv"),
    ],
)
def test_other_separators_are_named(tmp_path, name, content, remedy):
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert remedy in caught.value.hint


def test_columns_without_a_name_are_kept_apart(tmp_path):
    content = "text_a,label,,\n天窗,甲,1,2\n尾灯,乙,3,4\n"
    data = put(tmp_path / "data", {"train.csv": content})
    assert any("called 'column 3', 'column 4'" in n for n in notes_of(data / "train.csv"))
    copy = repair(data, tmp_path / "copy").data
    named = content.replace(",,\n", ",column 3,column 4\n")
    assert (copy / "train.csv").read_text("utf-8") == named
    assert [c["code"] for c in changes_of(copy)] == ["D21"]


def test_one_column_without_a_name_stays_as_it_is(tmp_path):
    content = ",text_a,label\n0,天窗,甲\n1,尾灯,乙\n"
    data = put(tmp_path / "data", {"train.csv": content})
    copy = repair(data, tmp_path / "copy").data
    assert (copy / "train.csv").read_text("utf-8") == content


def test_a_repaired_parquet_keeps_columns_that_nobody_reads(tmp_path):
    table = pyarrow.table(
        {
            "text_a": ["天窗", "尾灯"],
            "label": ["甲", "乙"],
            "when": [datetime(2024, 1, 1), None],
            "exactly": pyarrow.array([1, 2], pyarrow.timestamp("ns")),
            "price": [Decimal("1.20"), None],
            "bytes": [b"\xff", None],
            "score": [1.5, float("nan")],
            "tags": [["x"], []],
        }
    )
    (tmp_path / "data").mkdir()
    parquet.write_table(table, tmp_path / "data" / "train.parquet")
    copy = repair(tmp_path / "data", tmp_path / "copy").data
    first, second = map(json.loads, (copy / "train.jsonl").read_text("utf-8").splitlines())
    assert (first["when"][:19], first["price"]) == ("2024-01-01 00:00:00", "1.20")
    assert first["exactly"].endswith("000000001")
    assert (first["bytes"], first["score"], first["tags"]) == ("/w==", 1.5, ["x"])
    assert (second["when"], second["score"], second["tags"]) == (None, None, [])
    changes = [(c["code"], c["row"], c["key"], c["before"]) for c in changes_of(copy)]
    assert ("D06", "row 2", "score", "nan") in changes
    said = " ".join(c["what"] for c in changes_of(copy))
    assert "the columns 'when', 'exactly', 'price', 'bytes' hold what JSON has not" in said


def sheet(path, *rows: list[object]) -> None:
    book = openpyxl.Workbook()
    for cells in rows:
        book.active.append(cells)
    book.save(path)


def test_formulas_without_a_stored_value_and_truth_values_are_named(tmp_path):
    rows = [["天窗", "甲", 1], ["座椅", "=B2", 2], ['=A2&"响"', "甲", 3], ["尾灯", True, 4]]
    sheet(tmp_path / "train.xlsx", ["text_a", "label", "n"], *rows, ["轮胎", None, "=C2"])
    found = items_of(tmp_path / "train.xlsx")
    assert [item.text_a for item in found if isinstance(item, Example)] == ["天窗", "轮胎"]
    formula, text, truth = (item for item in found if isinstance(item, Problem))
    assert (formula.row, formula.key) == ("row 3", "label")
    assert formula.message == "label is a formula without a stored value: =B2."
    assert "save it" in formula.hint
    assert (text.row, text.message[:21]) == ("row 4", "text_a is a formula w")
    assert (truth.code, truth.message) == ("D11", "label is the truth value TRUE, and no text.")
    sheet(tmp_path / "copied.xlsx", ["text_a", "label", "n"], rows[0], ["轮胎", "乙", "=C2"])
    copy = repair(tmp_path / "copied.xlsx", tmp_path / "copy").data
    assert [json.loads(line)["n"] for line in copy.read_text("utf-8").splitlines()] == [1, "=C2"]


def test_a_stated_encoding_is_in_the_log_and_holds_for_the_label_file_too(tmp_path):
    content = "text_a,label\n天窗,甲\n尾灯,乙\n"
    data = put(tmp_path / "data", {"train.csv": content.encode("gb18030")})
    names = put(tmp_path / "names", {"names.json": '["甲", "乙"]'.encode("gb18030")}) / "names.json"
    done = main(
        "check", data, "--encoding", "gb18030", "--labels", names, "--fix", tmp_path / "copy"
    )
    assert (done.code, "errors left in it: none" in done.out) == (0, True)
    (change,) = changes_of(tmp_path / "copy")
    assert (change["code"], change["what"]) == ("D02", "read as gb18030. Written as csv in UTF-8")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_label_files_in_utf16_without_a_mark(tmp_path, encoding):
    files = {"train.csv": "text_a,label\n天窗,甲\n尾灯,乙\n", "labels.json": '["乙", "甲"]'}
    data = put(tmp_path / "data", {n: text.encode(encoding) for n, text in files.items()})
    assert load(data, encoding=encoding).space.names == ("乙", "甲")
    copy = repair(data, tmp_path / "copy", encoding=encoding).data
    assert load(copy).space.names == ("乙", "甲")


def test_merges_of_labels_that_no_row_has_are_said(tmp_path):
    rows = [{"text_a": f"第{n}句", "label": "Sport" if n % 2 else "sport "} for n in range(6)]
    merges = {"sport ": "运动", "Sprt": "运动"}
    data = put(tmp_path / "data", {"train.jsonl": "".join(f"{json.dumps(r)}\n" for r in rows)})
    said = [str(p) for p in load(data, label_merges=merges).problems]
    assert any("labels are to be merged that no row has: 'Sprt'" in p for p in said)
    path = tmp_path / "merges.json"
    path.write_text(json.dumps(merges), "utf-8")
    out = main("check", data, "--merge-labels", path).out
    assert "merged that no row has: 'Sprt'" in out
    assert "the label nearest to 'Sprt' is 'Sport'" in out
    good = {"Sport": "运动"}
    assert not any("no row has" in str(p) for p in load(data, label_merges=good).problems)


def sheet_with(path, change, *rows: list[object]) -> None:
    """A workbook whose sheet is changed as XML, as other programs might have written it."""
    sheet(path, *rows)
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    parts[SHEET] = change(parts[SHEET].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content)


SHEET = "xl/worksheets/sheet1.xml"
ROWS = [["text_a", "label"], *([f"第{n}句", "甲乙"[n % 2]] for n in range(9))]


@pytest.mark.parametrize("size", ["A1", "A1:A3", "A1:B11"])
def test_a_sheet_is_read_past_the_size_it_gives(tmp_path, size):
    path = tmp_path / "train.xlsx"
    sheet_with(path, lambda xml: re.sub('ref="[^"]*"', f'ref="{size}"', xml, count=1), *ROWS)
    assert [[e.text_a, e.label] for e in read(path).examples] == ROWS[1:]


def test_a_row_number_that_no_sheet_has_is_an_error(tmp_path):
    path = tmp_path / "train.xlsx"
    sheet_with(path, lambda xml: xml.replace('<row r="9">', '<row r="99999999999">'), *ROWS)
    with pytest.raises(DataError, match="a row has a number over 1,048,576"):
        read(path)


def test_a_formula_that_gives_an_empty_text_is_an_empty_cell(tmp_path):
    path = tmp_path / "train.xlsx"
    stored = '<c r="B3" t="str"><f>IF(1,"","")</f><v></v></c>'
    sheet_with(path, lambda xml: re.sub('<c r="B3".*?</c>', stored, xml), *ROWS)
    labels = [e.label for e in read(path).examples]
    assert labels == ["甲", None, *(label for _, label in ROWS[3:])]


def test_errors_of_excel_are_no_texts_and_no_labels(tmp_path):
    path = tmp_path / "train.xlsx"
    failed = '<c r="B3" t="e"><f>VLOOKUP(1,C1:D2,2)</f><v>#N/A</v></c>'
    sheet_with(path, lambda xml: re.sub('<c r="B3".*?</c>', failed, xml), *ROWS)
    (problem,) = (p for p in items_of(path) if isinstance(p, Problem))
    assert (problem.row, problem.message) == ("row 3", "label is the error #N/A, and no text.")


def test_an_array_formula_without_a_value_is_shown_as_it_was_typed(tmp_path):
    path = tmp_path / "train.xlsx"
    typed = '<c r="B3"><f t="array" ref="B3">A2:A3</f></c>'
    sheet_with(path, lambda xml: re.sub('<c r="B3".*?</c>', typed, xml), *ROWS)
    (problem,) = (p for p in items_of(path) if isinstance(p, Problem))
    assert problem.message == "label is a formula without a stored value: =A2:A3."


def test_cells_that_lost_their_value_to_merged_cells_are_named(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "标注"
    for cells in [["text_a", "label", "note"], *([*cells, "记"] for cells in ROWS[1:])]:
        book.active.append(cells)
    for merged in ("B2:B4", "A6:A7", "A9:B9", "C2:C8"):
        book.active.merge_cells(merged)
    path = tmp_path / "train.xlsx"
    book.save(path)
    found = items_of(path)
    bad = [(p.code, p.row, p.key) for p in found if isinstance(p, Problem)]
    rows = [("row 3", "label"), ("row 4", "label"), ("row 7", "text_a"), ("row 9", "label")]
    assert bad == [("D05", *row) for row in rows]
    assert "one of the merged cells B2:B4 of sheet '标注'" in found[1].message
    assert found[1].hint == "unmerge the cells, and write the value into each row"
    assert [e.label for e in found if isinstance(e, Example)] == list("甲乙甲甲甲")


@pytest.mark.parametrize(
    ("merges", "said"),
    [
        ('<mergeCells><mergeCell ref="B2:B0x"/></mergeCells>', "B2:B0x is not a valid coordinate"),
        ('<mergeCells><mergeCell ref="B:B"/></mergeCells>', "the merged range 'B:B' has no end"),
        ('<mergeCells><mergeCell ref="B2:B3"/><mergeCell ref="B4:B5"/></mergeCells>', "over 1 "),
    ],
)
def test_merged_cells_that_no_sheet_has_are_an_error(tmp_path, monkeypatch, merges, said):
    monkeypatch.setattr("bert_cls.data.merged_cells.MOST_RANGES", 1)
    path = tmp_path / "train.xlsx"
    sheet_with(path, lambda xml: xml.replace("</sheetData>", f"</sheetData>{merges}"), *ROWS)
    with pytest.raises(DataError, match=said):
        read(path)


def test_a_sheet_that_declares_a_document_type_is_refused(tmp_path):
    path = tmp_path / "train.xlsx"
    declared = '<!DOCTYPE worksheet [<!ENTITY a "天窗">]><worksheet'
    sheet_with(path, lambda xml: xml.replace("<worksheet", declared, 1), *ROWS)
    with pytest.raises(DataError, match="declares a document type"):
        read(path)


def test_chart_sheets_are_passed_over(tmp_path):
    book = openpyxl.Workbook()
    for cells in ROWS:
        book.active.append(cells)
    chart = BarChart()
    chart.add_data(Reference(book.active, min_col=1, min_row=1, max_row=4))
    book.create_chartsheet("图", 0).add_chart(chart)
    path = tmp_path / "train.xlsx"
    book.save(path)
    assert len(read(path).examples) == 9
    assert any("'Sheet' is read, and not '图'" in note for note in notes_of(path))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 20_000), byte=st.integers(0, 255), inside=st.booleans())
def test_a_damaged_workbook_never_ends_in_a_traceback(tmp_path, at, byte, inside):
    path = tmp_path / "train.xlsx"
    if inside:
        changed = f'{chr(byte)}"' if byte > 127 else chr(byte)
        sheet_with(
            path, lambda xml: f"{xml[: at % len(xml)]}{changed}{xml[at % len(xml) :]}", *ROWS
        )
    else:
        sheet(path, *ROWS)
        content = bytearray(path.read_bytes())
        content[at % len(content)] = byte
        path.write_bytes(content)
    found = main("check", path)
    assert found.code in (0, 1)
    assert "train.xlsx" in found.out


def test_the_log_counts_rows_left_out_by_kind_and_keeps_their_words(tmp_path):
    content = "text_a,label\n天窗,甲\n" + "".join(f'"{n}"x,甲\n' for n in range(20)) + "尾灯,乙\n"
    done = repair(put(tmp_path / "data", {"train.csv": content}), tmp_path / "copy")
    assert done.changes == {("D05", "row left out: malformed row"): 20}
    assert all("',' expected" in c["what"] for c in changes_of(done.data))


def test_times_inside_lists_become_text_or_an_error_that_names_the_column(tmp_path):
    inner = pyarrow.array([[1], [2]], pyarrow.list_(pyarrow.timestamp("ns")))
    made = pyarrow.StructArray.from_arrays([pyarrow.array([1, 2], pyarrow.date32())], ["day"])
    table = pyarrow.table(
        {"text_a": ["天窗", "尾灯"], "label": ["甲", "乙"], "n": inner, "s": made}
    )
    (tmp_path / "data").mkdir()
    parquet.write_table(table, tmp_path / "data" / "train.parquet")
    copy = repair(tmp_path / "data", tmp_path / "copy").data
    first = json.loads((copy / "train.jsonl").read_text("utf-8").splitlines()[0])
    assert (first["n"], first["s"]) == (["1970-01-01 00:00:00.000000001"], {"day": "1970-01-02"})
    odd = table.append_column("z", pyarrow.array([1, 2], pyarrow.timestamp("us", "Mars/X")))
    parquet.write_table(odd, tmp_path / "data" / "train.parquet")
    with pytest.raises(DataError, match=r"the column 'z' .* cannot be written as text"):
        repair(tmp_path / "data", tmp_path / "other")


@pytest.mark.parametrize(
    ("column", "values", "code", "said", "cast"),
    [
        ("text", [b"a", None], "D09", "text holds binary, and no text.", "string"),
        ("text", [Decimal("1.5"), None], "D09", "text holds decimal128(2, 1), and no", "string"),
        ("label", [b"a", None], "D11", "label holds binary, and no label.", "string"),
        ("label", [[b"a"], None], "D11", "label holds list<element: binary>", "a list"),
        ("label", [Decimal("1.5"), None], "D11", "label holds decimal128(2, 1)", "float64, or"),
    ],
)
def test_bytes_and_decimals_in_parquet_say_how_to_cast_the_column(
    tmp_path, column, values, code, said, cast
):
    columns = {"text": ["天窗", "尾灯"], "label": ["甲", "乙"]} | {column: values}
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    problem, other = items_of(tmp_path / "rows.parquet")
    assert (problem.code, problem.row, problem.key) == (code, "row 1", column)
    assert problem.message.startswith(said)
    assert problem.hint.startswith(f"cast the column {column!r} to {cast} ")
    assert problem.hint.endswith("and write the file again")
    assert column == "text" or other.label is None


def test_lines_that_end_in_a_carriage_return_alone_are_said(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text_a,label\r天窗,甲\r".encode())
    with pytest.raises(DataError, match="carriage return") as caught:
        read(path)
    assert "LF or CRLF" in caught.value.hint


def test_a_blank_title_takes_a_free_name(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text_a,,,column 3\n天窗,1,2,3\n", "utf-8")
    assert any("called 'column 2', 'column 3 (2)'" in note for note in notes_of(path))


def test_one_open_quote_is_never_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr("bert_cls.data.csv_rows.MOST_REREAD", 10)
    monkeypatch.setattr("bert_cls.data.csv_rows.MOST_LINES", 100)
    path = tmp_path / "rows.csv"
    path.write_text(f"text_a,label\n{OPEN}" + "天窗,甲\n" * 500, "utf-8")
    problem, *good = items_of(path)
    assert problem.message.startswith("not csv: a quoted cell of over 100 lines begins here")
    assert len(good) == 500


def test_a_row_between_two_stray_quotes_is_not_lost_with_them(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('text_a,label\n"开,甲\n座椅,乙\n末",乙,多\n尾,甲\n', "utf-8")
    assert [i.text_a for i in items_of(path) if isinstance(i, Example)] == ["座椅", "尾"]


def test_characters_that_a_sheet_writes_as_escapes_are_read(tmp_path):
    path = tmp_path / "train.xlsx"
    sheet(path, ["text_a", "label"], ["天窗_x000D_\n异响", "甲"], ["尾灯", "甲_x000D_"])
    good, bad = items_of(path)
    assert good.text_a == "天窗\r\n异响"
    assert (bad.code, bad.row) == ("D40", "row 3")
    assert "U+000D" in bad.message
