"""A request made concrete: encoder, recipe, tokens, network, loss, trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bert_cls.config import RunConfig, TextConfig
from bert_cls.cuts import windows_notice
from bert_cls.data import Dataset, Example, Task
from bert_cls.data.findings import Audit
from bert_cls.data.lengths import unknown_id
from bert_cls.decision import check_settings
from bert_cls.encoders import describe, open_tokenizer, resolve
from bert_cls.engines import Engine
from bert_cls.engines import run as run_engine
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import ConfigError
from bert_cls.losses import (
    LabelStatistics,
    Loss,
    label_statistics,
    label_weights,
    make_distillation,
    make_loss,
    pack,
    resolve_name,
    resolve_options,
)
from bert_cls.network import Network
from bert_cls.request import Request, identity
from bert_cls.run_rows import held_out
from bert_cls.text import TextEncoder, TextSettings, Tokens
from bert_cls.training.batches import balanced_weights
from bert_cls.training.inherit import inputs_of
from bert_cls.training.loop import Observer, Trainer
from bert_cls.training.places import name_rows
from bert_cls.training.precision import choose_precision
from bert_cls.training.prepare import Encoded, Prepared, check_length, encode, lengths_of
from bert_cls.training.ranks import Ranks, Shared, local_device
from bert_cls.training.recipe import Recipe, settle
from bert_cls.training.selection import selection_score
from bert_cls.training.start import open_start, prior_bias, scale_of, start_head
from bert_cls.training.teaching import Teaching, ask
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
    statistics: LabelStatistics
    """training rows of each label"""
    scale: tuple[float, float]
    """mean and spread of regression targets; (0, 1) otherwise"""
    weights: NDArray[np.float64] | None = None
    """[labels] how much each counts in the loss; None: all the same"""
    row_weights: NDArray[np.float64] | None = None
    """[rows] chances of the training rows; None: each once an epoch"""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """sha256 of each further file that the run starts from, by what it is"""
    teaching: Teaching | None = None
    """of a student: its teacher's answers"""

    @property
    def adjusted(self) -> bool:
        """Whether training makes up for rare classes, so that deciding must not do so again."""
        weighted = self.weights is not None or self.row_weights is not None
        by_teacher = self.teaching is not None and self.teaching.adjusted
        return weighted or by_teacher or self.loss_name == "logit_adjustment"

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return max(1, len(self.dataset.space))


def set_up(request: Request, prepared: Prepared, observer: Observer) -> Setup:
    """Open the encoder, settle the recipe, tokenise, and start the head.

    A student starts as part of its teacher, head included, and its teacher is asked.
    """
    dataset, distillation = prepared.dataset, request.distillation
    config, task = request.config, dataset.task
    check_settings(task, len(dataset.space), **config.decision.model_dump())
    loss_name = resolve_name(config.loss.name or DEFAULT_LOSS[task], task)
    resolve_options(loss_name, config.loss.options)
    drawn = _drawn_evenly(request, task, loss_name, observer)
    if distillation is None:
        folder = resolve(config.encoder.name, notify=observer.phase)
    else:
        folder = distillation.teacher
    facts = describe(folder)
    check_length(config.text.max_length, facts.positions)
    labelled = _labelled(dataset)
    recipe = settle(
        config,
        facts,
        task=task,
        loss=loss_name,
        rows=len(labelled["train"]) + (len(dataset.unlabelled) if distillation else 0),
        preset=request.preset,
        student=distillation is not None,
    )
    tokenizer = open_tokenizer(folder, lowercase=config.text.lowercase)
    text = TextEncoder(tokenizer, _text_settings(config.text, task))
    observer.phase("tokenising")
    splits = {name: encode(examples, dataset, text) for name, examples in labelled.items()}
    audit = _measured(prepared.audit, splits, text, observer)
    truth = splits["train"].truth
    scale = scale_of(truth, task)
    statistics = label_statistics(truth, task, labels=len(dataset.space))
    weights = _weights(config, loss_name, dataset, statistics, observer, drawn_evenly=drawn)
    outputs = max(1, len(dataset.space))
    network, encoder_config = open_start(request, folder, recipe.pooling, outputs=outputs)
    priors = prior_bias(truth, task, outputs, weights) if recipe.training.prior_bias else None
    start_head(network, request, dataset, scale, observer, priors=priors)
    return Setup(
        dataset=dataset,
        audit=audit,
        splits=splits,
        recipe=recipe,
        loss_name=loss_name,
        text=text,
        encoder_folder=folder,
        encoder_config=encoder_config,
        network=network,
        pad_id=_pad_id(network, text),
        statistics=statistics,
        scale=scale,
        weights=weights,
        row_weights=balanced_weights(truth, len(dataset.space)) if drawn else None,
        inputs=inputs_of(request, folder),
        teaching=_teaching(request, dataset, splits, text, recipe, observer),
    )


def _pad_id(network: Network, text: TextEncoder) -> int:
    encoder: Any = network.encoder
    pad = encoder.config.pad_token_id
    return int(pad) if isinstance(pad, int) else text.template.after[-1]


def _labelled(dataset: Dataset) -> dict[str, list[Example]]:
    """The labelled rows of each split that has any."""
    rows = {"train": dataset.train, "dev": dataset.dev, "test": dataset.test}
    known = {k: [e for e in v or [] if e.label is not None] for k, v in rows.items()}
    return {k: kept for k, kept in known.items() if kept}


