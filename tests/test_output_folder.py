"""The output folder of a run: nothing of others is lost, and only the same run goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bert_cls import bundle
from bert_cls.bundle import load
from bert_cls.config import resolve_config
from bert_cls.errors import BundleError, ConfigError, Interrupted, TrainingError
from bert_cls.folders import MANIFEST, write_manifest
from bert_cls.locks import Lock
from bert_cls.memory import is_shortage
from bert_cls.request import _write, read_run
from bert_cls.training import Request, Silent, resumed, train
from bert_cls.training.checkpoint import checkpoints
from bert_cls.training.claim import WRITTEN
from small import multilabel_rows, write_folder
from tiny import tiny_encoder

FAST = {
    "training.epochs": 1,
    "training.batch_size": 8,
    "training.learning_rate": 1e-3,
    "training.precision": "float32",
    "training.save_steps": 2,
    "training.keep_checkpoints": 3,
    "training.log_steps": 1,
    "report.linear_bar": False,
    "report.resamples": 0,
}
STEPS = 6  # 44 rows
MERGES = {"尾灯": "天窗"}


@pytest.fixture
def request_of(tmp_path):
    """Makes requests of one data set and one encoder, which a test may change."""
    write_folder(tmp_path / "data", multilabel_rows, sizes=(44, 16, 16))
    tiny_encoder("bert", tmp_path / "encoder")

    def make(name: str = "m", **settings) -> Request:
        flags = {"encoder.name": str(tmp_path / "encoder"), **FAST, **settings}
        config, origins = resolve_config(flags=flags)
        return Request(tmp_path / "data", tmp_path / name, config, origins)

    return make


class Notes(Silent):
    """Keeps what is said, and can stop at a step as an operator would."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop, self.notes = stop, []

    def stepped(self, progress, **_):
        if progress.step == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)

    def noticed(self, message):
        self.notes.append(message)


def stopped(request: Request, step: int = 4) -> Path:
    with pytest.raises(Interrupted):
        train(request, Notes(step))
    return request.output


def go_on(output: Path) -> list[str]:
    notes = Notes()
    train(resumed(output), notes, resume=True)
    return notes.notes


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# --- what is not ours


def of_a_trainer(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "pytorch_model.bin").write_bytes(b"weeks of work")
    (place / "trainer_state.json").write_text('{"global_step": 500}')


STRANGE = {
    "checkpoint-500": lambda folder: of_a_trainer(folder / "checkpoint-500"),
    "checkpoint-2": lambda folder: (folder / "checkpoint-2").write_text("a file"),
    "checkpoint-7": lambda folder: (folder / "checkpoint-7").symlink_to(folder.parent),
    "model.safetensors": lambda folder: (folder / "model.safetensors").write_bytes(b"another's"),
    "MANIFEST.json": lambda folder: (folder / MANIFEST).write_text('{"files": ["of a web page"]}'),
}


@pytest.mark.parametrize("name", STRANGE)
def test_overwriting_refuses_what_others_wrote_and_removes_nothing(request_of, name):
    request = request_of()
    request.output.mkdir()
    STRANGE[name](request.output)
    before = content(request.output)
    with pytest.raises(ConfigError, match=f"{name}, which is not recognisably of a run") as caught:
        train(request, Silent(), overwrite=True)
    assert "move it away" in str(caught.value)
    assert content(request.output) == before


@pytest.mark.parametrize("name", ["checkpoint-500", "checkpoint-2"])
def test_going_on_refuses_what_others_wrote_and_removes_nothing(request_of, name):
    output = stopped(request_of(), 1 if name == "checkpoint-2" else 4)
    STRANGE[name](output)
    before = content(output)
    with pytest.raises(ConfigError, match=f"{name}, which is not recognisably of a run"):
        go_on(output)
    assert content(output) == before


def test_what_bears_no_name_of_ours_is_no_hindrance(request_of):
    request = request_of()
    of_a_trainer(request.output / "checkpoint-best")
    (request.output / "notes.txt").write_text("mine")
    train(request, Silent(), overwrite=True)
    train(request, Silent(), overwrite=True)
    assert (request.output / "checkpoint-best/pytorch_model.bin").exists()
    assert (request.output / "notes.txt").read_text() == "mine"


