"""Training that is killed, stopped, starved and damaged: what was tried, and what held.

    python tests/faults.py FOLDER KIND COUNT SEED

imports torch once and forks a process for every trial, so a kill -9 hits a real process at its
work. tests/test_faults.py runs a few trials of each kind, `make chaos` all of them.
"""

# ruff: noqa: B023, PT017 - what is forked has ended before its loop goes on; no pytest in a child

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file

from bert_cls import cli, legacy
from bert_cls.bundle import load
from bert_cls.config import resolve_config
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import BertClsError, BundleError, ConfigError, Interrupted, TrainingError
from bert_cls.folders import MANIFEST, sha256, verify
from bert_cls.legacy import log as legacy_log
from bert_cls.request import RUN
from bert_cls.training import Request, Silent, resumed, train
from bert_cls.training.checkpoint import checkpoints
from bert_cls.training.loop import Trainer
from bert_cls.training.prepare import read_audited
from bert_cls.training.ranks import Alone
from bert_cls.training.setup import make_trainer, set_up
from small import multilabel_rows, write_folder
from tiny import tiny_encoder

# 44 rows in batches of 8: a short last batch; 64 tokens at once: accumulation; dropout is on;
# patience is pending; a checkpoint every other step
SETTINGS: dict[str, Any] = {
    "training.epochs": 3,
    "training.patience": 2,
    "training.batch_size": 8,
    "training.micro_tokens": 64,
    "training.learning_rate": 1e-3,
    "training.precision": "float32",
    "training.save_steps": 2,
    "training.log_steps": 1,
    "report.linear_bar": False,
    "report.resamples": 0,
}
STEPS = 18
ASKED = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree")
Outcome = dict[str, Any]


class Place:
    """Data, an encoder and the results of a run that nothing happened to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data, self.encoder = root / "data", root / "encoder"
        if not self.encoder.exists():
            write_folder(self.data, multilabel_rows, sizes=(44, 16, 16))
            tiny_encoder("bert", self.encoder)
        self.whole = root / "whole"
        if not self.whole.exists():
            assert forked(lambda: train(self.request(self.whole), Silent())) == 0
        self.count = 0

    def request(self, output: Path, **settings: Any) -> Request:
        config, origins = resolve_config(
            flags={"encoder.name": str(self.encoder), **SETTINGS, **settings}
        )
        return Request(self.data, output, config, origins)

    def new(self) -> Path:
        """An output folder that is not there yet."""
        self.count += 1
        output = self.root / f"run-{self.count}"
        shutil.rmtree(output, ignore_errors=True)
        return output

    def command(self, output: Path, *more: str) -> list[str]:
        settings = [f"--set={k}={json.dumps(v)}" for k, v in SETTINGS.items()]
        named = ["-o", str(output), "--encoder", str(self.encoder)]
        return ["train", str(self.data), *named, *settings, *more]

    def go_on(self, output: Path, **settings: Any) -> None:
        """What a user does after a crash: resume, or begin where nothing was begun."""
        if (output / RUN).exists():
            train(resumed(output), Silent(), resume=True)
        else:
            train(self.request(output, **settings), Silent())

    def fault(self, output: Path, whole: Path | None = None) -> str | None:
        """What differs from the run that nothing happened to; None when nothing does."""
        whole = whole or self.whole
        try:
            verify(output)
            if left := [p.name for p in output.parent.glob("**/.tmp-bert-cls-*")]:
                return f"left over: {left}"
            if load(output).rule != load(whole).rule:
                return "another rule"
            if sha256(output / "model.safetensors") != sha256(whole / "model.safetensors"):
                return "other weights"
            ours, theirs = checkpoints(output)[-1], checkpoints(whole)[-1]
            if sha256(ours / "optimizer.safetensors") != sha256(theirs / "optimizer.safetensors"):
                return "other moments"
            if progress_of(ours) != progress_of(theirs):
                return "other progress"
        except (BertClsError, OSError) as error:
            return repr(error)
        return None


def progress_of(folder: Path) -> dict[str, Any]:
    """All of it but how long it took and which run it is of: how much is kept makes another one."""
    content = orjson.loads((folder / "progress.json").read_bytes())
    del content["run"]
    for result in content["history"]:
        del result["seconds"]
    return content


def outcome(promise: str, what: str, faults: list[str | None]) -> Outcome:
    return {
        "promise": promise,
        "what": what,
        "tried": len(faults),
        "held": sum(fault is None for fault in faults),
        "faults": [fault for fault in faults if fault is not None],
    }


def forked(
    work: Callable[[], object],
    *,
    log: Path | None = None,
    delay: float | None = None,
    again: float | None = None,
    number: int = signal.SIGKILL,
) -> int:
    """Do `work` in a child; its exit code, negative for the signal that ended it.

    With `delay` it gets a signal after so many seconds, and `again` seconds later once more.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if log is not None:
                handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(handle, 2)
                sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), write_through=True)
            work()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        os._exit(code)
    for pause in (delay, again):
        if pause is not None:
            time.sleep(pause)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def at_event(count: int, number: int, *, twice: bool = False) -> None:
    """This process signals itself at the `count`-th thing it asks of the file system."""
    seen = 0

    def hook(event: str, _arguments: object) -> None:
        nonlocal seen
        if event in ASKED:
            seen += 1
            if seen == count or (twice and seen == count + 3):
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)


