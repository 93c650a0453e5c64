"""Every kind of bad input through the real commands: what is said, where, and what to do.

Each row of BAD is a data set with one thing wrong. `bert-cls check` must say it, and `bert-cls
train` must stop at an error before it looks for the encoder (which is not there: exit code 3 is a
run that got past its data). Corners of single readers are in test_data_read.py, of the audit's
counts in test_audit.py.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer

from bert_cls import Classifier, cli
from bert_cls.config import RunConfig
from bert_cls.encoders.sources import resolve
from bert_cls.errors import EncoderError, in_shell
from bert_cls.training.check_command import SHARED, check_command
from doors import main
from small import class_rows, multilabel_rows, write_folder

Content = bytes | str | list | Callable[[Path], None]
STOPPED, PAST_ITS_DATA = 2, 3


def rows(*labels: object, start: int = 0) -> list[dict]:
    """Rows with these labels, and texts that have nothing in common."""
    texts = ("".join(chr(0x4E00 + 97 * i + 7 * k) for k in range(9)) for i in range(start, 99))
    return [
        {"index": i, "text_a": text, "label": label}
        for i, (text, label) in enumerate(zip(texts, labels, strict=False))
    ]


TRAIN, DEV, TEST = rows(*"甲乙" * 3), rows("甲", "乙", start=10), rows("甲", "乙", start=20)
SETS = (["甲"], ["乙"], ["甲", "乙"], [])
BARE = [{"text_a": row["text_a"]} for row in rows(*SETS, start=20)]


def lines(*items: object) -> str:
    return "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in items)


def put(folder: Path, files: dict[str, Content | None]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif isinstance(content, str):
            (folder / name).write_text(content, "utf-8", newline="")
        elif callable(content):
            content(folder / name)
        elif content is not None:
            text = lines(*content) if name.endswith("l") else json.dumps(content)
            (folder / name).write_text(text, "utf-8")
    return folder


@dataclass(frozen=True)
class Bad:
    """Files beside DEV and TEST, what is said of them, and whether training stops.

    `options` are given to check and train, `mended` to train alone, which then goes on. `target`
    is what is named in the folder, `dev` and `test` those that are not the usual ones.
    """

    code: str
    train: dict[str, Content]
    says: tuple[str, ...]
    stops: bool = True
    options: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    others: dict[str, Content | None] = field(default_factory=dict)
    target: str = ""
    loudly: bool = True


def bad(code: str, train: dict[str, Content], *says: str, **more) -> object:
    row = Bad(code, train, says, **more)
    return pytest.param(row, id=f"{code}-{says[0][:32]}")


def jsonl(*more: object) -> dict[str, Content]:
    """A train file with further rows, or lines as they stand."""
    tail = "".join(m if isinstance(m, str) else lines({"index": 90, **m}) for m in more)
    return {"train.jsonl": lines(*TRAIN) + tail}


def line(text: str | bytes) -> dict[str, Content]:
    raw = text.encode() if isinstance(text, str) else text
    return {"train.jsonl": lines(*TRAIN).encode() + raw + b"\n"}


def row(**fields: object) -> dict:
    return {"text_a": "空调不够冷", "label": "甲", **fields}


def dates(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import datetime

    from pyarrow import parquet

    table = pyarrow.table({"text_a": [datetime.date(2024, 1, 1)] * 2, "label": ["甲", "乙"]})
    parquet.write_table(table, path)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


CHINESE = lines(*TRAIN, row(index=7, text_a="这个车的灯光是很好的，我们都说不错，他说这里没有人"))
GOES_ON = {"stops": False}
QUIETLY = {"stops": False, "loudly": False}
SET_ASIDE = ("--on-bad-row", "quarantine")
LEAKY = {**TEST[0], "index": 77}
BAD = [
    bad("D01", {"train.jsonl": "\ufeff" + lines(*TRAIN)}, "byte order mark: BOM", **QUIETLY),
    bad("D02", {"train.jsonl": CHINESE.encode("gb18030")}, "read as gb18030.", **QUIETLY),
    bad(
        *("D02", {"train.jsonl": lines({"text_a": "Gerät", "label": "a"}).encode("latin-1")}),
        *("train.jsonl: byte 15 is not UTF-8", "not clearly GB18030 or Big5", "--encoding gb18030"),
    ),
    bad("D03", {"train.jsonl": lines(*TRAIN).encode("utf-16")}, "read as utf-16.", **QUIETLY),
    bad(
        *("D04", {"train.json": json.dumps(TRAIN)[:-9]}),
        *("train.json: line 1 (byte ", "the file ends inside a", "is it still being written?"),
    ),
    bad(
        *("D04", jsonl('{"text_a": "半')),
        *("1 row: the file ends inside a string", "train.jsonl: line 7", "let the writer finish"),
        mended=SET_ASIDE,
    ),
    bad(
        *("D04", {"train.jsonl.gz": gzip.compress(lines(*TRAIN).encode())[:-9]}),
        *("train.jsonl.gz: cannot be read past byte", "only partly copied?"),
    ),
    bad(
        *("D05", line("{'text_a': 'a', 'label': '甲'}")),
        *("1 row: not JSON at column 2", "train.jsonl: line 7", 'Write {"text_a": "a", "label":'),
        mended=SET_ASIDE,
    ),
    bad("D05", {"train.json": '[{"text_a": "a"},]'}, "line 1 (byte ", "take away the comma"),
    bad("D05", {"train.csv": "text_a,label\na,甲\nb\n"}, "line 3", "1 cell where the first line"),
    bad(
        *("D06", line('{"text_a": "a", "label": NaN}')),
        *("1 row: NaN is not JSON.", "train.jsonl: line 7", "write null, or leave the row out"),
        mended=SET_ASIDE,
    ),
    bad(
        *("D07", jsonl(row(text_a=None))),
        *("1 row: text_a is null.", "train.jsonl: line 7", "--fix FOLDER leaves it out of a copy"),
        mended=SET_ASIDE,
    ),
    bad("D07", jsonl({"label": "甲"}), "text_a is missing.", "the keys of this row are 'index'"),
    bad(
        *("D08", jsonl({"txet": "空调不够冷", "label": "甲"})),
        *("unknown key 'txet'; did you mean 'text'?", "train.jsonl: line 7", "rename the key"),
    ),
    bad("D08", {"train.csv": "txet,label\na,甲\n"}, "text_a is missing", "did you mean 'text'?"),
    bad(
        *("D09", line('{"index": 9, "text_a": 1.50, "label": "甲"}')),
        *("text_a must be a string. Got 1.50 instead.", "line 7", "--coerce-numbers reads it as"),
        mended=("--coerce-numbers",),
    ),
    bad(
        *("D10", {"train.csv": "text_a,label\n2024-01-01,甲\n007,乙\n"}, "train train.csv 2 2 0"),
        **QUIETLY,
    ),
    bad("D10", {"train.parquet": dates}, "text_a must be a string", "make the column a text"),
    bad(
        *("D11", {"train.json": rows("1", 2, "1", "3")}),
        *("labels are of different types: 7 rows with a name, 1 row with a number.",),
        *("train.json: row 2 (line 1)", 'write every label as a name, such as "1"'),
    ),
    bad("D11", jsonl(row(label=True)), "Got true instead.", "line 7", 'write the name "yes"'),
    bad(
        *("D12", line('{"text_a": "a", "text_a": "b", "label": "甲"}')),
        *("the object has the key 'text_a' more than once.", "line 7", "keep one of them"),
        mended=SET_ASIDE,
    ),
    bad(
        *("D13", jsonl(row(index=3))),
        *("train.jsonl: line 7", "index 3 is also at line 4", "give each row an index of its own"),
        mended=SET_ASIDE,
    ),
    bad("D13", jsonl(row(index=1.5)), "index must be an integer or a string. Got 1.5", "line 7"),
    bad(
        *("D14", line('{"index": 9, "text_a": "a\\ud800", "label": "甲"}')),
        *("text_a holds half a character, the lone surrogate U+D800.", "line 7", "--fix-unicode"),
        mended=("--fix-unicode",),
    ),
    bad(
        *("D15", line('{"text_a": "a\tb", "label": "甲"}')),
        *("raw control character U+0009 in a string, column 14.", "line 7", "write it as \\n, \\t"),
        mended=SET_ASIDE,
    ),
    bad("D16", jsonl(row(text_a="a\0b")), "1 row with control characters such as NUL", **QUIETLY),
    bad(
        *("D17", {"train.jsonl": "\r\n".join(["", *lines(*TRAIN).split("\n")]) + " \t\r\n"}),
        *("train train.jsonl 6 6 0", "0 errors"),
        **QUIETLY,
    ),
    bad(
        *("D18", line('{"text_a": ' + "[" * 50_000 + "]" * 50_000 + "}")),
        *("1 row: nested too deep to read.", "train.jsonl: line 7", "rows are flat objects"),
        mended=SET_ASIDE,
    ),
    bad(
        *("D19", line('{"text_a": "a", "label": ' + "9" * 400 + "}")),
        *("label is an integer of more than 64 bits.", "train.jsonl: line 7"),
    ),
    bad("D19", line('{"text_a": "a", "label": -1e999}'), "label is too large for a number."),
    bad("D20", {"train.json": "[]"}, "train.json: no rows.", "put labelled rows there"),
    bad("D20", {"train.jsonl": ""}, "train.jsonl: no rows.", "put labelled rows there"),
    bad(
        *("D21", {"train.json": '{"text_a": ["a"], "label": ["甲"]}'}),
        *("train.json: the file holds one object of columns, 'text_a', 'label', not rows.",),
        *("the file must be a list of rows, [{", "or JSON Lines, one such object a line"),
    ),
    bad(
        *("D22", jsonl(row(text_a=" \u3000\u200b\0"))),
        *("text_a is blank: nothing is left without white space and controls.", "line 7"),
        *("--fix FOLDER leaves it out",),
        mended=SET_ASIDE,
    ),
    bad(
        *("D23", jsonl(row(text_a="路" * 700))),
        *("an estimated 1 row (9.1 %) of over 256 tokens, which are cut; the middle row has 11,",),
        *("the longest has 702.", "text.long=head_tail", "train.jsonl: line 7", "702 tokens"),
        **QUIETLY,
    ),
    bad(
        *("D24", jsonl(row(text_a="很长" * 60_000))),
        *("1 row of over 100,000 characters, the longest 120,000", "line 7", "several rows have"),
        **GOES_ON,
    ),
    bad(
        *("D25", jsonl(row(label="灯光"), row(index=91, text_a="胎压不稳", label="灯光"))),
        *("1 label not in train: '灯 光' (1 row; the nearest is '灯光', with 2 rows in train).",),
        *("test.json: row 3 (line 1)", "mend the label"),
        others={"test.json": [*TEST, row(index=99, text_a="车窗不严", label="灯 光")]},
    ),
    bad(
        *("D26", {"train.json": TRAIN}, "dev has no row of 1 label of train: '乙'; metrics show"),
        others={"dev.json": DEV[:1]},
        **GOES_ON,
    ),
    bad(
        *("D27", {"train.json": rows("Sport", "sport", "ＳＰＯＲＴ", "sport ", "b", "b")}),
        *(
            "labels look the same: ",
            "'Sport' (1)",
            "'ＳＰＯＲＴ' (1)",
            "give --merge-labels a file",
        ),
        others={"dev.json": rows("b", start=10), "test.json": None},
    ),
    bad(
        *("D28", {"train.json": TRAIN, "labels.json": ["甲", "乙"], "other.json": ["乙", "甲"]}),
        *("labels.json: another order of labels than the one given", "make "),
        options=("--labels", "other.json"),
    ),
    bad(
        *("D29", {"train.json": rows("甲", "甲", "甲")}),
        *("train needs at least 2 classes. Got only '甲'.", "add rows of another class"),
        others={"dev.json": rows("甲", start=10), "test.json": None},
    ),
    bad(
        *("D30", jsonl(row(label="丙"))),
        *("1 label with one or two rows in train: '丙' (1).", "line 7", "a split leaves them in"),
        **GOES_ON,
    ),
    bad(
        *(
            "D31",
            {"train.json": rows(*SETS)},
            "1 row of 4 in train (25.0 %), 1 row of 4 in dev (25.0 %) labelled [].",
        ),
        others={"dev.json": rows(*SETS, start=10), "test.json": None},
        **QUIETLY,
    ),
    bad(
        *("D31", {"train.json": rows(None, None)}, "no row has a label.", "needs labelled rows"),
        others={"dev.json": None, "test.json": None},
    ),
    bad(
        *("D31", jsonl({"text_a": "没有写标签"}), "1 row of train without a label: set aside"),
        **QUIETLY,
    ),
    bad(
        *("D31", {"train.jsonl": lines(*rows(*SETS), {"index": 90, "text_a": "没有写标签"})}),
        *("1 row without the key label, which other rows have", "train.jsonl: line 5"),
        *("write [] where a row has no label, null where nobody has labelled it",),
        others={"dev.json": rows(*SETS, start=10), "test.json": rows(*SETS, start=20)},
        mended=SET_ASIDE,
    ),
    bad(
        "D31",
        {"train.jsonl": lines(*rows(*SETS, None))},
        # no row of test has the key: nobody has labelled any
        "4 rows of test without a label: kept for prediction",
        others={"dev.json": rows(*SETS, None, start=10), "test.json": BARE},
        **QUIETLY,
    ),
    bad(
        *("D32", {"train.json": rows(["甲"], ["乙", "乙"])}),
        *("1 row: label names '乙' more than once.", "row 2 (line 1)", "write each label once"),
        others={"dev.json": None, "test.json": None},
    ),
    bad(
        *("D32", jsonl(row(label="['甲']"))),
        *("label is a string that spells a list", "line 7", "write the list itself"),
    ),
    bad(
        *("D33", {"train.json": TRAIN}),
        *("the task multilabel needs lists of names as labels. Got single names in 10 rows.",),
        *("train.json: row 1 (line 1)", "give the task multiclass, or write the labels anew"),
        options=("--task", "multilabel"),
    ),
    bad(
        *("D33", {"train.json": rows(*SETS)}),
        *("the task multiclass needs single names as labels. Got lists of names in 4 rows.",),
        *("give the task multilabel",),
        options=("--task", "multiclass"),
        others={"dev.json": None, "test.json": None},
    ),
    bad(
        *("D34", {"train.json": [*TRAIN, {**LEAKY, "text_a": f" {LEAKY['text_a']}　"}]}),
        *("1 row of train with a text that is also held out: 1 in test (50.0 % of its rows).",),
        *("train.json: row 7 (line 1)", "the same at test.json: row 1", "--leak drop trains"),
        mended=("--leak", "drop"),
    ),
    bad(
        *("D34", {"train.json": [*TRAIN, LEAKY]}, "; kept, so scores are too good."),
        options=("--leak", "allow"),
        **GOES_ON,
    ),
    bad(
        *("D35", jsonl(row(text_a="尾灯换过一次，还是进水，店里说胶条老化"))),
        *("1 text (20.0 %) of dev and test with a near-duplicate in train: scores may be too",),
        *("dev.json: row 3 (line 1)", "like train.jsonl: line 7", "take such rows out of train"),
        others={
            "dev.json": [*DEV, row(index=5, text_a="尾灯换过一次，还是进水了，店里说胶条老化！")]
        },
        **GOES_ON,
    ),
    bad(
        *("D36", jsonl({**TRAIN[0], "label": "乙", "index": 91})),
        *("1 text with different labels, in 2 rows.", "'甲' here, '乙' at train.jsonl: line 7"),
        *("decide for one label a text",),
        **GOES_ON,
    ),
    bad(
        *("D36", jsonl({**TRAIN[0], "label": "乙", "index": 91}), "1 text with different labels"),
        *("--conflict drop",),
        options=("--conflict", "error"),
        mended=("--conflict", "drop"),
    ),
    bad(
        *("D37", jsonl(row(text_b="第二句"))),
        *("1 row of 11 with a text_b, against the others.", "line 7", "every row needs both texts"),
    ),
    bad("D39", {"train.jsonl": gzip.compress(b"{}")}, "is compressed with gzip.", "rename it to"),
    bad("D39", {}, "no such file", "holds dev.json, test.json", target="trian.json"),
    bad("D39", {"rows.txt": "a"}, "the suffix must be one of", "Got '.txt'", target="rows.txt"),
    bad("D39", {}, "there is no file train: nothing to learn from.", "name the training rows"),
    bad("D40", jsonl(row(label="甲\n乙")), "holds the control character U+000A", "line 7"),
    bad("D40", jsonl(row(label="甲" * 201)), "label name has 201 characters", "at most 200"),
]


def checked(tmp_path: Path, case: Bad) -> tuple[Path, list[str]]:
    """The data set on disk, and the options that both commands are given."""
    files = {"dev.json": DEV, "test.json": TEST, **case.train, **case.others}
    folder = put(tmp_path / "data", files)
    options = [str(folder / o) if o.endswith(".json") else o for o in case.options]
    return folder / case.target if case.target else folder, options


@pytest.mark.parametrize("case", BAD)
def test_each_bad_input_is_said_by_check_and_train(tmp_path, monkeypatch, case):
    monkeypatch.setenv("BERT_CLS_CACHE", str(tmp_path / "cache"))
    data, options = checked(tmp_path, case)
    done = main("check", data, *options)
    assert done.code in ({1, 2} if case.stops else {0}), done
    for part in case.says:
        assert part in done.said, (part, done)
    trained = main("train", data, "-o", tmp_path / "m", "--encoder", "./nowhere", *options)
    assert trained.code == (STOPPED if case.stops else PAST_ITS_DATA), trained
    assert not (tmp_path / "m").exists()
    if case.loudly:
        assert case.says[0] in trained.err, trained
    if case.stops:
        said = trained.err.replace("--encoder ./nowhere", "")  # in the command to read on
        assert "./nowhere" not in said, "the encoder was asked for"
    if case.mended:
        words = [*options, *case.mended]
        assert main("check", data, *words).code == 0
        again = main("train", data, "-o", tmp_path / "m", "--encoder", "./nowhere", *words)
        assert again.code == PAST_ITS_DATA, again


def test_every_id_of_the_table_has_a_row():
    elsewhere = {"D38"}  # a figure, not a file: see below
    table = {case.values[0].code for case in BAD} | elsewhere
    assert table == {f"D{number:02}" for number in range(1, 41)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_d39_a_pipe_and_a_folder_are_named(tmp_path):
    os.mkfifo(tmp_path / "train.jsonl")
    for command in (("check",), ("train", "-o", tmp_path / "m")):
        done = main(*command, tmp_path / "train.jsonl")
        assert done.code == 2
        assert "train.jsonl: is a pipe or a device, not a file." in done.err
        assert "send JSON Lines to standard input" in done.err
    empty = tmp_path / "empty"
    empty.mkdir()
    done = main("check", empty)
    assert done.code == 2
    assert "no train, dev, test or data file with one of the suffixes" in done.err
    assert "The folder holds nothing." in done.err


# ---- what needs a model ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(encoder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("bad")
    data = write_folder(root / "data", lambda n: class_rows(n, ["差", "好"]))
    done = main(
        *("train", data, "-o", root / "model", "--encoder", encoder("bert"), "--leak", "drop"),
        *("--set", "training.max_steps=1", "--set", "report.linear_bar=false"),
    )
    assert done.code == 0, done
    return root / "model"


def test_the_model_keeps_what_its_audit_found(model):
    details = Classifier.load(model).bundle.details["data"]
    for entry in details["audit"]:
        assert set(entry) == {"code", "title", "severity", "findings", "count"}
        assert entry["severity"] in ("warning", "note")
    assert details["lengths"]["estimated"] is False
    assert details["lengths"]["max_length"] == 256


def test_d22_a_blank_text_in_a_batch_is_null_with_a_reason(model, tmp_path):
    file = tmp_path / "rows.jsonl"
    blank = ["", " ", "\u3000", "\u200b\ufeff", "\0\x01", "\u3164"]
    texts = ["尾灯很亮", *blank, "天窗漏水"]
    file.write_text(lines(*({"index": i, "text_a": t} for i, t in enumerate(texts))), "utf-8")
    done = main("predict", model, file, "-o", tmp_path / "out.jsonl")
    assert done.code == 1
    assert "8 rows, 6 of them errors" in done.err
    out = [json.loads(r) for r in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [r["index"] for r in out] == list(range(8))
    assert ["labels" in r for r in out] == [True, *[False] * 6, True]
    for place, answer in enumerate(out[1:7], 2):
        wanted = f"rows.jsonl: line {place}: text_a is blank: nothing is left without"
        assert answer["error"].startswith(wanted)
    for text in blank:
        typed = main("predict", model, "--text", text)
        assert typed.code == 1
        assert json.loads(typed.out)["error"] == "the text is empty."


def test_d28_another_order_of_labels_in_a_file_changes_no_figure(model, tmp_path):
    ordered = class_rows(12, ["差", "好"], seed=3)
    told = []
    for number, content in enumerate((ordered, ordered[::-1])):
        (tmp_path / f"{number}.json").write_text(json.dumps(content), "utf-8")
        output = tmp_path / f"figures{number}.json"
        done = main("evaluate", model, tmp_path / f"{number}.json", "-o", output)
        assert done.code == 0, done
        told.append(json.loads(output.read_bytes()))
    assert told[0]["metrics"] == pytest.approx(told[1]["metrics"])
    assert Classifier.load(model).labels == ("好", "差")


def test_d25_a_label_the_model_does_not_know_stops_an_evaluation(model, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows("好", "好 ")), "utf-8")
    done = main("evaluate", model, tmp_path / "rows.json")
    assert done.code == 2
    assert "rows.json: row 2 (line 1): label '好 ' is not in the model" in done.err


def test_d33_no_other_task_is_advised_where_the_task_is_the_models(model, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows(["好"], ["差", "好"])), "utf-8")
    done = main("evaluate", model, tmp_path / "rows.json")
    assert done.code == 2
    assert "the task binary needs single names as labels. Got lists of names in 2 rows" in done.err
    assert 'hint: write every label as a name, such as "1"' in done.err
    (tmp_path / "rows.json").write_text(json.dumps(rows(1, 0.5)), "utf-8")
    done = main("evaluate", model, tmp_path / "rows.json")
    assert "row 2 (line 1): the task binary needs names as labels. Got 0.5 instead." in done.err
    assert "give the task" not in done.err


def test_d38_a_figure_that_does_not_exist_is_null_with_a_reason(model, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows("好", "好", "好")), "utf-8")
    done = main("evaluate", model, tmp_path / "rows.json", "-o", tmp_path / "figures.json")
    assert done.code == 0, done
    figures = json.loads((tmp_path / "figures.json").read_bytes())
    missing = [name for name, value in figures["metrics"].items() if value is None]
    assert "auroc" in missing
    assert any("auroc" in note for note in figures["notes"]), figures["notes"]
    assert "auroc" in done.out


def test_d23_training_says_how_many_texts_are_cut_counted(encoder, tmp_path):
    long = [{**r, "text_a": r["text_a"] * 9} for r in multilabel_rows(6)]
    data = write_folder(tmp_path / "data", lambda n: [*long, *multilabel_rows(n)[6:]])
    done = main(
        *("train", data, "-o", tmp_path / "m", "--encoder", encoder("bert"), "--epochs", 1),
        *("--set", "training.max_steps=1", "--set", "report.linear_bar=false"),
        *("--set", "text.max_length=64"),
    )
    assert done.code == 0, done
    lengths = Classifier.load(tmp_path / "m").bundle.details["data"]["lengths"]
    assert lengths["over"] > 0
    assert f"{lengths['over']} rows (" in done.err
    assert f"over 64 tokens, which are cut; the middle row has {lengths['median']}" in done.err


def test_d23_texts_that_are_refused_are_counted_and_named_before_training(encoder, tmp_path):
    """text.long=error: exactly the rows over the length, in every split, by check and train."""
    where = {"train.jsonl": (3, 5), "dev.jsonl": (2,), "test.jsonl": (1,)}
    sets = {"train.jsonl": TRAIN, "dev.jsonl": DEV, "test.jsonl": TEST}
    for name, places in where.items():
        for place in places:
            long = {**sets[name][place - 1], "text_a": "路" * (40 + place)}
            sets[name] = [*sets[name][: place - 1], long, *sets[name][place:]]
    data = put(tmp_path / "data", sets)
    options = ("--encoder", encoder("bert"))
    said = ("4 rows (40.0 %) of over 32 tokens, which text.long=error refuses", "has 47.")
    seen = ("train.jsonl: line 5", "train.jsonl: line 3", "dev.jsonl: line 2")
    checked = main(
        *("check", data, *options, "--max-length", 32, "--long", "error"),
        *("--json", tmp_path / "found.json"),
    )
    trained = main(
        *("train", data, "-o", tmp_path / "m", *options),
        *("--set", "text.max_length=32", "--set", "text.long=error"),
    )
    assert (checked.code, trained.code) == (1, STOPPED), trained
    for done in (checked, trained):
        for part in (*said, *seen):
            assert part in done.said, (part, done)
    assert "row 0" not in trained.said
    assert not (tmp_path / "m").exists()
    (found,) = [
        f
        for f in json.loads((tmp_path / "found.json").read_bytes())["findings"]
        if f["code"] == "D23"
    ]
    assert [(e["file"], e["row"], e["detail"]) for e in found["examples"]] == [
        ("train.jsonl", "line 5", "47 tokens"),
        ("train.jsonl", "line 3", "45 tokens"),
        ("dev.jsonl", "line 2", "44 tokens"),
        ("test.jsonl", "line 1", "43 tokens"),
    ]
    # what reads all of a text cuts none; a room for all of them stops nothing
    for length, long in ((32, "windows"), (64, "error")):
        done = main("check", data, *options, "--max-length", length, "--long", long)
        assert done.code == 0, done
        assert "D23" not in done.said, done


@pytest.mark.parametrize("flag", ["--long", "--leak", "--conflict", "--normalise"])
def test_a_wrong_word_is_said_with_its_flag(flag, tmp_path):
    wrong = main("check", put(tmp_path / "data", jsonl()), flag, "eror")
    assert (wrong.code, f"{flag} must be one of" in wrong.err) == (2, True), wrong
    assert ("did you mean 'error'?" in wrong.err) == (flag != "--normalise"), wrong


# ---- what a run names to read on ---------------------------------------------------------------


def command_in(said: str) -> list[str]:
    """The words of the `bert-cls check` that a run's message ends with."""
    found = re.search(
        r"(?:to see them all|hint): bert-cls (check .*?)(?= note | \d+:\d\d |$)", said
    )
    assert found, said
    return shlex.split(found[1])


