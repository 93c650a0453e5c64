"""A request made concrete: encoder, recipe, tokens, network, loss, trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bert_cls.config import RunConfig, TextConfig
from bert_cls.cuts import windows_notice
from bert_cls.data import Dataset, Task
from bert_cls.data.findings import Audit
from bert_cls.data.lengths import unknown_id
from bert_cls.encoders import describe, open_tokenizer, resolve
from bert_cls.encoders.facts import read_config
from bert_cls.engines import run as run_engine
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.losses import (
    LOSSES,
    LabelStatistics,
    Loss,
    make_distillation,
    make_loss,
    pack,
    resolve_name,
)
from bert_cls.network import Network, open_network
from bert_cls.request import Request
from bert_cls.text import TextEncoder, TextSettings, Tokens
from bert_cls.training.loop import Observer, Trainer, choose_precision
from bert_cls.training.prepare import Encoded, Prepared, check_length, encode, lengths_of
from bert_cls.training.recipe import Recipe, settle
from bert_cls.training.selection import selection_score
from bert_cls.training.teaching import Teaching, ask, open_student
from bert_cls.windows import WindowPooling

DEFAULT_LOSS: dict[Task, str] = {
    "multilabel": "bce",
    "binary": "cross_entropy",
    "multiclass": "cross_entropy",
    "regression": "mse",
}
# one window is enough to show a label; a class or a value is of the whole text
WINDOW_POOLING: dict[Task, WindowPooling] = {
    "multilabel": "max",
    "binary": "mean",
    "multiclass": "mean",
    "regression": "mean",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a run works with, before its first step."""

    dataset: Dataset
    audit: Audit
    splits: Mapping[str, Encoded]
    """train, dev and, where there is one, test: labelled rows only"""
    recipe: Recipe
    loss_name: str
    text: TextEncoder
    encoder_folder: Path
    """where the tokenizer is from; of a student its teacher's folder"""
    encoder_config: Mapping[str, Any]
    """`config.json` of the network's encoder"""
    network: Network
    pad_id: int
    counts: NDArray[np.int64]
    """[labels] training rows of each label; empty for regression"""
    scale: tuple[float, float]
    """mean and spread of regression targets; (0, 1) otherwise"""
    teaching: Teaching | None = None
    """of a student: its teacher's answers"""

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return max(1, len(self.dataset.space))


def set_up(request: Request, prepared: Prepared, observer: Observer) -> Setup:
    """Open the encoder, settle the recipe, tokenise, and start the head at the priors.

    A student starts as part of its teacher, head included, and its teacher is asked.
    """
    dataset, distillation = prepared.dataset, request.distillation
    config, task = request.config, dataset.task
    if distillation is None:
        folder = resolve(config.encoder.name, notify=observer.phase)
    else:
        folder = distillation.teacher
    facts = describe(folder)
    check_length(config.text.max_length, facts.positions)
    rows = {"train": dataset.train, "dev": dataset.dev, "test": dataset.test}
    labelled = {k: kept for k, v in rows.items() if (kept := [e for e in v or [] if _known(e)])}
    taught = len(dataset.unlabelled) if distillation else 0
    recipe = settle(
        config,
        facts,
        rows=len(labelled["train"]) + taught,
        preset=request.preset,
        student=distillation is not None,
    )
    tokenizer = open_tokenizer(folder, lowercase=config.text.lowercase)
    text = TextEncoder(tokenizer, _text_settings(config.text, task))
    observer.phase("tokenising")
    splits = {name: encode(examples, dataset, text) for name, examples in labelled.items()}
    unknown = unknown_id(tokenizer.to_str())
    parts = [split.tokens for split in splits.values()]
    lengths, about_lengths = lengths_of(parts, config.text.max_length, unknown)
    for finding in about_lengths:
        observer.noticed(f"{finding.code} {finding.title}: {finding.message}")
    if notice := windows_notice(splits["train"].tokens, text.settings):
        observer.noticed(notice)
    truth = splits["train"].truth
    scale = _scale(truth) if task == "regression" else (0.0, 1.0)
    network, encoder_config = _network(request, folder, recipe, outputs=max(1, len(dataset.space)))
    loss_name = resolve_name(config.loss.name or DEFAULT_LOSS[task], task)
    if distillation is not None:
        standardise(network, scale)
    elif recipe.training.prior_bias and LOSSES[loss_name].calibrated:
        _start_at_prior(network, truth, task)
    teaching = None
    if distillation is not None:
        precision = choose_precision(recipe.training.precision, device())
        teaching = ask(distillation, dataset, splits, text, observer, precision=precision)
    encoder: Any = network.encoder
    pad = encoder.config.pad_token_id
    return Setup(
        dataset=dataset,
        audit=prepared.audit.measured(lengths, about_lengths),
        splits=splits,
        recipe=recipe,
        loss_name=loss_name,
        text=text,
        encoder_folder=folder,
        encoder_config=encoder_config,
        network=network,
        pad_id=int(pad) if isinstance(pad, int) else text.template.after[-1],
        counts=_counts(truth, task, len(dataset.space)),
        scale=scale,
        teaching=teaching,
    )


