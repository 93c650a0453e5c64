"""The audit: every kind of finding, rules it shares with load, duplicates, repaired copies."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import random
import tracemalloc
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import typer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bert_cls.cli import app
from bert_cls.commands.check import check
from bert_cls.data import Example, load
from bert_cls.data.audit import Settings as AuditSettings
from bert_cls.data.audit import audit, audit_gathered
from bert_cls.data.dataset import assemble, gather
from bert_cls.data.duplicates import THRESHOLD, differing, fold, repeats, similarity
from bert_cls.data.findings import SEVERITIES, Audit, Finding, excerpt, spelled
from bert_cls.data.labels import SURROGATE
from bert_cls.data.lengths import EstimatedLengths, TokenLengths, unknown_id
from bert_cls.data.problems import KINDS, NONE_OF_THE_LABELS
from bert_cls.data.raw import Options
from bert_cls.data.read import ON_BAD_ROW
from bert_cls.data.repair import CHANGES_FILE, repair
from bert_cls.data.row_numbers import COLUMNS, RowNumbers
from bert_cls.data.split import text_key
from bert_cls.errors import BertClsError, ConfigError, DataError
from bert_cls.text import TextEncoder, TextSettings
from tiny import TEXTS, tiny_tokenizer

GOOD = [
    {"index": 0, "text_a": "尾灯换过一次，还是进水，店里说胶条老化", "label": "灯光"},
    {"index": 1, "text_a": "座椅坐久了腰疼", "label": "内饰"},
    {"index": 2, "text_a": "大灯太暗，夜里不敢开快", "label": "灯光"},
    {"index": 3, "text_a": "方向盘的皮磨破了", "label": "内饰"},
    {"index": 4, "text_a": "雾灯一边亮一边不亮", "label": "灯光"},
    {"index": 5, "text_a": "储物格小得放不下水杯", "label": "内饰"},
]
DEV = [
    {"index": 0, "text_a": "转向灯闪得太快", "label": "灯光"},
    {"index": 1, "text_a": "车里有一股塑料味", "label": "内饰"},
]
NO_ENCODER = {"text_lengths": EstimatedLengths(256)}
Files = dict[str, object]


@pytest.fixture(autouse=True)
def _no_default_encoder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("BERT_CLS_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def put(folder: Path, files: Files) -> Path:
    """Files of bytes, text, or rows (a list as JSON list or JSON Lines, by suffix)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if callable(content):
            content(folder / name)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif isinstance(content, str):
            (folder / name).write_text(content, encoding="utf-8", newline="")
        else:
            text = lines(*content) if name.endswith("l") else json.dumps(content)
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def rows_of(*texts: str, label: object = "灯光", start: int = 100) -> list[dict]:
    return [{"index": start + i, "text_a": t, "label": label} for i, t in enumerate(texts)]


def labelled(*labels: object, start: int = 0) -> list[dict]:
    """Rows with these labels and texts that have little in common."""
    texts = ("".join(chr(0x4E00 + 97 * i + 7 * k) for k in range(9)) for i in range(start, 99))
    return [{"text_a": text, "label": v} for text, v in zip(texts, labels, strict=False)]


def of_code(found: Audit, code: str) -> list[Finding]:
    return [finding for finding in found.findings if finding.code == code]


def clean(found: Audit) -> list[str]:
    return [str(finding) for finding in found.of("error")]


# ---- every kind of finding -------------------------------------------------------------------