def test_the_names_that_a_run_writes_are_all_known(request_of):
    request = request_of(**{"data.on_bad_row": "quarantine", "export.calibration_rows": 8})
    rows = json.loads((request.data / "train.json").read_text("utf-8"))
    rows[0]["text_a"] = ""
    (request.data / "train.json").write_text(json.dumps(rows), "utf-8")
    train(request, Silent())
    written = {path.name for path in request.output.iterdir() if path.is_file()}
    assert written <= WRITTEN
    assert {"quarantine.jsonl", "calibration.safetensors"} <= written


@pytest.mark.parametrize("name", [MANIFEST, "progress.json", "model.safetensors"])
def test_a_damaged_checkpoint_of_ours_is_still_ours(request_of, name):
    output = stopped(request_of())
    (output / "checkpoint-4" / name).write_bytes(b"\0")
    notes = go_on(output)
    assert "removed checkpoint-4; its steps are done again" in notes
    (checkpoints(output)[-1] / name).write_bytes(b"\0")
    train(request_of(**{"training.seed": 3}), Silent(), overwrite=True)
    assert [folder.name for folder in checkpoints(output)] == [f"checkpoint-{n}" for n in (2, 4, 6)]


# --- one run at a time

NO_FLOCK = pytest.mark.skipif(sys.platform == "win32", reason="no flock")


@NO_FLOCK
@pytest.mark.parametrize("way", ["train", "overwrite", "resume"])
def test_a_second_run_is_kept_out_and_changes_nothing(request_of, way):
    request = request_of()
    output = stopped(request)
    (output / ".tmp-bert-cls-0123").mkdir()
    (output / ".tmp-bert-cls-0123" / "model.safetensors").write_bytes(b"half a checkpoint")
    before = content(output)
    with Lock(output) as other:
        other.take()
        with pytest.raises(ConfigError, match="another run is writing to"):
            train(request, Silent(), resume=way == "resume", overwrite=way == "overwrite")
        assert content(output) == before
    assert "removed .tmp-bert-cls-0123, left by an interrupted write" in go_on(output)


OTHER = """
import sys, time
from pathlib import Path
from bert_cls.locks import Lock
lock = Lock(Path(sys.argv[1]))
lock.take()
print("taken", flush=True)
sys.stdin.read()
"""


@NO_FLOCK
def test_a_run_that_was_killed_keeps_nobody_out(request_of):
    output = stopped(request_of())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", OTHER, str(output)], **pipes) as other:
        assert other.stdout.readline() == b"taken\n"
        with pytest.raises(ConfigError, match="another run is writing to"):
            go_on(output)
        other.kill()
    assert "going on from checkpoint-4" in go_on(output)


def test_of_two_runs_that_begin_in_a_new_folder_one_is_kept_out(request_of):
    request = request_of()
    inner = []

    class Second(Silent):
        def phase(self, message):
            if message == "tokenising" and not inner:
                inner.append(1)
                train(request, Silent())

    with pytest.raises(ConfigError, match="is not empty"):
        train(request, Second())
    assert load(request.output)