def device() -> torch.device:
    """Where training runs: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _network(
    request: Request, folder: Path, recipe: Recipe, *, outputs: int
) -> tuple[Network, Mapping[str, Any]]:
    """The network a run starts from, and its encoder's config."""
    encoder = request.config.encoder
    torch.manual_seed(request.config.training.seed)  # draws the head
    if request.distillation is not None:
        return open_student(
            request.distillation,
            dropout=encoder.dropout,
            attention_dropout=encoder.attention_dropout,
        )
    network = open_network(
        folder,
        outputs=outputs,
        pooling=recipe.pooling,
        dropout=encoder.dropout,
        attention_dropout=encoder.attention_dropout,
    )
    return network, read_config(folder)


def make_trainer(setup: Setup, config: RunConfig, observer: Observer) -> Trainer:
    """The loop around a setup, with the loss and the targets it is to learn."""
    task, dev = setup.dataset.task, setup.splits["dev"]
    tokens, loss, goals = _lessons(setup, config)

    def score(network: Network) -> float:
        engine = TorchEngine(network, precision=trainer.precision, device=trainer.device)
        logits = run_engine(engine, dev.tokens, pad_id=setup.pad_id, outputs=setup.outputs)
        return selection_score(task, logits, dev.truth)

    trainer = Trainer(
        setup.network,
        loss,
        tokens,
        goals,
        settings=setup.recipe.training,
        pad_id=setup.pad_id,
        evaluate=score,
        observer=observer,
        device=device(),
    )
    return trainer


def _lessons(setup: Setup, config: RunConfig) -> tuple[Tokens, Loss, NDArray[Any]]:
    """What is learnt: tokens, the loss, and targets of its kind, one a row of the tokens."""
    task, train, options = setup.dataset.task, setup.splits["train"], config.loss.options
    mean, spread = setup.scale
    truth = train.truth
    if task == "regression":
        truth = ((truth - mean) / spread).astype(np.float32)
    statistics = LabelStatistics(setup.counts, len(truth))
    if (teaching := setup.teaching) is None:
        loss = make_loss(setup.loss_name, task, statistics, options=options)
        return train.tokens, loss, truth
    mixed = make_distillation(
        setup.loss_name,
        task,
        statistics,
        options=options,
        temperature=config.distillation.temperature,
        label_weight=config.distillation.label_weight,
    )
    answers = ((teaching.logits - mean) / spread).astype(np.float32)
    return teaching.tokens, mixed, pack(answers, truth)


def standardise(network: Network, scale: tuple[float, float]) -> None:
    """The reverse of `unscale`: the head then gives (number - mean) / spread."""
    mean, spread = scale
    with torch.no_grad():
        network.head.bias.sub_(mean).div_(spread)
        network.head.weight.div_(spread)


def unscale(network: Network, scale: tuple[float, float]) -> None:
    """Fold the targets' mean and spread into the head: it then predicts in their own units."""
    mean, spread = scale
    with torch.no_grad():
        network.head.weight.mul_(spread)
        network.head.bias.mul_(spread).add_(mean)


def _text_settings(text: TextConfig, task: Task) -> TextSettings:
    pooling = text.window_pooling or WINDOW_POOLING[task]
    return TextSettings(
        max_length=text.max_length,
        long=text.long,
        normalise=text.normalise,
        max_windows=text.max_windows,
        window_overlap=text.window_overlap,
        window_pooling=pooling,
    )


def _known(example: Any) -> bool:
    return example.label is not None


def _start_at_prior(network: Network, truth: NDArray[Any], task: Task) -> None:
    """Head bias at the labels' log-odds or the classes' log shares, clamped where a count is 0."""
    rows, outputs = len(truth), network.head.out_features
    if task == "regression":
        return  # its targets are standardised: the prior is the zero that is there
    if task == "multilabel":
        share = np.clip(truth.mean(axis=0), 0.5 / rows, 1 - 0.5 / rows)
        bias = np.log(share) - np.log1p(-share)
    else:
        share = np.bincount(truth, minlength=outputs) / rows
        bias = np.log(np.clip(share, 0.5 / rows, 1.0))
    with torch.no_grad():
        network.head.bias.copy_(torch.from_numpy(bias.astype(np.float32)))


def _counts(truth: NDArray[Any], task: Task, labels: int) -> NDArray[np.int64]:
    if task == "regression":
        return np.zeros(0, dtype=np.int64)
    if task == "multilabel":
        return np.asarray(truth.sum(axis=0), dtype=np.int64)
    return np.bincount(truth, minlength=labels).astype(np.int64)


def _scale(truth: NDArray[Any]) -> tuple[float, float]:
    spread = float(truth.std())
    return float(truth.mean()), spread if spread > 0 else 1.0
