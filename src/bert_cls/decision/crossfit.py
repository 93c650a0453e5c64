"""Tuning a rule on development logits, and judging it on rows it was not tuned on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bert_cls.data.example import Task
from bert_cls.decision import calibration
from bert_cls.decision.abstain import with_abstention
from bert_cls.decision.objectives import OBJECTIVES, influence, measure
from bert_cls.decision.rule import Activation, Bools, Decided, Floats, Ints, Rule
from bert_cls.decision.tuners import HALF, TUNERS, deal
from bert_cls.errors import DataError, pick

AUTO, FIXED = "auto", "fixed"
"""Of F-measures `auto` takes "fixed" only where no row can be held out: the best cut of calibrated
scores is half the best F (Lipton et al. 2014), so below one half."""
NOISE = 0.5
"""A simpler tuner is kept while the best one leads by no more standard errors than this.

On splits of three data sets 0 was as good on average but followed chance where rows were few, and 1
cost 0.1 points: it kept a shared cut where labels needed their own.
"""
DOUBT = {"power": 1.0, "platt": NOISE}
"""Standard errors by which a calibration must lower the loss further than a temperature does.

Of four sets of classes three gain 1.2 to 3.1 of them by a power; another, with 1 % of its rows
wrong, gains 0.0 to 0.7, and its calibration error is larger with one (.0122 against .0088).
"""
ACCURACY, POSITIVE_F1, MACRO, EXACT = "accuracy", "f1", "macro_f1", "exact_match"
"""What a rule for classes aims at: plain argmax, a cut for the F1 of a binary names[1], or argmax
of scores divided by a power of the prior."""
FOLDS = 5
TAUS = {"argmax": 0.0, "half_adjusted": 0.5, "adjusted": 1.0}
AIMS: dict[Task, tuple[str, ...]] = {
    "multilabel": ("micro_macro", *(name for name in OBJECTIVES if name != "micro_macro")),
    "binary": (ACCURACY, POSITIVE_F1, MACRO),
    "multiclass": (ACCURACY, MACRO),
    "regression": ("none",),
}
"""The objectives of each task, its own first; a regression decides nothing."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned rule and how well it does on rows it was not tuned on."""

    rule: Rule
    """tuned on all rows"""
    crossfit: dict[str, float]
    """the objective of every tuner tried, each row decided by the other folds' thresholds"""
    predicted_crossfit: Decided
    """those decisions for `rule.tuner`, in the form `rule.decide` gives"""
    scores_crossfit: Floats
    """each row's scores, calibrated on the other folds, in the form `rule.scores` gives"""
    notes: tuple[str, ...]
    """sentences for people"""


@dataclass(frozen=True, slots=True)
class _Dev:
    logits: Floats
    """[rows, columns]"""
    cells: Bools
    """truth [rows, labels]; one-hot for classes"""
    fold_of: Ints
    """[rows]"""
    folds: int
    """0 where there are too few rows to hold any out"""


