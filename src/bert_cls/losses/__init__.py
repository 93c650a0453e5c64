"""Losses: which there are, which task each is for, and how one is made.

loss = make_loss("bce", "multilabel", statistics)
loss(logits, targets).sum() / rows_of_the_effective_batch
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.example import CLASS_TASKS, Task
from bert_cls.errors import ConfigError, pick
from bert_cls.losses.contract import (
    UNKNOWN,
    Formula,
    LabelStatistics,
    Loss,
    LossSpec,
    Option,
    OptionValue,
    label_statistics,
    priors,
    without_statistics,
)
from bert_cls.losses.distillation import DIVERGENCES, distilled, pack
from bert_cls.losses.elementwise import (
    asl,
    bce,
    focal,
    hill,
    make_bce_weighted,
    make_class_balanced,
    make_distribution_balanced,
)
from bert_cls.losses.multiclass import cross_entropy, focal_softmax, make_logit_adjustment
from bert_cls.losses.regression import huber, mse
from bert_cls.losses.rowwise import multilabel_margin, zlpr
from bert_cls.losses.weights import WEIGHTED, label_weights

__all__ = [
    "ALIASES",
    "DIVERGENCES",
    "LOSSES",
    "UNKNOWN",
    "Formula",
    "LabelStatistics",
    "Loss",
    "label_statistics",
    "label_weights",
    "make_distillation",
    "make_loss",
    "pack",
    "priors",
    "resolve_name",
    "resolve_options",
]


def resolve_name(name: str, task: Task) -> str:
    """The registry name of a loss given by that name or by its torch class name.

    ConfigError when there is no such loss or it is not for this task.
    """
    found = ALIASES.get(name, name)
    fitting = sorted(n for n, spec in LOSSES.items() if task in spec.tasks)
    if found in fitting:
        return found
    if found in LOSSES:
        hints = [f"{name!r} is for {' and '.join(sorted(LOSSES[found].tasks))} data."]
    else:
        aliases = [alias for alias, target in ALIASES.items() if target in fitting]
        near = difflib.get_close_matches(name, [*fitting, *aliases], n=1)
        hints = [f"did you mean {known!r}?" for known in near]
    raise ConfigError(
        f"--loss must be one of {fitting} for {task} data. Got {name!r} instead.",
        hint=hints[0] if hints else None,
    )


def resolve_options(name: str, options: Mapping[str, object]) -> dict[str, OptionValue]:
    """Every option of the loss called `name`, given or default; numbers as float.

    ConfigError for an unknown option, a number out of range, or a switch that is not a bool.
    """
    spec = pick(LOSSES, name, "--loss")
    resolved = spec.defaults
    if options and not resolved:
        raise ConfigError(f"loss {name!r} must have no options. Got {sorted(options)} instead.")
    for key, value in options.items():
        option = pick(spec.options, key, f"option of loss {name!r}")
        resolved[key] = _checked(f"option {key!r} of loss {name!r}", option, value)
    return resolved


def _checked(what: str, option: Option, value: object) -> OptionValue:
    """`value` if `option` allows it, else ConfigError."""
    if isinstance(option.default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{what} must be true or false. Got {value!r} instead.")
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if option.low <= number <= option.high:
            return number
    raise ConfigError(
        f"{what} must be a number from {option.low:g} to {option.high:g}. Got {value!r} instead."
    )


def make_loss(
    name: str,
    task: Task,
    statistics: LabelStatistics,
    *,
    options: Mapping[str, object] = {},
    weights: NDArray[np.float64] | None = None,
) -> Loss:
    """The loss called `name` for this task, told how often each label occurs in training.

    `weights` float64 [labels] are those of `label_weights`; with them, as with other than default
    options, the loss is not calibrated. ConfigError for a name or option that does not fit, or
    fewer labels than the task can be learnt with: two for classes, one for multilabel data.
    """
    return _made(name, task, statistics, options, weights)


def make_distillation(
    name: str,
    task: Task,
    statistics: LabelStatistics,
    *,
    options: Mapping[str, object] = {},
    weights: NDArray[np.float64] | None = None,
    temperature: float,
    label_weight: float,
) -> Loss:
    """The loss called `name` on labelled rows, mixed with the divergence from a teacher's logits.

    Its targets are what `pack` gives. `label_weight` within [0, 1] is the share of `name` in the
    loss of a labelled row; `temperature` softens teacher and student alike.
    """
    mixed = partial(distilled, task=task, temperature=temperature, label_weight=label_weight)
    return _made(name, task, statistics, options, weights, mixed)


def _made(
    name: str,
    task: Task,
    statistics: LabelStatistics,
    options: Mapping[str, object],
    weights: NDArray[np.float64] | None,
    mixed: Callable[[Formula], Formula] = lambda formula: formula,
) -> Loss:
    """The entry of LOSSES with its options, given or default; its formula may be `mixed`."""
    resolved = resolve_name(name, task)
    spec = LOSSES[resolved]
    filled = resolve_options(resolved, options)
    least = 2 if task in CLASS_TASKS else 1
    if (outputs := _outputs(task, statistics)) < least:
        raise ConfigError(f"{task} data must have at least {least} labels. Got {outputs} instead.")
    formula = spec.make(statistics, **filled)
    if weights is not None:
        formula = Formula(formula.per_row, {**formula.buffers, WEIGHTED[resolved]: weights})
    loss = Loss(resolved, spec, mixed(formula), outputs=outputs, options=filled)
    loss.calibrated = loss.calibrated and weights is None
    return loss


def _outputs(task: Task, statistics: LabelStatistics) -> int:
    return 1 if task == "regression" else len(statistics.counts)


_LABEL_SETS: frozenset[Task] = frozenset({"multilabel"})
_NUMBERS: frozenset[Task] = frozenset({"regression"})

_GAMMA = Option(2.0, "how strongly cells that are already right are played down; 0: not", 0, 10)

LOSSES: dict[str, LossSpec] = {
    "cross_entropy": LossSpec(
        tasks=CLASS_TASKS,
        make=without_statistics(cross_entropy),
        calibrated=True,
        source="torch.nn.CrossEntropyLoss, apart from class weights: how they are averaged, and "
        "what they do to label smoothing",
        options={
            "label_smoothing": Option(0.0, "share of the target spread over all classes", 0, 0.99),
        },
    ),
    "focal_softmax": LossSpec(
        tasks=CLASS_TASKS,
        make=without_statistics(focal_softmax),
        calibrated=False,
        source="Lin et al. 2017, Focal Loss for Dense Object Detection, over a softmax",
        options={"gamma": _GAMMA},
    ),
    "logit_adjustment": LossSpec(
        tasks=CLASS_TASKS,
        make=make_logit_adjustment,
        calibrated=False,
        source="Menon et al. 2021, Long-tail learning via logit adjustment",
        options={"tau": Option(1.0, "how much of the log prior is added in training", 0, 10)},
    ),
    "bce": LossSpec(
        tasks=_LABEL_SETS,
        make=without_statistics(bce),
        calibrated=True,
        source="torch.nn.BCEWithLogitsLoss; torch.nn.MultiLabelSoftMarginLoss is the same",
        options={
            "label_smoothing": Option(
                0.0, "share of a row's positives spread over all labels", 0, 0.99
            ),
        },
    ),
    "bce_weighted": LossSpec(
        tasks=_LABEL_SETS,
        make=make_bce_weighted,
        calibrated=False,
        source="torch.nn.BCEWithLogitsLoss with pos_weight",
        options={"cap": Option(20.0, "greatest weight of a positive", 1, 1e4)},
    ),
    "focal": LossSpec(
        tasks=_LABEL_SETS,
        make=without_statistics(focal),
        calibrated=False,
        source="Lin et al. 2017, Focal Loss for Dense Object Detection",
        options={
            "gamma": _GAMMA,
            "alpha": Option(0.5, "share of positives against negatives; 0.5: the same", 0.01, 0.99),
        },
    ),
    "asl": LossSpec(
        tasks=_LABEL_SETS,
        make=without_statistics(asl),
        calibrated=False,
        source="Ridnik et al. 2021, Asymmetric Loss For Multi-Label Classification",
        options={
            "gamma_negative": Option(4.0, "how strongly easy negatives are played down", 0, 10),
            "gamma_positive": Option(0.0, "how strongly easy positives are played down", 0, 10),
            "clip": Option(0.05, "negatives below this probability cost nothing", 0, 0.5),
            "detach_focus": Option(False, "no gradient through the focusing powers"),
        },
    ),
    "class_balanced": LossSpec(
        tasks=_LABEL_SETS,
        make=make_class_balanced,
        calibrated=True,
        source="Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples",
        options={
            "beta": Option(0.9999, "0: labels weigh the same; near 1: by 1 / rows", 0, 0.999999),
            "gamma": Option(0.0, "focal power; 0: binary cross-entropy", 0, 10),
        },
    ),
    "distribution_balanced": LossSpec(
        tasks=_LABEL_SETS,
        make=make_distribution_balanced,
        calibrated=False,
        source="Wu et al. 2020, Distribution-Balanced Loss; Huang et al. 2021 for text",
        options={
            "alpha": Option(0.1, "least weight of a cell", 0, 10),
            "beta": Option(10.0, "steepness of the weight", 0, 100),
            "mu": Option(0.9, "ratio at which the weight is half way; 0.05 for many labels", 0, 1),
            "scale": Option(2.0, "how much sooner negatives are forgiven", 1, 10),
            "kappa": Option(0.05, "how far logits are moved against the prior", 0, 1),
            "gamma": _GAMMA,
        },
    ),
    "zlpr": LossSpec(
        tasks=_LABEL_SETS,
        make=without_statistics(zlpr),
        calibrated=False,
        source="Su et al. 2022, ZLPR: A Novel Loss for Multi-label Classification",
    ),
    "hill": LossSpec(
        tasks=_LABEL_SETS,
        make=without_statistics(hill),
        calibrated=False,
        source="Zhang et al. 2021, Simple and Robust Loss Design for Missing Labels",
        options={
            "gamma": _GAMMA,
            "margin": Option(1.0, "how far beyond 0 positives are pushed", 0, 10),
            "limit": Option(1.5, "negatives above 2/3 of it are taken for missing labels", 1, 10),
        },
    ),
    "multilabel_margin": LossSpec(
        tasks=_LABEL_SETS,
        make=without_statistics(multilabel_margin),
        calibrated=False,
        source="torch.nn.MultiLabelMarginLoss; the label at 0 as in calibrated label ranking, "
        "Fürnkranz et al. 2008",
        options={"virtual_zero": Option(True, "compare every label with a label at logit 0 too")},
    ),
    "mse": LossSpec(
        tasks=_NUMBERS,
        make=without_statistics(mse),
        calibrated=False,
        source="torch.nn.MSELoss",
    ),
    "huber": LossSpec(
        tasks=_NUMBERS,
        make=without_statistics(huber),
        calibrated=False,
        source="torch.nn.HuberLoss; torch.nn.SmoothL1Loss is the same at delta 1",
        options={"delta": Option(1.0, "error from which the cost grows linearly", 1e-3, 1e6)},
    ),
}

ALIASES: dict[str, str] = {
    "BCEWithLogitsLoss": "bce",
    "CrossEntropyLoss": "cross_entropy",
    "HuberLoss": "huber",
    "MSELoss": "mse",
    "MultiLabelMarginLoss": "multilabel_margin",
    "MultiLabelSoftMarginLoss": "bce",
    "SmoothL1Loss": "huber",
}
