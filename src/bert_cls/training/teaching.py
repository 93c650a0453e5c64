"""What a teacher gives a run: its logits on every row, and the network the student starts as."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from bert_cls.bundle import Bundle, open_text
from bert_cls.config import RunConfig
from bert_cls.data import Dataset, Example, Rows, read
from bert_cls.data.split import text_key
from bert_cls.encoders import trim
from bert_cls.encoders.facts import read_config
from bert_cls.engines import open_engine
from bert_cls.engines import run as run_engine
from bert_cls.errors import DataError
from bert_cls.folders import sha256
from bert_cls.judging import encode_texts
from bert_cls.network import Network, load_tensors, open_network
from bert_cls.request import Distillation
from bert_cls.text import TextEncoder, Tokens
from bert_cls.training import aims
from bert_cls.training.loop import Observer
from bert_cls.training.prepare import Encoded
from bert_cls.training.student import UNLABELLED, open_teacher

ENGINE = "torch"
_ENGINE_OF = {"float32": ENGINE, "bfloat16": "torch-bfloat16"}


@dataclass(frozen=True, slots=True)
class Teaching:
    """A teacher's answers to the rows of a run."""

    teacher: Bundle
    tokens: Tokens
    """the student's, of the labelled training rows and behind them those without a label"""
    logits: NDArray[np.float32]
    """[rows, outputs] the teacher's, of the same rows"""
    held_out: Mapping[str, NDArray[np.float32]]
    """the teacher's, of dev and, where there is one, test"""

    @property
    def calibrated(self) -> bool:
        """Whether the teacher's logits aim at probabilities before its rule makes them so."""
        return aims.calibrated(self.teacher)

    @property
    def adjusted(self) -> bool:
        """Whether the teacher's training made up for rare classes."""
        return aims.adjusted(self.teacher)


def with_unlabelled(
    dataset: Dataset, distillation: Distillation, config: RunConfig, observer: Observer
) -> Dataset:
    """The data set with every text that nobody labelled, and none twice, as `unlabelled`.

    Texts that are also in train, dev or test are left out: their labels are known, or asked later.
    """
    rows, files, problems = list(dataset.unlabelled), dict(dataset.files), list(dataset.problems)
    if (path := distillation.unlabelled) is not None:
        further = _read(path, dataset, config, observer)
        rows += further.examples
        problems += further.problems
        files[UNLABELLED + path.name] = sha256(path)
    held = [e for part in (dataset.dev, dataset.test) for e in part or []]
    seen = {text_key(example) for example in [*(dataset.train or []), *held]}
    kept = []
    for example in rows:
        if (key := text_key(example)) not in seen:
            seen.add(key)
            kept.append(replace(example, label=None))
    again = len(rows) - len(kept)
    repeated = f"; {again:,} more are repeated, or also in train, dev or test" if again else ""
    observer.noticed(f"{len(kept):,} texts without a label are learnt from{repeated}")
    return replace(dataset, unlabelled=kept, files=files, problems=problems)


def _read(path: Path, dataset: Dataset, config: RunConfig, observer: Observer) -> Rows:
    """The texts of a file; labels in it are passed over, and that is said."""
    rows = read(
        path,
        encoding=config.data.encoding,
        on_bad_row=config.data.on_bad_row,
        coerce_numbers=config.data.coerce_numbers,
        fix_unicode=config.data.fix_unicode,
    )
    for problem in rows.problems:
        observer.noticed(str(problem))
    for at, example in enumerate(rows.examples):
        if (example.text_b is not None) != dataset.pair:
            wanted = "pairs" if dataset.pair else "single texts"
            raise DataError(f"{rows.file}: {rows.place(at)}: the teacher reads {wanted}.")
    if labelled := sum(example.label is not None for example in rows.examples):
        observer.noticed(f"{rows.file}: {labelled:,} of its rows have labels, which are not used")
    return rows


def ask(
    distillation: Distillation,
    dataset: Dataset,
    splits: Mapping[str, Encoded],
    text: TextEncoder,
    observer: Observer,
    *,
    precision: str,
) -> Teaching:
    """Open the teacher and take its logits on every row, once. `text` is the student's.

    What is learnt from is computed in the precision of training; held-out rows, whose figures are
    shown, in float32.
    """
    teacher = open_teacher(distillation)
    if dataset.pair != teacher.pair:
        kinds = ("pairs", "single texts")
        read_, given = kinds if teacher.pair else kinds[::-1]
        raise DataError(f"the teacher reads {read_}. The data has {given}.")
    taught = [*splits["train"].examples, *dataset.unlabelled]
    held = {name: list(split.examples) for name, split in splits.items() if name != "train"}
    count = len(taught) + sum(map(len, held.values()))
    observer.phase(f"asking the teacher about {count:,} rows")
    engines = {name: open_engine(teacher, name) for name in {ENGINE, _ENGINE_OF[precision]}}
    own = open_text(teacher)

    def logits(examples: list[Example], engine: str = ENGINE) -> NDArray[np.float32]:
        tokens = encode_texts(examples, teacher.pair, own)
        return run_engine(engines[engine], tokens, pad_id=teacher.pad_id, outputs=teacher.outputs)

    return Teaching(
        teacher=teacher,
        tokens=encode_texts(taught, dataset.pair, text),
        logits=logits(taught, _ENGINE_OF[precision]),
        held_out={name: logits(examples) for name, examples in held.items()},
    )


def open_student(
    distillation: Distillation, *, dropout: float, attention_dropout: float
) -> tuple[Network, dict[str, Any]]:
    """The teacher with the chosen layers only, head and all, and the config of that encoder."""
    teacher = open_teacher(distillation)
    with tempfile.TemporaryDirectory(prefix="bert-cls-") as scratch:
        folder = Path(scratch) / "encoder"
        trim(teacher.folder, folder, layers=distillation.layers)
        network = open_network(
            folder,
            outputs=teacher.outputs,
            pooling=teacher.pooling,
            dropout=dropout,
            attention_dropout=attention_dropout,
            weights=False,
        )
        load_tensors(network, load_file(folder / "model.safetensors"))
        return network, read_config(folder)