def tune(
    logits: ArrayLike,
    truth: NDArray[Any],
    *,
    task: Task,
    tuner: str = AUTO,
    objective: str | None = None,
    calibrated: bool = True,
    calibrate: str = AUTO,
    seed: int = 0,
    min_labels: int = 0,
    max_labels: int | None = None,
    priors: ArrayLike | None = None,
) -> Tuned:
    """The rule that suits these development rows best, and its decisions on rows it did not see.

    `logits`: [rows, labels]; binary [rows, 2], or [rows, 1] for a sigmoid; regression [rows].
    `truth`: bool [rows, labels] for multilabel, int ids [rows] for classes. `tuner`: "auto" or one
    of TUNERS, which are for rules with thresholds; others have "fixed". `objective`: one of AIMS,
    None for the task's own. `calibrated`: whether the loss aims at probabilities; a temperature is
    fitted if so, slope and offset if not (of classes a temperature all the same, and the rule stays
    uncalibrated), before any threshold and only where they lower the cross-fitted negative log
    likelihood. `calibrate`: none, temperature, power (of classes, with a temperature), platt (a
    slope and offset for each label of multilabel data), or auto: the simplest that is within noise
    of the best.

    Classes are decided by argmax; but binary with objective "f1" has a cut on the score of
    names[1], and with objective "macro_f1" and `priors` [classes] the scores are first divided by
    the prior to the power tau, 0, 1/2 or 1 by cross-fitting (logit adjustment, Menon et al. 2021).
    `priors` are the classes' training shares; leave them out where training was adjusted already.
    DataError where truth does not fit the logits, ConfigError for names the task does not know.
    """
    x = np.asarray(logits)
    methods = _methods(task, calibrate)
    goal = _goal(task, objective)
    untuned = replace(
        _untuned(x, task, goal, calibrated=calibrated), min_labels=min_labels, max_labels=max_labels
    )
    names = _tried(untuned, tuner)
    scores = untuned.scores(x)
    if task == "regression":
        return Tuned(untuned, {}, scores, scores, ())
    dev = _dev(x.astype(np.float64), truth, task, seed=seed)
    rule, held_out, notes = _calibrated(untuned, dev, methods)
    if _is_adjusted(rule) and priors is not None:
        return _adjusted(rule, held_out, dev, np.asarray(priors, dtype=np.float64), notes)
    scores = _scores(untuned, held_out, dev)
    decisions = _decisions(untuned, held_out, dev, names)
    crossfit = {name: measure(*_judged(rule, dev, decided)) for name, decided in decisions.items()}
    if dev.folds and len(names) > 1 and rule.objective != EXACT:
        decisions.pop(FIXED)
    best = _simplest(rule, dev, decisions, crossfit)
    rule = _cut(rule, best, rule.scores(dev.logits), dev.cells)
    said = (*notes, *_remarks(rule, dev, crossfit))
    return Tuned(rule, crossfit, decisions[best], scores, said)


def check_settings(
    task: Task,
    labels: int,
    *,
    tuner: str,
    objective: str | None,
    calibrate: str,
    min_labels: int,
    max_labels: int | None,
    abstain: float | None,
    min_confidence: float | None,
) -> None:
    """ConfigError for settings that the task and its labels cannot use, or that contradict.

    They are used after the last step of a training, and are to be refused before the first.
    """
    _methods(task, calibrate)
    row = np.zeros((1, max(1, labels)))
    rule = replace(
        _untuned(row, task, _goal(task, objective), calibrated=True),
        min_labels=min_labels,
        max_labels=max_labels,
    )
    rule.check_fits(labels)
    _tried(rule, tuner)
    with_abstention(rule, rule.scores(row), share=abstain, least=min_confidence)


def _methods(task: Task, calibrate: str) -> list[str]:
    """The calibrations to try, from simple to free."""
    other = "power" if task == "multilabel" else "platt"
    known = [method for method in calibration.CALIBRATIONS if method != other]
    pick(dict.fromkeys(["none", *known, AUTO], 0), calibrate, f"decision.calibrate of {task} data")
    if calibrate == "none":
        return []
    return known if calibrate == AUTO else [calibrate]


def _goal(task: Task, objective: str | None) -> str:
    known = AIMS[task]
    if objective is None:
        return known[0]
    pick(dict.fromkeys(known, 0), objective, f"decision.objective of {task} data")
    return objective


def _tried(rule: Rule, tuner: str) -> list[str]:
    """The tuners to compare: all where there are thresholds, else the one way to decide."""
    if rule.thresholds:
        if tuner == AUTO:
            return list(TUNERS)
        pick(TUNERS, tuner, "decision.tuner")
        return [tuner]
    known = [AUTO] if _is_adjusted(rule) else [AUTO, FIXED]
    aiming = f"decision.tuner of {rule.task} data with objective {rule.objective}"
    pick(dict.fromkeys(known, 0), tuner, aiming)
    return [rule.tuner]


def _is_adjusted(rule: Rule) -> bool:
    """Whether classes are decided by their scores over a power of the prior."""
    return rule.task != "multilabel" and rule.objective == MACRO


def _untuned(x: NDArray[Any], task: Task, goal: str, *, calibrated: bool) -> Rule:
    columns = x.shape[1] if x.ndim == 2 else 0
    activation: Activation = "softmax"
    thresholds, tuner = (HALF,) * (goal == POSITIVE_F1), "argmax"
    if task == "multilabel":
        activation, thresholds, tuner = "sigmoid", (HALF,) * columns, "fixed"
    elif task == "regression":
        activation, tuner = "identity", "none"
    elif task == "binary" and columns == 1:
        activation = "sigmoid"
    return Rule(
        task=task,
        activation=activation,
        thresholds=thresholds,
        tuner=tuner,
        objective=goal,
        calibrated=calibrated,
    )


