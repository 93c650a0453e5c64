"""The one training loop.

Everything random is a function of (seed, epoch) or (seed, step), so a resumed run repeats what an
uninterrupted one does without any generator state in the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bert_cls.errors import TrainingError
from bert_cls.losses import Loss
from bert_cls.memory import enough_memory, is_shortage, keep_freed_memory
from bert_cls.network import DRAWING, Network
from bert_cls.signals import Stop
from bert_cls.text import Tokens
from bert_cls.training.batches import Part, dealt, epoch_batches, micro_batches, placed, places
from bert_cls.training.dropout import Source, install
from bert_cls.training.optimiser import make_optimiser, schedule, set_rates
from bert_cls.training.precision import choose_precision
from bert_cls.training.ranks import Alone, Ranks
from bert_cls.training.recipe import Settled
from bert_cls.windows import WindowPooling


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One line of the history."""

    epoch: int
    step: int
    loss: float
    score: float | None
    seconds: float


@dataclass(slots=True)
class Progress:
    """Where training is; all a checkpoint needs besides weights and moments."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    loss_rows: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    best_step: int | None = None
    epochs_since_best: int = 0
    history: list[EpochResult] = field(default_factory=list)


class Observer(Protocol):
    """What is told while training runs; the core never prints."""

    def started(self, *, steps: int, rows: int, precision: str) -> None:
        """Before the first step."""

    def stepped(
        self, progress: Progress, *, loss: float, rate: float, rows_per_second: float
    ) -> None:
        """Every `log_steps` steps."""

    def evaluated(self, result: EpochResult, *, best: bool) -> None:
        """After each epoch."""

    def noticed(self, message: str) -> None:
        """Something a user must know and nothing stops for."""

    def phase(self, message: str) -> None:
        """What is being done now, in a few words."""


class Silent:
    """An observer that says nothing."""

    def started(self, *, steps: int, rows: int, precision: str) -> None: ...  # noqa: D102
    def stepped(  # noqa: D102
        self, progress: Progress, *, loss: float, rate: float, rows_per_second: float
    ) -> None: ...
    def evaluated(self, result: EpochResult, *, best: bool) -> None: ...  # noqa: D102
    def noticed(self, message: str) -> None: ...  # noqa: D102
    def phase(self, message: str) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Keeper:
    """What the loop calls to keep state on disk.

    Within `evaluating` a Stop may be raised: nothing of the state changes there.
    """

    save: Callable[[], None] = lambda: None
    should_stop: Callable[[], bool] = lambda: False
    evaluating: Callable[[], AbstractContextManager[None]] = nullcontext


class Trainer:
    """A network, its optimiser and its place in training; `run` goes to the end."""

    def __init__(
        self,
        network: Network,
        loss: Loss,
        tokens: Tokens,
        targets: NDArray[Any],
        *,
        settings: Settled,
        pad_id: int,
        evaluate: Callable[[Network], float] | None,
        observer: Observer,
        device: torch.device,
        row_weights: NDArray[np.float64] | None = None,
        ranks: Ranks | None = None,
        name_rows: Callable[[Sequence[int]], str] = str,
        identity: str = "",
    ) -> None:
        self.row_weights = row_weights
        self.network = network.to(device)
        self.loss = loss.to(device)
        self.tokens = tokens
        self.targets = targets
        self.settings = settings
        self.pad_id = pad_id
        self.evaluate = evaluate
        self.observer = observer
        self.device = device
        self.ranks = ranks or Alone()
        self.name_rows = name_rows
        self.identity = identity
        self.dropout = Source(settings.seed)
        install(self.network, self.dropout)
        self.optimiser = make_optimiser(
            network,
            learning_rate=settings.learning_rate,
            head_learning_rate=settings.head_learning_rate,
            weight_decay=settings.weight_decay,
            epsilon=settings.adam_epsilon,
        )
        per_epoch = math.ceil(len(tokens) / settings.batch_size)
        self.steps = min(settings.epochs * per_epoch, settings.max_steps or 10**12)
        self.warmup = (
            settings.warmup_steps
            if settings.warmup_steps is not None
            else int(self.steps * settings.warmup_share)
        )
        self.micro_tokens = settings.micro_tokens
        self.precision = choose_precision(settings.precision, device)
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] | None = None
        self.stopped = False

    def run(self, keeper: Keeper | None = None) -> list[EpochResult]:
        """Train to the end and leave the best epoch's weights in the network.

        TrainingError when the loss or the gradients are not finite, before they reach a weight.
        """
        keeper = keeper or Keeper()
        progress = self.progress
        keep_freed_memory()
        self.observer.started(steps=self.steps, rows=len(self.tokens), precision=self.precision)
        while not self.stopped and self.goes_on():
            self._run_epoch(keeper)
        if self.best_weights is not None and not self.stopped:
            self.network.load_state_dict(self.best_weights)
        return progress.history

    def _run_epoch(self, keeper: Keeper) -> None:
        settings, progress = self.settings, self.progress
        batches = epoch_batches(
            self.tokens.lengths,
            settings.batch_size,
            seed=settings.seed,
            epoch=progress.epoch,
            weights=self.row_weights,
        )
        self.network.train()
        began = time.perf_counter() - progress.seconds
        marked, rows_since = time.perf_counter(), 0
        while progress.batch < len(batches) and progress.step < self.steps:
            rows = batches[progress.batch]
            loss = self._step(rows)
            progress.step += 1
            progress.batch += 1
            progress.loss_sum += loss * len(rows)
            progress.loss_rows += len(rows)
            rows_since += len(rows)
            progress.seconds = time.perf_counter() - began
            if progress.step % settings.log_steps == 0 or progress.step == self.steps:
                now = time.perf_counter()
                self.observer.stepped(
                    progress,
                    loss=progress.loss_sum / progress.loss_rows,
                    rate=float(self.optimiser.param_groups[0]["lr"]),
                    rows_per_second=rows_since / (now - marked),
                )
                marked, rows_since = now, 0
            stop = keeper.should_stop()
            if stop or (settings.save_steps and progress.step % settings.save_steps == 0):
                keeper.save()
            if stop:
                self.stopped = True
                return
        self._end_epoch(keeper)

    def _step(self, rows: NDArray[np.int64]) -> float:
        """One optimiser step on `rows`; the mean loss. Out of memory halves the micro-batch."""
        set_rates(
            self.optimiser, schedule(self.progress.step, steps=self.steps, warmup=self.warmup)
        )
        losses, finite = self._gradients(rows)
        loss, doing = sum(losses), f"in the update of step {self.progress.step + 1}"
        with enough_memory(doing, hint="use a smaller encoder, or free memory and --resume."):
            if self.settings.max_grad_norm:
                most = self.settings.max_grad_norm
                norm = nn.utils.clip_grad_norm_(self.network.parameters(), most)
            else:
                norm = nn.utils.get_total_norm(
                    [p.grad for p in self.network.parameters() if p.grad is not None]
                )
            if not math.isfinite(loss) or not bool(torch.isfinite(norm)):
                raise self._not_finite(losses, rows, gradients=finite)
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss

    def _gradients(self, rows: NDArray[np.int64]) -> tuple[list[float], bool]:
        """Each rank's part of the loss, and whether this rank's gradients were finite."""
        while True:
            loss, failed = 0.0, False
            try:
                loss = self._accumulate(rows)
            except Exception as error:
                if not is_shortage(error):
                    raise
                failed = True  # the error is let go: its traceback holds what filled the memory
            answers = self.ranks.gather(failed, loss)
            if not any(failed for failed, _ in answers):
                finite = self.ranks.add_gradients(self.network.parameters())
                return [loss for _, loss in answers], finite
            self._shrink(rows)

    def _accumulate(self, rows: NDArray[np.int64]) -> float:
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        parts = micro_batches(rows, self.tokens.lengths, self.micro_tokens)
        for part in dealt(parts, rank=self.ranks.rank, world=self.ranks.world):
            loss = self._losses(part).sum() / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _losses(self, part: Part) -> Tensor:
        """The losses of some rows, with the dropout they have wherever they are computed."""
        step = self.progress.step
        self.dropout.start(step, *places(part, self.tokens))
        with DRAWING:  # attention draws its dropout from torch's generator
            torch.manual_seed(_mixed(self.settings.seed, step, part.start))
            logits = self.forward(self.network, self.tokens, part.rows)
        return self.loss(logits, torch.from_numpy(self.targets[part.rows]).to(self.device))

    def forward(self, network: Network, tokens: Tokens, rows: NDArray[np.int64]) -> Tensor:
        """float32 logits [rows, outputs] of the named rows, in training precision."""
        batch = tokens.padded(rows, self.pad_id)
        ids, types, mask = (
            torch.from_numpy(a).to(self.device) for a in (batch.ids, batch.types, batch.mask)
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits: Tensor = network(ids, types, mask).float()
        if tokens.windows is None:
            return logits
        parts = torch.split(logits, tokens.windows.counts(rows).tolist())
        pool = _POOLS[tokens.windows.pooling]
        return torch.stack([pool(part) for part in parts])

    def _end_epoch(self, keeper: Keeper) -> None:
        progress, best = self.progress, False
        doing, hint = "in the evaluation of the epoch", "free memory, and go on with --resume."
        try:
            with keeper.evaluating(), enough_memory(doing, hint=hint):
                score = self.evaluate(self.network) if self.evaluate else None
                if score is not None:
                    best = progress.best_score is None or score > progress.best_score
                weights = self._copied_weights() if best else self.best_weights
        except Stop:  # going on begins with this evaluation
            keeper.save()
            self.stopped = True
            return
        except Exception:
            if self.ranks.world == 1:  # of several, the others wait within the evaluation
                keeper.save()
                self.observer.noticed("the epoch's steps are saved: --resume begins at their end")
            raise
        result = EpochResult(
            epoch=progress.epoch + 1,
            step=progress.step,
            loss=progress.loss_sum / max(1, progress.loss_rows),
            score=score,
            seconds=progress.seconds,
        )
        progress.history.append(result)
        self.best_weights = weights
        if best:
            progress.best_score, progress.best_step = score, progress.step
            progress.epochs_since_best = 0
        else:
            progress.epochs_since_best += 1
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.loss_sum, progress.loss_rows, progress.seconds = 0.0, 0, 0.0
        self.observer.evaluated(result, best=best)
        keeper.save()

    def _copied_weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.network.state_dict().items()}

    def goes_on(self) -> bool:
        """Whether an epoch is under way, be it only to be evaluated, or another one wanted."""
        patience = self.settings.patience
        patient = patience is None or self.progress.epochs_since_best < patience
        return self.progress.batch > 0 or (patient and self.progress.step < self.steps)

    def _shrink(self, rows: NDArray[np.int64]) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        parts = micro_batches(rows, self.tokens.lengths, self.micro_tokens)
        if all(len(part) == 1 for part in parts):
            raise TrainingError(
                "out of memory with a single row at a time.",
                hint="lower text.max_length or use a smaller encoder.",
            )
        self.micro_tokens //= 2
        self.observer.noticed(
            f"out of memory: computing {self.micro_tokens} tokens at once from here on "
            "(rows per step are unchanged)"
        )

    def _not_finite(
        self, losses: Sequence[float], rows: NDArray[np.int64], *, gradients: bool
    ) -> TrainingError:
        """Names the step, the ranks and the rows: those of the loss, else all of the step."""
        what = "gradients" if all(map(math.isfinite, losses)) else "loss"
        blamed = [n for n, (fine,) in enumerate(self.ranks.gather(gradients)) if not fine]
        blamed = blamed or [n for n, loss in enumerate(losses) if not math.isfinite(loss)]
        where = f" (rank {', '.join(map(str, blamed))})" if self.ranks.world > 1 else ""
        culprits = self._culprits(rows) if what == "loss" else []
        named = f" Not finite for: {self.name_rows(culprits)}." if culprits else ""
        return TrainingError(
            f"step {self.progress.step + 1}{where}: {what} not finite. The weights are as they "
            "were before the step. Training rows (from 0) of the step: "
            f"{[int(r) for r in rows]}: {self.name_rows([int(r) for r in rows])}.{named}",
            hint="lower training.learning_rate, or set training.precision=float32.",
        )

    def _culprits(self, rows: NDArray[np.int64]) -> list[int]:
        """The rows whose own loss is not finite; the step's micro-batches computed once more."""
        found: list[int] = []
        parts = micro_batches(rows, self.tokens.lengths, self.micro_tokens)
        for part in placed(parts):
            with torch.no_grad():
                fine = self._losses(part).isfinite().tolist()
            found += [int(row) for row, good in zip(part.rows, fine, strict=True) if not good]
        return found


# what `Windows.pooled` does, where gradients flow: [windows, outputs] -> [outputs]
_POOLS: dict[WindowPooling, Callable[[Tensor], Tensor]] = {
    "mean": lambda part: part.mean(0),
    "max": lambda part: part.amax(0),
    "logsumexp": lambda part: part.logsumexp(0) - math.log(len(part)),
}


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> 1)