def dates(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import datetime

    from pyarrow import parquet

    table = pyarrow.table({"text_a": [datetime.date(2024, 1, 1)] * 2, "label": ["a", "b"]})
    parquet.write_table(table, path)


def with_rows(*rows: object) -> Files:
    return {"train.jsonl": lines(*GOOD, *rows)}


def with_line(line: str | bytes) -> Files:
    line = line.encode() if isinstance(line, str) else line
    return {"train.jsonl": lines(*GOOD).encode() + line + b"\n"}


def row(**fields: object) -> dict:
    return {"index": 9, "text_a": "空调不够冷", "label": "内饰", **fields}


CHINESE = lines(*GOOD, *rows_of("这个车的灯光是很好的，我们都说不错", "他说这里没有人，就不去了"))
STUDIO = [
    {"id": 1, "data": {"text": "灯泡烧了"}, "annotations": [_answer]}
    for _answer in [{"result": [{"from_name": "c", "value": {"choices": ["灯光"]}}]}]
]
TWICE = [{"result": [{"from_name": "c", "value": {"choices": [c]}}]} for c in ("灯光", "内饰")]


def case(
    code: str, severity: str, files: Files, says: str, *, n: int = 1, remedy: str = "", **options
) -> object:
    """The finding that some files give: words of its message, its count, words of its remedy."""
    return pytest.param(code, severity, files, says, n, remedy, options, id=f"{code} {says[:40]}")


LEAKY = {"train.json": GOOD, "dev.json": [*DEV, {**GOOD[0], "index": 7}]}
HALF = '{"text_a": "a\\ud800", "label": "灯光"}'
SPACED = {"train.json": GOOD, "test.json": rows_of("车灯", "天亮", label="灯 光")}
SPELLINGS = {"train.json": labelled("Sport", "sport ", "ＳＰＯＲＴ", "sport ", "b")}
BARE_DEV = {"train.json": labelled(["甲"], ["乙"]), "dev.json": labelled([], [], start=9)}
CLOSE = {
    "train.json": GOOD,
    "dev.json": [*DEV, row(text_a="尾灯换过一次，还是进水了，店里说胶条老化！")],
}
CASES = [
    case("D01", "note", {"train.jsonl": "\ufeff" + lines(*GOOD)}, "BOM: the byte order mark"),
    case("D02", "note", {"train.jsonl": CHINESE.encode("gb18030")}, "read as gb18030."),
    case("D02", "error", with_line('{"text_a": "é"}'.encode("latin-1")), "1 row: column 13: 0xE9"),
    case(
        "D02", "error", {"train.jsonl": b'{"text_a": "\xe9"}'}, "train.jsonl: byte 12 is not UTF-8"
    ),
    case("D03", "note", {"train.jsonl": lines(*GOOD).encode("utf-16")}, "read as utf-16."),
    case("D04", "error", {"train.json": json.dumps(GOOD)[:-9]}, "is it still being written?"),
    case(
        *("D04", "error", {"train.jsonl": lines(*GOOD) + '{"text_a": "no'}),
        *("1 row: the file ends inside a string",),
        remedy="let the writer finish",
    ),
    case("D05", "error", with_line("{'text_a': 'a'}"), "1 row: not JSON", remedy="double quotes"),
    case("D05", "error", {"train.json": '[{"text_a": "a"} {}]'}, "train.json: line 1 (byte 17)"),
    case("D06", "error", with_line('{"label": NaN}'), "1 row: NaN is not JSON", remedy="null"),
    case("D07", "error", with_rows(row(text_a=None)), "1 row: text_a is null.", remedy="--fix"),
    case(
        "D08", "error", with_rows({"txet_a": "a"}), "unknown key 'txet_a'; did you mean 'text_a'?"
    ),
    case("D09", "error", with_rows(row(text_a=7)), "Got 7 instead.", remedy="--coerce-numbers"),
    case("D10", "error", {"train.parquet": dates}, "2 rows: text_a must be a string", n=2),
    case("D11", "error", with_rows(row(label=True)), "1 row: label must be a name", remedy='"yes"'),
    case(
        *("D11", "error", with_rows(row(label=2))),
        *("labels are of different types: 6 rows with a name, 1 row with a number.",),
        remedy='write every label as a name, such as "1"',
    ),
    case(
        *("D11", "error", {"train.json": labelled(1, 2, 2.5)}, "Got fractions in 1 row."),
        remedy="give the task regression",
        task="multiclass",
    ),
    case(
        *("D11", "error", {"train.json": labelled(1, 2), "labels.json": ["1", "3"]}),
        *("labels are numbers such as '2', and the label names are '1', '3'.",),
        n=2,
    ),
    case(
        *("D11", "note", {"train.json": labelled(1, 2, 1)}),
        *("3 integer labels read as class names: 1 is the class '1'.",),
        n=3,
        task="binary",
    ),
    case("D11", "note", {"train.json": labelled("1", "2")}, "numbers written as text", n=2),
    case("D12", "error", with_line('{"text_a": "a", "text_a": "b"}'), "'text_a' more than once"),
    case(
        *("D13", "error", with_rows(row(index=3), row(index=4, text_a="地毯湿了"))),
        *("2 rows of train.jsonl have the index of an earlier row.",),
        n=2,
    ),
    case("D13", "error", with_rows(row(index=[1])), "index must be an integer or a string"),
    case("D13", "note", {"train.json": labelled("a", "b")}, "rows without an index are numbered"),
    case("D14", "error", with_line(HALF), "the lone surrogate U+D800", remedy="--fix-unicode"),
    case("D14", "note", with_line(HALF), "1 row with half characters in text_a", fix_unicode=True),
    case("D15", "error", with_line('{"text_a": "a\tb"}'), "control character U+0009"),
    case("D16", "note", with_rows(row(text_a="a\0b")), "1 row with control characters"),
    case("D18", "error", with_line("[" * 50_000), "1 row: nested too deep to read."),
    case("D19", "error", with_rows(row(label=10**400)), "label is an integer of more than 64 bits"),
    case("D20", "error", {"train.jsonl": "\n\n"}, "train.jsonl: no rows."),
    case("D20", "error", {"train.json": "[]", "dev.json": DEV}, "train.json: no rows."),
    case("D20", "error", {"train.jsonl": lines(row(text_a=""))}, "no rows that can be read."),
    case("D21", "error", {"train.json": '{"text_a": ["a"], "label": ["b"]}'}, "object of columns"),
    case("D21", "note", {"train.json": lines(*GOOD)}, "read as JSON Lines, which it holds."),
    case(
        "D22", "error", with_rows(row(text_a=" \u200b")), "1 row: text_a is blank", remedy="--fix"
    ),
    case(
        *("D23", "note", with_rows(*rows_of("路" * 300, "road " * 400))),
        *("an estimated 2 rows (25.0 %) of over 256 tokens, which are cut;",),
        n=2,
        remedy="--encoder NAME counts",
    ),
    case(
        *("D24", "warning", with_rows(*rows_of("很长" * 60_000))),
        *("1 row of over 100,000 characters, the longest 120,000",),
    ),
    case(
        *("D25", "error", SPACED),
        "1 label not in train: '灯 光' (2 rows; the nearest is '灯光', with 3 rows in train).",
        n=2,
    ),
    case(
        *("D25", "error", {"train.json": GOOD, "labels.json": ["灯光", "外观"]}),
        *("1 label not in the label names: '内饰' (3 rows",),
        n=3,
    ),
    case(
        *("D26", "warning", {"train.json": GOOD, "dev.json": DEV[:1]}),
        *("dev has no row of 1 label of train: '内饰'; metrics show support 0",),
    ),
    case(
        *(
            "D26",
            "warning",
            {"train.json": labelled(["甲"], ["乙"]), "dev.json": labelled([], [], start=9)},
        ),
        *("no row of dev has any label: neither can the best epoch be chosen nor thresholds",),
        n=2,
        remedy="put rows with labels into dev",
    ),
    case(
        *("D26", "warning", {"train.json": GOOD, "labels.json": ["内饰", "外观", "灯光"]}),
        *("no row of train has the declared labels '外观'",),
    ),
    case(
        *("D27", "error", SPELLINGS),
        *("labels look the same: 'sport ' (2) and 'Sport' (1) and 'ＳＰＯＲＴ' (1).",),
        n=2,
        remedy='{"Sport": "sport ", "ＳＰＯＲＴ": "sport "}',
    ),
    case(
        *(
            "D27",
            "note",
            {"train.json": labelled("Sport", "sport", "b")},
            "labels of 1 row merged.",
        ),
        label_merges={"Sport": "sport"},
    ),
    case(
        *("D27", "error", {"train.json": labelled("a", "b"), "labels.json": ["a", "A", "b"]}),
        *("labels.json: name 2: 'A' looks the same as 'a'.",),
    ),
    case(
        *("D28", "error", {"train.json": GOOD, "labels.json": ["灯光", "内饰"]}),
        *("labels.json: another order of labels",),
        labels=["内饰", "灯光"],
    ),
    case(
        *("D29", "error", {"train.json": labelled("a", "a"), "dev.json": labelled("a", start=9)}),
        *("train needs at least 2 classes. Got only 'a'.",),
        n=2,
    ),
    case(
        *("D29", "error", {"train.json": labelled("a", "b", "c")}),
        *("the task binary needs 2 classes. Got 3: 'a', 'b', 'c'.",),
        n=3,
        task="binary",
    ),
    case(
        *("D29", "error", {"train.json": labelled([], []), "dev.json": labelled(["a"], start=9)}),
        *("no row of train has any label.",),
        n=0,
    ),
    case("D29", "warning", {"train.json": labelled(1.5, 1.5)}, "all numbers in train are 1.5", n=2),
    case(
        *("D30", "warning", with_rows(row(label="外观"), row(index=10, label="操控"))),
        *("2 labels with one or two rows in train: '外观' (1), '操控' (1).",),
        n=2,
    ),
    case("D31", "error", {"train.json": labelled(None, None)}, "no row has a label.", n=0),
    case(
        *("D31", "error", {"train.json": GOOD, "dev.json": [{**r, "label": None} for r in DEV]}),
        *("no row of dev has a label: 2 rows without.",),
        n=2,
        remedy="take the file away",
    ),
    case("D31", "note", with_rows(row(label=None)), "1 row of train without a label: set aside."),
    case(
        *("D31", "note", {"train.json": labelled(["a"], [], ["b"], [], [])}),
        *("3 rows of 5 in train (60.0 %) labelled [].",),
        n=3,
    ),
    case(
        *("D32", "error", {"train.json": labelled(["a"], ["b", "b"])}),
        *("1 row: label names 'b' more than once.",),
        remedy="--fix FOLDER takes repeated ones away",
    ),
    case(
        *("D33", "error", {"train.json": labelled("a", "b")}),
        *("the task multilabel needs lists of names as labels. Got single names in 2 rows.",),
        n=2,
        remedy="give the task multiclass",
        task="multilabel",
    ),
    case(
        *("D33", "error", {"train.csv": "text_a,label\na,1.5\nb,3.5x\nc,2\n"}),
        *("Got single names in 1 row.",),
        remedy="write a number there, such as 1.0, or null",
        task="regression",
    ),
    case(
        *("D11", "error", {"train.json": labelled(1.5, 2.5, "3.5x")}, "1 row with a name."),
        remedy="write every label as a number, such as 1.0",
    ),
    case("D33", "note", {"train.json": labelled(["a"], ["b"])}, "each list has exactly one", n=2),
    case(
        *("D33", "note", {"train.json": labelled(1.5, 2.5), "labels.json": ["a", "b"]}),
        *("the label names are not used in regression.",),
        n=2,
        task="regression",
    ),
    case(
        *("D34", "error", LEAKY),
        "1 row of train with a text that is also held out: 1 in dev (33.3 % of its rows).",
        remedy="--leak drop",
    ),
    case("D34", "note", LEAKY, "(33.3 % of its rows); dropped from train.", leak="drop"),
    case("D34", "warning", LEAKY, "; kept, so scores are too good.", leak="allow"),
    case(
        *("D34", "warning", {"train.json": GOOD, "dev.json": DEV, "test.json": DEV}),
        *("2 rows of dev with a text that is also in test",),
        n=2,
    ),
    case("D34", "note", with_rows({**GOOD[0], "index": 7}), "1 row of train with the text of an e"),
    case(
        *("D35", "warning", CLOSE),
        "1 text (33.3 %) of dev with a near-duplicate in train: scores may be too good",
    ),
    case(
        *(
            "D35",
            "warning",
            with_rows(row(text_a="尾灯换过一次 还是会进水，店里说胶条老化", label="灯光")),
        ),
        *("2 texts (28.6 %) with a near-duplicate in the file: a random split",),
        n=2,
    ),
    case(
        *("D36", "warning", with_rows({**GOOD[0], "index": 7, "label": "内饰"})),
        *("1 text with different labels, in 2 rows.",),
    ),
    case(
        *("D36", "error", with_rows({**GOOD[0], "index": 7, "label": "内饰"})),
        *("1 text with different labels, in 2 rows.",),
        conflict="error",
    ),
    case(
        *("D36", "note", with_rows({**GOOD[0], "index": 7, "label": "内饰"})),
        *("in 2 rows; their rows are dropped from train.",),
        conflict="drop",
    ),
    case(
        *("D36", "error", {"train.json": [*STUDIO, {**STUDIO[0], "id": 2, "annotations": TWICE}]}),
        *("1 row: 2 annotations contradict each other",),
    ),
    case(
        *("D37", "error", with_rows(row(text_b="和前面那句是一回事吗"))),
        *("1 row of 7 with a text_b, against the others.",),
    ),
    case("D37", "note", with_rows(row(text_b="")), "1 row with an empty text_b: read as null."),
    case("D39", "error", {"test.json": GOOD}, "there is no file train: nothing to learn", n=0),
    case("D39", "note", {"train.json": GOOD, "train.csv": "a"}, "not read, because train.json is"),
    case("D39", "error", {"train.jsonl": gzip.compress(b"{}")}, "is compressed with gzip."),
    case("D40", "error", with_rows(row(label="a\nb")), "holds the control character U+000A."),
    case(
        *("D42", "note", with_rows(*rows_of("LED Lamp", "led  lamp", "ＬＥＤ lamp"))),
        *("1 text in several spellings that differ only in case, width or spaces, in 3 rows.",),
    ),
    case(
        *("D42", "note", with_rows(row(text_a="胎压２.５合适吗"))),
        *("1 row (14.3 %) with full-width letters or digits",),
        remedy="--set text.normalise=nfkc",
    ),
]
WITH_AN_ENCODER = {"D41"}


@pytest.mark.parametrize(
    ("code", "severity", "files", "message", "rows", "remedy", "options"),
    CASES,
)
def test_each_kind_of_finding(tmp_path, code, severity, files, message, rows, remedy, options):
    found = audit(put(tmp_path / "data", files), **options)
    hits = [f for f in found.findings if message in f.message and f.code == code]
    assert len(hits) == 1, [str(f) for f in found.findings]
    assert (hits[0].severity, hits[0].count) == (severity, rows)
    assert remedy in (hits[0].remedy or "")
    assert hits[0].title == (NONE_OF_THE_LABELS if "labelled []" in message else KINDS[code])
    # what refuses every row, or every label, of a file says so besides
    assert {f.code for f in found.of("error")} <= {code, "D20", "D22", "D25", "D31"}
    for place in hits[0].examples:
        assert str(place).isprintable()
        assert place.file in {Path(name).name for name in files} | {"data"}


def test_a_label_that_is_no_number_is_quoted_where_it_stands(tmp_path):
    put(tmp_path, {"train.csv": "text_a,label\n尾灯不亮,1.5\n座椅太硬,3.5x\n雨刷响,2\n"})
    (found,) = of_code(audit(tmp_path, task="regression", **NO_ENCODER), "D33")
    assert [str(e) for e in found.examples] == ["train.csv: line 3: \"座椅太硬\": label '3.5x'"]


def test_every_kind_has_a_test():
    assert {str(one.values[0]) for one in CASES} | WITH_AN_ENCODER == set(KINDS)


# ---- lengths -----------------------------------------------------------------------------------


def counted_by(max_length: int) -> TokenLengths:
    text = TextEncoder(tiny_tokenizer("bert"), TextSettings(max_length))
    return TokenLengths(text, max_length, unknown_id(text.tokenizer.to_str()))


def test_lengths_and_unknown_tokens_are_those_of_the_encoder(tmp_path):
    texts = [*TEXTS, "龘" * 12, "尾灯很亮，" * 9]
    put(tmp_path, {"train.jsonl": lines(*rows_of(*texts))})
    found = audit(tmp_path, text_lengths=counted_by(24))
    tokens = [tiny_tokenizer("bert").encode(text) for text in texts]
    sizes = sorted(len(t.ids) for t in tokens)
    over = sum(size > 24 for size in sizes)
    assert found.lengths is not None
    assert found.lengths.over == over > 0
    assert (found.lengths.longest, found.lengths.estimated) == (sizes[-1], False)
    assert found.lengths.median == sizes[(len(sizes) - 1) // 2]
    (cut,) = of_code(found, "D23")
    assert cut.severity == "warning"
    assert f"{over} rows ({100 * over / len(texts):.1f} %) of over 24 tokens" in cut.message
    assert cut.examples[0].detail == f"{sizes[-1]} tokens"
    (unknown,) = of_code(found, "D41")
    rows = sum("[UNK]" in t.tokens for t in tokens)
    assert (unknown.severity, unknown.count) == ("warning", rows)
    share = f"{100 * found.lengths.unknown_share:.1f} %"
    assert unknown.message.startswith(f"{share} of the tokens are unknown")
    assert unknown.examples[0].detail == "12 unknown tokens"
    assert "龘" * 12 in str(unknown.examples[0])


def test_pairs_are_measured_as_pairs(tmp_path):
    rows = [{**r, "text_b": "问题在哪"} for r in GOOD]
    put(tmp_path, {"train.json": rows})
    found = audit(tmp_path, text_lengths=counted_by(64))
    tokenizer = tiny_tokenizer("bert")
    sizes = [len(tokenizer.encode(r["text_a"], r["text_b"]).ids) for r in rows]
    assert found.pair
    assert found.lengths.longest == max(sizes)


def test_where_every_text_can_be_spelled_nothing_is_unknown(tmp_path):
    text = TextEncoder(tiny_tokenizer("modernbert"), TextSettings(64))
    assert unknown_id(text.tokenizer.to_str()) is None
    put(tmp_path, {"train.json": [*GOOD, *rows_of("龘龘龘")]})
    found = audit(tmp_path, text_lengths=TokenLengths(text, 64, None))
    assert found.lengths.unknown_share is None
    assert not of_code(found, "D41")
    unigram = tiny_tokenizer("xlm-roberta")
    assert unknown_id(unigram.to_str()) == unigram.token_to_id("<unk>")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([*TEXTS, "", "a b", "é" * 50]), min_size=1, max_size=9))