def _measured(
    audit: Audit, splits: Mapping[str, Encoded], text: TextEncoder, observer: Observer
) -> Audit:
    """The audit with counted lengths; what is cut, unknown or read in windows is said."""
    unknown = unknown_id(text.tokenizer.to_str())
    parts = [split.tokens for split in splits.values()]
    lengths, findings = lengths_of(parts, text.settings.max_length, unknown)
    for finding in findings:
        observer.noticed(f"{finding.code} {finding.title}: {finding.message}")
    if notice := windows_notice(splits["train"].tokens, text.settings):
        observer.noticed(notice)
    return audit.measured(lengths, findings)


def _weights(
    config: RunConfig,
    loss_name: str,
    dataset: Dataset,
    statistics: LabelStatistics,
    observer: Observer,
    *,
    drawn_evenly: bool,
) -> NDArray[np.float64] | None:
    wanted = config.loss.class_weights
    weights, why = label_weights(
        wanted,
        loss_name,
        dataset.space.names,
        statistics,
        adjusted_later=config.decision.objective == "macro_f1",
        drawn_evenly=drawn_evenly,
    )
    if wanted != "none":
        observer.noticed(f"class weights: {why}")
    return weights


def _drawn_evenly(request: Request, task: Task, loss_name: str, observer: Observer) -> bool:
    """Whether rows are drawn by balanced sampling; ConfigError where that cannot be."""
    if request.config.training.sampling != "balanced":
        return False
    if task == "regression":
        raise ConfigError("training.sampling=balanced is for labels, not for regression.")
    if request.distillation is not None:
        observer.noticed("a student sees every text once an epoch: no balanced sampling")
        return False
    if loss_name == "logit_adjustment":
        raise ConfigError(
            "--loss logit_adjustment adjusts to the classes' shares of the data, but "
            "training.sampling=balanced draws them evenly: rare ones would be made up for twice.",
            hint="leave one of the two out.",
        )
    asked = request.config.loss.class_weights not in ("none", "auto")
    if asked or loss_name in ("bce_weighted", "class_balanced", "distribution_balanced"):
        observer.noticed(
            "the loss weighs labels besides balanced sampling: rare ones that weigh more are made "
            "up for twice"
        )
    return True


def _teaching(
    request: Request,
    dataset: Dataset,
    splits: Mapping[str, Encoded],
    text: TextEncoder,
    recipe: Recipe,
    observer: Observer,
) -> Teaching | None:
    if request.distillation is None:
        return None
    precision = choose_precision(recipe.training.precision, local_device())
    return ask(request.distillation, dataset, splits, text, observer, precision=precision)


def make_trainer(
    setup: Setup, observer: Observer, request: Request, *, device: torch.device, ranks: Ranks
) -> Trainer:
    """The loop around a setup, with the loss and the targets it is to learn."""
    task, dev = setup.dataset.task, setup.splits["dev"]
    tokens, loss, goals = _lessons(setup, request.config)
    further = setup.dataset.unlabelled if setup.teaching else []
    examples = [*setup.splits["train"].examples, *further]

    def score(network: Network) -> float:
        engine = TorchEngine(network, precision=trainer.precision, device=device)
        return selection_score(task, logits_of(engine, setup, "dev", ranks), dev.truth)

    def named(rows: Sequence[int]) -> str:
        return name_rows([examples[row] for row in rows], request.data, request.config.data)

    trainer = Trainer(
        setup.network,
        loss,
        tokens,
        goals,
        settings=setup.recipe.training,
        pad_id=setup.pad_id,
        evaluate=score,
        observer=observer,
        device=device,
        row_weights=setup.row_weights,
        ranks=ranks,
        name_rows=named,
        identity=identity(
            request,
            setup.dataset.files,
            setup.inputs,
            setup.dataset.space.names,
            held_out(setup.dataset),
        ),
    )
    if trainer.warmup >= trainer.steps:
        observer.noticed(
            f"the warm-up of {trainer.warmup:,} steps is as long as the run of "
            f"{trainer.steps:,} or longer: the learning rate never comes to its peak"
        )
    return trainer


def logits_of(engine: Engine, setup: Setup, split: str, ranks: Ranks) -> NDArray[np.float32]:
    """float32 logits [rows, outputs] of a split; the ranks share its batches, each row once."""
    shared = Shared(engine, ranks, setup.outputs)
    tokens = setup.splits[split].tokens
    logits = run_engine(shared, tokens.pieces, pad_id=setup.pad_id, outputs=setup.outputs)
    return tokens.pooled(ranks.add(logits))


def _lessons(setup: Setup, config: RunConfig) -> tuple[Tokens, Loss, NDArray[Any]]:
    """What is learnt: tokens, the loss, and targets of its kind, one a row of the tokens."""
    task, train, options = setup.dataset.task, setup.splits["train"], config.loss.options
    mean, spread = setup.scale
    truth = train.truth
    if task == "regression":
        truth = ((truth - mean) / spread).astype(np.float32)
    if (teaching := setup.teaching) is None:
        loss = make_loss(
            setup.loss_name, task, setup.statistics, options=options, weights=setup.weights
        )
        if setup.row_weights is not None:
            loss.calibrated = False  # it sees other shares of the labels than there are
        return train.tokens, loss, truth
    mixed = make_distillation(
        setup.loss_name,
        task,
        setup.statistics,
        options=options,
        weights=setup.weights,
        temperature=config.distillation.temperature,
        label_weight=config.distillation.label_weight,
    )
    mixed.calibrated = mixed.calibrated and teaching.calibrated
    answers = ((teaching.logits - mean) / spread).astype(np.float32)
    return teaching.tokens, mixed, pack(answers, truth)


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