def _dev(x: Floats, truth: NDArray[Any], task: Task, *, seed: int) -> _Dev:
    if task == "multilabel":
        if truth.dtype != np.bool_ or truth.shape != x.shape:
            raise DataError(
                f"truth must be bool {list(x.shape)}. "
                f"Got {truth.dtype} {list(truth.shape)} instead."
            )
        cells = truth
    else:
        labels = max(2, x.shape[1])
        fits = truth.shape == (len(x),) and np.issubdtype(truth.dtype, np.integer)
        if not fits or not ((truth >= 0) & (truth < labels)).all():
            raise DataError(f"truth must be {len(x)} ids from 0 to {labels - 1}.")
        cells = np.arange(labels) == truth[:, None]
    folds = min(FOLDS, len(x)) if len(x) > 1 else 0
    return _Dev(x, cells, deal(x, cells, folds=max(folds, 1), seed=seed), folds)


def _calibrated(rule: Rule, dev: _Dev, methods: list[str]) -> tuple[Rule, list[Rule], list[str]]:
    """The rule calibrated on all rows, the same without each fold, and what to say of it."""
    folds = [dev.fold_of == fold for fold in range(dev.folds)]
    kept, parts, name = _losses([rule] * dev.folds, dev, folds), [rule] * dev.folds, ""
    before = float(kept.mean()) if folds else 0.0
    for method in methods if folds else ():
        fit = calibration.CALIBRATIONS[method]
        tried = [fit(rule, dev.logits[~held], dev.cells[~held]) for held in folds]
        losses = _losses(tried, dev, folds)
        gain = kept - losses
        # from the second method on it must beat a simpler one that was already taken
        least = DOUBT[method] if name else 0.0
        doubt = least * float(gain.std()) * float(np.sqrt(len(gain))) / len(gain)
        if gain.mean() > doubt:
            kept, parts, name = losses, tried, method
    if not name:
        return rule, parts, []
    whole = calibration.CALIBRATIONS[name](rule, dev.logits, dev.cells)
    if whole == rule:  # all rows together leave nothing to mend: then the folds must not either
        return rule, [rule] * dev.folds, []
    found = f"temperature {whole.temperature:.3g}" + (f", bias {whole.bias:.3g}" * bool(whole.bias))
    found += f", power {whole.power:.3g}" * (whole.power != 1)
    if whole.slopes:
        found = "a slope and offset for each label"
    after = float(kept.mean())
    said = [f"{found}: cross-fitted negative log likelihood {before:.4f} -> {after:.4f}."]
    if not whole.calibrated:
        said.append(
            "the scores order rows and are no probabilities: the loss may favour some classes, "
            "which one temperature leaves as it is."
        )
    return whole, parts, said


def _losses(rules: list[Rule], dev: _Dev, folds: list[Bools]) -> Floats:
    """Each row's loss under the rule of its fold, float64 [rows]."""
    out = np.zeros(len(dev.logits))
    for rule, held in zip(rules, folds, strict=True):
        out[held] = calibration.row_losses(rule, dev.logits[held], dev.cells[held])
    return out


def _adjusted(
    rule: Rule, held_out: list[Rule], dev: _Dev, priors: Floats, notes: list[str]
) -> Tuned:
    """Classes by their scores over a power of the prior, the power chosen by cross-fitting."""
    rules = {name: _weighed(rule, priors, tau) for name, tau in TAUS.items()}
    decisions = {name: r.decide(r.scores(dev.logits)) for name, r in rules.items()}
    for fold, part in enumerate(held_out):
        held = dev.fold_of == fold
        for name, tau in TAUS.items():
            weighed = _weighed(part, priors, tau)
            decisions[name][held] = weighed.decide(weighed.scores(dev.logits[held]))
    crossfit = {name: measure(*_judged(rule, dev, made)) for name, made in decisions.items()}
    best = _simplest(rule, dev, decisions, crossfit)
    tried = ", ".join(f"{name} {value:.4f}" for name, value in crossfit.items())
    said = f"decision: {best}, the simplest within noise; {MACRO} {tried}."
    scores = _scores(rule, held_out, dev)
    rule = replace(rules[best], tuner=best)
    return Tuned(rule, crossfit, decisions[best], scores, (*notes, said))


