"""Several processes that train one model: `torchrun --nproc-per-node 2 -m bert_cls train ...`.

Every rank holds the whole network and goes through the same steps. The micro-batches of a step are
dealt out in turn, gradients are added up, and each rank takes the same optimiser step. Draws are a
function of (seed, step, row), so it does not matter which rank makes them. Only the first rank
writes. One process is `Alone`, which sends nothing and imports nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bert_cls.engines.engine import Engine
from bert_cls.errors import TrainingError
from bert_cls.launcher import launched
from bert_cls.text import PaddedBatch


class Ranks(Protocol):
    """What the loop asks of the processes it runs in."""

    rank: int
    world: int

    def gather(self, *values: float) -> list[tuple[float, ...]]:
        """Each rank's values, by rank; every rank gets the same."""

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Gradients become their sum over the ranks; False where this rank's were not finite."""

    def add(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sum over the ranks, in place."""


class Alone:
    """One process."""

    rank = 0
    world = 1

    def gather(self, *values: float) -> list[tuple[float, ...]]:  # noqa: D102
        return [values]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> bool:  # noqa: D102
        return True

    def add(self, values: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: D102
        return values


class Together:
    """A process of several, as torchrun starts them; TrainingError when another one is gone."""

    def __init__(self) -> None:
        import torch.distributed as dist

        if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost", "::1"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        self._dist: Any = dist
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        with _lost():
            store, rank, world = next(self._dist.rendezvous("env://"))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                # torchrun's store outlives a restart: without a name of its own, an attempt
                # finds the addresses of the lost one, and waits for them or is refused
                store=self._dist.PrefixStore(f"bert_cls/attempt_{attempt}", store),
                rank=rank,
                world_size=world,
            )
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def gather(self, *values: float) -> list[tuple[float, ...]]:
        """Each rank's values, by rank."""
        mine = torch.tensor(values, dtype=torch.float64)
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        with _lost():
            self._dist.all_gather(parts, mine)
        return [tuple(part.tolist()) for part in parts]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> bool:
        """One sum over all gradients; a parameter that no rank has a gradient of keeps none."""
        every = list(parameters)
        used = self.gather(*(float(p.grad is not None) for p in every))
        wanted = [p for p, flags in zip(every, zip(*used, strict=True), strict=True) if any(flags)]
        flat = torch.cat([_gradient(p).reshape(-1) for p in wanted])
        finite = bool(torch.isfinite(flat).all())
        with _lost():
            self._dist.all_reduce(flat)
        at = 0
        for parameter in wanted:
            size = parameter.numel()
            parameter.grad = flat[at : at + size].view_as(parameter)
            at += size
        return finite

    def add(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sum over the ranks, in place."""
        with _lost():
            self._dist.all_reduce(torch.from_numpy(values))
        return values

    def close(self) -> None:
        """Leave the group."""
        self._dist.destroy_process_group()


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"another rank is gone: {' '.join(str(error).split())[:200]}",
            hint="its own message says why; --max-restarts of torchrun goes on by itself.",
        ) from error


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """The ranks that torchrun started this process among, or Alone."""
    if launched("WORLD_SIZE") < 2 or not os.environ.get("RANK"):
        yield Alone()
        return
    ranks = Together()
    try:
        yield ranks
    finally:
        ranks.close()


def first() -> bool:
    """Whether this process is the one that speaks and writes."""
    return launched("WORLD_SIZE") < 2 or launched("RANK") == 0


def restarted() -> bool:
    """Whether torchrun started this process again after one was lost."""
    return launched("TORCHELASTIC_RESTART_COUNT") > 0


def local_device() -> torch.device:
    """The GPU of this process, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", launched("LOCAL_RANK"))


def agree(ranks: Ranks, what: str, *values: float) -> None:
    """TrainingError when the ranks' values differ; they also wait here for each other."""
    answers = ranks.gather(*values)
    if any(answer != answers[0] for answer in answers):
        raise TrainingError(
            f"the ranks differ in {what}: {answers}.",
            hint="give all ranks the same data, settings and versions, and one output folder.",
        )


class Shared:
    """An engine of which each rank computes every `world`-th batch, and zeros for the others."""

    def __init__(self, engine: Engine, ranks: Ranks, outputs: int) -> None:
        self.name, self.max_tokens = engine.name, engine.max_tokens
        self._engine, self._ranks, self._outputs = engine, ranks, outputs
        self._batches = 0

    def logits(self, batch: PaddedBatch) -> NDArray[np.float32]:
        """float32 [rows, outputs]."""
        mine = self._batches % self._ranks.world == self._ranks.rank
        self._batches += 1
        if mine:
            return self._engine.logits(batch)
        return np.zeros((len(batch.ids), self._outputs), dtype=np.float32)
