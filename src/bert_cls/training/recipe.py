"""The recipe follows the encoder: what is left open in the configuration is decided here.

What was measured stands in docs/benchmarks.md and docs/experiments.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bert_cls.config import RunConfig, TrainingConfig
from bert_cls.data.example import CLASS_TASKS, Task
from bert_cls.encoders.facts import EncoderFacts, Pooling
from bert_cls.losses import LOSSES


class Settled(TrainingConfig):
    """The loop's settings with nothing left open."""

    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    prior_bias: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settled loop, the pooling, and why each open field got its value."""

    training: Settled
    pooling: Pooling
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Rates:
    up_to_width: int
    learning_rate: float
    careful: float
    """the rate where a row has one class, and for losses that break at the other"""
    source: str


# narrower networks want larger rates
_RATES = (
    _Rates(320, 3e-4, 1.5e-4, "not measured; extrapolated from 384"),
    _Rates(512, 2e-4, 1e-4, "measured on multilingual-e5-small, Recipe in docs/benchmarks.md"),
    _Rates(768, 3e-5, 3e-5, "Mosbach et al. 2021 and Sun et al. 2019: 2e-5 to 5e-5"),
    _Rates(10**9, 1e-5, 1e-5, "Mosbach et al. 2021: larger encoders want 1e-5"),
)
_CAREFUL = frozenset({"multilabel_margin"})
"""losses for label sets that learn nothing at the higher rate where most rows have no label"""
_HEAD_FACTOR = 25.0
_FEW_ROWS = 5000
_EPOCHS: dict[str, tuple[int, int, int]] = {
    "fast": (2, 12, 475),
    "balanced": (3, 24, 950),
    "accurate": (8, 40, 1900),
}
"""preset -> fewest passes, most passes, steps to come near to between these"""


def settle(
    config: RunConfig,
    facts: EncoderFacts,
    *,
    task: Task,
    loss: str,
    rows: int,
    preset: str = "balanced",
    student: bool = False,
) -> Recipe:
    """Fill what the configuration leaves open, for an encoder, a task, a loss and so many rows.

    A `student`'s head is its teacher's: it needs no rate of its own and no prior.
    """
    open_fields = config.training.model_dump()
    reasons: dict[str, str] = {}

    def decide(field: str, value: object, reason: str) -> None:
        if open_fields[field] is None:
            open_fields[field] = value
            reasons[f"training.{field}"] = reason

    pooling, why = _pooling(facts)
    if config.encoder.pooling is not None:
        pooling = config.encoder.pooling
    else:
        reasons["encoder.pooling"] = why
    rates = next(r for r in _RATES if facts.width <= r.up_to_width)
    careful = task in CLASS_TASKS or loss in _CAREFUL
    decide(
        "learning_rate",
        rates.careful if careful else rates.learning_rate,
        f"{facts.width} wide, {task}, {loss}: {rates.source}",
    )
    if student:
        decide("head_learning_rate", open_fields["learning_rate"], "the head is the teacher's")
        decide("prior_bias", False, "the head is the teacher's")
    decide(
        "head_learning_rate",
        open_fields["learning_rate"] * _HEAD_FACTOR,
        f"{_HEAD_FACTOR:g} times the encoder's: the head starts from nothing",
    )
    decide(
        "batch_size", 16 if rows < _FEW_ROWS else 32, f"{rows} rows: 16 below {_FEW_ROWS}, else 32"
    )
    least, most, steps = _EPOCHS[preset]
    per_epoch = math.ceil(rows / open_fields["batch_size"])
    wanted = round(steps / max(1, per_epoch))
    decide(
        "epochs",
        min(most, max(least, wanted)),
        f"{rows} rows: at least {least} passes, more for small data, at most {most}",
    )
    decide("prior_bias", *_prior_bias(config, task, loss))
    return Recipe(Settled(**open_fields), pooling, reasons)


def _prior_bias(config: RunConfig, task: Task, loss: str) -> tuple[bool, str]:
    if task == "regression":
        return False, "targets are standardised, so 0 is their mean"
    if not LOSSES[loss].calibrated:
        return False, f"the outputs of {loss} are no log-odds"
    if config.training.sampling == "balanced" and task != "multilabel":
        return False, "classes are drawn evenly"
    return True, "starts at the labels' frequencies instead of one half"


def _pooling(facts: EncoderFacts) -> tuple[Pooling, str]:
    if facts.sentence_pooling is not None:
        return facts.sentence_pooling, f"the encoder was trained with {facts.sentence_pooling}"
    if facts.has_trained_pooler:
        return "cls_pooler", "the encoder brings a trained pooler"
    if facts.family in ("roberta", "xlm-roberta", "modernbert", "distilbert"):
        return "mean", "no trained pooler; mean was better on RoBERTa (Sun et al. reproduction)"
    return "cls", "no trained pooler"
