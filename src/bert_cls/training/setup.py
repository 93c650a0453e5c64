"""A request made concrete: encoder, recipe, tokens, network, loss, trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bert_cls.data import Dataset, Task
from bert_cls.encoders import describe, open_tokenizer, resolve
from bert_cls.engines import run as run_engine
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.losses import LOSSES, LabelStatistics, label_weights, make_loss, resolve_name
from bert_cls.network import Network, open_network
from bert_cls.request import Request
from bert_cls.text import TextEncoder, TextSettings
from bert_cls.training.batches import balanced_weights
from bert_cls.training.inherit import take_over
from bert_cls.training.loop import Observer, Trainer
from bert_cls.training.prepare import Encoded, check_length, encode, truncation_notice
from bert_cls.training.recipe import Recipe, settle
from bert_cls.training.selection import selection_score

DEFAULT_LOSS: dict[Task, str] = {
    "multilabel": "bce",
    "binary": "cross_entropy",
    "multiclass": "cross_entropy",
    "regression": "mse",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a run works with, before its first step."""

    dataset: Dataset
    splits: Mapping[str, Encoded]
    """train, dev and, where there is one, test: labelled rows only"""
    recipe: Recipe
    loss_name: str
    text: TextEncoder
    encoder_folder: Path
    network: Network
    pad_id: int
    counts: NDArray[np.int64]
    """[labels] training rows of each label; empty for regression"""
    scale: tuple[float, float]
    """mean and spread of regression targets; (0, 1) otherwise"""
    weights: NDArray[np.float64] | None = None
    """[labels] how much each counts in the loss; None: all the same"""
    row_weights: NDArray[np.float64] | None = None
    """[rows] chances of the training rows; None: each once an epoch"""

    @property
    def adjusted(self) -> bool:
        """Whether training makes up for rare classes, so that deciding must not do so again."""
        weighted = self.weights is not None or self.row_weights is not None
        return weighted or self.loss_name == "logit_adjustment"

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return max(1, len(self.dataset.space))


def set_up(request: Request, dataset: Dataset, observer: Observer) -> Setup:
    """Open the encoder, settle the recipe, tokenise, and start the head at the priors."""
    config, task = request.config, dataset.task
    folder = resolve(config.encoder.name, notify=observer.phase)
    facts = describe(folder)
    check_length(config.text.max_length, facts.positions)
    rows = {"train": dataset.train, "dev": dataset.dev, "test": dataset.test}
    labelled = {k: kept for k, v in rows.items() if (kept := [e for e in v or [] if _known(e)])}
    recipe = settle(config, facts, rows=len(labelled["train"]), preset=request.preset)
    tokenizer = open_tokenizer(folder, lowercase=config.text.lowercase)
    settings = TextSettings(config.text.max_length, config.text.long, config.text.normalise)
    text = TextEncoder(tokenizer, settings)
    observer.phase("tokenising")
    splits = {name: encode(examples, dataset, text) for name, examples in labelled.items()}
    if notice := truncation_notice(splits["train"].tokens, config.text.max_length):
        observer.noticed(notice)
    truth = splits["train"].truth
    torch.manual_seed(config.training.seed)  # draws the head
    network = open_network(
        folder,
        outputs=max(1, len(dataset.space)),
        pooling=recipe.pooling,
        dropout=config.encoder.dropout,
        attention_dropout=config.encoder.attention_dropout,
    )
    loss_name = resolve_name(config.loss.name or DEFAULT_LOSS[task], task)
    scale = _scale(truth) if task == "regression" else (0.0, 1.0)
    prior_start = bool(recipe.training.prior_bias) and LOSSES[loss_name].calibrated
    _start_head(network, request, dataset, truth, scale, observer, at_priors=prior_start)
    counts = _counts(truth, task, len(dataset.space))
    statistics = LabelStatistics(counts, len(truth))
    weights = _weights(request, loss_name, dataset, statistics, observer)
    balanced = config.training.sampling == "balanced" and task != "regression"
    encoder: Any = network.encoder
    pad = encoder.config.pad_token_id
    return Setup(
        dataset=dataset,
        splits=splits,
        recipe=recipe,
        loss_name=loss_name,
        text=text,
        encoder_folder=folder,
        network=network,
        pad_id=int(pad) if isinstance(pad, int) else text.template.after[-1],
        counts=counts,
        scale=scale,
        weights=weights,
        row_weights=balanced_weights(truth, len(dataset.space)) if balanced else None,
    )