def test_windows_do_not_change_what_is_measured(texts):
    lengths = counted_by(24)
    whole = lengths.measure(texts, None)
    parts = [lengths.measure([text], None) for text in texts]
    for name in ("lengths", "read", "unknown"):
        one = np.concatenate([getattr(part, name) for part in parts])
        assert getattr(whole, name).tolist() == one.tolist()
    assert (whole.read <= 24).all()
    assert (whole.read <= whole.lengths).all()


# ---- rules shared with load ---------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "A", "c", "1", "ｂ"])
LABELS = st.one_of(
    NAMES,
    st.none(),
    st.lists(NAMES, max_size=2),
    st.sampled_from([0, 1, 2, 1.0, 0.5]),
    st.sampled_from([True, "", "x\ny", ["a", "a"], {"a": 1}]),
)
ONE_SHAPE = st.one_of(
    st.lists(NAMES, min_size=1, max_size=6),
    st.lists(st.lists(NAMES, max_size=2, unique=True), min_size=1, max_size=6),
    st.lists(
        st.one_of(st.none(), st.lists(NAMES, max_size=2, unique=True)), min_size=1, max_size=6
    ),
    st.lists(st.sampled_from([0, 1, 2, 0.5]), min_size=1, max_size=6),
    st.lists(LABELS, min_size=1, max_size=6),
)
TASKS = st.sampled_from([None, None, "binary", "multiclass", "multilabel", "regression"])


def without_null(row: dict) -> dict:
    return {key: value for key, value in row.items() if value is not None}


def split_rows(labels: list, pairs: list[bool], start: int) -> list[dict]:
    rows = labelled(*labels, start=start)
    return [
        {**r, "text_b": "第二句"} if paired else r for r, paired in zip(rows, pairs, strict=False)
    ] + rows[len(pairs) :]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    train=ONE_SHAPE,
    dev=st.one_of(st.none(), ONE_SHAPE),
    task=TASKS,
    names=st.sampled_from([None, None, ["a", "b"], ["a", "b", "c", "1"], ["0", "1", "2"]]),
    pairs=st.lists(st.booleans(), max_size=2),
    bad=st.sampled_from(["fail", "quarantine"]),
    merges=st.sampled_from([{}, {"A": "a", "ｂ": "b"}]),
    keyless=st.booleans(),
)
@example(  # the only pair is set aside
    train=[None, ["a"]],
    dev=None,
    task=None,
    names=None,
    pairs=[True],
    bad="quarantine",
    merges={},
    keyless=True,
)
def test_an_audit_has_errors_just_when_load_refuses(
    tmp_path, train, dev, task, names, pairs, bad, merges, keyless
):
    for old in tmp_path.iterdir():
        old.unlink()
    files = {"train": split_rows(train, pairs, 0)}
    if dev is not None:
        files["dev"] = labelled(*dev, start=20)
    if keyless:  # null is said, or there is no key
        files = {split: [without_null(row) for row in rows] for split, rows in files.items()}
    put(tmp_path, {f"{split}.json": rows for split, rows in files.items()})
    options = {"task": task, "labels": names, "on_bad_row": bad, "label_merges": merges}
    found = audit(tmp_path, **options)
    try:
        data = load(tmp_path, **options)
    except DataError:
        assert found.of("error")
        return
    if not data.train or data.dev == []:  # a data set, but none to train on
        assert "D31" in {finding.code for finding in found.of("error")}
        return
    assert clean(found) == []
    assert found.task == data.task
    assert found.pair == data.pair
    rows = {"train": data.train, "dev": data.dev}
    kept = {split: [e for e in rows[split] or [] if e.label is not None] for split in files}
    assert {s: c.labelled for s, c in found.splits.items()} == {s: len(e) for s, e in kept.items()}
    if data.task != "regression":
        for split, examples in kept.items():
            counts = Counter(n for e in examples for n in names_of(e.label))
            table = {name: by[split] for name, by in found.labels.items() if by[split]}
            assert table == counts


