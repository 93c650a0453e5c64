"""The rule and the figures of a run: its own, the linear bar's, a teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bert_cls.config import RunConfig
from bert_cls.data import Task
from bert_cls.decision import Tuned, tune, with_abstention
from bert_cls.judging import figures_of
from bert_cls.metrics import (
    HEADLINES,
    Evaluation,
    Outcome,
    PairedDifference,
    paired_differences,
)
from bert_cls.report import LinearBar
from bert_cls.request import Request
from bert_cls.training.setup import Setup


def tuned(
    config: RunConfig,
    task: Task,
    logits: ArrayLike,
    truth: NDArray[Any],
    *,
    calibrated: bool,
    adjusted: bool,
    counts: ArrayLike,
) -> Tuned:
    """The rule for logits of the development rows, by a run's settings, without abstaining.

    `counts` [labels] are the training rows of each label, empty for regression; `adjusted` where
    training made up for rare classes already.
    """
    rows = np.asarray(counts, dtype=np.float64)
    return tune(
        logits,
        truth,
        task=task,
        tuner=config.decision.tuner,
        objective=config.decision.objective,
        calibrated=calibrated,
        calibrate=config.decision.calibrate,
        seed=config.training.seed,
        min_labels=config.decision.min_labels,
        max_labels=config.decision.max_labels,
        priors=None if adjusted or not len(rows) else rows / rows.sum(),
    )


def tuned_on(
    request: Request, setup: Setup, logits: Any, *, calibrated: bool, adjusted: bool
) -> Tuned:
    """The rule for logits of the development rows of a run."""
    decision = request.config.decision
    found = tuned(
        request.config,
        setup.dataset.task,
        logits,
        setup.splits["dev"].truth,
        calibrated=calibrated,
        adjusted=adjusted,
        counts=setup.statistics.counts,
    )
    rule = with_abstention(
        found.rule,
        found.rule.scores(logits),
        share=decision.abstain,
        least=decision.min_confidence,
    )
    return replace(found, rule=rule)


def evaluations_of(
    request: Request,
    setup: Setup,
    tuned: Tuned,
    outcomes: Mapping[str, Outcome],
    *,
    by_tokens: bool = False,
) -> dict[str, Evaluation]:
    """Figures of each split's outcome; `by_tokens`: of the rows as they are cut, not whole."""
    return {
        name: figures_of(
            outcome,
            tuned.rule,
            setup.dataset.space,
            cut=setup.splits[name].tokens.cut & by_tokens,
            text=setup.text.settings,
            train_counts=setup.statistics.counts if len(setup.dataset.space) else None,
            resamples=request.config.report.resamples,
            seed=request.config.training.seed,
        )
        for name, outcome in outcomes.items()
    }


def outcomes_of(setup: Setup, tuned: Tuned, logits: Mapping[str, Any]) -> dict[str, Outcome]:
    """Scores and decisions of each split's logits; on dev both by cross-fitting."""
    out = {}
    for name, values in logits.items():
        scores, predicted = tuned.scores_crossfit, tuned.predicted_crossfit
        if name != "dev":
            scores = tuned.rule.scores(values)
            predicted = tuned.rule.decide(scores)
        out[name] = Outcome(setup.dataset.task, setup.splits[name].truth, scores, predicted)
    return out


def bars_of(
    request: Request,
    setup: Setup,
    outcomes: Mapping[str, Outcome],
    models: Mapping[str, Evaluation],
) -> dict[str, LinearBar]:
    """The linear bar's figures, trained and tuned on the same rows, and the model's lead.

    `outcomes` and `models` are what the model said of each split, and its figures.
    """
    from bert_cls import baseline  # scikit-learn takes a second to import

    dataset = setup.dataset
    bar = baseline.fit(
        list(setup.splits["train"].examples),
        dataset.task,
        dataset.space,
        seed=request.config.training.seed,
    )
    logits = {n: bar.logits(list(s.examples)) for n, s in setup.splits.items() if n != "train"}
    tuned = tuned_on(request, setup, logits["dev"], calibrated=False, adjusted=False)
    of_bar = outcomes_of(setup, tuned, logits)
    evaluations = evaluations_of(request, setup, tuned, of_bar)
    return {
        name: LinearBar(
            evaluation,
            _lead(request, outcomes[name], of_bar[name], (models[name], evaluation)),
        )
        for name, evaluation in evaluations.items()
    }


def _lead(
    request: Request, model: Outcome, bar: Outcome, figures: Sequence[Evaluation]
) -> tuple[PairedDifference, ...]:
    """The model minus the bar in every headline metric that both have figures of."""
    if not (resamples := request.config.report.resamples):
        return ()
    seed = request.config.training.seed
    metrics = [m for m in HEADLINES[model.task] if all(e.metrics[m] is not None for e in figures)]
    found, _ = paired_differences(model, bar, metrics, resamples=resamples, seed=seed)
    return tuple(found)


def teacher_of(request: Request, setup: Setup) -> dict[str, Evaluation]:
    """A student's teacher on the same rows, tuned the same way; nothing for other runs."""
    if (teaching := setup.teaching) is None:
        return {}
    tuned = tuned_on(
        request,
        setup,
        teaching.held_out["dev"],
        calibrated=teaching.calibrated,
        adjusted=teaching.adjusted,
    )
    return evaluations_of(request, setup, tuned, outcomes_of(setup, tuned, teaching.held_out))
