"""What a run writes into its model folder besides figures: weights, config, tokenizer, details."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

import orjson
from safetensors.torch import save as to_bytes

from bert_cls.data import Task
from bert_cls.decision import Tuned
from bert_cls.encoders.facts import FAMILIES
from bert_cls.encoders.limits import NETWORK_KEYS
from bert_cls.encoders.tokenizer_files import kept_settings
from bert_cls.network import tensors_by_name
from bert_cls.request import Request
from bert_cls.run_rows import held_out
from bert_cls.text import tokenizer_json
from bert_cls.training.loop import Trainer
from bert_cls.training.setup import Setup

_PACKAGES = ("bert-cls", "torch", "transformers", "tokenizers", "numpy")
_STOCK_HEAD = ("bert", "albert", "ernie")


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


def details(
    request: Request, setup: Setup, trainer: Trainer, origins: Mapping[str, str], tuned: Tuned
) -> dict[str, Any]:
    """Configuration, data, tuning, history and versions, as `bert_cls.json` keeps them."""
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
            "fingerprint": request.distillation.fingerprint,
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
            "held_out": held_out(setup.dataset),
            "audit": setup.audit.summary(),
            "lengths": asdict(setup.audit.lengths) if setup.audit.lengths else None,
            "scale": list(setup.scale),
            "label_counts": dict(
                zip(setup.dataset.space.names, setup.statistics.counts.tolist(), strict=False)
            ),
        },
        "tuning": {
            "crossfit": tuned.crossfit,
            "notes": list(tuned.notes),
            "calibrated": trainer.loss.calibrated,
            "adjusted": setup.adjusted,
        },
        "history": [asdict(result) for result in trainer.progress.history],
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in _PACKAGES},
    }
