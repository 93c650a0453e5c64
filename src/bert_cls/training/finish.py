"""After the last step: thresholds, figures, the linear bar, the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.decision import Tuned
from bert_cls.decision.domain import FILE as DOMAIN_FILE
from bert_cls.decision.domain import learn
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.folders import write_file
from bert_cls.locks import Lock
from bert_cls.metrics import Evaluation, Outcome
from bert_cls.metrics.collapse import ALARM
from bert_cls.report import About, LinearBar, ReportData, Split, judge, page, report_data
from bert_cls.request import Request
from bert_cls.sample import SAMPLE, sample_bytes
from bert_cls.training.checkpoint import writing
from bert_cls.training.claim import REPORT, REPORT_JSON, check_in_place
from bert_cls.training.figures import bars_of, evaluations_of, outcomes_of, teacher_of, tuned_on
from bert_cls.training.loop import EpochResult, Observer, Trainer
from bert_cls.training.model_files import details, model_files
from bert_cls.training.ranks import agree
from bert_cls.training.setup import Setup, logits_of
from bert_cls.training.spoken import nearest_by, spoken_by
from bert_cls.training.start import unscale


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run gives besides the model folder."""

    bundle: Bundle
    evaluations: Mapping[str, Evaluation]
    """`test` where there are test rows; `dev` from cross-fitted scores and decisions"""
    bars: Mapping[str, LinearBar]
    """the linear bar on the same rows, tuned the same way"""
    teacher: Mapping[str, Evaluation]
    """of a student: its teacher's figures on the same rows, tuned the same way"""
    tuned: Tuned
    history: list[EpochResult]


def finish(
    request: Request,
    setup: Setup,
    trainer: Trainer,
    origins: Mapping[str, str],
    observer: Observer,
    lock: Lock,
) -> Trained:
    """Tune on dev in float32, evaluate, train the bar, and (the first rank) write the folder."""
    if setup.dataset.task == "regression":
        unscale(setup.network, setup.scale)
    observer.phase("tuning on dev")
    engine = TorchEngine(setup.network, precision="float32", device=trainer.device)
    logits = {
        name: logits_of(engine, setup, name, trainer.ranks)
        for name in ("dev", "test")
        if name in setup.splits
    }
    calibrated = trainer.loss.calibrated
    tuned = tuned_on(request, setup, logits["dev"], calibrated=calibrated, adjusted=setup.adjusted)
    for note in tuned.notes:
        observer.noticed(note)
    observer.phase("evaluating")
    outcomes = outcomes_of(setup, tuned, logits)
    evaluations = evaluations_of(request, setup, tuned, outcomes, by_tokens=True)
    for note in evaluations["dev"].notes:
        if note.startswith(ALARM):
            observer.noticed(f"on dev: {note.removeprefix(ALARM)}")
    teacher = teacher_of(request, setup)
    bars: dict[str, LinearBar] = {}
    if request.config.report.linear_bar:
        observer.phase("training the linear bar")
        bars = bars_of(request, setup, outcomes, evaluations)
    bundle = Bundle(
        folder=request.output,
        space=setup.dataset.space,
        rule=tuned.rule,
        text=setup.text.settings,
        pooling=setup.recipe.pooling,
        pair=setup.dataset.pair,
        pad_id=setup.pad_id,
        details=details(request, setup, trainer, origins, tuned),
        merges=setup.dataset.merges,
    )
    trained = Trained(bundle, evaluations, bars, teacher, tuned, trainer.progress.history)
    if trainer.ranks.rank == 0:
        observer.phase("making the report")
        found = _report(request, setup, trainer, trained, engine, logits, outcomes)
        observer.phase("writing the model")
        _write(request, setup, trained, logits, found, lock)
    agree(trainer.ranks, "the end of the run")
    return trained


def _write(
    request: Request,
    setup: Setup,
    trained: Trained,
    logits: Mapping[str, Any],
    found: ReportData,
    lock: Lock,
) -> None:
    """The model folder, and the report beside it."""
    figures = {
        "evaluations": {name: e.to_dict() for name, e in trained.evaluations.items()},
        "linear_bar": {name: e.to_dict() for name, e in trained.bars.items()},
    }
    if trained.teacher:
        figures["teacher"] = {name: e.to_dict() for name, e in trained.teacher.items()}
    files = model_files(setup)
    files["evaluation.json"] = orjson.dumps(figures, option=orjson.OPT_INDENT_2)
    if setup.dataset.task != "regression":
        domain = learn(logits["dev"], setup.splits["dev"].truth)
        if domain is not None:
            files[DOMAIN_FILE] = domain.to_bytes()
    if rows := request.config.export.calibration_rows:
        kept = {n: s.tokens for n, s in setup.splits.items() if n != "test"}
        files[SAMPLE] = sample_bytes(kept, rows, seed=request.config.training.seed)
    report = page(found).encode("utf-8")
    with writing(request.output, need=len(report) + sum(map(len, files.values()))):
        check_in_place(lock)
        write_file(request.output / REPORT, report)
        bare = found.without_texts().to_dict()
        write_file(request.output / REPORT_JSON, orjson.dumps(bare, option=orjson.OPT_INDENT_2))
        bundles.save(trained.bundle, files)  # last: from then on there is nothing to go on with


def _report(
    request: Request,
    setup: Setup,
    trainer: Trainer,
    trained: Trained,
    engine: TorchEngine,
    logits: Mapping[str, Any],
    outcomes: Mapping[str, Outcome],
) -> ReportData:
    """The report on the test rows, or where there are none on the dev rows, cross-fitted."""
    split: Split = "test" if "test" in setup.splits else "dev"
    rows, settings = setup.splits[split], request.config.report
    judged = judge(
        trained.tuned.rule,
        rows.examples,
        rows.tokens,
        rows.truth,
        logits[split],
        outcome=outcomes[split],
    )
    return report_data(
        judged,
        trained.evaluations[split],
        trained.bundle,
        about=About.today(request.output, request.data, split),
        linear_bar=trained.bars.get(split),
        texts=settings.texts,
        explain=spoken_by(engine, setup, trainer, trained.tuned.rule) if settings.explain else None,
        nearest=nearest_by(engine, setup, trainer, settings.neighbours),
    )
