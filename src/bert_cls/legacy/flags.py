"""The old flags: which there are, which setting each one is now, and what is said of the others."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from bert_cls.config import Origins, RunConfig, resolve_config
from bert_cls.data import Task
from bert_cls.data.dataset import WHOLE, declared_names, find_splits
from bert_cls.encoders import FAMILIES, EncoderFacts
from bert_cls.errors import ConfigError, pick
from bert_cls.launcher import launched


def make_parser() -> ArgumentParser:
    """The parser; a flag with a value is None when it is not given."""
    parser = ArgumentParser(
        prog="run_bert_cls.py", description="The old script's commands. New work: bert-cls --help"
    )
    for flag, (kind, text) in VALUES.items():
        parser.add_argument(f"--{flag}", type=kind, help=text, required=flag in REQUIRED)
    for flag, text in SWITCHES.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    return parser


def check(arguments: Namespace) -> None:
    """ConfigError for flags that contradict each other or leave nothing to do."""
    if not (arguments.do_train or arguments.do_eval or arguments.do_predict):
        raise ConfigError("nothing to do.", hint="give --do_train, --do_eval or --do_predict.")
    pick(_MODES, arguments.output_mode or "classification", "--output_mode")
    if arguments.multilabel and arguments.output_mode == "regression":
        raise ConfigError("--multilabel and --output_mode regression contradict each other.")
    if arguments.do_train and not arguments.model_name_or_path:
        raise ConfigError(
            "--do_train needs --model_name_or_path.",
            hint="a local folder, a hub id, or a built-in (see `bert-cls encoders list`).",
        )
    for flag in ("per_gpu_train_batch_size", "gradient_accumulation_steps"):
        value = getattr(arguments, flag)
        if value is not None and value < 1:
            raise ConfigError(f"--{flag} must be at least 1. Got {value} instead.")
    epochs = arguments.num_train_epochs
    if epochs is not None and not 0 < epochs < math.inf:
        raise ConfigError(f"--num_train_epochs must be more than 0. Got {epochs:g} instead.")


def waits_for_first(arguments: Namespace) -> bool:
    """Whether this is a further process of a distributed launch: all would write one folder.

    ConfigError when the launcher's variables are no numbers.
    """
    rank = arguments.local_rank
    if rank is None:
        rank = launched("RANK")
    return rank > 0 and launched("WORLD_SIZE") > 1


def check_family(arguments: Namespace, facts: EncoderFacts) -> None:
    """ConfigError when `--model_type` is not what the encoder's folder says of itself."""
    if arguments.model_type is None:
        return
    wanted = arguments.model_type.lower().replace("_", "-")
    wanted = _SPELLINGS.get(wanted, wanted)
    pick(FAMILIES, wanted, "--model_type")
    if wanted != facts.family:
        raise ConfigError(
            f"--model_type is {arguments.model_type}, but the config.json of "
            f"{arguments.model_name_or_path} says {facts.family}.",
            hint=f"write --model_type {facts.family}, or give another encoder.",
        )


def check_model(arguments: Namespace, task: Task) -> None:
    """ConfigError when the flags that are given say another task than the trained model has."""
    fitting = _MODES[arguments.output_mode or "classification"]
    stated = arguments.output_mode is not None or arguments.multilabel
    if arguments.multilabel:
        fitting = ("multilabel",)
    if stated and task not in fitting:
        raise ConfigError(
            f"the flags say {' or '.join(fitting)}, but the model in {arguments.output_dir} is for "
            f"{task} data.",
            hint="leave --output_mode and --multilabel out, or give another --output_dir.",
        )


def task_of(arguments: Namespace) -> Task:
    """The task the flags state; two declared label names make it binary."""
    if arguments.output_mode == "regression":
        return "regression"
    if arguments.multilabel:
        return "multilabel"
    names, _ = declared_names(Path(arguments.data_dir), arguments.labels, {})
    return "binary" if names is not None and len(names) == 2 else "multiclass"


def resolve(
    arguments: Namespace, *, encoder: str, lowercase: bool, max_steps: int | None = None
) -> tuple[RunConfig, Origins]:
    """The settings of a training run, and where each that is not a default came from.

    A flag that was given counts exactly. Where it was not, the old default counts, except for the
    learning rate, its warm-up and the pooling, which the recipe chooses. `max_steps` is what a
    fraction of an epoch comes to.
    """
    chosen = _from_flags(arguments) | _without_flags(arguments)
    chosen["encoder.name"] = (encoder, "--model_name_or_path")
    chosen["text.lowercase"] = (lowercase or None, "--do_lower_case")
    if max_steps is not None:
        chosen["training.max_steps"] = (max_steps, "--num_train_epochs")
    given = {key: value for key, (value, _) in chosen.items()}
    config, origins = resolve_config(flags=given, origin="the command line")
    return config, {key: chosen.get(key, (None, why))[1] for key, why in origins.items()}


