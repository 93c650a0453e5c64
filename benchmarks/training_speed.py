"""Training speed: our loop against transformers' Trainer, same encoder, head, rows and epochs.

The Trainer gets our network (encoder, mean pooling, linear head) with our optimiser's groups and
rates, so that the dev scores differ by the loop alone. Its encoder is opened as transformers
opens it (its own attention and dropout); the row "our network" gives it ours as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS, console, data_set, machine, show, write_results
from torch import Tensor, nn

from bert_cls.config import resolve_config
from bert_cls.decision import tune
from bert_cls.encoders.facts import FAMILIES, read_config
from bert_cls.engines import run as run_engine
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import BertClsError
from bert_cls.losses import LabelStatistics, Loss, make_loss
from bert_cls.metrics import mean_average_precision
from bert_cls.network import Network, open_network
from bert_cls.text import Tokens
from bert_cls.training import Request, Silent
from bert_cls.training.loop import Trainer, choose_precision
from bert_cls.training.optimiser import make_optimiser
from bert_cls.training.prepare import read_dataset
from bert_cls.training.recipe import Settled
from bert_cls.training.setup import Setup, set_up

CPU = torch.device("cpu")
PEER_BATCH = 16
LENGTH = 64
GEMM_SHAPES = ((2048, 2048, 2048), (4096, 384, 1536), (4096, 1536, 384), (2048, 384, 1536))
GEMM_SECONDS = 1.0
FLOPS_TARGET = 45.0


@dataclass(frozen=True, slots=True)
class System:
    """One way to train; `target` is how many times faster ours should be."""

    name: str
    ours: bool = False
    bf16: bool = False
    grouped: bool = False
    pad_to: int | None = None
    our_encoder: bool = False
    target: float | None = None


SYSTEMS: dict[str, System] = {
    "padded": System("a  Trainer, padded to the maximum, fp32", pad_to=256, target=16.0),
    "default": System("b  Trainer, padded by batch, fp32", target=4.0),
    "grouped": System("c  Trainer, bf16, group_by_length", bf16=True, grouped=True, target=1.4),
    "network": System("c' the same on our network", bf16=True, grouped=True, our_encoder=True),
    "ours": System("d  ours", ours=True, our_encoder=True),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What every system trains: the same start, rows and loss."""

    setup: Setup
    loss: Loss
    head: dict[str, Tensor]
    settings: Settled
    parameters: int
    """outside the embeddings"""

    def fresh(self, system: System) -> Network:
        """A new network with the head all systems start from."""
        setup = self.setup
        torch.manual_seed(self.settings.seed)
        if system.our_encoder:
            network = open_network(
                setup.encoder_folder, outputs=setup.outputs, pooling=setup.recipe.pooling
            )
        else:
            network = _stock_network(setup)
        network.head.load_state_dict(self.head)
        return network


def _stock_network(setup: Setup) -> Network:
    """The encoder as transformers opens it: its choice of attention, the config's dropout."""
    from transformers import AutoModel

    folder, pooling = setup.encoder_folder, setup.recipe.pooling
    family = FAMILIES[read_config(folder)["model_type"]]
    options: dict[str, Any] = {"add_pooling_layer": pooling == "cls_pooler"}
    encoder = AutoModel.from_pretrained(
        str(folder), dtype=torch.float32, **(options if family.has_pooler else {})
    )
    return Network(encoder, family, pooling, setup.outputs, 0.1)


