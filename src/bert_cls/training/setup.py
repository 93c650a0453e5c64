"""A request made concrete: encoder, recipe, tokens, network, loss, trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bert_cls.data import Dataset, Task
from bert_cls.encoders import describe, open_tokenizer, resolve
from bert_cls.engines import Engine
from bert_cls.engines import run as run_engine
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.losses import LOSSES, LabelStatistics, make_loss, resolve_name
from bert_cls.network import Network, open_network
from bert_cls.request import Request
from bert_cls.text import TextEncoder, TextSettings
from bert_cls.training.loop import Observer, Trainer
from bert_cls.training.places import name_rows
from bert_cls.training.prepare import Encoded, check_length, encode, truncation_notice
from bert_cls.training.ranks import Ranks, Shared
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
    if recipe.training.prior_bias and LOSSES[loss_name].calibrated:
        _start_at_prior(network, truth, task)
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
        counts=_counts(truth, task, len(dataset.space)),
        scale=_scale(truth) if task == "regression" else (0.0, 1.0),
    )


def make_trainer(
    setup: Setup, observer: Observer, request: Request, *, device: torch.device, ranks: Ranks
) -> Trainer:
    """The loop around a setup."""
    task = setup.dataset.task
    train, dev = setup.splits["train"], setup.splits["dev"]
    loss = make_loss(
        setup.loss_name,
        task,
        LabelStatistics(setup.counts, len(train.truth)),
        options=request.config.loss.options,
    )
    truth = train.truth
    if task == "regression":
        mean, spread = setup.scale
        truth = ((truth - mean) / spread).astype(np.float32)

    def score(network: Network) -> float:
        engine = TorchEngine(network, precision=trainer.precision, device=device)
        return selection_score(task, logits_of(engine, setup, "dev", ranks), dev.truth)

    def named(rows: Sequence[int]) -> str:
        return name_rows([train.examples[row] for row in rows], request.data, request.config.data)

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
        ranks=ranks,
        name_rows=named,
    )
    return trainer


def logits_of(engine: Engine, setup: Setup, split: str, ranks: Ranks) -> NDArray[np.float32]:
    """float32 logits [rows, outputs] of a split; the ranks share its batches, each row once."""
    shared = Shared(engine, ranks, setup.outputs)
    tokens = setup.splits[split].tokens
    return ranks.add(run_engine(shared, tokens, pad_id=setup.pad_id, outputs=setup.outputs))


def unscale(network: Network, scale: tuple[float, float]) -> None:
    """Fold the targets' mean and spread into the head: it then predicts in their own units."""
    mean, spread = scale
    with torch.no_grad():
        network.head.weight.mul_(spread)
        network.head.bias.mul_(spread).add_(mean)


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
