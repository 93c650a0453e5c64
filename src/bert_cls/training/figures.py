"""The rule and the figures of a run: its own, the linear bar's, a teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

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


def tuned_on(request: Request, setup: Setup, logits: Any, *, calibrated: bool) -> Tuned:
    """The rule for logits of the development rows."""
    decision = request.config.decision
    task = setup.dataset.task
    tuned = tune(
        logits,
        setup.splits["dev"].truth,
        task=task,
        tuner=decision.tuner,
        objective=decision.objective,
        calibrated=calibrated,
        calibrate=decision.calibrate,
        seed=request.config.training.seed,
        min_labels=decision.min_labels,
        max_labels=decision.max_labels,
        priors=_priors(setup),
    )
    rule = with_abstention(
        tuned.rule,
        tuned.rule.scores(logits),
        share=decision.abstain,
        least=decision.min_confidence,
    )
    return replace(tuned, rule=rule)


def _priors(setup: Setup) -> Any:
    """Training shares of the classes; None where training was adjusted to them already."""
    if setup.adjusted or not len(setup.counts):
        return None
    return setup.counts / setup.counts.sum()


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
            train_counts=setup.counts if len(setup.counts) else None,
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
    tuned = tuned_on(request, setup, logits["dev"], calibrated=False)
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
    tuned = tuned_on(request, setup, teaching.held_out["dev"], calibrated=teaching.calibrated)
    return evaluations_of(request, setup, tuned, outcomes_of(setup, tuned, teaching.held_out))
