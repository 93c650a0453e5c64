"""After the last step: thresholds, figures, the linear bar, the model folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import orjson
from safetensors.torch import save as to_bytes

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.data import Task
from bert_cls.decision import Tuned, tune
from bert_cls.encoders.facts import FAMILIES, read_config
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.metrics import Evaluation, evaluate
from bert_cls.network import tensors_by_name
from bert_cls.request import Request
from bert_cls.text import tokenizer_json
from bert_cls.training.checkpoint import writing
from bert_cls.training.loop import EpochResult, Observer, Trainer
from bert_cls.training.ranks import agree
from bert_cls.training.setup import Setup, logits_of, unscale

DEFAULT_OBJECTIVE: dict[Task, str] = {
    "multilabel": "micro_macro",
    "binary": "accuracy",
    "multiclass": "accuracy",
    "regression": "accuracy",
}
_PACKAGES = ("bert-cls", "torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run gives besides the model folder."""

    bundle: Bundle
    evaluations: Mapping[str, Evaluation]
    """`test` where there are test rows; `dev` from cross-fitted decisions"""
    bars: Mapping[str, Evaluation]
    """the linear bar on the same rows, tuned the same way"""
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
    files = model_files(setup) | {
        "evaluation.json": orjson.dumps(figures, option=orjson.OPT_INDENT_2)
    }
    if trainer.ranks.rank == 0:
        with writing(request.output, need=sum(map(len, files.values()))):
            bundles.save(bundle, files)
    agree(trainer.ranks, "the end of the run")
    return Trained(bundle, evaluations, bars, tuned, trainer.progress.history)


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
    settings = setup.encoder_folder / "tokenizer_config.json"
    if settings.is_file():
        files["tokenizer_config.json"] = settings.read_bytes()
    return files


def _config(setup: Setup) -> dict[str, Any]:
    """The encoder's config and the labels.

    With the stock head AutoModelForSequenceClassification opens the folder.
    """
    content = read_config(setup.encoder_folder)
    family = FAMILIES[content["model_type"]]
    names = setup.dataset.space.names
    stock = setup.recipe.pooling == "cls_pooler" and content["model_type"] in _STOCK_HEAD
    problem: dict[Task, str] = {
        "multilabel": "multi_label_classification",
        "regression": "regression",
        "binary": "single_label_classification",
        "multiclass": "single_label_classification",
    }
    return content | {
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
    return tune(
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
    )


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


def _details(
    request: Request, setup: Setup, trainer: Trainer, origins: Mapping[str, str], tuned: Tuned
) -> dict[str, Any]:
    settled = request.config.model_dump(mode="json")
    settled["training"] = setup.recipe.training.model_dump(mode="json")
    settled["encoder"]["pooling"] = setup.recipe.pooling
    settled["loss"]["name"] = setup.loss_name
    return {
        "preset": request.preset,
        "config": settled,
        "origins": dict(origins),
        "data": {
            "files": setup.dataset.files,
            "rows": {name: len(split.truth) for name, split in setup.splits.items()},
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
