"""Training by two ranks that are interrupted, starved, fed bad numbers and lost.

    python tests/rank_faults.py FOLDER ranks|"lost ranks" COUNT SEED

`ranks` starts torchrun once and tries everything in one group of processes; `lost ranks` starts
it anew for every kill -9, as an operator would. 41 rows in batches of 8: the last batch of an epoch
is a single row, so one rank has nothing to compute.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import faults
from bert_cls import cli
from bert_cls.bundle import load
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import Interrupted, TrainingError
from bert_cls.folders import sha256, verify
from bert_cls.training import Request, resumed, train
from bert_cls.training import run as run_module
from bert_cls.training.checkpoint import checkpoints
from bert_cls.training.loop import Trainer
from bert_cls.training.ranks import Together
from faults import At, Outcome, Place, outcome

ROWS = {"data.train_rows": 41}
RUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


class Seen:
    """What a rank computed: the loss of each step, the rows of each, the rows it evaluated."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rows: dict[int, list[int]] = {}
        self.evaluated = 0

    @contextlib.contextmanager
    def watching(self):
        step, losses, logits = Trainer._step, Trainer._losses, TorchEngine.logits

        def watched_step(trainer, rows):
            self.losses.append(step(trainer, rows))
            return self.losses[-1]

        def watched_losses(trainer, part):
            self.rows.setdefault(trainer.progress.step, []).extend(part.rows.tolist())
            return losses(trainer, part)

        def watched_logits(engine, batch):
            self.evaluated += len(batch.ids)
            return logits(engine, batch)

        Trainer._step, Trainer._losses = watched_step, watched_losses
        TorchEngine.logits = watched_logits
        try:
            yield self
        finally:
            Trainer._step, Trainer._losses, TorchEngine.logits = step, losses, logits


def watched(request: Request, observer: Any) -> Seen:
    with Seen().watching() as seen:
        train(request, observer)
    return seen


# --- inside torchrun


