"""What a network starts as: a pretrained encoder and a head at the priors, or parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bert_cls.data import Dataset, Task
from bert_cls.encoders.facts import Pooling, read_config
from bert_cls.network import DRAWING, Network, open_network
from bert_cls.request import Request
from bert_cls.training.inherit import take_over
from bert_cls.training.loop import Observer
from bert_cls.training.teaching import open_student


def open_start(
    request: Request, folder: Path, pooling: Pooling, *, outputs: int
) -> tuple[Network, Mapping[str, Any]]:
    """The network a run starts from, and its encoder's config; of a student the teacher's layers.

    A head that is not the teacher's is drawn from the seed.
    """
    encoder = request.config.encoder
    with DRAWING:
        torch.manual_seed(request.config.training.seed)
        if request.distillation is not None:
            return open_student(
                request.distillation,
                dropout=encoder.dropout,
                attention_dropout=encoder.attention_dropout,
            )
        network = open_network(
            folder,
            outputs=outputs,
            pooling=pooling,
            dropout=encoder.dropout,
            attention_dropout=encoder.attention_dropout,
        )
    return network, read_config(folder)


def start_head(
    network: Network,
    request: Request,
    dataset: Dataset,
    scale: tuple[float, float],
    observer: Observer,
    *,
    priors: NDArray[np.float32] | None,
) -> None:
    """Rows of the head from the model to start from, or else biases at the `priors`, if any."""
    if request.distillation is not None:
        standardise(network, scale)
        return
    if request.init_from is not None:
        said = take_over(
            network,
            request.init_from,
            dataset.task,
            dataset.space,
            renames=request.renames,
            encoding=request.config.data.encoding,
            priors=priors,
            scale=scale,
        )
        observer.noticed(said)
    elif priors is not None:
        with torch.no_grad():
            network.head.bias.copy_(torch.from_numpy(priors))


def prior_bias(
    truth: NDArray[Any], task: Task, outputs: int, weights: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    """The labels' log-odds or the classes' log shares, [outputs], clamped where a count is 0.

    With the `weights` of `label_weights` of the weighted rows: where the weighted loss is least
    for a network that knows nothing. 0 for regression: its targets are standardised.
    """
    rows = len(truth)
    if task == "regression":
        return np.zeros(outputs, dtype=np.float32)
    moved = 0.0 if weights is None else np.log(weights)
    if task == "multilabel":
        share = np.clip(truth.mean(axis=0), 0.5 / rows, 1 - 0.5 / rows)
        return np.asarray(np.log(share) - np.log1p(-share) + moved, dtype=np.float32)
    share = np.bincount(truth, minlength=outputs) / rows
    return np.asarray(np.log(np.clip(share, 0.5 / rows, 1.0)) + moved, dtype=np.float32)


def scale_of(truth: NDArray[Any], task: Task) -> tuple[float, float]:
    """Mean and spread of regression targets; (0, 1) for other tasks and a spread of 1 for none."""
    if task != "regression":
        return 0.0, 1.0
    spread = float(truth.std())
    return float(truth.mean()), spread if spread > 0 else 1.0


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