def events(work: Callable[[], object], root: Path) -> int:
    """How many things a piece of work asks of the file system."""

    def counting() -> None:
        seen = 0

        def hook(event: str, _arguments: object) -> None:
            nonlocal seen
            seen += event in ASKED

        sys.addaudithook(hook)
        try:
            work()
        finally:
            (root / "events").write_text(str(seen))

    assert forked(counting, log=root / "log") == 0
    return int((root / "events").read_text())


class At(Silent):
    """Does something when a step, an epoch or a phase is reached."""

    def __init__(self, place: object, act: Callable[[], object]) -> None:
        self.place, self.act, self.notes = place, act, []

    def stepped(self, progress, **_):
        if progress.step == self.place:
            self.act()

    def evaluated(self, result, **_):
        if f"epoch {result.epoch}" == self.place:
            self.act()

    def phase(self, message):
        if message == self.place:
            self.act()

    def noticed(self, message):
        self.notes.append(message)


def signal_self(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


# --- T1


def kills(place: Place, count: int, seed: int) -> list[Outcome]:
    """Kill -9 at random instants, twice a run, half by the clock and half by file event."""
    chance = random.Random(seed)
    reference = place.new()
    total = events(lambda: train(place.request(reference), Silent()), place.root)
    began = time.perf_counter()
    forked(lambda: train(place.request(place.new()), Silent()))
    duration = time.perf_counter() - began
    faults = []
    for trial in range(count):
        output = place.new()
        for _ in range(2):
            if trial % 2:
                forked(lambda: place.go_on(output), delay=chance.uniform(0, duration))
            else:
                at = chance.randint(1, total)
                forked(lambda: (at_event(at, signal.SIGKILL), place.go_on(output)))
        faults.append(ended(place, output))
    return [outcome("T1", "kill -9 twice in a run, then resume", faults)]


def ended(place: Place, output: Path, log: Path | None = None) -> str | None:
    """Go on to the end, and say what is wrong with what comes out."""

    def work() -> None:
        with contextlib.suppress(ConfigError):  # it was killed after its last file
            place.go_on(output)

    code = forked(work, log=log)
    fault = place.fault(output) if code == 0 else f"going on ended with {code}"
    shutil.rmtree(output, ignore_errors=True)
    return fault


def finishing(place: Place, count: int, seed: int) -> list[Outcome]:
    """Kill -9 at file events while the model folder is written (each of them, or some)."""
    ready = place.new()
    stop = At("tuning on dev", signal_self)
    forked(lambda: train(place.request(ready), stop))

    class Killed(Silent):
        def __init__(self, at: int) -> None:
            self.at = at

        def phase(self, message):
            if message == "evaluating":
                at_event(self.at, signal.SIGKILL)

    output, faults = place.new(), []
    every = (
        range(1, 10**6) if count > 50 else sorted(random.Random(seed).sample(range(1, 40), count))
    )
    for at in every:
        shutil.copytree(ready, output)
        code = forked(lambda: train(resumed(output), Killed(at), resume=True))
        faults.append(ended(place, output))
        if code == 0:
            break
    return [outcome("T1", "kill -9 while the model folder is written", faults)]


def overwriting(place: Place, count: int, seed: int) -> list[Outcome]:
    """Kill -9 at file events while an earlier model is overwritten; the same command again."""
    old, output, faults = place.new(), place.new(), []
    other = {"training.seed": 5, "training.epochs": 1}
    forked(lambda: train(place.request(old, **other), Silent()))

    class Killed(Silent):
        def __init__(self, at: int) -> None:
            self.at = at

        def phase(self, message):
            if message == "tokenising":
                at_event(self.at, signal.SIGKILL)

    every = range(1, 120) if count > 50 else random.Random(seed).sample(range(1, 120), count)
    for at in every:
        shutil.copytree(old, output)
        request = place.request(output)
        forked(lambda: train(request, Killed(at), overwrite=True))
        code = forked(lambda: train(request, Silent(), overwrite=True))
        faults.append(place.fault(output) if code == 0 else f"{at}: ended with {code}")
        shutil.rmtree(output)
    return [outcome("T1", "kill -9 while an earlier model is overwritten", faults)]


# --- T2


def steps(place: Place, count: int, seed: int) -> list[Outcome]:
    """Stop after every step (or some), in evaluations, before tuning; also by the old script."""
    stops: list[object] = [*range(1, STEPS + 1)]
    if count < STEPS:
        stops = random.Random(seed).sample(stops, count)
    stops += ["epoch 1", "epoch 3", "tuning on dev", "evaluating"]
    faults = []
    for at in stops:
        output = place.new()
        code = forked(lambda: interrupted(place.request(output), At(at, signal_self)))
        faults.append(f"{at}: no interruption" if code else ended(place, output))
    inside = [in_evaluation(place, batch) for batch in (1, 2, 3)[: max(1, count // 4)]]
    old = [by_old_flags(place, at) for at in (stops[:-4] if count >= STEPS else stops[:1])]
    return [
        outcome("T2", "stopped after every step, each epoch, before tuning", faults),
        outcome("T2", "stopped inside an evaluation", inside),
        outcome("T2", "the same by the old script's flags", old),
    ]


def interrupted(request: Request, observer: Silent) -> None:
    try:
        train(request, observer)
    except Interrupted as stopped:
        assert stopped.signal_number == signal.SIGTERM
        assert f"--resume {request.output}" in str(stopped)
        return
    raise AssertionError("it went on to the end")


def in_evaluation(place: Place, batch: int) -> str | None:
    """The dev rows are one batch, so the n-th is the n-th epoch's."""
    output, logits, seen = place.new(), TorchEngine.logits, []

    def signalled(self: TorchEngine, *arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == batch:
            signal_self()
        return logits(self, *arguments)

    def work() -> None:
        TorchEngine.logits = signalled
        interrupted(place.request(output), Silent())

    code = forked(work)
    if code or checkpoints(output)[-1].name != f"checkpoint-{6 * batch}":
        return f"no checkpoint of the step before the evaluation ({code})"
    return ended(place, output)


def by_old_flags(place: Place, at: object) -> str | None:
    whole = place.root / "whole-old"

    def flags(output: Path) -> list[str]:
        values = {
            "data_dir": place.data,
            "output_dir": output,
            "model_name_or_path": place.encoder,
            "output_mode": "classification",
            "num_train_epochs": 3,
            "save_steps": 2,
            "per_gpu_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "seed": 0,
        }
        words = [str(word) for k, v in values.items() for word in (f"--{k}", v)]
        return [*words, "--multilabel", "--do_train"]

    if not whole.exists():
        forked(lambda: sys.exit(legacy.main(flags(whole))), log=place.root / "log")
    output, stepped = place.new(), legacy_log.LogObserver.stepped

    def signalled(self, progress, **more):
        stepped(self, progress, **more)
        if progress.step == at:
            signal_self()

    def work() -> None:
        legacy_log.LogObserver.stepped = signalled
        sys.exit(legacy.main(flags(output)))

    code = forked(work, log=place.root / "log")
    if code != 143:
        return f"{at}: the old script ended with {code}"
    code = forked(lambda: train(resumed(output), Silent(), resume=True))
    fault = f"going on ended with {code}" if code else place.fault(output, whole)
    shutil.rmtree(output)
    return fault


# --- T3, T7


def damages(place: Place, count: int, seed: int) -> list[Outcome]:
    """Each state file deleted, emptied or changed: the one before is used, or an error names it."""
    chance = random.Random(seed)
    several, single = place.new(), place.new()
    keep = {"training.keep_checkpoints": 3}
    # steps 2, 4, 6 (best so far), 8, 10, 11: the newest depends on the best of step 6
    forked(lambda: interrupted(place.request(several, **keep), At(11, signal_self)))
    alone = {"training.save_steps": None}
    forked(lambda: interrupted(place.request(single, **alone), At(3, signal_self)))
    best = progress_of(checkpoints(several)[-1])["best_step"]
    names = ("model.safetensors", "optimizer.safetensors", "progress.json", MANIFEST)
    cases = [(which, n, how) for which in ("newest", "best", "only") for n in names for how in HOW]
    cases += [("run", RUN, how) for how in HOW]
    if count < len(cases):
        cases = chance.sample(cases, count)
    faults = []
    for which, name, how in cases:
        output = shutil.copytree(single if which in ("only", "run") else several, place.new())
        folder = {
            "newest": checkpoints(output)[-1],
            "best": output / f"checkpoint-{best}",
            "only": checkpoints(output)[-1],
            "run": output,
        }[which]
        HOW[how](folder / name, chance)
        observer = At(None, lambda: None)

        def work(output=output, observer=observer, name=name, which=which) -> None:
            try:
                train(resumed(output), observer, resume=True)
            except BundleError as error:
                said = "\n".join([str(error), *observer.notes])
                assert which != "newest", said
                assert named(said, name), said
                sys.exit(3)
            said = "\n".join(observer.notes)
            assert named(said, name), said
            assert "damaged and was not used" in said, said

        code = forked(work, log=place.root / "log")
        if code == 0 and which in ("newest", "best"):
            fault = place.fault(output)
        else:
            fault = None if code == 3 and which != "newest" else f"ended with {code}"
        if fault:
            fault += f" ({which} {name} {how}): " + (place.root / "log").read_text()[-300:]
        faults.append(fault)
        shutil.rmtree(output)
    return [outcome("T3", "a state file deleted, emptied or changed", faults)]


def named(said: str, name: str) -> bool:
    """Of a manifest and a file that differ, nobody can tell which one was changed."""
    return name in said or (name == MANIFEST and "sha256 differs" in said)


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    path.write_bytes(content)


HOW: dict[str, Callable[[Path, random.Random], object]] = {
    "deleted": lambda path, _: path.unlink(),
    "emptied": lambda path, _: path.write_bytes(b""),
    "changed": flip,
}


def flips(place: Place, count: int, seed: int) -> list[Outcome]:
    """One random byte of a checkpoint or of the model folder changed."""
    chance, faults = random.Random(seed), []
    files = list(checkpoints(place.whole)[-1].iterdir())
    files += [
        place.whole / e["name"]
        for e in orjson.loads((place.whole / MANIFEST).read_bytes())["files"]
    ]
    files += [place.whole / MANIFEST, place.whole / RUN]
    for _ in range(count):
        # every second time all files are equally likely: most bytes are weights
        weights = None if chance.random() < 0.5 else [p.stat().st_size for p in files]
        path = chance.choices(files, weights)[0]
        original = path.read_bytes()
        flip(path, chance)
        try:
            if path.name == RUN:
                resumed(place.whole)
            else:
                verify(path.parent)
            faults.append(f"{path} was changed and nobody noticed")
        except BundleError as error:
            # of a manifest and a file that differ, nobody can tell which one was changed
            good = path.name == MANIFEST or path.name in str(error)
            faults.append(None if good else f"{path}: {error}")
        path.write_bytes(original)
    return [outcome("T7", "one random byte of a checkpoint or model changed: noticed", faults)]


# --- T4


def stops(place: Place, count: int, seed: int) -> list[Outcome]:
    """SIGTERM and SIGINT at random instants of the command, some twice."""
    chance, faults, seen = random.Random(seed), [], {}
    output = place.new()

    def command(*more: str) -> None:
        sys.argv = ["bert-cls", *place.command(output, *more)]
        cli.main()

    total = events(lambda: command(), place.root)
    log = place.root / "log"
    for trial in range(count):
        shutil.rmtree(output, ignore_errors=True)
        number = (signal.SIGTERM, signal.SIGINT)[trial % 2]
        at, twice = chance.randint(1, total), trial % 3 == 0
        code = forked(lambda: (at_event(at, number, twice=twice), command()), log=log)
        said = log.read_text()
        words = [line for line in said.splitlines() if line.startswith(("stopped", "hint"))]
        seen[words[0][:28] if words else ""] = 1
        if code != 128 + number or "Traceback" in said or len(words) != 2:
            faults.append(f"event {at} of {total}: exit {code}: {said[-400:]}")
        elif "--resume" in words[1]:
            faults.append(ended(place, output, log))
        else:  # nothing was begun
            left = list(output.glob("checkpoint-*")) if output.exists() else []
            faults.append(f"{words} but there is {left}" if left else None)
    kinds = f"{len(seen)} kinds of words"
    return [outcome("T4", f"SIGTERM, SIGINT at random instants, some twice ({kinds})", faults)]


# --- T5, T6, T9


def not_finite(place: Place, count: int, seed: int) -> list[Outcome]:
    """NaN or Inf in a loss, NaN in a gradient, at some step: no weight on disk is touched."""
    del count, seed
    faults = []
    for kind in ("nan loss", "inf loss", "nan gradient"):
        output, log = place.new(), place.root / "log"

        def work(kind=kind, output=output) -> None:
            poison(kind)
            sys.argv = ["bert-cls", *place.command(output)]
            cli.main()

        code, said = forked(work, log=log), log.read_text()
        wanted = ["step 6: ", "index ", "(train.json, row "]
        wanted += (
            ["gradients not finite"]
            if kind == "nan gradient"
            else ["loss not finite", "Not finite for: index"]
        )
        weights = [
            t for f in checkpoints(output) for t in load_file(f / "model.safetensors").values()
        ]
        fine = bool(weights) and all(bool(torch.isfinite(t).all()) for t in weights)
        good = (
            code == 4 and fine and all(word in said for word in wanted) and "Traceback" not in said
        )
        faults.append(None if good else f"{kind}: exit {code}: {said[-600:]}")
    return [outcome("T5", "NaN, Inf in loss or gradient: stopped before the update", faults)]


def poison(kind: str, *, step: int = 5, rank: int | None = None) -> None:
    """Let one step of a trainer in this process meet what is not finite."""
    losses, accumulate = Trainer._losses, Trainer._accumulate
    first: dict[int, int] = {}  # step: where its first micro-batch in this process starts

    def here(trainer: Trainer) -> bool:
        return trainer.progress.step == step and rank in (None, trainer.ranks.rank)

    def bad_loss(self: Trainer, part: Any) -> Any:
        out = losses(self, part)
        if here(self) and part.start == first.setdefault(step, part.start):
            out = out * torch.tensor([float(kind.split()[0])] + [1.0] * (len(out) - 1))
        return out

    def bad_gradient(self: Trainer, rows: Any) -> float:
        loss = accumulate(self, rows)
        if here(self):
            next(self.network.parameters()).grad[0, 0] = float("nan")
        return loss

    if kind.endswith("loss"):
        Trainer._losses = bad_loss
    else:
        Trainer._accumulate = bad_gradient


def full_disk(place: Place, count: int, seed: int) -> list[Outcome]:
    """The disk fills up: before the run, between checkpoints, before the model is written."""
    del count, seed
    small = place.root / "small-disk"
    small.mkdir(exist_ok=True)
    if os.system(f"mount -t tmpfs -o size=20m none {small} 2>/dev/null"):
        return [
            {
                "promise": "T6",
                "what": "disk full (a tmpfs may not be mounted here)",
                "tried": 0,
                "held": 0,
                "faults": [],
            }
        ]
    faults: list[str | None] = []
    filler = small / "filler"

    def fill(left: int) -> None:
        filler.write_bytes(b"")
        free = shutil.disk_usage(small).free
        filler.write_bytes(b"x" * max(0, free - left))

    def refused(output: Path, observer: Silent, *wanted: str) -> str | None:
        def work() -> None:
            try:
                train(place.request(output), observer)
            except TrainingError as error:
                missing = [
                    word for word in (*wanted, str(output), "MB", "free") if word not in str(error)
                ]
                assert not missing, (missing, str(error))
                return
            raise AssertionError("nothing was refused")

        code = forked(work, log=place.root / "log")
        return (place.root / "log").read_text()[-400:] if code else None

    try:
        fill(100_000)
        faults.append(refused(small / "a", Silent(), "Checkpoints and model need"))
        for at in (3, 9, "evaluating"):
            filler.unlink(missing_ok=True)
            output = small / f"run-{at}"
            said = refused(output, At(at, lambda: fill(60_000)), "could not be written")
            for folder in checkpoints(output):
                verify(folder)
            filler.unlink()
            faults.append(said or ended(place, output))
    finally:
        os.system(f"umount {small}")
    return [outcome("T6", "disk full before, during, at the end: refused, then resumed", faults)]


# --- T8


def no_memory(place: Place, count: int, seed: int) -> list[Outcome]:
    """Real allocations fail from some step on, or in an evaluation; then the run goes on."""
    begins = range(STEPS) if count >= STEPS else random.Random(seed).sample(range(STEPS), count)
    faults = [short_of_memory(place, first) for first in begins]
    return [
        outcome(
            "T8", "no memory for so many tokens, from any step on: 1e-6 of a small run", faults
        ),
        outcome("T8", "no memory in an evaluation: resumed", [in_no_evaluation(place)]),
    ]


def short_of_memory(place: Place, first: int) -> str | None:
    output, forward = place.new(), Trainer.forward

    def short(self: Trainer, network: Any, tokens: Any, rows: Any) -> Any:
        most = place.request(output).config.training.micro_tokens
        if self.progress.step >= first and len(rows) * int(tokens.lengths[rows].max()) > most:
            torch.empty(10**15)
        return forward(self, network, tokens, rows)

    def work() -> None:
        Trainer.forward = short
        train(place.request(output, **{"training.micro_tokens": 1024}), Silent())

    code = forked(work, log=place.root / "log")
    if code:
        return f"from step {first}: {(place.root / 'log').read_text()[-400:]}"
    ours, theirs = (load_file(f / "model.safetensors") for f in (output, place.whole))
    shutil.rmtree(output)
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    return None if apart <= 1e-6 else f"from step {first}: weights differ by {apart:.2g}"


def in_no_evaluation(place: Place) -> str | None:
    output, log = place.new(), place.root / "log"

    def work() -> None:
        TorchEngine._computed = lambda *_: torch.empty(10**15)
        sys.argv = ["bert-cls", *place.command(output)]
        cli.main()

    code, said = forked(work, log=log), log.read_text()
    if code != 5 or "out of memory" not in said or "Traceback" in said:
        return f"exit {code}: {said[-400:]}"
    if checkpoints(output)[-1].name != "checkpoint-6":
        return "the steps of the epoch were lost"
    return ended(place, output)


def rotation(place: Place, count: int, seed: int) -> list[Outcome]:
    """Keep 1, 2, 3, with the folders' times shuffled after every epoch."""
    chance, faults = random.Random(seed), []
    for keep in (1, 2, 3)[:count]:
        output = place.new()
        many = {
            "training.keep_checkpoints": keep,
            "training.epochs": 5,
            "training.patience": None,
            "training.save_steps": None,
            "training.learning_rate": 1e-2,
        }

        class Touching(Silent):
            def evaluated(self, result, output=output, **_):
                for folder in checkpoints(output):
                    moment = chance.uniform(0, 2e9)
                    os.utime(folder, (moment, moment))

        code = forked(lambda: train(place.request(output, **many), Touching()))
        history = load(output).details["history"]
        best = max(history, key=lambda result: result["score"])["step"]
        kept = {int(f.name.split("-")[1]) for f in checkpoints(output)}
        wanted = {best, *[r["step"] for r in history][-keep:]}
        for folder in checkpoints(output):
            verify(folder)
        faults.append(
            None if code == 0 and kept == wanted else f"keep {keep}: {kept}, not {wanted}"
        )
    return [outcome("T9", "best and newest kept, whatever the folders' times", faults)]


KINDS: dict[str, Callable[[Place, int, int], list[Outcome]]] = {
    "kills": kills,
    "finishing": finishing,
    "overwriting": overwriting,
    "steps": steps,
    "damages": damages,
    "flips": flips,
    "stops": stops,
    "not finite": not_finite,
    "full disk": full_disk,
    "no memory": no_memory,
    "rotation": rotation,
}


def warm(place: Place) -> None:
    """Import all that a run imports, so that no child has to; nothing is trained here."""
    request = place.request(place.root / "nowhere")
    prepared = read_audited(request.data, request.config, Silent())
    setup = set_up(request, prepared, Silent())
    make_trainer(setup, Silent(), request, device=torch.device("cpu"), ranks=Alone())


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    where, kinds, counts, seeded = sys.argv[1:]  # of several kinds with commas between
    here = Place(Path(where))
    warm(here)
    asked = zip(kinds.split(","), map(int, counts.split(",")), strict=True)
    found = [one for kind, count in asked for one in KINDS[kind](here, count, int(seeded))]
    print(json.dumps(found, ensure_ascii=False))