class Job:
    """The same trials on every rank; only what the first one writes down is read."""

    def __init__(self, root: Path, count: int) -> None:
        self.ranks = Together()
        run_module.open_ranks = lambda: contextlib.nullcontext(self.ranks)
        self.place = Place(root)
        self.whole = root / "whole-ranks"
        self.count = count

    def all(self) -> list[Outcome]:
        return [*self.equal(), *self.stopped(), *self.poisoned(), *self.starved()]

    def new(self) -> Path:
        """As Place.new, but the first rank alone removes what is there."""
        self.place.count += 1
        output = self.place.root / f"ranks-{self.place.count}"
        if self.ranks.rank == 0:
            shutil.rmtree(output, ignore_errors=True)
        self.ranks.gather(0.0)
        return output

    def everywhere(self, fault: str | None) -> str | None:
        """A fault when any rank has one."""
        bad = [rank for rank, (f,) in enumerate(self.ranks.gather(fault is not None)) if f]
        return fault or (f"a fault on rank {bad}" if bad else None)

    def equal(self) -> list[Outcome]:
        alone = json.loads((self.place.root / "alone.json").read_text())
        seen = watched(self.place.request(self.whole, **ROWS), At(None, print))
        (self.place.root / f"rank-{self.ranks.rank}.json").write_text(json.dumps(vars(seen)))
        self.ranks.gather(0.0)
        ranks = [json.loads((self.place.root / f"rank-{r}.json").read_text()) for r in (0, 1)]
        faults: list[str | None] = [
            None if abs(a - b) <= 1e-6 else f"step {step + 1}: {a} alone, {b} by ranks"
            for step, (a, b) in enumerate(zip(alone["losses"], ranks[0]["losses"], strict=True))
        ]
        rows = [
            None
            if sorted(n for r in ranks for n in r["rows"].get(step, [])) == sorted(rows)
            else step
            for step, rows in alone["rows"].items()
        ]
        evaluated = sum(r["evaluated"] for r in ranks)
        counted = None if evaluated == alone["evaluated"] else f"{evaluated} rows evaluated"
        again = self.new()
        train(self.place.request(again, **ROWS), At(None, print))
        same = self.place.fault(again, self.whole) if self.ranks.rank == 0 else None
        return [
            outcome("T2", "two ranks: the loss of each step within 1e-6 of one process", faults),
            outcome("T2", "two ranks: each row of a step computed once", rows),
            outcome("T2", "two ranks: each evaluated row counted once", [counted]),
            outcome("T11", "two ranks: the same weights again", [same]),
        ]

    def stopped(self) -> list[Outcome]:
        """One rank alone is signalled, after every step (or some)."""
        steps = range(1, 19)
        tried = steps if self.count >= 18 else random.Random(self.count).sample(steps, self.count)
        return [
            outcome(
                "T4",
                "two ranks: one signalled after every step, both stop, then go on",
                [self.everywhere(self.stop_at(step)) for step in tried],
            )
        ]

    def stop_at(self, step: int) -> str | None:
        output, trainer_step = self.new(), Trainer._step
        me = step % 2 == self.ranks.rank

        def signalled(trainer: Trainer, rows: Any) -> float:
            loss = trainer_step(trainer, rows)
            if me and trainer.progress.step + 1 == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return loss

        Trainer._step = signalled
        try:
            train(self.place.request(output, **ROWS), At(None, print))
            return f"{step}: it went on to the end"
        except Interrupted as stopped:
            if stopped.signal_number != signal.SIGTERM:
                return f"{step}: signal {stopped.signal_number}"
        finally:
            Trainer._step = trainer_step
        train(resumed(output), At(None, print), resume=True)
        return self.place.fault(output, self.whole) if self.ranks.rank == 0 else None

    def poisoned(self) -> list[Outcome]:
        kinds = ("nan loss", "inf loss", "nan gradient")
        return [
            outcome(
                "T5",
                "two ranks: NaN, Inf on one of them, both stop before the update",
                [self.everywhere(self.poison(kind)) for kind in kinds],
            )
        ]

    def poison(self, kind: str) -> str | None:
        output = self.new()
        before = Trainer._losses, Trainer._accumulate
        faults.poison(kind, step=3, rank=1)
        try:
            train(self.place.request(output, **ROWS), At(None, print))
        except TrainingError as error:
            saved = checkpoints(output)[-1] / "model.safetensors"
            fine = all(bool(t.isfinite().all()) for t in load_file(saved).values())
            good = fine and "step 4 (rank 1): " in str(error) and "index " in str(error)
            return None if good else f"{kind}: {error}"
        finally:
            Trainer._losses, Trainer._accumulate = before
        return f"{kind}: it went on"

    def starved(self) -> list[Outcome]:
        small, large = self.new(), self.new()
        train(self.place.request(small, **ROWS), At(None, print))
        forward = Trainer.forward

        def limited(trainer: Trainer, network: Any, tokens: Any, rows: Any, **more: Any) -> Any:
            if self.ranks.rank == 1 and trainer.micro_tokens > 64:
                raise torch.OutOfMemoryError
            return forward(trainer, network, tokens, rows, **more)

        Trainer.forward = limited
        observer = At(None, print)
        request = self.place.request(large, **ROWS, **{"training.micro_tokens": 512})
        try:
            train(request, observer)
        finally:
            Trainer.forward = forward
        if self.ranks.rank:
            fault = None
        elif not any("out of memory" in note for note in observer.notes):
            fault = "no rank ran out of memory"
        else:
            same = sha256(small / "model.safetensors") == sha256(large / "model.safetensors")
            fault = None if same else "other weights than with small micro-batches"
        what = "two ranks: one out of memory, both halve, the same weights"
        return [outcome("T8", what, [self.everywhere(fault)])]


# --- around torchrun


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def ranks(place: Place, count: int, seed: int) -> list[Outcome]:
    """Everything that needs no process to die."""
    del seed
    alone = place.root / "alone"
    seen = watched(place.request(alone, **ROWS), At(None, print))
    (place.root / "alone.json").write_text(json.dumps(vars(seen)))
    job = [*RUN, __file__, str(place.root), "job", str(count), "0"]
    done = subprocess.run(job, capture_output=True, text=True, env=environment())
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return [*json.loads((place.root / "job.json").read_text()), fewer(place)]