def _start_head(
    network: Network,
    request: Request,
    dataset: Dataset,
    truth: NDArray[Any],
    scale: tuple[float, float],
    observer: Observer,
    *,
    at_priors: bool,
) -> None:
    """The head of the model to start from, or else biases at the priors where that is wanted."""
    priors = _prior_bias(truth, dataset.task, network.head.out_features)
    if request.init_from is not None:
        said = take_over(
            network,
            request.init_from,
            dataset.task,
            dataset.space,
            renames_file=request.renames,
            priors=priors,
            scale=scale,
        )
        observer.noticed(said)
    elif at_priors:
        with torch.no_grad():
            network.head.bias.copy_(torch.from_numpy(priors))


def _weights(
    request: Request,
    loss_name: str,
    dataset: Dataset,
    statistics: LabelStatistics,
    observer: Observer,
) -> NDArray[np.float64] | None:
    wanted = request.config.loss.class_weights
    weights, why = label_weights(
        wanted,
        loss_name,
        dataset.space.names,
        statistics,
        adjusted_later=request.config.decision.objective == "macro_f1",
    )
    if wanted != "none":
        observer.noticed(f"class weights: {why}")
    return weights


def make_trainer(
    setup: Setup, observer: Observer, *, options: Mapping[str, Any], device: torch.device
) -> Trainer:
    """The loop around a setup; `options` are the loss's own."""
    task = setup.dataset.task
    train, dev = setup.splits["train"], setup.splits["dev"]
    loss = make_loss(
        setup.loss_name,
        task,
        LabelStatistics(setup.counts, len(train.truth)),
        options=options,
        weights=setup.weights,
    )
    if setup.row_weights is not None:
        loss.calibrated = False  # it sees other shares of the labels than there are
    truth = train.truth
    if task == "regression":
        mean, spread = setup.scale
        truth = ((truth - mean) / spread).astype(np.float32)

    def score(network: Network) -> float:
        engine = TorchEngine(network, precision=trainer.precision, device=device)
        logits = run_engine(engine, dev.tokens, pad_id=setup.pad_id, outputs=setup.outputs)
        return selection_score(task, logits, dev.truth)

    trainer = Trainer(
        setup.network,
        loss,
        train.tokens,
        truth,
        settings=setup.recipe.training,
        pad_id=setup.pad_id,
        evaluate=score,
        observer=observer,
        device=device,
        row_weights=setup.row_weights,
    )
    return trainer


def unscale(network: Network, scale: tuple[float, float]) -> None:
    """Fold the targets' mean and spread into the head: it then predicts in their own units."""
    mean, spread = scale
    with torch.no_grad():
        network.head.weight.mul_(spread)
        network.head.bias.mul_(spread).add_(mean)


def _known(example: Any) -> bool:
    return example.label is not None


def _prior_bias(truth: NDArray[Any], task: Task, outputs: int) -> NDArray[np.float32]:
    """The labels' log-odds or the classes' log shares, [outputs], clamped where a count is 0.

    0 for regression: its targets are standardised.
    """
    rows = len(truth)
    if task == "regression":
        return np.zeros(outputs, dtype=np.float32)
    if task == "multilabel":
        share = np.clip(truth.mean(axis=0), 0.5 / rows, 1 - 0.5 / rows)
        return np.asarray(np.log(share) - np.log1p(-share), dtype=np.float32)
    share = np.bincount(truth, minlength=outputs) / rows
    return np.asarray(np.log(np.clip(share, 0.5 / rows, 1.0)), dtype=np.float32)


def _counts(truth: NDArray[Any], task: Task, labels: int) -> NDArray[np.int64]:
    if task == "regression":
        return np.zeros(0, dtype=np.int64)
    if task == "multilabel":
        return np.asarray(truth.sum(axis=0), dtype=np.int64)
    return np.bincount(truth, minlength=labels).astype(np.int64)


def _scale(truth: NDArray[Any]) -> tuple[float, float]:
    spread = float(truth.std())
    return float(truth.mean()), spread if spread > 0 else 1.0