def names_of(label: object) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else (str(label),)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=9),
        st.text("\ud800\0 aA１", max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(["index", "id", "text_a", "text", "text_b", "label", "labels", "txet_a"])
ANY_ROWS = st.lists(
    st.one_of(
        JSON,
        st.dictionaries(KEYS, JSON, max_size=5),
        st.fixed_dictionaries({"text_a": st.text(max_size=9), "label": LABELS}),
    ),
    max_size=6,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ANY_ROWS, held=st.one_of(st.none(), ANY_ROWS), as_lines=st.booleans(), task=TASKS)
def test_no_rows_whatever_end_in_a_traceback(tmp_path_factory, rows, held, as_lines, task):
    folder = tmp_path_factory.mktemp("any")
    for split, content in (("train", rows), ("test", held)):
        if content is not None:
            text = "\n".join(map(json.dumps, content)) if as_lines else json.dumps(content)
            (folder / f"{split}.json{'l' * as_lines}").write_text(text, encoding="utf-8")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            checked(folder, task=task, json_file=folder / "out.json", fix=folder / "fixed")
        except (typer.Exit, BertClsError) as stopped:
            refused = isinstance(stopped, BertClsError)
            assert (folder / "fixed").exists() != refused
    report = orjson.loads((folder / "out.json").read_bytes())
    assert report["totals"]["error"] == sum(f["severity"] == "error" for f in report["findings"])
    assert report["data"] == str(folder)
    for finding in report["findings"]:
        assert finding["message"]
        assert finding["message"].isprintable()
        assert len(finding["examples"]) <= 5


def checked(data: Path, **options) -> None:
    """The command, without its parser."""
    defaults = {
        "encoder": None,
        "max_length": 256,
        "task": None,
        "labels": None,
        "merge_labels": None,
        "leak": "error",
        "conflict": "keep",
        "encoding": None,
        "json_file": None,
        "fix": None,
    }
    check(data, **{**defaults, **options})


BYTES = {
    "train.json": json.dumps(labelled(["a"], ["b"], ["a", "b"]), ensure_ascii=False),
    "train.jsonl": lines(*GOOD),
    "train.csv": "index,text_a,label\n"
    + "".join(f'{i},"第{i}句",{"ab"[i % 2]}\n' for i in range(5)),
}
UNREPAIRABLE = {"D11", "D27", "D29", "D31", "D33", "D37"}


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(BYTES)),
    codec=st.sampled_from(["utf-8", "gb18030", "utf-16"]),
    edits=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.integers(0, 9),
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\r", b"\n", b"[", b"},"])),
        ),
        max_size=3,
    ),
)
def test_no_bytes_whatever_end_in_a_traceback(tmp_path_factory, name, codec, edits):
    content = BYTES[name].encode(codec)
    for at, cut, put_in in edits:
        content = content[:at] + put_in + content[at + cut :]
    data = put(tmp_path_factory.mktemp("bytes") / "data", {name: content})
    found = audit(data)
    try:
        load(data)
    except DataError:
        assert found.of("error")
    else:
        assert clean(found) == []
    with contextlib.suppress(DataError):
        copy = repair(data, data.parent / "copy").data
        assert {f.code for f in audit(copy).of("error")} <= UNREPAIRABLE


def test_the_order_of_rows_does_not_matter(tmp_path):
    chooser = random.Random(3)
    texts = ["".join(chooser.choices("灯光内饰外观刹车胎压", k=14)) for _ in range(60)]
    texts += [text[:-1] + "灯" for text in texts[:9]] + texts[:7] + [t + "２" for t in texts[20:24]]
    rows = [{"text_a": t, "label": chooser.choice("甲乙丙")} for t in texts]
    rows += [{"text_a": t, "label": "丁 "} for t in texts[30:32]] + [{"text_a": ""}, {"text_a": 3}]
    rows += [{"text_a": "好", "label": "丁"}, "no row", {"text_a": "a", "txet_b": "b"}]
    told = []
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        held = [*rows_of(*texts[40:50]), *rows_of(*(f"{t}亮" for t in texts[:5]), start=300)]
        halves = {"train.jsonl": lines(*rows), "test.jsonl": lines(*DEV, *held)}
        found = audit(put(tmp_path / str(seed), halves))
        told.append([replace(finding, examples=()) for finding in found.findings])
    assert told[0] == told[1] == told[2] == told[3]
    codes = {finding.code for finding in told[0]}
    assert {"D05", "D08", "D09", "D22", "D25", "D27", "D34", "D35", "D36"} <= codes
    severities = [SEVERITIES.index(f.severity) for f in told[0]]
    assert severities == sorted(severities)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(train=ANY_ROWS, dev=ANY_ROWS, as_lines=st.booleans(), bad=st.sampled_from(ON_BAD_ROW))
def test_rows_that_were_read_already_give_the_same_audit(
    tmp_path_factory, train, dev, as_lines, bad
):
    folder = tmp_path_factory.mktemp("held")
    for start, (split, content) in enumerate((("train", train), ("dev", dev))):
        rows = [{**r, "index": i} if isinstance(r, dict) else r for i, r in enumerate(content)]
        rows += labelled("a", "b", start=10 * start)
        text = "\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows)
        (folder / f"{split}.json{'l' * as_lines}").write_text(text, encoding="utf-8")
    looked = AuditSettings(label_merges={"A": "a"}, on_bad_row=bad)
    gathered = gather(folder, Options())
    held = audit_gathered(gathered, Options(), looked)
    streamed = audit(folder, label_merges={"A": "a"}, on_bad_row=bad)
    if any(isinstance(rows, DataError) for rows in gathered.rows.values()):
        # a file that breaks off: only the stream has seen the rows before that
        assert held.of("error")
        assert streamed.of("error")
        return
    assert held == streamed
    if not held.of("error"):
        options = {"task": None, "labels": None, "label_merges": {"A": "a"}, "on_bad_row": bad}
        assert assemble(gathered, **options) == load(folder, **options)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=st.lists(st.integers(1, 40), max_size=6), most=st.sampled_from([0, 1, 5000, 1 << 20]))
def test_columns_come_back_from_memory_and_from_the_file(monkeypatch, sizes, most):
    monkeypatch.setattr("bert_cls.data.row_numbers.IN_MEMORY_BYTES", most)
    generator = np.random.default_rng(sum(sizes))
    numbers = RowNumbers()
    windows = [
        {name: generator.integers(0, 2**31, size).astype(kind) for name, kind in COLUMNS.items()}
        for size in sizes
    ]
    for window in windows:
        numbers.add(window)
        if most:
            next(numbers.chunks("band 3"), None)  # reading in between is no trouble
    assert len(numbers) == sum(sizes)
    for name in COLUMNS:
        wanted = [value for window in windows for value in window[name].tolist()]
        found = list(numbers.chunks(name))
        assert [value for _, (column,) in found for value in column.tolist()] == wanted
        assert [first for first, _ in found] == [sum(sizes[:i]) for i in range(len(sizes))]
    numbers.close()


def test_a_full_temporary_folder_is_said(monkeypatch, tmp_path):
    file = put(tmp_path, {"train.json": labelled("x", "y")})
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr("bert_cls.data.row_numbers.SpooledTemporaryFile", lambda max_size: full)
        with pytest.raises(BertClsError, match=r"temporary folder .*No space left") as caught:
            audit(file)
    assert "TMPDIR" in str(caught.value.hint)


# ---- rows that are the same, or nearly -----------------------------------------------------------

