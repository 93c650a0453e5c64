"""After the last step: thresholds, figures, the linear bar, the model folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import orjson
from safetensors.torch import save as to_bytes

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.data import Task
from bert_cls.decision import Domain, Tuned, confidence, tune, with_abstention
from bert_cls.decision.domain import FILE as DOMAIN_FILE
from bert_cls.decision.domain import learn
from bert_cls.encoders.facts import FAMILIES
from bert_cls.encoders.limits import NETWORK_KEYS
from bert_cls.encoders.tokenizer_files import kept_settings
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.folders import write_file
from bert_cls.metrics import Evaluation, evaluate
from bert_cls.metrics.collapse import ALARM
from bert_cls.network import tensors_by_name
from bert_cls.report import About, ReportData, Split, judge, page, report_data
from bert_cls.request import Request
from bert_cls.sample import SAMPLE, sample_bytes
from bert_cls.text import tokenizer_json
from bert_cls.training.checkpoint import writing
from bert_cls.training.loop import EpochResult, Observer, Trainer
from bert_cls.training.ranks import agree
from bert_cls.training.setup import Setup, logits_of
from bert_cls.training.start import unscale

DEFAULT_OBJECTIVE: dict[Task, str] = {
    "multilabel": "micro_macro",
    "binary": "accuracy",
    "multiclass": "accuracy",
    "regression": "accuracy",
}
REPORT = "report.html"
_PACKAGES = ("bert-cls", "torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run gives besides the model folder."""

    bundle: Bundle
    evaluations: Mapping[str, Evaluation]
    """`test` where there are test rows; `dev` from cross-fitted decisions"""
    bars: Mapping[str, Evaluation]
    """the linear bar on the same rows, tuned the same way"""
    teacher: Mapping[str, Evaluation]
    """of a student: its teacher's figures on the same rows, tuned the same way"""
    tuned: Tuned
    history: list[EpochResult]


