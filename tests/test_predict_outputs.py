"""Where predictions go: pipes, links, what a job keeps beside them, and flags that do nothing."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest

from bert_cls.errors import ConfigError
from bert_cls.folders import followed
from bert_cls.outputs import write_predictions
from bert_cls.resumable import begin, part_of, state_of, write
from doors import main
from exported import model_folder

ANSWERS = [{"index": i, "labels": ["甲"], "scores": {"甲": 0.5}} for i in range(3)]
TASKS = ("multilabel", "binary", "multiclass", "regression")


@pytest.fixture(scope="module")
def models(encoder, tmp_path_factory) -> dict[str, Path]:
    """A model of every task."""
    root = tmp_path_factory.mktemp("models")
    return {task: model_folder(encoder("bert"), root / task, task=task) for task in TASKS}


@pytest.fixture
def rows(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text_a": f"天窗{i}"}) for i in range(5)]
    path.write_text("\n".join(lines), "utf-8")
    return path


def received(pipe: Path, work) -> bytes:
    """What a pipe, or a link to one, was given while `work` ran."""
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    work()
    reader.join()
    return got[0]


# --- pipes and links


def test_parquet_goes_through_a_pipe(tmp_path):
    import pyarrow.parquet as pq

    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    content = received(pipe, lambda: write_predictions(ANSWERS, str(pipe)))
    assert pq.read_table(io.BytesIO(content)).column("index").to_pylist() == ["0", "1", "2"]
    write_predictions(ANSWERS, str(tmp_path / "file.parquet"))
    assert (tmp_path / "file.parquet").read_bytes() == content


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_link_to_a_pipe_is_written_through(suffix, models, rows, tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / f"link{suffix}"
    os.mkfifo(pipe)
    link.symlink_to("pipe")
    done = []
    command = ("predict", models["binary"], rows, "-o")
    content = received(pipe, lambda: done.append(main(*command, link)))
    assert done[0].code == 0, done
    assert main(*command, tmp_path / f"file{suffix}").code == 0
    assert content == (tmp_path / f"file{suffix}").read_bytes()
    assert link.is_symlink()
    assert pipe.is_fifo()
    refused = main(*command, link, "--resume")
    assert (refused.code, "needs rows from a file" in refused.err) == (2, True)


@pytest.mark.parametrize("name", ["real.jsonl", "real.txt", "absent.jsonl"])
def test_a_link_to_a_file_keeps_its_place(name, models, rows, tmp_path):
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / name, tmp_path / "link.jsonl"
    if name != "absent.jsonl":
        real.write_text("of before")
    (tmp_path / "second").symlink_to(Path("far") / name)
    link.symlink_to("second")
    done = main("predict", models["binary"], rows, "-o", link)
    assert done.code == 0, done
    assert len(real.read_bytes().splitlines()) == 5
    assert link.is_symlink()
    assert not real.is_symlink()
    assert {path.name for path in real.parent.iterdir()} == {name}


def test_an_interrupted_job_behind_a_link_is_gone_on_with_beside_the_file(tmp_path):
    real, link = tmp_path / "far" / "real.txt", tmp_path / "link.jsonl"
    real.parent.mkdir()
    link.symlink_to(real)

    def some():
        yield ANSWERS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), begin(link, {}, resume=None) as begun:
        write(some(), begun)
    assert part_of(link) == real.with_name("real.txt.jsonl.part")  # a .csv has another one
    assert part_of(link).exists()
    with begin(link, {}, resume=True) as begun:
        assert begun.rows == 1
        write(iter(ANSWERS[1:]), begun)
    assert [json.loads(line) for line in real.read_bytes().splitlines()] == ANSWERS
    assert link.is_symlink()
    assert {path.name for path in real.parent.iterdir()} == {"real.txt"}


def test_other_commands_keep_links_too(models, tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("of before")
    link.symlink_to(real)
    why = ("explain", models["multilabel"], "天窗", "--passes", "8", "--json")
    assert main(*why, link).code == 0
    assert link.is_symlink()
    assert json.loads(real.read_bytes())
    pipe, to_pipe = tmp_path / "pipe", tmp_path / "to-pipe"
    os.mkfifo(pipe)
    to_pipe.symlink_to(pipe)
    assert json.loads(received(pipe, lambda: main(*why, to_pipe))) == json.loads(real.read_bytes())
    assert to_pipe.is_symlink()


def test_links_in_a_circle_are_refused(models, rows, tmp_path):
    (tmp_path / "a.jsonl").symlink_to("b.jsonl")
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    done = main("predict", models["binary"], rows, "-o", tmp_path / "a.jsonl")
    assert done.code == 2
    assert "a.jsonl is a link that leads in a circle." in done.err


def test_links_of_the_system_stay_what_they_are(tmp_path):
    link = tmp_path / "out.jsonl"
    link.symlink_to("/dev/stdout")
    assert followed(link) == Path("/dev/stdout")
    for name in ("/dev/stdout", "/dev/fd/1"):
        assert followed(Path(name)) == Path(name)


# --- what a job keeps beside its output


@pytest.mark.parametrize("resume", [True, False, None])
@pytest.mark.parametrize("which", [part_of, state_of])
@pytest.mark.parametrize("kind", ["a folder", "a pipe or a device"])
def test_what_has_the_name_of_a_job_s_own_file_is_said(kind, which, resume, tmp_path):
    output = tmp_path / "out.jsonl"
    in_the_way = which(output)
    in_the_way.mkdir() if kind == "a folder" else os.mkfifo(in_the_way)
    with pytest.raises(ConfigError) as refused, begin(output, {}, resume=resume) as begun:
        write(iter(ANSWERS), begun)
    assert f"{in_the_way} is {kind}." in str(refused.value)
    assert "give another output" in str(refused.value)
    assert list(tmp_path.iterdir()) == [in_the_way]


def stop_when_named(output, monkeypatch):
    """Ctrl-C comes just after the rows got the output's name."""
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        done = rename(self, target)
        if self == part_of(output):
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Path, "rename", renamed)