def test_a_refused_run_leaves_even_half_written_files(request_of):
    request = request_of()
    request.output.mkdir()
    (request.output / ".tmp-bert-cls-0123").write_bytes(b"half")
    (request.output / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        train(request, Silent())
    assert (request.output / ".tmp-bert-cls-0123").exists()
    (request.output / "notes.txt").unlink()
    notes = Notes()
    train(request, notes)  # what was left by a kill is no reason to refuse
    assert any("removed .tmp-bert-cls-0123" in note for note in notes.notes)


@pytest.mark.parametrize("to", ["nowhere", "m"])
def test_a_link_that_leads_nowhere_is_said_before_anything_is_read(request_of, to):
    request = request_of()
    request.output.symlink_to(request.output.with_name(to))
    (request.data / "train.json").unlink()
    with pytest.raises(ConfigError, match="m is a link that leads nowhere"):
        train(request, Silent())
    assert request.output.readlink().name == to


def test_a_link_to_the_folder_is_as_the_folder(request_of, tmp_path):
    request = request_of()
    (tmp_path / "disk").mkdir()
    request.output.symlink_to(tmp_path / "disk")
    stopped(request)
    assert "going on from checkpoint-4" in go_on(request.output)
    train(request, Silent(), overwrite=True)
    assert request.output.is_symlink()
    assert load(tmp_path / "disk")


def test_refused_data_make_no_folder(request_of):
    request = request_of()
    (request.data / "train.json").write_text("[]", "utf-8")
    with pytest.raises(Exception, match=r"train\.json"):
        train(request, Silent())
    assert not request.output.exists()


# --- only the same run goes on


@pytest.mark.parametrize("way", ["another seed", "another order of labels"])
def test_the_checkpoint_of_another_run_is_refused_and_kept(request_of, way):
    if way == "another seed":
        theirs = request_of("theirs", **{"training.seed": 5})
    else:
        theirs = replace(request_of("theirs"), labels=("轮胎", "天窗", "尾灯"))
    stopped(theirs)
    output = stopped(request_of(), 2)
    shutil.copytree(theirs.output / "checkpoint-4", output / "checkpoint-4")
    before = content(output)
    with pytest.raises(ConfigError, match="checkpoint-4 is a checkpoint of another run"):
        go_on(output)
    assert content(output) == before
    shutil.rmtree(output / "checkpoint-4")
    assert "going on from checkpoint-2" in go_on(output)


def test_a_run_that_was_moved_is_the_same(request_of, tmp_path):
    output = stopped(request_of())
    output.rename(tmp_path / "moved")
    assert "going on from checkpoint-4" in go_on(tmp_path / "moved")


@pytest.mark.parametrize(
    "name",
    ["merges.json", "tokenizer.json", "config.json", "model.safetensors", "tokenizer_config.json"],
)
def test_going_on_with_another_input_is_refused(request_of, tmp_path, name):
    (tmp_path / "merges.json").write_text(json.dumps(MERGES), "utf-8")
    tokenizer_config = tmp_path / "encoder" / "tokenizer_config.json"
    tokenizer_config.write_text('{"model_max_length": 512}')
    output = stopped(request_of(**{"data.merge_labels": tmp_path / "merges.json"}))
    path = tmp_path / name if name == "merges.json" else tmp_path / "encoder" / name
    if name == "merges.json":
        path.write_text("{}")
    elif name == "model.safetensors":
        bytes_ = bytearray(path.read_bytes())
        bytes_[-1] ^= 1
        path.write_bytes(bytes_)
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    before = content(output)
    with pytest.raises(ConfigError, match=rf"{name}.* changed since the run was started"):
        go_on(output)
    assert content(output) == before


def of_another_version(content: dict, what: str) -> None:
    config = content["config"]
    if what == "renames":
        del content["renames"]
    elif what == "text.max_length":
        del config["text"]["max_length"]
    elif what == "training.precision":
        config["training"]["precision"] = "float8"
    else:
        section, _, name = what.partition(".")
        config.setdefault(section, {})[name] = 1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("training.warmth", "is not known here"),
        ("brew.strength", "is not known here"),
        ("text.max_length", "is not in it"),
        ("renames", "is not in it"),
        ("training.precision", ": Input should be"),
    ],
)
def test_a_run_of_another_version_says_what_differs(request_of, what, said):
    output = stopped(request_of())
    run = read_run(output)
    of_another_version(run, what)
    _write(output, run)
    with pytest.raises(BundleError, match=rf"another version.*\(run\.json: {what}") as caught:
        go_on(output)
    assert said in str(caught.value)
    assert "train anew with --overwrite" in str(caught.value)
    del run["files"]
    _write(output, run)
    train(request_of(), Silent(), overwrite=True)
    assert load(output)


# --- the end


class Killed(BaseException):
    """As a kill -9 would, this passes all that catches errors."""


def test_a_model_is_there_only_with_its_report(request_of, monkeypatch):
    def killed(folder, names=None):
        write_manifest(folder, names)
        raise Killed

    monkeypatch.setattr(bundle, "write_manifest", killed)
    request = request_of()
    with pytest.raises(Killed):
        train(request, Silent())
    assert load(request.output)
    assert (request.output / "report.html").is_file()