def _weighed(rule: Rule, priors: Floats, tau: float) -> Rule:
    """The rule whose scores are divided by prior ** tau before the highest is taken."""
    if tau == 0:
        return rule
    weights = np.clip(priors, 1e-9, None) ** -tau
    return replace(rule, weights=tuple((weights / weights.max()).tolist()))


def _cut(rule: Rule, tuner: str, scores: Floats, cells: Bools) -> Rule:
    """The rule with the thresholds of one tuner on these rows, if it has thresholds."""
    if not rule.thresholds:
        return rule
    if rule.task == "binary":
        scores, cells = scores[:, 1:], cells[:, 1:]
    thresholds = TUNERS[tuner](scores, cells, _MEASURED.get(rule.objective, rule.objective))
    return replace(rule, thresholds=tuple(thresholds.tolist()), tuner=tuner)


def _scores(untuned: Rule, held_out: list[Rule], dev: _Dev) -> Floats:
    """Every row's scores calibrated without the row's fold; without folds, uncalibrated."""
    scores = untuned.scores(dev.logits)
    for fold, rule in enumerate(held_out):
        held = dev.fold_of == fold
        scores[held] = rule.scores(dev.logits[held])
    return scores


def _decisions(
    untuned: Rule, held_out: list[Rule], dev: _Dev, names: list[str]
) -> dict[str, Decided]:
    """Every row's decision by each tuner without the row's fold; without folds, untuned.

    `held_out` has one calibrated rule a fold, fitted to the rows outside it.
    """
    start = untuned.decide(untuned.scores(dev.logits))
    decisions = {name: start.copy() for name in names}
    for fold, rule in enumerate(held_out):
        held = dev.fold_of == fold
        scores = rule.scores(dev.logits)
        for name in names:
            tuned = _cut(rule, name, scores[~held], dev.cells[~held])
            decisions[name][held] = tuned.decide(scores[held])
    return decisions


def _judged(rule: Rule, dev: _Dev, decided: Decided) -> tuple[str, Bools, Bools]:
    """What `measure` and `influence` take: objective, predicted and true cells."""
    objective = _MEASURED.get(rule.objective, rule.objective)
    if rule.objective == POSITIVE_F1:
        return objective, decided[:, None] == 1, dev.cells[:, 1:]
    if rule.objective in (ACCURACY, MACRO) and rule.task != "multilabel":
        return objective, decided[:, None] == np.arange(dev.cells.shape[1]), dev.cells
    return objective, decided == 1, dev.cells


def _simplest(
    rule: Rule, dev: _Dev, decisions: dict[str, Decided], crossfit: dict[str, float]
) -> str:
    """The first of these tuners that the best one does not beat by more than noise."""
    best = max(decisions, key=lambda name: crossfit[name])
    best_moves = influence(*_judged(rule, dev, decisions[best]))
    for name, decided in decisions.items():
        moves = best_moves - influence(*_judged(rule, dev, decided))
        if crossfit[best] - crossfit[name] <= NOISE * float(np.sqrt(moves @ moves)):
            return name
    return best


def _remarks(rule: Rule, dev: _Dev, crossfit: dict[str, float]) -> list[str]:
    said = []
    if len(crossfit) > 1:
        tried = ", ".join(f"{name} {value:.4f}" for name, value in crossfit.items())
        tried += ", fixed for comparison" * (rule.objective != EXACT)
        said.append(
            f"thresholds: {rule.tuner}, the simplest within noise; {rule.objective} {tried}."
        )
    if rule.thresholds and not dev.folds:
        said.append(f"development rows: {len(dev.logits)}; too few to judge thresholds on.")
    absent = int((~dev.cells.any(axis=0)).sum())
    if rule.task == "multilabel" and absent:
        said.append(f"labels without a development row: {absent}; they have the shared threshold.")
    return said


_MEASURED = {ACCURACY: EXACT, POSITIVE_F1: "micro_f1"}