SPELLED = st.sampled_from(["Led", "led", "ＬＥＤ", " LED", "灯 光", "灯光", "灯  光", "刹车", "a"])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "train", "dev", "test"]),
            SPELLED,
            st.one_of(st.none(), st.sampled_from(["x", "y"])),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_duplicates_are_those_that_brute_force_finds(tmp_path, rows):
    for old in tmp_path.iterdir():
        old.unlink()
    splits = defaultdict(list)
    for split, text, label in rows:
        splits[split].append({"text_a": text, "label": label})
    splits["train"] += labelled("x", "y")
    found = audit(put(tmp_path, {f"{s}.json": content for s, content in splits.items()}))
    keyed = {
        split: [(text_key(Example(0, r["text_a"])), r) for r in content]
        for split, content in splits.items()
    }
    used = {
        split: [key for key, r in content if r["label"] is not None or split == "test"]
        for split, content in keyed.items()
    }
    held = {*used.get("dev", ()), *used.get("test", ())}
    leaked = sum(key in held for key in used["train"])
    assert (
        sum(
            f.count
            for f in of_code(found, "D34")
            if "of train with a text" in f.message and f.severity == "error"
        )
        == leaked
    )
    overlap = sum(key in set(used.get("test", ())) for key in used.get("dev", ()))
    assert sum(f.count for f in of_code(found, "D34") if f.severity == "warning") == overlap
    repeated = sum(len(keys) - len(set(keys)) for keys in used.values())
    assert sum(f.count for f in of_code(found, "D34") if f.severity == "note") == repeated
    labels, spellings = defaultdict(set), defaultdict(set)
    for content in keyed.values():
        for key, r in content:
            if r["label"] is not None:
                labels[key].add(r["label"])
            spellings[tuple(part.casefold() for part in key)].add(r["text_a"])
    conflicting = sum(len(seen) > 1 for seen in labels.values())
    assert sum(f.count for f in of_code(found, "D36")) == conflicting
    variants = [f for f in of_code(found, "D42") if "spellings" in f.message]
    assert sum(f.count for f in variants) == sum(len(seen) > 1 for seen in spellings.values())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["train", "train", "dev", "test"]),
            st.one_of(SPELLED, st.sampled_from(["前大灯采用LED光源，亮", "前大灯采用LED光源，暗"])),
            st.one_of(st.none(), st.sampled_from(["x", "y"])),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=30,
    ),
    part=st.integers(1, 40),
    window=st.integers(1, 40),
    shown=st.integers(0, 4),
)
def test_parts_of_any_size_give_the_same_audit(monkeypatch, tmp_path, rows, part, window, shown):
    for old in tmp_path.iterdir():
        old.unlink()
    splits = defaultdict(list)
    for split, text, label, index in rows:
        splits[split].append({"index": index, "text_a": text, "label": label})
    put(tmp_path, {f"{split}.json": content for split, content in splits.items()})
    whole = audit(tmp_path, shown=shown)
    with monkeypatch.context() as patch:
        patch.setattr("bert_cls.data.text_findings.PART_ROWS", part)
        patch.setattr("bert_cls.data.near.ASKED_AT_ONCE", part)
        patch.setattr("bert_cls.data.survey.WINDOW_ROWS", window)
        patch.setattr("bert_cls.data.row_numbers.IN_MEMORY_BYTES", 1000)
        assert audit(tmp_path, shown=shown) == whole


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), max_size=30))
def test_groups_and_repeats_by_brute_force(pairs):
    keys, others = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    first: dict[int, int] = {}
    again = []
    for place, key in enumerate(keys.tolist()):
        if first.setdefault(key, place) != place:
            again.append((place, first[key]))
    assert [tuple(p) for p in repeats(keys).tolist()] == again
    unlike: dict[int, int] = {}
    for place, key in enumerate(keys.tolist()):
        if others[place] != others[first[key]]:
            unlike.setdefault(key, place)
    groups = differing(keys, others)
    assert groups.keys == len(unlike)
    assert groups.rows == sum(key in unlike for key in keys.tolist())
    wanted = sorted((first[key], place) for key, place in unlike.items())
    assert [tuple(p) for p in groups.pairs.tolist()] == wanted


def trigrams(text: str) -> set[str]:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c for c in text if unicodedata.category(c)[0] in "LMN")
    padded = f"<{text}>"
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def edited(text: str, chooser: random.Random) -> str:
    """A text with one to three small changes, such as people make when they copy."""
    for _ in range(chooser.choice([1, 1, 2, 3])):
        at = chooser.randrange(len(text))
        change = chooser.choice(["", "，", "了", "X", text[at].upper(), "12"])
        text = text[:at] + change + text[at + chooser.choice([0, 1]) :]
    return text


def test_near_duplicates_by_brute_force(tmp_path):
    chooser = random.Random(5)
    words = ["lamp", "seat", "wheel", "noise", "quiet", "road", "price", "cold", "night", "rain"]
    hanzi = "灯光亮暗座椅软硬方向盘刹车胎压噪声油耗动力空间内饰外观做工价格售后天窗"
    train = ["".join(chooser.choices(hanzi, k=chooser.randrange(8, 60))) for _ in range(250)]
    train += [" ".join(chooser.choices(words, k=chooser.randrange(5, 30))) for _ in range(250)]
    held = [edited(text, chooser) for text in train[::2]]
    held += ["".join(chooser.choices(hanzi, k=30)) for _ in range(100)]
    files = {"train.json": rows_of(*train), "test.json": rows_of(*held)}
    found = audit(put(tmp_path, files), shown=1000)
    sets = [trigrams(text) for text in train]
    exact = {" ".join(unicodedata.normalize("NFKC", text).split()) for text in train}
    best = {}
    for text in dict.fromkeys(held):
        key = " ".join(unicodedata.normalize("NFKC", text).split())
        mine = trigrams(text)
        if key not in exact:
            best[key] = max(len(mine & other) / len(mine | other) for other in sets)
    near = {key for key, alike in best.items() if alike >= THRESHOLD}
    (finding,) = of_code(found, "D35")
    told = {row.row for row in finding.examples}
    by_place = {f"row {i + 1} (line 1)": text for i, text in enumerate(held)}
    got = {" ".join(unicodedata.normalize("NFKC", by_place[place]).split()) for place in told}
    assert got <= near  # every one told of is compared by its text
    assert len(got) >= 0.97 * len(near) > 100
    assert finding.count == len(got)


def test_near_duplicates_of_test_in_dev_are_said(tmp_path):
    text = "尾灯换过一次，还是进水，店里说胶条老化"
    dev, test = rows_of(text), rows_of(text.replace("老化", "坏了"))
    found = audit(put(tmp_path, {"train.json": GOOD[1:], "dev.json": dev, "test.json": test}))
    (finding,) = of_code(found, "D35")
    assert "1 text (100.0 %) of test with a near-duplicate in dev" in finding.message
    assert "like dev.json: row 1" in finding.examples[0].detail


def test_similarity_of_folded_texts():
    assert similarity(fold("Led 灯，很亮！"), fold("led灯很亮")) == 1
    assert similarity(fold("!!"), fold("!!")) == 1
    assert similarity(fold("!!"), fold("??")) == 0
    assert similarity("abcd", "abce") == pytest.approx(2 / 6)  # <ab abc, then bcd cd> or bce ce>


def test_pairs_are_near_only_when_both_sides_are(tmp_path):
    long = "这台车我开了三年多，高速上风噪一直很大，别的都还过得去"
    train = [{"text_a": long, "text_b": b, "label": b} for b in ("是", "不一定")]
    dev = [{"text_a": f"{long}！", "text_b": b, "label": "是"} for b in ("是。", "否")]
    found = audit(put(tmp_path, {"train.json": train, "dev.json": dev}))
    (finding,) = of_code(found, "D35")
    assert finding.count == 1
    assert finding.examples[0].row == "row 1 (line 1)"
    assert finding.examples[0].detail.startswith("1.00 like train.json: row 1 (line 1): ")


def test_rows_that_are_all_alike_are_no_trouble(tmp_path):
    rows = rows_of(*(f"您的订单已经发出，请注意查收，单号 {i}" for i in range(3000)))
    found = audit(put(tmp_path, {"train.jsonl": lines(*rows)}))
    (finding,) = of_code(found, "D35")
    assert finding.count > 2900


