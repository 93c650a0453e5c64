"""The repaired copy: of a table what was not mended stands there as it stood; label names."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_cls.data import load
from bert_cls.data.audit import audit
from bert_cls.data.repair import repair
from test_audit import changes_of, put
from test_tables import sheet

LISTS = ["a|b", "a;b", "a；b", "a、b", "a; b;", "a | b", "a|a", "A|b", '["a", "b"]', '["a","b"]']
CELLS = st.sampled_from([*LISTS, "a", " b", "A", "", "  "])


@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cells=st.lists(CELLS, max_size=6),
    key=st.sampled_from(["label", "labels"]),
)
def test_a_label_cell_stays_as_it_is_unless_its_change_is_listed(
    tmp_path_factory, name, cells, key
):
    rows = [(f"第{n}句", cell) for n, cell in enumerate(["a|b", *cells])]
    made = written(name, [("text_a", key), *rows])
    data = put(tmp_path_factory.mktemp("cells") / "data", {name: made})
    copy = repair(data, data.parent / "copy", task="multilabel", label_merges={"A": "a"}).data
    changes = {c["row"]: c for c in changes_of(copy)}
    assert {c["code"] for c in changes.values()} <= {"D32", "D27"}
    listed = [changes.get(f"line {line}") for line in range(2, len(rows) + 2)]
    assert sum(map(bool, listed)) == len(changes)
    kept = [
        (text, cell if change is None else json.dumps(change["after"]))
        for (text, cell), change in zip(rows, listed, strict=True)
    ]
    assert (copy / name).read_text("utf-8") == written(name, [("text_a", key), *kept])


def leaking(names: dict[str, object]) -> dict:
    train = [{"text_a": f"第{n}句", "label": "ab"[n % 2]} for n in range(12)]
    held = {"text_a": "只此一句", "label": "c"}
    test = [held, {"text_a": "另一句", "label": "a"}]
    return {"train.jsonl": [*train, held], "test.jsonl": test, **names}


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_label_whose_last_row_leaks_is_a_label_of_the_repaired_copy_too(tmp_path, suffix):
    files = leaking({})
    if suffix == "csv":
        cells = [("text_a", "label"), *((r["text_a"], r["label"]) for r in files["train.jsonl"])]
        files = {"train.csv": written("train.csv", cells), "test.jsonl": files["test.jsonl"]}
    data = put(tmp_path / "data", files)
    before = audit(data, leak="drop")
    copy = repair(data, tmp_path / "copy").data
    after = audit(copy, leak="drop")
    assert [f.code for f in before.of("error")] == [f.code for f in after.of("error")] == []
    assert "D26" in {f.code for f in before.of("warning")} & {f.code for f in after.of("warning")}
    assert load(copy).space.names == load(data).space.names == ("a", "b", "c")
    *_, change = changes_of(copy)
    assert (change["file"], change["code"], change["after"]) == (
        "labels.json",
        "D26",
        ["a", "b", "c"],
    )


def test_rows_after_a_row_that_leaks_are_neither_lost_nor_given_its_index(tmp_path):
    texts = ["头", "漏", "中", "漏", "尾"]
    rows = [{"text_a": text, "label": "ab"[n % 2]} for n, text in enumerate(texts)]
    data = put(tmp_path / "data", {"train.jsonl": rows, "dev.jsonl": rows[1:2]})
    assert repair(data, tmp_path / "copy").rows == {"train": 3, "dev": 1}
    rows = [{**row, "index": index} for row, index in zip(rows, [0, 1, None, 7, 7], strict=True)]
    data = put(tmp_path / "data", {"train.jsonl": rows})
    copy = repair(data, tmp_path / "numbered")
    assert copy.rows == {"train": 2, "dev": 1}
    assert [c["row"] for c in changes_of(copy.data) if c["row"]] == ["line 2", "line 4", "line 5"]


def test_no_names_are_written_where_there_are_some_or_none_is_lost(tmp_path):
    data = put(tmp_path / "data", leaking({"labels.json": '["c", "b", "a"]'}))
    copy = repair(data, tmp_path / "copy").data
    assert (copy / "labels.json").read_text("utf-8") == '["c", "b", "a"]'
    (data / "labels.json").unlink()
    assert "labels.json" not in names_in(repair(data, tmp_path / "b", labels=["a", "b", "c"]).data)
    files = leaking({})
    files["train.jsonl"].append({"text_a": "还有一句", "label": "c"})
    data = put(tmp_path / "more", files)
    assert "labels.json" not in names_in(repair(data, tmp_path / "c").data)


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_given_names_stay_whole_in_the_cells_of_a_repaired_copy(tmp_path, suffix):
    cells = [("red|blue", "a"), ("red", "b"), ("crimson;a", "c")]
    header, rows = ["labels", "text_a"], [(cell, f"第{text}句") for cell, text in cells]
    if suffix == "xlsx":
        (tmp_path / "data").mkdir()
        sheet(tmp_path / "data" / "train.xlsx", header, *rows)
    else:
        put(tmp_path / "data", {"train.csv": written("train.csv", [tuple(header), *rows])})
    given = {"labels": ["red|blue", "crimson", "a"], "label_merges": {"red": "crimson"}}
    copy = repair(tmp_path / "data", tmp_path / "copy", **given).data
    rows = load(copy, labels=given["labels"]).train
    assert [row.label for row in rows] == [("red|blue",), ("crimson",), ("crimson", "a")]
    assert [change["row"] for change in changes_of(copy) if change["row"]] == [
        "line 3" if suffix == "csv" else "row 3"
    ]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def written(name: str, rows: list[tuple[str, str]]) -> str:
    file = io.StringIO()
    delimiter = "\t" if name.endswith(".tsv") else ","
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return file.getvalue()


def test_numbers_in_a_repaired_table_stay_as_they_were_spelled(tmp_path):
    content = "text_a,label\n天窗,1.50\n尾灯,2\n座椅, 3 \n轮胎,\n"
    data = put(tmp_path / "data", {"train.csv": content})
    copy = repair(data, tmp_path / "copy", task="regression").data
    assert (copy / "train.csv").read_text("utf-8") == content
    assert changes_of(copy) == []
