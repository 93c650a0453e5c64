"""The peer of training_speed.py: transformers' Trainer around our network."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from bert_cls.encoders.facts import FAMILIES, Pooling, read_config
from bert_cls.losses import Loss
from bert_cls.network import Network
from bert_cls.text import Tokens
from bert_cls.training.optimiser import make_optimiser
from bert_cls.training.recipe import Settled

BATCH = 16

Row = dict[str, Any]


def stock_network(folder: Path, *, outputs: int, pooling: Pooling) -> Network:
    """Our pooling and head on the encoder as transformers opens it.

    The choice of attention is the library's, dropout is what the encoder's config says.
    """
    family = FAMILIES[read_config(folder)["model_type"]]
    options = {"add_pooling_layer": pooling == "cls_pooler"} if family.has_pooler else {}
    encoder = transformers.AutoModel.from_pretrained(str(folder), dtype=torch.float32, **options)
    return Network(encoder, family, pooling, outputs, 0.1)


def train(
    network: Network,
    loss: Loss,
    tokens: Tokens,
    truth: NDArray[Any],
    *,
    settings: Settled,
    epochs: int,
    pad_id: int,
    pad_to: int | None,
    bf16: bool,
    grouped: bool,
) -> list[float]:
    """Seconds of each epoch; rates, schedule and optimiser are those of `settings`."""
    clock = Clock()
    rows: list[Row] = [
        {"input_ids": tokens.ids[a:b].tolist(), "types": tokens.types[a:b].tolist(), "labels": y}
        for a, b, y in zip(tokens.starts[:-1], tokens.starts[1:], truth, strict=True)
    ]
    optimiser = make_optimiser(
        network,
        learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_learning_rate,
        weight_decay=settings.weight_decay,
        epsilon=settings.adam_epsilon,
    )
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=BATCH,
            num_train_epochs=epochs,
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_share,  # below 1 it is a share of the steps
            max_grad_norm=settings.max_grad_norm,
            train_sampling_strategy="group_by_length" if grouped else "random",
            bf16=bf16,
            use_cpu=True,
            seed=settings.seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        trainer = transformers.Trainer(
            model=WithLoss(network, loss),
            args=arguments,
            data_collator=collator(pad_id, pad_to),
            train_dataset=rows,
            callbacks=[clock],
            optimizers=(optimiser, None),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return clock.seconds


class WithLoss(nn.Module):
    """Our network in the form the Trainer wants: labels in, loss out."""

    def __init__(self, network: Network, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """The mean loss of a batch."""
        logits = self.network(input_ids, token_type_ids, attention_mask)
        return {"loss": self.loss(logits, labels).mean()}


class Clock(transformers.TrainerCallback):
    """Times epochs, without what the Trainer does before and after them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def collator(pad_id: int, pad_to: int | None) -> Callable[[list[Row]], dict[str, Tensor]]:
    """Rows side by side, padded to their longest or to `pad_to`."""

    def collate(rows: list[Row]) -> dict[str, Tensor]:
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
