"""The repaired copy of a table: what was not mended stands there as it stood."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_cls.data.repair import repair
from test_audit import changes_of, put

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
