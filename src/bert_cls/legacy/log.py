"""The old program's log lines: `2019-11-28 10:15:02,123 : INFO : ...` on standard error."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bert_cls.errors import printable

if TYPE_CHECKING:
    from bert_cls.training import EpochResult, Progress

LOG = logging.getLogger("bert_cls.legacy")
FORMAT = "%(asctime)s : %(levelname)s : %(message)s"


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Inside, LOG writes to standard error, and only there."""
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(logging.Formatter(FORMAT))
    before = LOG.level, LOG.propagate
    LOG.addHandler(target)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(target)
        LOG.level, LOG.propagate = before


def say(level: Callable[[str], None], text: str) -> None:
    """Log a text of several lines, each with its own time and level."""
    for line in text.splitlines():
        level(printable(line))


class LogObserver:
    """Tells of a training run as the old program did, `reword` being how it says a message."""

    def __init__(self, *, batch_size: int, reword: Callable[[str], str] = str) -> None:
        self.batch_size = batch_size
        self._reword = reword
        self._steps = 0

    def phase(self, message: str) -> None:
        """What is being done now."""
        say(LOG.info, self._reword(message))

    def noticed(self, message: str) -> None:
        """Something a user must know."""
        say(LOG.warning, self._reword(message))

    def started(self, *, steps: int, rows: int, precision: str) -> None:
        """Before the first step."""
        self._steps = steps
        LOG.info("***** Running training *****")
        LOG.info("  Num examples = %d", rows)
        LOG.info("  Num Epochs = %.3g", steps / math.ceil(rows / self.batch_size))
        LOG.info("  Total train batch size = %d", self.batch_size)
        LOG.info("  Total optimization steps = %d", steps)
        LOG.info("  Precision = %s", precision)

    def stepped(
        self, progress: Progress, *, loss: float, rate: float, rows_per_second: float
    ) -> None:
        """Every `--logging_steps` steps."""
        LOG.info(
            "step = %d of %d, epoch = %d, loss = %.4f, learning_rate = %.3g, rows/s = %.0f",
            progress.step,
            self._steps,
            progress.epoch + 1,
            loss,
            rate,
            rows_per_second,
        )

    def evaluated(self, result: EpochResult, *, best: bool) -> None:
        """After each epoch."""
        score = "" if result.score is None else f", dev score = {result.score:z.4f}"
        LOG.info(
            "epoch %d done: global_step = %d, average loss = %.4f%s%s",
            result.epoch,
            result.step,
            result.loss,
            score,
            " (best)" if best else "",
        )