def test_the_check_that_a_run_names_finds_what_the_run_found(encoder, tmp_path):
    other = rows("丙", "丁", start=40)
    train = [*TRAIN, {**other[0], "index": 80}, {**DEV[0], "index": 90}]
    files: dict[str, Content | None] = {
        "train.json": json.dumps(train, ensure_ascii=False).encode("gb18030"),
        "dev.json": DEV,
        "names.json": ["乙", "甲"],
        "merges.json": json.dumps({"丙": "甲"}),
    }
    data = put(tmp_path / "some data", files)
    options = [
        *("--encoding", "gb18030", "--labels", data / "names.json", "--leak", "allow"),
        *("--merge-labels", data / "merges.json", "--task", "binary", "--coerce-numbers"),
        *("--set", "text.max_length=9", "--encoder", encoder("bert")),
    ]
    trained = main("train", data, "-o", tmp_path / "o", *options, "--set", "training.max_steps=1")
    assert trained.code == 0, trained
    command = command_in(trained.err)
    for flag in ("--coerce-numbers", "--max-length", "--merge-labels", "--encoding", "--labels"):
        assert flag in command
    assert main(*command).code == 0
    assert main("check", data).code == 1  # without the options other things are wrong
    bad = [*train, {"text_a": "", "label": "甲"}, {**other[1], "index": 81}]
    (data / "train.json").write_bytes(json.dumps(bad, ensure_ascii=False).encode("gb18030"))
    refused = main("train", data, "-o", tmp_path / "p", *options)
    again = main(*command_in(refused.err))
    assert (refused.code, again.code) == (2, 1)
    errors = re.search(r"\d+ errors,", refused.err)
    assert errors is not None
    assert errors[0] in again.out