def fewer(place: Place) -> Outcome:
    """A run of two ranks that one process ends: the same losses, and it says so."""
    output, observer = place.root / "fewer", At(None, print)
    train(resumed(output), observer, resume=True)
    histories = [load(place.root / f).details["history"] for f in ("fewer", "alone")]
    far = [a for a, b in zip(*histories, strict=True) if abs(a["loss"] - b["loss"]) > 1e-6]
    said = any("processes was 2 and is now 1" in note for note in observer.notes)
    fault = None if said and not far else f"{far} {observer.notes}"
    return outcome("T12", "begun by two ranks, ended by one: losses within 1e-6, said", [fault])


def lost(place: Place, count: int, seed: int) -> list[Outcome]:
    """Kill -9 of one rank, or SIGTERM to torchrun, while the command trains."""
    chance = random.Random(seed)
    whole, output = place.root / "whole-ranks", place.root / "lost"
    if not whole.exists():  # `ranks` makes it too
        command(place, whole, 0, 0)
    killed = []
    for trial in range(count):
        shutil.rmtree(output, ignore_errors=True)
        step, rank = chance.randint(1, 18), trial % 2
        code, said = command(place, output, step, rank, restarts=3)
        again = "going on from" in said
        fault = place.fault(output, whole) if code == 0 and again else f"exit {code}: {said[-800:]}"
        killed.append(fault)
    by_kill = outcome("T12", "two ranks: kill -9 of one under --max-restarts 3", killed)
    if count < 2:
        return [by_kill]
    shutil.rmtree(output, ignore_errors=True)
    command(place, output, chance.randint(2, 17), -1)
    stopped = checkpoints(output)[-1:] if output.exists() else []
    for folder in stopped:
        verify(folder)
    code, said = command(place, output, 0, 0, "--resume")
    fault = place.fault(output, whole) if code == 0 and stopped else f"exit {code}: {said[-800:]}"
    return [
        by_kill,
        outcome("T4", "two ranks: SIGTERM to torchrun, then --resume", [fault]),
    ]


def command(
    place: Place, output: Path, step: int, rank: int, *more: str, restarts: int = 0
) -> tuple[int, str]:
    """`torchrun ... bert-cls train`, with a mishap at a step; the exit code and what it said."""
    words = [*RUN, "--max-restarts", str(restarts), __file__, str(place.root), "command"]
    words += [str(step), str(rank), str(output), *more]
    done = subprocess.run(words, capture_output=True, text=True, env=environment())
    return done.returncode, done.stderr


def as_command(place: Place, step: int, rank: int, output: Path, *more: str) -> None:
    """One rank of `command`."""
    trainer_step = Trainer._step

    def mishap(trainer: Trainer, rows: Any) -> float:
        at = trainer.progress.step + 1 == step and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if at and rank == trainer.ranks.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        if at and rank == -1 and trainer.ranks.rank == 0:
            os.kill(os.getppid(), signal.SIGTERM)
        return trainer_step(trainer, rows)

    Trainer._step = mishap
    fresh = place.command(output, "--set=data.train_rows=41")
    sys.argv = ["bert-cls", *(["train", "--resume", str(output)] if more else fresh)]
    cli.main()


def as_job(place: Place, count: int) -> None:
    """One rank of `ranks`."""
    job = Job(place.root, count)
    outcomes = job.all()
    output = place.root / "fewer"
    with contextlib.suppress(Interrupted):
        train(place.request(output, **ROWS), At(7, faults.signal_self))
    if job.ranks.rank == 0:
        (place.root / "job.json").write_text(json.dumps(outcomes, ensure_ascii=False))
    # as open_ranks does: a process that ends with its group open is nearly always aborted by gloo
    job.ranks.close()


KINDS = {"ranks": ranks, "lost ranks": lost}

if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    where, kind, first, second, *others = sys.argv[1:]
    here = Place(Path(where))
    if kind == "job":
        as_job(here, int(first))
    elif kind == "command":
        as_command(here, int(first), int(second), Path(others[0]), *others[1:])
    else:
        print(json.dumps(KINDS[kind](here, int(first), int(second)), ensure_ascii=False))