def test_a_job_stopped_as_it_gets_its_name_leaves_no_description(tmp_path, monkeypatch):
    output = tmp_path / "out.jsonl"
    stop_when_named(output, monkeypatch)
    with pytest.raises(KeyboardInterrupt), begin(output, {}, resume=None) as begun:
        write(iter(ANSWERS), begun)
    assert list(tmp_path.iterdir()) == [output]
    assert len(output.read_bytes().splitlines()) == 3


def test_what_a_command_was_doing_when_it_was_stopped_is_said(models, rows, tmp_path, monkeypatch):
    output = tmp_path / "out.jsonl"
    stop_when_named(output, monkeypatch)
    done = main("predict", models["binary"], rows, "-o", output)
    assert done.code == 130
    assert f"stopped; {output} was complete already." in done.err


# --- flags that could do nothing


@pytest.mark.parametrize(
    ("task", "flags", "said"),
    [
        ("regression", "--top 2", "--top is about labels"),
        ("regression", "--out-of-domain", "--out-of-domain is about labels"),
        ("regression", "--min-labels 0", "--min-labels is for models of label sets"),
        ("binary", "--min-labels 0", "--min-labels is for models of label sets"),
        ("multiclass", "--max-labels 2", "--max-labels is for models of label sets"),
        ("regression", "--min-confidence 0.5", "not for regression"),
        ("multiclass", "--threshold 0.5", "--threshold is for multilabel and binary"),
    ],
)
def test_predict_refuses_what_could_do_nothing(task, flags, said, models, rows, tmp_path):
    output = tmp_path / "new" / "out.jsonl"
    done = main("predict", models[task], rows, *flags.split(), "-o", output)
    assert done.code == 2, done
    assert said in done.err
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("predict {multilabel} --text 天窗 --encoding utf-8", "--encoding is that of a file"),
        ("predict {multilabel} rows.parquet --encoding utf-8", "a .parquet file says itself how"),
        ("explain {multilabel} 天窗 --encoding utf-8", "--encoding is that of a file"),
        ("explain {multilabel} --file rows.xlsx --encoding gb18030", "a .xlsx file says itself"),
        ("explain {multilabel} 天窗 --numbers --json -", "--numbers is a table for people"),
        ("evaluate {multilabel} rows.parquet --encoding utf-8", "a .parquet file says itself"),
        ("evaluate {multilabel} rows.json --no-texts", "--no-texts is about page and JSON"),
        ("evaluate {multilabel} rows.json --texts", "--texts is about page and JSON"),
        ("compare {regression} {again} numbers.json --labels 3", "These models give numbers."),
        ("compare {regression} {again} rows.parquet --encoding utf-8", "a .parquet file says"),
    ],
)
def test_other_commands_refuse_what_could_do_nothing(
    arguments, said, models, encoder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if "{again}" in arguments:
        model_folder(encoder("bert"), tmp_path / "again", task="regression")
    numbers = [{"text_a": f"天窗{i}", "label": i / 2} for i in range(4)]
    Path("numbers.json").write_text(json.dumps(numbers), "utf-8")
    words = arguments.format(again="again", **models).split()
    done = main(*words)
    assert done.code == 2, done
    assert said in done.err


# --- standard input of every sort

ROW = '{"text_a": "天窗"}'


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (b"", 2, "stdin: no rows."),
        (b"\n \r\n", 2, "stdin: no rows."),
        (b"\xef\xbb\xbf", 2, "stdin: no rows."),
        (ROW.encode(), 0, "rows without an index are numbered from 0."),
        (f"{ROW}\r\n{ROW}\r\n".encode(), 0, "numbered from 0."),
        (f"{ROW}\n".encode("utf-8-sig"), 0, "note stdin: BOM: the byte order mark"),
        (f"{ROW}\n".encode("utf-16"), 0, "note stdin: read as utf-16."),
        (f"[{ROW}, {ROW}]".encode(), 0, "note stdin: read as one JSON list, which it holds."),
        (f"{ROW}\n".replace("天窗", "请问明天几点开门，我们的车").encode("gb18030"), 0, "gb18030"),
        (f"{ROW}\n{ROW}\n".encode() + b'{"text_a": "\xff"}\n', 1, "of them errors"),
        (b'{"text_a": "a\0b"}\n', 1, "1 of them errors"),
        (b'{"text_a": "' + "天窗".encode() * 850_000 + b'"}\n', 0, "1 longer than"),
        (b"\x1f\x8b\x08\x00\x00", 2, "hint: unpack it: zcat FILE"),
        (b"PAR1\x15\x04\x15\xff", 2, "the file is Parquet. hint: standard input is read as JSON"),
        (b"PK\x03\x04\x14\xff", 2, "zip archive, as Excel's are. hint: standard input is read"),
        ("text_a,label\n天窗,甲\n".encode(), 2, "names columns (text_a, label), as in CSV."),
        ("index\ttext_a\r\n1\t天窗".encode("utf-8-sig"), 2, "names columns (index, text_a)"),
    ],
    ids=range(17),
)
def test_standard_input_is_read_or_said_to_be_wrong(given, code, said, models):
    done = main("predict", models["binary"], "-", stdin=given)
    assert done.code == code, done
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_closed_standard_input_is_said(models, monkeypatch):
    from bert_cls.data import stream
    from bert_cls.errors import DataError

    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        next(stream("-"))


def test_repairs_and_what_was_ignored_are_said_once_for_all_rows(models, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(f"{ROW}\n" * 3 + '{"text_a": "天", "page": 1}', "utf-8-sig")
    for output in ("-", tmp_path / "out.jsonl"):
        done = main("predict", models["binary"], rows, "-o", output)
        assert done.code == 0
        assert done.err.count("note rows.jsonl") == 3
        assert "ignored: the keys 'page'" in done.err
        assert len(done.out.split('{"index"')) == (5 if output == "-" else 1)