def test_memory_does_not_grow_with_the_texts(tmp_path):
    generator = np.random.default_rng(0)

    def peak(rows: int) -> int:
        with (tmp_path / f"{rows}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(rows):
                text = "".join(map(chr, generator.integers(0x4E00, 0x9FA5, 1500)))
                file.write(lines({"index": i, "text_a": text, "label": "ab"[i % 2]}))
        tracemalloc.start()
        try:
            audit(tmp_path / f"{rows}.jsonl")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(200), peak(800)
    assert (tmp_path / "800.jsonl").stat().st_size > 3_600_000
    assert many - few < 600 * 1000  # a text is 3,000 bytes


# ---- what an audit is ----------------------------------------------------------------------------


AGAIN = "bert-cls check DATA"


def test_errors_can_be_raised_and_say_what_and_where(tmp_path):
    found = audit(put(tmp_path, LEAKY))
    with pytest.raises(DataError) as caught:
        found.raise_errors(AGAIN)
    message = str(caught.value)
    assert f"{found.data}: D34 the same text twice: 1 row of train" in message
    assert 'train.json: row 1 (line 1): "尾灯换过一次' in message
    assert "the same at dev.json: row 3 (line 1)" in message
    assert caught.value.hint.startswith("--leak drop trains without them")
    audit(tmp_path, leak="allow").raise_errors(AGAIN)
    two = audit(put(tmp_path / "two", {**LEAKY, "test.json": [row(text_a="")]}))
    with pytest.raises(
        DataError, match=r"two: 3 errors, 0 warnings, 0 notes\nD20 no rows: "
    ) as caught:
        two.raise_errors(AGAIN)
    assert "\n  remedy: --leak drop trains" in str(caught.value)
    assert caught.value.hint == AGAIN


def test_an_audit_in_short_has_codes_and_counts_and_no_words_of_rows(tmp_path):
    found = audit(put(tmp_path, {**LEAKY, "test.json": DEV}), leak="drop")
    summary = found.summary()
    assert {
        "code": "D34",
        "title": KINDS["D34"],
        "severity": "note",
        "findings": 1,
        "count": 1,
    } in (summary)
    assert sum(entry["findings"] for entry in summary) == len(found.findings)
    assert GOOD[0]["text_a"][:6] not in json.dumps(summary, ensure_ascii=False)
    other = replace(found.lengths, estimated=False)
    cut = Finding("D23", "warning", 2, "2 rows cut.")
    measured = found.measured(other, [cut])
    assert measured.lengths == other
    assert of_code(measured, "D23") == [cut]
    assert len(measured.findings) == len(found.findings) + 1


def test_rows_of_no_label_are_not_called_rows_that_nobody_labelled(tmp_path):
    """[] is an answer; null is none."""
    found = audit(put(tmp_path, {"train.json": labelled(["a"], [], ["b"], None, [])}))
    empty, unlabelled = sorted(of_code(found, "D31"), key=lambda finding: -finding.count)
    assert "\n".join(spelled(empty)) == (
        "D31 rows with none of the labels: 2 rows of 5 in train (40.0 %) labelled []."
    )
    assert spelled(unlabelled)[0] == (
        "D31 rows without a label: 1 row of train without a label: set aside."
    )
    told = [entry for entry in found.summary() if entry["code"] == "D31"]
    counted = {entry["title"]: entry["count"] for entry in told}
    assert counted == {"rows with none of the labels": 2, "rows without a label": 1}
    shown = [f["title"] for f in found.to_dict()["findings"] if f["code"] == "D31"]
    assert sorted(shown) == sorted(counted)


def test_a_class_that_dropping_leaks_takes_away_is_said(tmp_path):
    three = [*GOOD, *rows_of("轮胎鼓包", "轮毂划了", label="轮胎")]
    held = [*DEV, *rows_of("轮胎鼓包", "轮毂划了", label="轮胎")]
    data = put(tmp_path, {"train.json": three, "dev.json": held})
    found = audit(data, leak="drop", **NO_ENCODER)
    assert not clean(found)
    (gone,) = [f for f in of_code(found, "D26") if "dropped" in f.message]
    assert gone.severity == "warning"
    assert "'轮胎'" in gone.message


@pytest.mark.parametrize("label", ["灯光", ["灯光"], 1])
def test_fewer_than_two_classes_left_after_dropping_is_an_error(tmp_path, label):
    other = {"灯光": "内饰", 1: 2}.get(label if isinstance(label, (str, int)) else "", ["内饰"])
    kept, leaked = labelled(label, label), labelled(other, other, start=9)
    data = put(tmp_path, {"train.json": [*kept, *leaked], "dev.json": leaked})
    task = "multiclass" if label == 1 else None
    found = audit(data, leak="drop", task=task, **NO_ENCODER)
    codes = [f.code for f in found.of("error")]
    assert codes == ([] if isinstance(label, list) else ["D29"])
    assert any("dropped" in f.message for f in of_code(found, "D26"))
    assert [f.count for f in of_code(found, "D30")] == [1]


@pytest.mark.parametrize("label", ["灯光", ["灯光"], 0.5])
def test_a_train_file_of_which_nothing_is_left_is_an_error(tmp_path, label):
    other = {str: "内饰", list: ["内饰"], float: 1.5}[type(label)]
    rows = labelled(label, other)
    data = put(tmp_path / "leak", {"train.json": rows, "dev.json": rows})
    assert audit(data, leak="drop", **NO_ENCODER).of("error")
    assert not audit(data, leak="allow", **NO_ENCODER).of("error")
    twice = [*rows, *({**row, "label": rows[1 - i]["label"]} for i, row in enumerate(rows))]
    data = put(tmp_path / "conflict", {"train.json": twice})
    assert audit(data, conflict="drop", **NO_ENCODER).of("error")
    assert not audit(data, conflict="keep", **NO_ENCODER).of("error")


def test_many_problems_are_counted_and_a_few_are_shown(tmp_path):
    rows = [row(index=100 + i, text_a=None if i % 3 else 5) for i in range(3000)]
    found = audit(put(tmp_path, with_rows(*rows)), shown=2)
    (missing,), (numbers,) = of_code(found, "D07"), of_code(found, "D09")
    assert (missing.count, numbers.count) == (2000, 1000)
    assert [example.row for example in missing.examples] == ["line 8", "line 9"]
    assert missing.examples[0].detail == "text_a is null."
    assert '"text_a": null' in missing.examples[0].excerpt.replace("\\", "")
    assert found.splits["train"].refused == 3000


def test_quarantined_rows_are_warnings_and_files_still_errors(tmp_path):
    files = {**with_rows(row(text_a="")), "dev.json": "[{"}
    found = audit(put(tmp_path, files), on_bad_row="quarantine")
    assert of_code(found, "D22")[0].severity == "warning"
    assert [f.code for f in found.of("error")] == ["D04"]


def test_splits_labels_and_numbers_are_counted(tmp_path):
    found = audit(put(tmp_path / "a", {"train.json": GOOD, "dev.json": DEV[:1]}))
    assert found.labels == {"内饰": {"train": 3, "dev": 0}, "灯光": {"train": 3, "dev": 1}}
    assert found.splits["dev"].file == "dev.json"
    assert (found.splits["train"].rows, found.task, found.pair) == (6, "binary", False)
    scores = audit(put(tmp_path / "b", {"train.json": labelled(1, 2.5, 4)}))
    values = scores.values["train"]
    assert (values.smallest, values.mean, values.largest) == (1, 2.5, 4)
    assert scores.labels == {}


def test_what_is_no_data_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        audit(tmp_path / "nowhere")
    put(tmp_path, {"train.json": GOOD})
    with pytest.raises(ConfigError, match="leak must be one of"):
        audit(tmp_path, leak="ignore")
    with pytest.raises(ConfigError, match="task must be one of"):
        audit(tmp_path, task="ranking")
    with pytest.raises(ConfigError, match="on_bad_row must be one of"):
        audit(tmp_path, on_bad_row="skip")


def test_excerpts_can_be_printed():
    assert excerpt("a\nb\ud800\u202e") == "a\\nb\\ud800\\u202e"
    assert excerpt("长" * 50) == "长" * 40 + "..."


def test_endless_label_names_are_named_once(tmp_path, monkeypatch):
    monkeypatch.setattr("bert_cls.data.label_tally.NAMES_KEPT", 4)
    files = {"train.json": labelled(*"abcdefgh"), "dev.json": labelled("h", start=20)}
    found = audit(put(tmp_path, files))
    (finding,) = of_code(found, "D40")
    assert "over 4 different labels" in finding.message
    assert not of_code(found, "D25")


# ---- the repaired copy ---------------------------------------------------------------------------


def changes_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / CHANGES_FILE).read_bytes().splitlines()]


def test_each_repair_is_made_and_said(tmp_path):
    rows = [
        {"index": 0, "text_a": 1.25, "label": ["灯光", "灯光"], "more": "SPELLED"},
        {"index": 1, "text_a": "半个\ud83d字", "label": ["内饰", "Sport"], "text_b": None},
        {"index": 2, "text_a": "", "label": ["灯光"]},
        {"index": 3, "text_a": "天窗  漏水", "label": []},
        {"index": 3, "text_a": "又是第三号", "label": []},
        {"index": 5, "text_a": "不动的一行", "label": ["sport"], "note": "\ud800"},
    ]
    text = json.dumps(rows).replace("1.25", "1.250").replace('"SPELLED"', "1e400")
    dev = [{"index": 0, "text_a": "天窗 漏水", "label": ["灯光"]}]
    files = {"train.json": text, "dev.json": dev, "labels.json": ["灯光", "内饰", "sport"]}
    data = put(tmp_path / "data", files)
    before = {p.name: p.read_bytes() for p in data.iterdir()}
    done = repair(data, tmp_path / "new" / "copy", label_merges={"Sport": "sport"})
    assert {p.name: p.read_bytes() for p in data.iterdir()} == before
    assert done.rows == {"train": 3, "dev": 1}
    names = sorted(p.name for p in done.data.iterdir())
    assert names == ["changes.jsonl", "dev.json", "labels.json", "train.json"]
    written = (done.data / "train.json").read_text("utf-8")
    assert '"more": 1e400' in written
    assert json.loads(written) == [
        {"index": 0, "text_a": "1.250", "label": ["灯光"], "more": float("inf")},
        {"index": 1, "text_a": "半个\ufffd字", "label": ["内饰", "sport"], "text_b": None},
        rows[5],
    ]
    changes = changes_of(done.data)
    assert [(c["row"], c["code"], c["key"], c["what"]) for c in changes] == [
        ("row 1 (line 1)", "D09", "text_a", "a number written as text"),
        ("row 1 (line 1)", "D32", "label", "a label named once instead of twice"),
        ("row 2 (line 1)", "D14", "text_a", "half characters replaced by U+FFFD"),
        ("row 2 (line 1)", "D27", "label", "labels merged"),
        *(
            (f"row {n} (line 1)", code, None, f"row left out: {why}")
            for n, code, why in (
                (3, "D22", "text_a is blank: nothing is left without white space and controls"),
                (4, "D34", "its text is in dev or test"),
                (5, "D13", "its index was used before"),
            )
        ),
    ]
    assert {c["file"] for c in changes} == {"train.json"}
    assert (changes[0]["before"], changes[0]["after"]) == (1.25, "1.250")
    assert (changes[4]["before"], changes[4]["after"]) == (rows[2], None)
    assert sum(done.changes.values()) == len(changes)
    assert clean(audit(done.data)) == []