def test_the_disk_is_looked_at_before_going_on(request_of, monkeypatch):
    output = stopped(request_of())
    one = sum(p.stat().st_size for p in (output / "checkpoint-4").iterdir())

    def free(amount: int) -> None:
        usage = shutil._ntuple_diskusage(10**9, 10**9, amount)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    before = content(output)
    free(one)  # two are still to be written, and the model
    with pytest.raises(TrainingError, match="Checkpoints and model need"):
        go_on(output)
    assert content(output) == before
    free(int(2.4 * one))
    go_on(output)
    assert load(output)


def test_a_run_at_its_end_needs_room_for_the_model_only(request_of, monkeypatch):
    class AtTuning(Silent):
        def phase(self, message):
            if message == "tuning on dev":
                os.kill(os.getpid(), signal.SIGTERM)

    output = request_of().output
    with pytest.raises(Interrupted):
        train(request_of(), AtTuning())
    weights = (output / f"checkpoint-{STEPS}" / "model.safetensors").stat().st_size
    usage = shutil._ntuple_diskusage(10**9, 10**9, weights)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    go_on(output)
    assert load(output)


# --- memory runs out

SHORTAGES = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("could not create a primitive"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


def test_what_a_processor_cannot_do_is_no_lack_of_memory():
    assert not is_shortage(RuntimeError("could not create a primitive descriptor for a matmul"))


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["checkpoint", "model"])
def test_a_run_that_is_short_of_memory_says_so_and_goes_on(request_of, monkeypatch, error, where):
    def short(*arguments):
        raise error

    class AtTheSecond(Silent):
        def stepped(self, progress, **_):
            if progress.step == 4:
                patch.setattr("bert_cls.training.checkpoint.save_file", short)

    request = request_of()
    with monkeypatch.context() as patch:
        if where == "model":
            patch.setattr("bert_cls.training.finish.model_files", short)
        with pytest.raises(TrainingError, match="out of memory ") as caught:
            train(request, AtTheSecond() if where == "checkpoint" else Silent())
    assert "--resume" in str(caught.value)
    name = f"{request.output}/checkpoint-4 was written" if where == "checkpoint" else "last step"
    assert name in caught.value.message
    assert [path for path in request.output.iterdir() if path.name.startswith(".tmp")] == []
    newest = 2 if where == "checkpoint" else STEPS
    assert f"going on from checkpoint-{newest}" in go_on(request.output)
    assert load(request.output)


# --- the folder is taken away


class Moving(Notes):
    """Moves or removes the folder at a step, or when something is done after the last one."""

    def __init__(self, output: Path, at: int | str, stop: int | None = None) -> None:
        super().__init__(stop)
        self.output, self.at = output, at

    def take_away(self, at: int | str) -> None:
        if at == self.at:
            self.output.rename(self.output.with_name("elsewhere"))

    def stepped(self, progress, **more):
        self.take_away(progress.step)
        super().stepped(progress, **more)

    def phase(self, message):
        self.take_away(message)


@pytest.mark.parametrize(("at", "stop"), [(3, None), (3, 3), ("making the report", None)])
def test_a_folder_that_was_moved_in_the_middle_is_not_made_anew(request_of, tmp_path, at, stop):
    request = request_of()
    with pytest.raises(TrainingError, match="m was moved or removed while training") as caught:
        train(request, Moving(request.output, at, stop))
    assert not isinstance(caught.value, Interrupted)
    assert not request.output.exists()
    assert (tmp_path / "elsewhere" / "run.json").is_file()
    go_on(tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere")


@NO_FLOCK
def test_a_folder_that_took_the_place_of_another_is_left_alone(request_of):
    request = request_of()

    class Replacing(Moving):
        def take_away(self, at):
            super().take_away(at)
            if at == self.at:
                self.output.mkdir()
                (self.output / "notes.txt").write_text("mine")

    with pytest.raises(TrainingError, match="was moved or removed while training"):
        train(request, Replacing(request.output, 3))
    assert content(request.output) == {"notes.txt": b"mine"}