def test_the_check_that_a_run_names_has_the_defaults_of_a_run(tmp_path):
    defaults = RunConfig().model_dump()
    command = typer.main.get_command(cli.app).commands["check"]
    flags = {max(p.opts, key=len): p for p in command.params}
    for key, flag in SHARED.items():
        section, field = key.split(".")
        assert flags[flag].default == defaults[section][field], flag
    assert {"--encoder", "--labels"} <= set(flags)
    named = check_command(Path("d"), RunConfig(), labels=("甲", "乙"), teacher=Path("t"))
    assert named == (
        "bert-cls check d --encoder t --labels FILE (a JSON list of the 2 label names given)"
    )
    (tmp_path / "labels.json").write_text('["甲", "乙"]', "utf-8")
    beside = check_command(tmp_path, RunConfig(), labels=("甲", "乙"))
    assert beside == f"bert-cls check {tmp_path}"
    others = check_command(tmp_path, RunConfig(), labels=("乙", "甲"))
    assert others == (
        f"bert-cls check {tmp_path} --labels FILE (a JSON list of the 2 label names given)"
    )


def test_the_check_that_a_run_names_counts_the_texts_of_the_run(encoder, tmp_path, monkeypatch):
    """Folded texts of another case, in a folder whose name looks like a flag."""
    monkeypatch.chdir(tmp_path)
    wide = [{**row, "text_a": f"{row['text_a']} ＡＢＣ㍿"} for row in TRAIN]
    put(tmp_path / "-d", {"train.json": wide, "dev.json": DEV})
    for lowercase in ("true", "false"):
        trained = main(
            *("train", "./-d", "-o", f"o-{lowercase}", "--encoder", encoder("bert")),
            *("--set", "text.normalise=nfkc", "--set", f"text.lowercase={lowercase}"),
            *("--set", "text.long=error", "--set", "text.max_length=9"),
        )
        command = command_in(trained.err)
        assert "./-d" in command
        assert ("--lowercase" if lowercase == "true" else "--no-lowercase") in command
        checked = main(*command)
        assert (trained.code, checked.code) == (2, 1), (trained, checked)
        for what in (r"the middle row has [^.]*", r"D41 unknown tokens: [\d.]+ %"):
            said = re.search(what, trained.err)
            assert said is not None, trained
            assert said[0] in checked.out
    plain = main("check", "./-d", "--encoder", encoder("bert"), "--max-length", 9)
    assert "D23" in plain.out
    assert re.search(r"the middle row has [^.]*", trained.err)[0] not in plain.out
    assert main("check", "./-d", "--normalise", "nfc").code == 2


def test_commands_in_hints_can_be_pasted():
    assert in_shell(Path("m")) == "m"
    assert in_shell(Path("-m")) == "./-m"
    assert in_shell(Path("my model")) == "'my model'"


def test_a_home_of_nobody_is_no_encoder(tmp_path):
    with pytest.raises(EncoderError, match="does not exist"):
        resolve("~no_such_user/encoder", cache=tmp_path)