class WithLoss(nn.Module):
    """Our network in the form transformers' Trainer wants: labels in, loss out."""

    def __init__(self, network: Network, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """The mean loss of a batch."""
        logits = self.network(input_ids, token_type_ids, attention_mask)
        return {"loss": self.loss(logits, labels).mean()}


def train_ours(
    bench: Bench, network: Network, tokens: Tokens, truth: np.ndarray, epochs: int
) -> list[float]:
    """Seconds of each epoch of our loop with the recipe's settings."""
    trainer = Trainer(
        network,
        bench.loss,
        tokens,
        truth,
        settings=bench.settings.model_copy(update={"epochs": epochs}),
        pad_id=bench.setup.pad_id,
        evaluate=None,
        observer=Silent(),
        device=CPU,
    )
    return [epoch.seconds for epoch in trainer.run()]


def train_peer(
    system: System,
    bench: Bench,
    network: Network,
    tokens: Tokens,
    truth: np.ndarray,
    epochs: int,
) -> list[float]:
    """Seconds of each epoch of transformers' Trainer."""
    import transformers

    clock = _clock(transformers.TrainerCallback)
    settings, types = bench.settings, tokens.types
    rows = [
        {"input_ids": tokens.ids[a:b].tolist(), "types": types[a:b].tolist(), "labels": label}
        for a, b, label in zip(tokens.starts[:-1], tokens.starts[1:], truth, strict=True)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=PEER_BATCH,
            num_train_epochs=epochs,
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_share,  # below 1 it is a share
            max_grad_norm=settings.max_grad_norm,
            train_sampling_strategy="group_by_length" if system.grouped else "random",
            bf16=system.bf16,
            use_cpu=True,
            seed=settings.seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        optimiser = make_optimiser(
            network,
            learning_rate=settings.learning_rate,
            head_learning_rate=settings.head_learning_rate,
            weight_decay=settings.weight_decay,
            epsilon=settings.adam_epsilon,
        )
        trainer = transformers.Trainer(
            model=WithLoss(network, bench.loss),
            args=arguments,
            data_collator=_collator(bench.setup.pad_id, system.pad_to),
            train_dataset=rows,
            callbacks=[clock],
            optimizers=(optimiser, None),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return list(clock.seconds)


def _clock(base: type) -> Any:
    class Clock(base):  # type: ignore[misc]
        """Times epochs."""

        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    return Clock()


def _collator(pad_id: int, pad_to: int | None) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        width = pad_to or max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), pad_id)
        types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
        for place, row in enumerate(rows):
            size = len(row["input_ids"])
            ids[place, :size] = torch.tensor(row["input_ids"])
            types[place, :size] = torch.tensor(row["types"])
            mask[place, :size] = 1
        labels = torch.from_numpy(np.stack([row["labels"] for row in rows]))
        return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask, "labels": labels}

    return collate


def first(tokens: Tokens, rows: int) -> Tokens:
    """The first rows of many."""
    end = int(tokens.starts[rows])
    return Tokens(
        tokens.ids[:end], tokens.types[:end], tokens.starts[: rows + 1], tokens.full_lengths[:rows]
    )


def synthetic(bench: Bench, rows: int, length: int) -> tuple[Tokens, np.ndarray]:
    """Rows of exactly `length` random tokens, and random labels."""
    generator = np.random.default_rng(0)
    encoder: Any = bench.setup.network.encoder
    ids = generator.integers(10, encoder.config.vocab_size, rows * length).astype(np.int32)
    starts = np.arange(rows + 1, dtype=np.int64) * length
    lengths = np.full(rows, length, np.int32)
    truth = generator.random((rows, bench.setup.outputs)) < 0.1
    return Tokens(ids, np.zeros(len(ids), np.int8), starts, lengths), truth


def timed(
    system: System, bench: Bench, tokens: Tokens, truth: np.ndarray, epochs: int
) -> tuple[list[float], Network]:
    """Seconds of each epoch from a fresh start, and the trained network."""
    network = bench.fresh(system)
    if system.ours:
        return train_ours(bench, network, tokens, truth, epochs), network
    return train_peer(system, bench, network, tokens, truth, epochs), network


def dev_scores(bench: Bench, network: Network) -> dict[str, float]:
    """MAP, and micro-F1 at one cut for all labels, chosen on the other folds of dev."""
    dev = bench.setup.splits["dev"]
    engine = TorchEngine(network, precision="float32", device=CPU)
    logits = run_engine(
        engine, dev.tokens, pad_id=bench.setup.pad_id, outputs=bench.setup.outputs
    ).astype(np.float64)
    tuned = tune(logits, dev.truth, task="multilabel", tuner="global", objective="micro_f1")
    return {
        "map": 100 * mean_average_precision(dev.truth, logits),
        "micro_f1": 100 * tuned.crossfit["global"],
    }


def gemm_peak(dtype: torch.dtype) -> tuple[float, str]:
    """The best GFLOP/s of torch's linear layer over several shapes, and the shape."""
    best = (0.0, "")
    for rows, inner, columns in GEMM_SHAPES:
        left = torch.randn(rows, inner).to(dtype)
        right = torch.randn(columns, inner).to(dtype)
        until = time.perf_counter() + GEMM_SECONDS
        while time.perf_counter() < until:
            began = time.perf_counter()
            for _ in range(3):
                nn.functional.linear(left, right)
            rate = 3 * 2 * rows * inner * columns / (time.perf_counter() - began) / 1e9
            best = max(best, (rate, f"{rows}x{inner}x{columns}"))
    return best