ANOMALIES = st.one_of(
    st.sampled_from(
        [
            {"text_a": None},
            {"text_a": " "},
            {"text_a": 12},
            {"text_a": 0.5},
            {"text_a": "x\ud800"},
            {"label": ["a", "a"]},
            {"label": ["A", "a", "b"]},
            {"label": ["b\ud800"]},
            {"label": "a\n"},
            {"label": None},
            {"label": [1]},
            {"index": "\udfff"},
            {"index": 1.5},
            {"text_b": ""},
            {"txet_b": "a"},
            {"extra": [1.0, {"deep": None}]},
        ]
    ),
    st.just({}),
)
NOT_ROWS = st.sampled_from(["no row", None, [1], 7])
SOUND = st.sampled_from(["灯亮", "灯 亮", "ＬＥＤ", "LED", "坐垫", "异响", "漏水", "油耗"])


@st.composite
def broken_rows(draw) -> list:
    rows = []
    for index in range(draw(st.integers(0, 7))):
        labels = draw(st.lists(st.sampled_from(["a", "b", "A"]), max_size=2, unique=True))
        made = {"index": draw(st.sampled_from([index, 0])), "text_a": draw(SOUND), "label": labels}
        broken = {**made, **draw(ANOMALIES), **draw(ANOMALIES)}
        rows.append(draw(st.sampled_from([broken, broken, broken, draw(NOT_ROWS)])))
    return rows


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(train=broken_rows(), dev=broken_rows(), test=broken_rows(), as_lines=st.booleans())
def test_a_repaired_copy_is_what_training_would_read_and_every_change_is_listed(
    tmp_path_factory, train, dev, test, as_lines
):
    folder = tmp_path_factory.mktemp("repair")
    splits = {"train": train, "dev": dev, "test": test}
    for n, (split, rows) in enumerate(splits.items()):
        for name in ("a", "b"):
            text = f"{split} 的固定一行 {name}"
            rows.append({"index": f"fixed {n}{name}", "text_a": text, "label": [name]})
    suffix = ".jsonl" if as_lines else ".json"
    for name, prepare in (("data", lambda row: row), ("once", without_repeats)):
        written = {f"{s}{suffix}": [prepare(r) for r in rows] for s, rows in splits.items()}
        put_ascii(folder / name, written)
    merges = {"A": "a", "b\ufffd": "b"}
    done = repair(folder / "data", folder / "copy", label_merges=merges)
    assert clean(audit(done.data)) == []
    # the law: the copy is what a run with every repair switched on would train on
    mending = {"on_bad_row": "quarantine", "coerce_numbers": True, "fix_unicode": True}
    wanted = load(folder / "once", label_merges=merges, **mending)
    held = {text_key(e) for e in (*wanted.dev, *wanted.test)}
    copy = load(done.data)
    assert copy.train == [e for e in wanted.train if text_key(e) not in held]
    assert (copy.dev, copy.test) == (wanted.dev, wanted.test)
    # the changes, applied to the original, give the copy
    changes = changes_of(done.data)
    assert sum(done.changes.values()) == len(changes)
    for split, rows in splits.items():
        content = (done.data / f"{split}{suffix}").read_text("utf-8")
        got = (
            [json.loads(line) for line in content.splitlines()] if as_lines else json.loads(content)
        )
        assert got == replayed(rows, [c for c in changes if c["file"] == f"{split}{suffix}"])
        assert done.rows[split] == len(got)