def _from_flags(arguments: Namespace) -> dict[str, tuple[Any, str]]:
    """Setting to value and origin, of the flags with a value."""
    given = {flag: getattr(arguments, flag) for flag in VALUES}
    old = OLD_DEFAULTS if given["learning_rate"] is None else OLD_DEFAULTS | {"warmup_steps": 0}
    values: dict[str, Any] = {f: old.get(f) if v is None else v for f, v in given.items()}
    origins = {f: "old default" if v is None else f"--{f}" for f, v in given.items()}
    values["per_gpu_train_batch_size"] *= values["gradient_accumulation_steps"]
    values["num_train_epochs"] = math.ceil(values["num_train_epochs"])
    values["logging_steps"] = _every(values["logging_steps"]) or NEVER
    values["save_steps"] = _every(values["save_steps"])
    values["max_steps"] = _every(values["max_steps"])
    if values["max_steps"] is not None:
        # an epoch has a step at least, so this many epochs are never the limit
        values["num_train_epochs"], origins["num_train_epochs"] = values["max_steps"], "--max_steps"
    if not arguments.multilabel:
        values["multi_label_loss"] = None
    return {field: (values[flag], origins[flag]) for flag, field in SETTINGS.items()}


def _without_flags(arguments: Namespace) -> dict[str, tuple[Any, str]]:
    """Setting to value and origin, of what follows from several flags or from none."""
    divided = is_divided(Path(arguments.data_dir))
    keep_all = _every(arguments.save_steps) is not None or arguments.eval_all_checkpoints
    return {
        "data.task": (task_of(arguments), "--output_mode, --multilabel"),
        "data.leak": ("allow", "as the old script"),
        "data.test_share": (0 if divided else None, "train.json is for training"),
        "training.keep_checkpoints": (0 if keep_all else None, "--save_steps"),
        "report.linear_bar": (False, "as the old script"),
    }


def is_divided(folder: Path) -> bool:
    """Whether the folder has files for the splits, not one file that is still to be split."""
    train = find_splits(folder)[0].get("train")
    return train is None or not train.name.startswith(f"{WHOLE}.")


def fraction_of_epochs(arguments: Namespace) -> float | None:
    """The number of epochs when it decides how many steps there are and is no whole number."""
    epochs: float = arguments.num_train_epochs or OLD_DEFAULTS["num_train_epochs"]
    limited = arguments.max_steps is not None and arguments.max_steps > 0
    return None if limited or epochs == int(epochs) else epochs


def remarks(arguments: Namespace) -> list[str]:
    """One line for each flag that was given and changes nothing, and for what is chosen anew."""
    said = [
        f"--{flag} has no meaning now: {reason}."
        for flag, reason in WITHOUT_MEANING.items()
        if _is_given(getattr(arguments, flag), arguments.model_name_or_path)
    ]
    if arguments.multi_label_loss is not None and not arguments.multilabel:
        said.append("--multi_label_loss has no meaning without --multilabel.")
    if arguments.eval_all_checkpoints and not arguments.do_eval:
        said.append("--eval_all_checkpoints has no meaning without --do_eval.")
    if not arguments.do_train and (idle := _for_training(arguments)):
        said.append(
            f"without --do_train the model's own settings count; {', '.join(idle)} change nothing."
        )
    if arguments.do_train and arguments.learning_rate is None:
        chosen = "rates and pooling" if arguments.warmup_steps is not None else _BY_RECIPE
        said.append(
            f"--learning_rate was not given: the recipe chooses {chosen} for this encoder (the old "
            "5e-5 is too low for small ones)."
        )
    elif arguments.do_train:
        said.append("the recipe chooses pooling and the head's learning rate for this encoder.")
    return said


def _for_training(arguments: Namespace) -> list[str]:
    """Flags that were given and matter only where a model is trained."""
    names = (*SETTINGS, "model_type", "do_lower_case")
    values = [(name, getattr(arguments, name)) for name in names]
    return [f"--{name}" for name, value in values if value is not None and value is not False]


def _is_given(value: Any, encoder: str | None) -> bool:
    """Whether a flag says something: not its old default, nor the encoder named once more."""
    return value is not None and value is not False and value not in (-1, encoder)


