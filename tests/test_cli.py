"""The command line as a user runs it: real processes, real files."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bert_cls import cli
from bert_cls.commands.other_flags import with_commands
from bert_cls.export import export
from bert_cls.resumable import part_of
from doors import main
from exported import model_folder
from small import multilabel_rows, write_folder
from test_legacy import templates_of
from test_predict import send_at
from tiny import tiny_encoder

KILLS = int(os.environ.get("BERT_CLS_KILLS", "1"))  # more by `make test-kill`
COMMAND = Path(sys.executable).with_name("bert-cls")


def run(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), *map(str, arguments)], capture_output=True, text=True, input=stdin
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("cli")
    tiny_encoder("bert", root / "encoder")
    data = write_folder(root / "data", multilabel_rows)
    done = run(
        *("train", data, "-o", root / "model", "--encoder", root / "encoder", "--epochs", 2),
        *("--set", "training.batch_size=8", "--set", "report.resamples=50"),
    )
    assert done.returncode == 0, done.stderr
    export(root / "model", "openvino", lambda message: None)  # predicting imports no torch then
    return {"root": root, "data": data, "model": root / "model", "log": done.stderr}


def test_training_says_what_it_does_and_what_came_out(trained):
    for part in ("training: 48 rows", "epoch 1:", "tuning on dev", "linear bar", "micro_f1"):
        assert part in trained["log"], part
    assert "recipe:" in trained["log"]
    assert "micro_f1 against the linear bar: " in " ".join(trained["log"].split())
    written = json.loads((trained["model"] / "evaluation.json").read_text("utf-8"))
    for split, bar in written["linear_bar"].items():
        model = written["evaluations"][split]["metrics"]
        assert {lead["metric"] for lead in bar["lead"]} >= {"micro_f1", "macro_f1_present"}
        for lead in bar["lead"]:
            name = lead["metric"]
            assert lead["a"] == pytest.approx(model[name], abs=1e-12)
            assert lead["b"] == pytest.approx(bar["metrics"][name], abs=1e-12)


def test_a_second_run_into_the_folder_is_refused_with_a_way_out(trained):
    again = run("train", trained["data"], "-o", trained["model"])
    assert again.returncode == 2
    assert "not empty" in again.stderr
    assert "--overwrite" in again.stderr


def test_predict_reads_files_standard_input_and_texts(trained, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in multilabel_rows(5)), "utf-8"
    )
    to_file = run("predict", trained["model"], rows, "-o", tmp_path / "out.jsonl")
    assert to_file.returncode == 0, to_file.stderr
    written = (tmp_path / "out.jsonl").read_text("utf-8")
    piped = run("predict", trained["model"], "-", stdin=rows.read_text("utf-8"))
    assert piped.stdout == written
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    typed = run("predict", trained["model"], "--text", "天窗漏水", "--top", 1, "--threshold", 1)
    answer = json.loads(typed.stdout)
    assert answer["labels"] == []
    assert len(answer["scores"]) == 1


def test_a_pair_is_typed_with_its_second_text(encoder, tmp_path):
    pairs = model_folder(encoder("bert"), tmp_path / "pairs", pair=True)
    single = model_folder(encoder("bert"), tmp_path / "single")
    rows = [{"text_a": "尾灯很亮", "text_b": "灯"}, {"text_a": "天窗漏水", "text_b": "窗"}]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows), "utf-8")
    words = [w for r in rows for w in ("--text", r["text_a"], "--text-b", r["text_b"])]
    typed = main("predict", pairs, *words)
    assert (typed.code, typed.out) == (0, main("predict", pairs, file).out)
    assert main("explain", pairs, "尾灯很亮", "--text-b", "灯").code == 0
    for arguments in (
        ("predict", pairs, "--text", "尾灯"),
        ("predict", pairs, *words, "--text-b", "灯"),
        ("explain", pairs, "尾灯"),
    ):
        done = main(*arguments)
        assert done.code == 2
        assert "this model reads pairs of texts." in done.err
        assert "give --text-b" in done.err
    for arguments in (("predict", single, *words), ("explain", single, "灯", "--text-b", "")):
        done = main(*arguments)
        assert done.code == 2
        assert "--text-b is the second text of a pair. This model reads single texts." in done.err
    done = main("predict", pairs, file, "--text-b", "灯")
    assert done.code == 2
    assert "rows of a file have their own text_b" in done.err


def test_bad_rows_become_error_lines_and_the_exit_code_says_so(trained, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"index": 1, "text_a": "天窗"}\n{"index": 2}\nnot json\n', "utf-8")
    done = run("predict", trained["model"], rows)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in line for line in lines] == [False, True, True]
    assert "2 of them errors" in done.stderr


def test_an_interrupted_prediction_is_gone_on_with(trained, tmp_path):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in multilabel_rows(9000)]
    lines[5] = "not json"
    rows.write_text("\n".join(lines), "utf-8")
    cut = ["--threshold", "0.3"]
    whole = run("predict", trained["model"], rows, "-o", tmp_path / "whole.jsonl", *cut)
    assert "9000 rows, 1 of them errors" in whole.stderr
    command = [str(COMMAND), "predict", str(trained["model"]), str(rows), "-o", str(out), *cut]
    for kill in range(KILLS):
        flags = ["--resume"] if kill else []
        process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
        number = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[kill % 3]
        at = (tmp_path / "whole.jsonl").stat().st_size * (kill + 1) // (KILLS + 2)
        send_at(process, number, part_of(out), at)
        said = process.communicate()[1]
        assert "Traceback" not in said
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number, said
            assert "--resume goes on" in said
            assert f"\nstopped; the rows so far are in {part_of(out)}." in said
    refused = run(*command[1:])
    assert refused.returncode == 2
    assert "rows of an unfinished job" in refused.stderr
    other = run(*command[1:], "--resume", "--top", 2)
    assert other.returncode == 2
    assert "top none, and now it is top 2:" in other.stderr
    other = run(*command[1:], "--resume", "--threshold", 0)
    assert other.returncode == 2
    assert "threshold 0.3, and now it is threshold 0.0:" in other.stderr
    done = run(*command[1:], "--resume", "--min-labels", 0)  # as the model's own rule has it
    assert done.returncode == 1, done.stderr
    assert "going on after row" in done.stderr
    assert "9000 rows, 1 of them errors" in done.stderr
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not part_of(out).exists()


def test_a_pipe_is_written_to_and_a_folder_refused_before_anything_is_computed(trained, tmp_path):
    rows, pipe = tmp_path / "rows.jsonl", tmp_path / "pipe.jsonl"
    rows.write_text('{"text_a": "天窗"}', "utf-8")
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    done = run("predict", trained["model"], rows, "-o", pipe)
    assert done.returncode == 0, done.stderr
    assert json.loads(reader.communicate()[0])["index"] == 0
    assert pipe.is_fifo()
    refused = run("predict", trained["model"], rows, "-o", pipe, "--resume")
    assert (refused.returncode, "needs rows from a file" in refused.stderr) == (2, True)
    (tmp_path / "folder.jsonl").mkdir()
    refused = run("predict", trained["model"], rows, "-o", tmp_path / "folder.jsonl")
    assert refused.returncode == 2
    assert "folder.jsonl cannot be written: Is a directory." in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {rows.name, pipe.name, "folder.jsonl"}


def test_a_csv_is_defused_unless_asked_otherwise(trained, tmp_path):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.csv"
    rows.write_text('{"index": "=1+1", "text_a": "天窗"}', "utf-8")
    for flags, cell in ([], "'=1+1"), (["--plain-csv"], "=1+1"):
        assert run("predict", trained["model"], rows, "-o", out, *flags).returncode == 0
        assert out.read_text("utf-8-sig").splitlines()[1].startswith(cell + ",")
    refused = run("predict", trained["model"], rows, "-o", tmp_path / "o.jsonl", "--plain-csv")
    assert (refused.returncode, "needs an output in .csv" in refused.stderr) == (2, True)


def test_no_command_writes_over_what_it_reads(trained, tmp_path):
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(trained["data"], data)
    shutil.copytree(trained["model"], model)
    names = json.loads((model / "bert_cls.json").read_text("utf-8"))["labels"]
    (data / "labels.json").write_text(json.dumps(names), "utf-8")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    test = data / "test.json"
    for words in (
        ["check", data, "--json", data / "train.json"],
        ["check", data, "--json", data / "labels.json"],
        ["predict", model, test, "-o", test],
        ["predict", model, test, "-o", model / "bert_cls.json"],
        ["evaluate", model, test, "-o", test],
        ["evaluate", model, test, "--report", model / "MANIFEST.json"],
    ):
        refused = run(*words)
        assert refused.returncode == 2, (words, refused.stderr)
        assert "is read by this very command" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_audit_is_not_written_where_it_would_be_read_as_data(tmp_path):
    rows = [{"text_a": f"text {n}", "label": ["a" if n % 2 else "b"]} for n in range(8)]
    (tmp_path / "train.json").write_text(json.dumps(rows), "utf-8")
    for name in ("labels.json", "valid.json", "test.json"):
        refused = run("check", tmp_path, "--json", tmp_path / name)
        assert refused.returncode == 2, refused.stderr
        assert f"{name} would be read as a part of the data" in refused.stderr
    assert run("check", tmp_path, "--json", tmp_path / "audit.json").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"train.json", "audit.json"}


def test_a_link_in_a_circle_is_said(trained, tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    commands = (("check", trained["data"], "--fix"), ("export",))
    for command in commands:
        done = main(*command, tmp_path / "circle")
        assert done.code == 2
        assert f"{tmp_path / 'circle'} is a link that leads in a circle." in done.err


def test_what_a_killed_repair_left_is_removed(tmp_path):
    rows = [{"text_a": f"text {n}", "label": ["a" if n % 2 else "b"]} for n in range(8)]
    (tmp_path / "train.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "new" / ".tmp-bert-cls-0123").mkdir(parents=True)
    (tmp_path / "new" / ".tmp-bert-cls-0123" / "train.json").write_text("[")
    done = main("check", tmp_path, "--fix", tmp_path / "new" / "copy")
    assert done.code == 0, done
    assert "removed .tmp-bert-cls-0123, left by an interrupted write" in done.err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_folders_of_outputs_are_made_and_that_is_said(trained, tmp_path):
    other = model_folder(trained["root"] / "encoder", tmp_path / "other")
    again = shutil.copytree(other, tmp_path / "again")
    rows = tmp_path / "rows.json"
    content = [{"text_a": f"天窗{i}", "label": ["甲"]} for i in range(4)]
    rows.write_text(json.dumps(content), "utf-8")
    commands = [
        ("as JSON: {}.json", ("check", rows, "--json")),
        ("as JSON: {}.json", ("compare", other, again, rows, "--resamples", 100, "--json")),
        ("as JSON: {}.json", ("explain", other, "天窗", "--passes", 8, "--json")),
        ("as JSON: {}.json", ("evaluate", other, rows, "--resamples", 0, "-o")),
        ("report: {}.html", ("evaluate", other, rows, "--resamples", 0, "--report")),
        ("4 rows -> {}.jsonl", ("predict", other, rows, "-o")),
        ("4 rows -> {}.parquet", ("predict", other, rows, "-o")),
    ]
    for number, (said, command) in enumerate(commands):
        new = tmp_path / f"new{number}"
        wanted = said.split()[-1].format(new / "deep" / "out")
        done = main(*command, wanted)
        assert done.code == 0, done
        assert f"{said.format(new / 'deep' / 'out')} (new folder {new})" in done.said
        assert Path(wanted).is_file()
        again = main(*command, wanted)
        assert "new folder" not in again.said
        in_the_way = f"{trained['data'] / 'train.json'}/deep/out{Path(wanted).suffix}"
        done = main(*command, in_the_way)
        assert done.code == 2
        assert f"{in_the_way} cannot be made: {trained['data']}/train.json is a file." in done.err
        assert done.out == ""


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), OSError(errno.ENOMEM, "none")]
)
def test_a_lack_of_memory_gets_a_sentence_and_no_traceback(error, trained, tmp_path, monkeypatch):
    def short(*arguments, **options):
        raise error

    monkeypatch.setattr("bert_cls.data.audit.audit", short)
    monkeypatch.setattr("bert_cls.classifier.Classifier.load", short)
    for command in (("check", trained["data"]), ("explain", trained["model"], "天窗")):
        done = main(*command)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: out of memory. hint: free memory, or give less at once")


def test_a_full_device_is_named(tmp_path):
    rows = [{"text_a": f"text {n}", "label": ["a" if n % 2 else "b"]} for n in range(8)]
    (tmp_path / "train.json").write_text(json.dumps(rows), "utf-8")
    done = run("check", tmp_path, "--json", "/dev/full")
    assert done.returncode == 2
    assert "error: /dev/full: No space left on device." in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_standard_output_that_is_full_is_named(trained):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [str(COMMAND), "predict", str(trained["model"]), "--text", "天窗"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said == "error: standard output cannot be written: No space left on device."


@pytest.mark.parametrize("count", [1, 5000])
def test_a_reader_that_goes_away_is_no_error_of_the_rows(count, trained, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text_a": "天窗"}\n' * count, "utf-8")
    command = [str(COMMAND), "predict", str(trained["model"]), str(rows)]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 141, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("engine")] == []
    head = subprocess.Popen(["head", "-1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    done = subprocess.run(command, stdout=head.stdin)
    assert json.loads(head.communicate()[0])["index"] == 0
    assert done.returncode == (141 if count > 1 else 0)


@pytest.mark.parametrize("words", ["--help", "", "train --help", "encoders", "encoders list"])
def test_help_that_nobody_reads_ends_quietly(words):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as pipe:
        command = [str(COMMAND), *words.split()]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_audit_as_json_on_standard_output(trained, tmp_path):
    done = run("check", trained["data"], "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task"] == "multilabel"
    run("check", trained["data"], "--json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_bytes()) == json.loads(done.stdout)


def test_a_job_without_a_row_leaves_nothing_behind(trained, tmp_path):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text("", "utf-8")
    refused = run("predict", trained["model"], rows, "-o", out)
    assert (refused.returncode, "no rows" in refused.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    rows.write_text('{"text_a": "天窗"}', "utf-8")
    assert run("predict", trained["model"], rows, "-o", out).returncode == 0


def test_texts_that_were_cut_are_counted(trained, tmp_path):
    rows = tmp_path / "rows.jsonl"
    lines = [{"text_a": "天窗漏水" * times} for times in (1, 100, 200)]
    rows.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    for output in ("-", tmp_path / "out.jsonl"):
        done = run("predict", trained["model"], rows, "-o", output)
        assert done.returncode == 0
        assert "3 rows, 2 longer than 256 tokens and cut" in done.stderr


def test_prediction_by_int8_stops_for_signals_and_goes_on(trained, tmp_path):
    # its runtime has threads and signal stacks of its own
    model, rows, out = tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    model_folder(trained["root"] / "encoder", model)
    export(model, "openvino-int8", lambda message: None)
    lines = [json.dumps(row, ensure_ascii=False) for row in multilabel_rows(9000)]
    rows.write_text("\n".join(lines), "utf-8")
    command = ["predict", model, rows, "-o", out, "--engine", "openvino-int8"]
    for signalled, resume in ((signal.SIGTERM, []), (signal.SIGINT, ["--resume"])):
        before = part_of(out).stat().st_size if resume else 0
        process = subprocess.Popen(
            [str(COMMAND), *map(str, command), *resume], stderr=subprocess.PIPE, text=True
        )
        send_at(process, signalled, part_of(out), before + 100_000)
        said = process.communicate()[1]
        assert process.returncode == 128 + signalled, said
        assert "--resume goes on" in said
        assert "Traceback" not in said
    done = run(*command, "--resume")
    assert done.returncode == 0, done.stderr
    assert "going on after row" in done.stderr
    assert "openvino int8" in done.stderr
    answers = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [answer["index"] for answer in answers] == list(range(9000))


@pytest.mark.parametrize(
    "words", [["-", "-o", "x.jsonl"], ["rows.jsonl"], ["rows.jsonl", "-o", "x.parquet"]]
)
def test_what_cannot_be_resumed_is_refused_with_what_can(words, tmp_path):
    done = run("predict", "model", *words, "--resume")
    assert done.returncode == 2
    assert ".jsonl, .json or .csv" in done.stderr


def test_csv_and_parquet_come_out_and_formulas_are_defused(trained, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"index": "=cmd()", "text_a": "天窗"}\n', "utf-8")
    assert run("predict", trained["model"], rows, "-o", tmp_path / "o.csv").returncode == 0
    assert "'=cmd()" in (tmp_path / "o.csv").read_text("utf-8-sig")
    assert run("predict", trained["model"], rows, "-o", tmp_path / "o.parquet").returncode == 0
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "o.parquet").column_names[0] == "index"
    wrong = run("predict", trained["model"], rows, "-o", tmp_path / "o.xml")
    assert wrong.returncode == 2
    assert ".jsonl" in wrong.stderr


def test_evaluate_prints_and_writes_figures(trained, tmp_path):
    file = trained["data"] / "test.json"
    done = run("evaluate", trained["model"], file, "-o", tmp_path / "e.json", "--resamples", 20)
    assert done.returncode == 0, done.stderr
    assert "micro_f1" in done.stdout
    assert json.loads((tmp_path / "e.json").read_text("utf-8"))["rows"] == 16


def test_reports_are_written_with_texts_or_without(trained, tmp_path):
    written = (trained["model"] / "report.html").read_text("utf-8")
    assert "Content-Security-Policy" in written
    assert str(trained["model"] / "report.html") in trained["log"].replace("\n", "")
    assert "report.html" not in (trained["model"] / "MANIFEST.json").read_text("utf-8")
    file = trained["data"] / "test.json"
    texts = [row["text_a"] for row in json.loads(file.read_text("utf-8"))]
    for option, shown in (("--texts", True), ("--no-texts", False)):
        page, figures = tmp_path / f"{option}.html", tmp_path / f"{option}.json"
        done = run(
            *("evaluate", trained["model"], file, "--resamples", 20, option),
            *(["--explain"] if shown else []),
            *("--report", page, "-o", figures),
        )
        assert done.returncode == 0, done.stderr
        assert "linear bar" in done.stdout
        assert "micro_f1 against the linear bar: " in " ".join(done.stdout.split())
        for path in (page, figures):
            assert any(text in path.read_text("utf-8") for text in texts) == shown


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["train"], 2, "needs DATA"),
        (["train", "nowhere", "-o", "m"], 2, "nowhere"),
        (["train", "x", "-o", "m", "--set", "training.epoch=3"], 2, "training.epochs"),
        (["train", "x", "-o", "m", "--set", "training.epochs=0"], 2, "training.epochs"),
        (["train", "x", "-o", "m", "--preset", "fasst"], 2, "fast"),
        (["train", "--resume", "nowhere"], 3, "no run"),
        (["train", "x", "--resume", "m"], 2, "the run in m; DATA cannot apply"),
        (["predict", "nowhere", "--text", "a"], 3, "no model folder"),
        (["predict", "nowhere"], 2, "FILE or --text"),
        (["evaluate", "nowhere", "x.json"], 3, "no model folder"),
        (["encoders", "trim", "nowhere/at/all", "-o", "x"], 2, "--script"),
        (["encoders", "trim", "./nowhere", "-o", "x", "--layers", "0"], 3, "does not exist"),
    ],
)
def test_mistakes_get_a_sentence_and_no_traceback(arguments, code, part, tmp_path):
    done = subprocess.run([str(COMMAND), *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_a_launcher_s_variables_are_numbers_or_nothing(tmp_path):
    for value, wanted in (("two", "WORLD_SIZE in the environment must be"), ("", "nowhere")):
        words = [str(COMMAND), "train", "nowhere", "-o", "m"]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "WORLD_SIZE": value},
        )
        assert done.returncode == 2
        assert wanted in done.stderr
        assert "Traceback" not in done.stderr


BESIDE = {
    "--output": "o",
    "--encoder": "e",
    "--preset": "balanced",  # the default, but it was said
    "--task": "binary",
    "--labels": "l.json",
    "--epochs": 99,
    "--learning-rate": 9,
    "--batch-size": 3,
    "--loss": "bce",
    "--leak": "drop",
    "--conflict": "drop",
    "--on-bad-row": "quarantine",
    "--encoding": "utf-8",
    "--coerce-numbers": None,
    "--fix-unicode": None,
    "--merge-labels": "m.json",
    "--seed": 7,
    "--config": "/nonexistent.toml",
    "--set": "training.learning_rate=9",
    "--init-from": "/nope",
    "--rename-labels": "r.json",
    "--overwrite": None,
}


def test_what_cannot_apply_beside_resume_is_refused_by_name():
    words = [word for flag, value in BESIDE.items() for word in (flag, value) if word is not None]
    done = run("train", "--resume", "m", *words)
    assert done.returncode == 2
    assert f"{', '.join(BESIDE)} cannot apply" in " ".join(done.stderr.split())
    offered = set(re.findall(r"--[a-z-]+", run("train", "--help").stdout))
    assert offered - {"--help", "--resume", "--no-overwrite"} == set(BESIDE)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from bert_cls import cli\n"
        "heavy = {'numpy', 'torch', 'transformers', 'sklearn', 'pydantic', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    for command in ("train", "evaluate", "predict", "settings", "encoders"):
        assert command in run("--help").stdout


def test_predicting_rooms_import_without_torch():
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'sklearn'): sys.modules[name] = None\n"
        "import bert_cls.classifier, bert_cls.outputs, bert_cls.terminal\n"
        "from bert_cls import Classifier, Example, Prediction"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_trim_reports_what_it_did(trained, tmp_path):
    done = run(
        *("encoders", "trim", trained["root"] / "encoder", "-o", tmp_path / "small"),
        *("--texts", trained["data"] / "train.json", "--layers", "0"),
    )
    assert done.returncode == 0, done.stderr
    for word in ("pieces", "parameters", "layers", "unknown"):
        assert word in done.stdout
    assert (tmp_path / "small" / "model.safetensors").is_file()


def test_settings_lists_every_loss_with_its_options_and_source():
    from bert_cls.losses import LOSSES

    lines = run("settings", "--losses").stdout.splitlines()
    for name, loss in LOSSES.items():
        at = next(n for n, line in enumerate(lines) if line.startswith(f"{name}: "))
        assert lines[at + 1].strip()
        for number, option in enumerate(loss.options, at + 2):
            assert lines[number].strip().startswith(f"{option} = ")


def test_settings_lists_every_field_with_a_sentence():
    lines = run("settings").stdout.splitlines()
    assert sum("training.learning_rate" in line for line in lines) == 1
    assert all(line.strip() for line in lines)


READERS = ("cells", "csv_rows", "encoding", "exports", "json_array", "json_text", "jsonl", "labels")
READERS += ("parquet_rows", "raw", "read", "rows", "source", "tables", "xlsx_rows")


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_flags_in_the_readers_messages_are_the_command_s_own_or_of_a_command(command):
    own = cli.flags_of([command])
    folder = Path(cli.__file__).parent / "data"
    texts = [t for name in READERS for t in templates_of(folder / f"{name}.py") if " " in t]
    flag = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
    named = [text for text in texts if flag.search(text)]
    assert len(named) > 5
    for text in (with_commands(text, lambda: own) for text in named):
        for found in flag.finditer(text):
            if found[0] not in own:
                before = text[: found.start()]
                assert re.search(
                    r"bert-cls check FILE --fix FOLDER $|bert-cls check FILE $", before
                )


def test_what_a_command_cannot_repair_is_said_as_the_command_that_can(encoder, tmp_path):
    model = model_folder(encoder("bert"), tmp_path / "model")
    other = shutil.copytree(model, tmp_path / "other")
    rows = [{"index": n, "text_a": text, "label": ["甲"]} for n, text in enumerate((7, "灯\ud800"))]
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(rows), "utf-8")
    for words in (("evaluate", model, file), ("compare", model, other, file)):
        said = main(*words).err
        for flag in ("--coerce-numbers", "--fix-unicode"):
            assert f"hint: bert-cls check FILE --fix FOLDER {flag} " in said
    assert "hint: bert-cls check FILE" in main("explain", model, "--file", file).err
    trained = main("train", file, "-o", tmp_path / "new").err
    assert ": --coerce-numbers reads it as text" in trained
    copied = main("check", file, "--fix", tmp_path / "f", "--coerce-numbers", "--fix-unicode")
    assert (tmp_path / "f" / "bad.json").is_file(), copied
    assert main("explain", model, "--file", tmp_path / "f" / "bad.json").code == 0