def table_of(rows: list, delimiter: str) -> str:
    """The rows as a table; what is no row is a line of another width."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["index", "text_a", "labels"])
    for row in rows:
        if isinstance(row, dict):
            label = row.get("label")
            cell = "|".join(map(str, label)) if isinstance(label, list) else label
            text = SURROGATE.sub("", str(row.get("text_a") or ""))
            writer.writerow([SURROGATE.sub("", str(v)) for v in (row["index"], text, cell or "")])
        else:
            writer.writerow(["no", "row"])
    return file.getvalue()


# what the page says of the copy: whole files are read as they are written, bad rows are left out
AS_WRITTEN = {"D01", "D02", "D03", "D09", "D14", "D21", "D27"}
LEFT_OUT = {"D04", "D05", "D06", "D07", "D08", "D09", "D10", "D12", "D13", "D14", "D15", "D18"}
LEFT_OUT |= {"D19", "D20", "D22", "D32", "D34"}


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    train=broken_rows(),
    dev=broken_rows(),
    suffix=st.sampled_from([".json", ".jsonl", ".csv", ".tsv"]),
    codec=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
    codec_of_names=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    names=st.sampled_from([None, ["a", "A", "b"], ["b", "a"]]),
)
def test_a_check_of_a_repaired_copy_finds_nothing_that_a_repair_mends(
    tmp_path_factory, train, dev, suffix, codec, codec_of_names, names
):
    folder = tmp_path_factory.mktemp("mended")
    (folder / "data").mkdir()
    for split, rows in (("train", train), ("dev", dev)):
        fixed = [
            {"index": f"fixed {n}", "text_a": f"{split} 的固定一行 {n}", "label": [n]} for n in "ab"
        ]
        rows = [*rows, *fixed]
        if suffix in (".csv", ".tsv"):
            text = table_of(rows, "\t" if suffix == ".tsv" else ",")
        else:
            text = "\n".join(map(json.dumps, rows)) if suffix == ".jsonl" else json.dumps(rows)
        (folder / "data" / f"{split}{suffix}").write_bytes(text.encode(codec))
    if names is not None:
        content = json.dumps([*names, "灯光"], ensure_ascii=False).encode(codec_of_names)
        (folder / "data" / "labels.json").write_bytes(content)
    encoding = "gb18030" if codec == "gb18030" else None
    merges = {"A": "a", "b\ufffd": "b"}
    before = {p.name: p.read_bytes() for p in (folder / "data").iterdir()}
    copy = repair(folder / "data", folder / "copy", label_merges=merges, encoding=encoding).data
    assert {p.name: p.read_bytes() for p in (folder / "data").iterdir()} == before
    for path in copy.iterdir():
        assert not path.read_bytes().startswith(b"\xef\xbb\xbf")
        path.read_bytes().decode("utf-8")
    left = [f for f in audit(copy).findings if f.code in AS_WRITTEN]
    left += [f for f in audit(copy).of("error") if f.code in LEFT_OUT]
    assert left == []
    # a second repair has nothing to do, and changes no byte
    again = repair(copy, folder / "again").data
    assert changes_of(again) == []
    written = {p.name: p.read_bytes() for p in copy.iterdir() if p.name != CHANGES_FILE}
    assert {p.name: p.read_bytes() for p in again.iterdir() if p.name != CHANGES_FILE} == written


def without_repeats(row: object) -> object:
    if not isinstance(row, dict) or not isinstance(row.get("label"), list):
        return row
    return {**row, "label": list(dict.fromkeys(row["label"]))}


def put_ascii(folder: Path, files: dict[str, list]) -> None:
    folder.mkdir()
    for name, rows in files.items():
        text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
        (folder / name).write_text(text, encoding="utf-8")


def replayed(rows: list, changes: list[dict]) -> list:
    """The rows with the changes made, each of which must fit."""
    out = dict(enumerate(rows, 1))
    for change in changes:
        number = int(change["row"].split()[1])
        if change["key"] is None:
            if isinstance(rows[number - 1], dict):
                assert change["before"] == rows[number - 1]
            del out[number]
        else:
            assert out[number][change["key"]] == change["before"]
            out[number] = {**out[number], change["key"]: change["after"]}
    return list(out.values())


CELLS = [
    ["text_a", "label", "more"],
    ["一行, 带逗号和\t的", "a", "x\ny"],
    ["", "b", "1"],
    ['又一行，它说"好"', "[b]", "x\ry"],
    ["第三格没有", "b"],
]


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.csv.gz"])
def test_tables_stay_tables(tmp_path, name):
    def written(rows: list[list[str]]) -> bytes:
        file = io.StringIO()
        delimiter = "\t" if "tsv" in name else ","
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
        return file.getvalue().replace("x\ry", '"x\ry"').encode()

    def unpacked(content: bytes) -> bytes:
        return gzip.decompress(content) if name.endswith(".gz") else content

    content = written(CELLS).decode().encode("gb18030")
    data = put(tmp_path / "data", {name: gzip.compress(content) if "gz" in name else content})
    done = repair(data / name, tmp_path / "copy", encoding="gb18030")
    assert done.data == tmp_path / "copy" / name
    assert unpacked(done.data.read_bytes()) == written([*CELLS[:2], CELLS[3]])
    changes = [(c["row"], c["code"]) for c in changes_of(tmp_path / "copy")]
    assert changes == [("line 4", "D22"), ("line 6", "D05"), ("", "D02")]
    assert [e.label for e in load(done.data).train] == ["a", "[b]"]


def test_files_that_are_read_otherwise_say_how_they_are_written(tmp_path):
    marked = {"train.json": ("\ufeff" + lines(*GOOD)).encode(), "dev.json": STUDIO}
    data = put(tmp_path / "data", {**marked, "test.parquet": two_texts})
    done = repair(data, tmp_path / "copy", task="multiclass")
    assert json.loads((done.data / "train.json").read_bytes()) == GOOD
    converted = {"text_a": "灯泡烧了", "index": 1, "label": "灯光"}
    assert json.loads((done.data / "dev.json").read_bytes()) == [converted]
    assert (done.data / "test.jsonl").read_text("utf-8").count("\n") == 2
    as_list = "Written as a JSON list in UTF-8"
    assert sorted((c["file"], c["row"], c["what"]) for c in changes_of(done.data)) == [
        ("dev.json", "", f"read as an export of Label Studio. {as_list}"),
        ("test.parquet", "", "test.parquet is written as test.jsonl, JSON Lines in UTF-8"),
        ("train.json", "", f"BOM: the byte order mark at the start was skipped. {as_list}"),
        ("train.json", "", f"read as JSON Lines, which it holds. {as_list}"),
    ]


def two_texts(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text_a": ["甲", "乙"], "label": ["灯光", "内饰"]}), path)


def test_what_cannot_be_repaired_leaves_nothing_behind(tmp_path):
    data = put(tmp_path / "data", {"train.json": json.dumps(GOOD)[:-9]})
    with pytest.raises(DataError, match="still being written"):
        repair(data, tmp_path / "copy")
    with pytest.raises(DataError, match="no row would be left"):
        repair(put(tmp_path / "two", {"train.jsonl": "[]\n{}\n"}), tmp_path / "copy")
    names = b"text_a,label,\xff\n" + "好,甲,\n好的,乙,\n".encode() * 3
    put(tmp_path / "four", {"train.csv": names})
    with pytest.raises(DataError, match="names a column with bytes that are not utf-8"):
        repair(tmp_path / "four", tmp_path / "copy")
    with pytest.raises(DataError, match="is not empty"):
        repair(data, data)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        repair(put(tmp_path / "three", {"train.json": GOOD}), tmp_path / "file" / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "file", "four", "three", "two"]


# ---- the command ---------------------------------------------------------------------------------


def printed(capsys, data: Path, **options) -> tuple[int, str]:
    try:
        checked(data, **options)
    except typer.Exit as stopped:
        return stopped.exit_code, " ".join(capsys.readouterr().out.split())
    return 0, " ".join(capsys.readouterr().out.split())


def test_the_command_shows_counts_findings_and_remedies(tmp_path, capsys):
    data = put(tmp_path / "data", {**LEAKY, "test.json": [*DEV, row(label=None)]})
    report = tmp_path / "report.json"
    code, text = printed(capsys, data, json_file=report)
    assert code == 1
    for part in (
        f"{data}: binary, single texts",
        "split file rows labelled refused train train.json 6 6 0 dev dev.json 3 3 0",
        "label train dev test 灯光 3 2 1 内饰 3 1 1",
        "estimated tokens: the middle row has",
        "error D34 the same text twice: 1 row of train with a text that is also held out",
        'train.json: row 1 (line 1): "尾灯换过一次，还是进水，店里说胶条老化": the same at dev',
        "remedy: --leak drop trains without them",
        "1 error, 1 warning, 1 note",
    ):
        assert part in text, (part, text)
    written = orjson.loads(report.read_bytes())
    assert written["totals"] == {"error": 1, "warning": 1, "note": 1}
    assert written["findings"][0]["title"] == "the same text twice"
    assert written["findings"][0]["examples"][0]["row"] == "row 1 (line 1)"
    assert written["lengths"]["estimated"] is True
    assert printed(capsys, data, leak="allow")[0] == 0


def test_the_command_repairs_and_checks_the_copy(tmp_path, capsys):
    data = put(tmp_path / "data", {**LEAKY, "test.json": [*DEV, row(text_a="")]})
    (tmp_path / "merges.json").write_text('{"灯光": "内饰"}', "utf-8")
    code, text = printed(capsys, data, fix=tmp_path / "copy")
    assert code == 0
    assert "- D34 row left out: its text is in dev or test: 1" in text
    assert "errors left in it: none" in text
    merged = {"fix": tmp_path / "other", "merge_labels": tmp_path / "merges.json"}
    code, text = printed(capsys, data, **merged)
    assert code == 1
    assert "errors left in it: D29" in text


def test_numbers_and_many_labels_are_shown_in_short(tmp_path, capsys):
    _, text = printed(capsys, put(tmp_path / "a", {"train.json": labelled(1, 2.5, 4)}))
    assert "regression, single texts" in text
    assert "split smallest mean largest train 1 2.5 4" in text
    names = [f"名{i:02}" for i in range(30)]
    _, text = printed(capsys, put(tmp_path / "b", {"train.json": labelled(*names)}))
    assert "名19 1 and 10 rarer labels" in text


def test_the_command_counts_with_an_encoder(tmp_path, capsys, encoder):
    data = put(tmp_path / "data", {"train.json": [*GOOD, *rows_of("龘" * 40)]})
    _, text = printed(capsys, data, encoder=str(encoder("bert")), max_length=32)
    assert "99 of 100 have at most" in text
    assert "tokens: the middle row has" in text
    assert "estimated" not in text
    assert "D41 unknown tokens" in text
    with pytest.raises(ConfigError, match="--max-length must be at most 512"):
        checked(data, encoder=str(encoder("bert")), max_length=600)


def test_every_kind_is_in_the_documentation():
    page = (Path(__file__).parents[1] / "docs" / "check.md").read_text("utf-8")
    cells = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    listed = {row[1]: row[2] for row in cells if len(row) > 3 and row[1][:1] == "D"}
    assert listed == KINDS


def test_a_repaired_copy_has_merged_label_names_and_no_mark(tmp_path):
    rows = [{"text_a": f"第{i}句", "label": [name]} for i, name in enumerate(["Sport", "灯光"] * 4)]
    names = json.dumps(["灯光", "Sport", "sport"], ensure_ascii=False)
    data = put(tmp_path / "data", {"train.json": rows, "labels.json": f"\ufeff{names}"})
    assert "D27" in {finding.code for finding in audit(data).of("error")}
    merges = {"Sport": "sport"}
    copy = repair(data, tmp_path / "copy", label_merges=merges).data
    assert (copy / "labels.json").read_text("utf-8") == '["灯光", "sport"]\n'
    told = [(c["row"], c["code"]) for c in changes_of(copy) if c["file"] == "labels.json"]
    assert told == [("", "D01"), ("", "D27")]
    assert audit(copy).of("error") == []
    assert not {"D01", "D27"} & {finding.code for finding in audit(copy).findings}


def _nowhere(place: Path) -> None:
    place.symlink_to("not-fetched")


STRANGE = {"a link": _nowhere, "a pipe or a device": os.mkfifo, "a folder": Path.mkdir}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("name", ["dev.jsonl", "test.csv", "labels.json", "train.jsonl"])
def test_what_has_the_name_of_data_and_is_no_file_is_an_error(name, what, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    if name != "train.jsonl":
        put(data, {"train.jsonl": GOOD})
    STRANGE[what](data / name)
    done = CliRunner().invoke(app, ["check", str(data)])
    assert done.exit_code == 1, done.output
    said = "".join(done.output.split())
    assert "D39" in said
    assert f"{name}: is {what}".replace(" ", "") in said
    fixed = CliRunner().invoke(app, ["check", str(data), "--fix", str(tmp_path / "copy")])
    assert fixed.exit_code != 0, fixed.output
    assert not (tmp_path / "copy").exists()