def _every(steps: int | None) -> int | None:
    """The old script took 0 and -1 for "never"."""
    return steps if steps is not None and steps > 0 else None


REQUIRED = ("data_dir", "output_dir")
VALUES: dict[str, tuple[type, str]] = {
    "data_dir": (str, "folder with train.json, dev.json, test.json, or data.json to be split"),
    "labels": (str, "JSON list of label names"),
    "model_type": (str, "encoder family: bert, roberta, ..."),
    "model_name_or_path": (str, "encoder: folder, hub id or built-in"),
    "output_mode": (str, "classification or regression"),
    "multi_label_loss": (str, "MultiLabelSoftMarginLoss, MultiLabelMarginLoss, or a newer loss"),
    "output_dir": (str, "the model folder"),
    "config_name": (str, "no meaning now"),
    "tokenizer_name": (str, "no meaning now"),
    "cache_dir": (str, "where fetched encoders are kept"),
    "max_seq_length": (int, "tokens of a row, special ones included (128)"),
    "train_data_number": (int, "train on a seeded sample of so many rows"),
    "per_gpu_train_batch_size": (int, "rows of a batch (8)"),
    "per_gpu_eval_batch_size": (int, "no meaning now"),
    "gradient_accumulation_steps": (int, "batches of an optimiser step (1)"),
    "learning_rate": (float, "peak rate of the encoder (by the recipe)"),
    "weight_decay": (float, "AdamW's decay (0)"),
    "adam_epsilon": (float, "AdamW's epsilon (1e-8)"),
    "max_grad_norm": (float, "gradients are scaled down to it (1)"),
    "num_train_epochs": (float, "passes over the training rows (3)"),
    "max_steps": (int, "optimiser steps; overrides --num_train_epochs"),
    "warmup_steps": (int, "steps in which the rate rises (by the recipe; 0 with --learning_rate)"),
    "logging_steps": (int, "steps between two lines of progress (50)"),
    "save_steps": (int, "steps between two checkpoints (50, and then only the last is kept)"),
    "seed": (int, "seeds split, sample, order, dropout and head (42)"),
    "local_rank": (int, "no meaning now"),
}
SWITCHES: dict[str, str] = {
    "multilabel": "a row has any number of labels",
    "do_train": "train, and write the model to --output_dir",
    "do_eval": "evaluate on the development rows",
    "do_predict": "predict the test rows, and evaluate on them where they have labels",
    "evaluate_during_training": "no meaning now",
    "eval_all_checkpoints": "with --do_eval, evaluate every checkpoint too",
    "overwrite_output_dir": "replace what an earlier run wrote to --output_dir",
    "overwrite_cache": "no meaning now",
    "do_lower_case": "lower the case of the texts",
    "no_cuda": "use the CPU although there is a GPU",
    "fp16": "no meaning now",
}
NEVER = 10**9
SETTINGS: dict[str, str] = {
    "model_name_or_path": "encoder.name",
    "multi_label_loss": "loss.name",
    "max_seq_length": "text.max_length",
    "train_data_number": "data.train_rows",
    "per_gpu_train_batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "adam_epsilon": "training.adam_epsilon",
    "max_grad_norm": "training.max_grad_norm",
    "num_train_epochs": "training.epochs",
    "max_steps": "training.max_steps",
    "warmup_steps": "training.warmup_steps",
    "logging_steps": "training.log_steps",
    "save_steps": "training.save_steps",
    "seed": "training.seed",
}
_BY_RECIPE = "rates, warm-up and pooling"
OLD_DEFAULTS: dict[str, Any] = {
    "max_seq_length": 128,
    "per_gpu_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "weight_decay": 0.0,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "num_train_epochs": 3.0,
    "logging_steps": 50,
    "save_steps": 50,
    "seed": 42,
}
WITHOUT_MEANING: dict[str, str] = {
    "config_name": "the encoder's own folder says what it is",
    "tokenizer_name": "the tokenizer is the one in the encoder's own folder",
    "per_gpu_eval_batch_size": "rows are batched by their tokens, and no figure depends on it",
    "evaluate_during_training": "the development rows are scored after every epoch in any case",
    "overwrite_cache": "there is no cache of features",
    "fp16": "half precision (bfloat16) is used where the processor has it, asked for or not",
    "local_rank": "one process trains",
}
_MODES: dict[str, tuple[Task, ...]] = {
    "classification": ("binary", "multiclass", "multilabel"),
    "regression": ("regression",),
}
_SPELLINGS = {"xlmroberta": "xlm-roberta", "macbert": "bert"}