def finish(
    request: Request, setup: Setup, trainer: Trainer, origins: Mapping[str, str], observer: Observer
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
    tuned = _tune(request, setup, logits["dev"], calibrated=trainer.loss.calibrated)
    for note in tuned.notes:
        observer.noticed(note)
    observer.phase("evaluating")
    evaluations = _evaluations(request, setup, tuned, logits)
    for note in evaluations["dev"].notes:
        if note.startswith(ALARM):
            observer.noticed(f"on dev: {note.removeprefix(ALARM)}")
    teacher = _teacher(request, setup)
    bars: dict[str, Evaluation] = {}
    if request.config.report.linear_bar:
        observer.phase("training the linear bar")
        bars = _bars(request, setup)
    bundle = Bundle(
        folder=request.output,
        space=setup.dataset.space,
        rule=tuned.rule,
        text=setup.text.settings,
        pooling=setup.recipe.pooling,
        pair=setup.dataset.pair,
        pad_id=setup.pad_id,
        details=_details(request, setup, trainer, origins, tuned),
    )
    figures = {
        "evaluations": {name: e.to_dict() for name, e in evaluations.items()},
        "linear_bar": {name: e.to_dict() for name, e in bars.items()},
    }
    if teacher:
        figures["teacher"] = {name: e.to_dict() for name, e in teacher.items()}
    files = model_files(setup) | {
        "evaluation.json": orjson.dumps(figures, option=orjson.OPT_INDENT_2)
    }
    if domain := _domain(setup, logits["dev"]):
        files[DOMAIN_FILE] = domain.to_bytes()
    if rows := request.config.export.calibration_rows:
        kept = {n: s.tokens for n, s in setup.splits.items() if n != "test"}
        files[SAMPLE] = sample_bytes(kept, rows, seed=request.config.training.seed)
    if trainer.ranks.rank == 0:
        observer.phase("writing the model and its report")
        shown = "test" if "test" in evaluations else "dev"
        found = _report(
            request, setup, bundle, tuned, logits[shown], evaluations[shown], bars.get(shown)
        )
        with writing(request.output, need=sum(map(len, files.values()))):
            bundles.save(bundle, files)
            write_file(request.output / REPORT, page(found).encode("utf-8"))
    agree(trainer.ranks, "the end of the run")
    return Trained(bundle, evaluations, bars, teacher, tuned, trainer.progress.history)


def _report(
    request: Request,
    setup: Setup,
    bundle: Bundle,
    tuned: Tuned,
    logits: Any,
    evaluation: Evaluation,
    bar: Evaluation | None,
) -> ReportData:
    """The report on the test rows, or where there are none on the dev rows, cross-fitted."""
    split: Split = "test" if "test" in setup.splits else "dev"
    rows = setup.splits[split]
    judged = judge(
        tuned.rule,
        rows.examples,
        rows.tokens,
        rows.truth,
        logits,
        predicted=tuned.predicted_crossfit if split == "dev" else None,
    )
    about = About.today(request.output, request.data, split)
    texts = request.config.report.texts
    return report_data(judged, evaluation, bundle, about=about, linear_bar=bar, texts=texts)


def model_files(setup: Setup) -> dict[str, bytes]:
    """Weights, config and tokenizer as a Hugging Face folder holds them."""
    return {
        "model.safetensors": to_bytes(tensors_by_name(setup.network), metadata={"format": "pt"}),
        **static_files(setup),
    }


def static_files(setup: Setup) -> dict[str, bytes]:
    """What of the model folder is known before the first step."""
    files = {
        "config.json": orjson.dumps(_config(setup), option=orjson.OPT_INDENT_2),
        "tokenizer.json": tokenizer_json(setup.text.tokenizer),
    }
    if settings := kept_settings(setup.encoder_folder):
        files["tokenizer_config.json"] = orjson.dumps(settings, option=orjson.OPT_INDENT_2)
    return files


def _config(setup: Setup) -> dict[str, Any]:
    """The encoder's config and the labels.

    With the stock head AutoModelForSequenceClassification opens the folder.
    """
    content = dict(setup.encoder_config)
    family = FAMILIES[content["model_type"]]
    names = setup.dataset.space.names
    stock = setup.recipe.pooling == "cls_pooler" and content["model_type"] in _STOCK_HEAD
    problem: dict[Task, str] = {
        "multilabel": "multi_label_classification",
        "regression": "regression",
        "binary": "single_label_classification",
        "multiclass": "single_label_classification",
    }
    known = {k: v for k, v in content.items() if k == "model_type" or k in NETWORK_KEYS}
    return known | {
        "architectures": [family.model.replace("Model", "ForSequenceClassification")]
        if stock
        else [family.model],
        "id2label": {str(i): n for i, n in enumerate(names or ("score",))},
        "label2id": {n: i for i, n in enumerate(names or ("score",))},
        "problem_type": problem[setup.dataset.task],
    }


_STOCK_HEAD = ("bert", "albert", "ernie")


def _tune(request: Request, setup: Setup, logits: Any, *, calibrated: bool) -> Tuned:
    decision = request.config.decision
    task = setup.dataset.task
    tuned = tune(
        logits,
        setup.splits["dev"].truth,
        task=task,
        tuner=decision.tuner,
        objective=decision.objective or DEFAULT_OBJECTIVE[task],
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


def _domain(setup: Setup, logits: Any) -> Domain | None:
    """What the development rows look like, for telling strange rows."""
    if setup.dataset.task == "regression":
        return None
    return learn(logits, setup.splits["dev"].truth)


def _evaluations(
    request: Request, setup: Setup, tuned: Tuned, logits: Mapping[str, Any]
) -> dict[str, Evaluation]:
    out = {}
    for name, values in logits.items():
        scores = tuned.rule.scores(values)
        predicted = tuned.predicted_crossfit if name == "dev" else tuned.rule.decide(scores)
        out[name] = evaluate(
            setup.dataset.task,
            setup.dataset.space,
            setup.splits[name].truth,
            scores,
            predicted,
            train_counts=setup.counts if len(setup.counts) else None,
            calibrated=tuned.rule.calibrated,
            confidence=confidence(tuned.rule, scores, predicted),
            resamples=request.config.report.resamples,
            seed=request.config.training.seed,
        )
    return out


def _bars(request: Request, setup: Setup) -> dict[str, Evaluation]:
    from bert_cls import baseline  # scikit-learn takes a second to import

    dataset = setup.dataset
    bar = baseline.fit(
        list(setup.splits["train"].examples),
        dataset.task,
        dataset.space,
        seed=request.config.training.seed,
    )
    logits = {n: bar.logits(list(s.examples)) for n, s in setup.splits.items() if n != "train"}
    tuned = _tune(request, setup, logits["dev"], calibrated=False)
    return _evaluations(request, setup, tuned, logits)


def _teacher(request: Request, setup: Setup) -> dict[str, Evaluation]:
    """A student's teacher on the same rows, tuned the same way; nothing for other runs."""
    if (teaching := setup.teaching) is None:
        return {}
    calibrated = teaching.teacher.rule.calibrated
    tuned = _tune(request, setup, teaching.held_out["dev"], calibrated=calibrated)
    return _evaluations(request, setup, tuned, teaching.held_out)


def _details(
    request: Request, setup: Setup, trainer: Trainer, origins: Mapping[str, str], tuned: Tuned
) -> dict[str, Any]:
    settled = request.config.model_dump(mode="json")
    settled["training"] = setup.recipe.training.model_dump(mode="json")
    settled["encoder"]["pooling"] = setup.recipe.pooling
    settled["loss"]["name"] = setup.loss_name
    rows = {name: len(split.truth) for name, split in setup.splits.items()}
    taught: dict[str, Any] = {}
    if request.distillation is not None:
        rows["unlabelled"] = len(setup.dataset.unlabelled)
        teacher = request.distillation.teacher
        taught["distillation"] = {
            "teacher": teacher.resolve().name,
            "manifest": request.distillation.manifest,
            "layers": list(request.distillation.layers),
        }
    return {
        **taught,
        "preset": request.preset,
        "config": settled,
        "origins": dict(origins),
        "data": {
            "files": setup.dataset.files,
            "rows": rows,
            "audit": setup.audit.summary(),
            "lengths": asdict(setup.audit.lengths) if setup.audit.lengths else None,
            "scale": list(setup.scale),
            "label_counts": dict(
                zip(setup.dataset.space.names, setup.counts.tolist(), strict=False)
            ),
        },
        "tuning": {"crossfit": tuned.crossfit, "notes": list(tuned.notes)},
        "history": [asdict(result) for result in trainer.progress.history],
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in _PACKAGES},
    }
