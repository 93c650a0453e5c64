"""The model folder: everything predicting, evaluating, exporting and serving need, and no code.

bert_cls.json            what the model is: task, labels, rule, text settings, configuration
config.json              the encoder, as Hugging Face writes it
model.safetensors        all weights under Hugging Face's names, the head as `classifier`
tokenizer.json           the tokenizer, with tokenizer_config.json for Hugging Face
evaluation.json          figures on the test (or else development) rows, where there were any
MANIFEST.json            sizes and sha256 of the above, written last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import orjson

from bert_cls.data.example import LabelSpace, Task
from bert_cls.decision import Rule
from bert_cls.encoders.facts import Pooling
from bert_cls.errors import BertClsError, BundleError
from bert_cls.folders import MANIFEST, read_manifest, verify, write_file, write_manifest
from bert_cls.text import TextSettings

FORMAT = 1
DESCRIPTION = "bert_cls.json"
_REQUIRED = (DESCRIPTION, "config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened model folder."""

    folder: Path
    space: LabelSpace
    rule: Rule
    text: TextSettings
    pooling: Pooling
    pair: bool
    pad_id: int
    details: Mapping[str, Any] = field(default_factory=dict)
    """Configuration and origins, data fingerprint, history, metrics, versions: for people."""

    @property
    def task(self) -> Task:
        """The rule's task."""
        return self.rule.task

    @property
    def outputs(self) -> int:
        """Width of the head: one per label, 1 for regression."""
        return max(1, len(self.space))

    def description(self) -> dict[str, Any]:
        """What `bert_cls.json` holds."""
        return {
            "format": FORMAT,
            "task": self.task,
            "labels": list(self.space.names),
            "pair": self.pair,
            "pooling": self.pooling,
            "pad_id": self.pad_id,
            "text": self.text.to_dict(),
            "rule": self.rule.to_dict(),
            **self.details,
        }


def save(bundle: Bundle, files: Mapping[str, bytes]) -> None:
    """Write `files` and the description into the folder; the manifest last makes it a model.

    Whatever else is in the folder (checkpoints, reports) is left alone.
    """
    bundle.folder.mkdir(parents=True, exist_ok=True)
    (bundle.folder / MANIFEST).unlink(missing_ok=True)
    description = orjson.dumps(bundle.description(), option=orjson.OPT_INDENT_2)
    content = {**files, DESCRIPTION: description}
    for name, data in content.items():
        write_file(bundle.folder / name, data)
    write_manifest(bundle.folder, content)


def load(folder: Path, *, check: bool = True) -> Bundle:
    """Open a model folder; `check` compares every file with the manifest's sha256.

    BundleError says which file is missing, changed or malformed.
    """
    if not folder.is_dir():
        raise BundleError(f"there is no model folder {folder}.")
    # the manifest is written last; without checking a folder may do without it
    last = MANIFEST if check else DESCRIPTION
    if missing := [n for n in (DESCRIPTION, last) if not (folder / n).is_file()]:
        raise BundleError(
            f"{folder} is not a finished model folder: it has no {missing[0]}.",
            hint="if its training was interrupted: bert-cls train --resume " + str(folder),
        )
    if check:
        verify(folder)
        listed = {entry["name"] for entry in read_manifest(folder)}
        if unlisted := sorted(set(_REQUIRED) - listed):
            raise BundleError(f"{folder / MANIFEST} does not list {unlisted[0]}.")
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: {name} is missing.")
    try:
        content = orjson.loads((folder / DESCRIPTION).read_bytes())
        return _parsed(folder, content)
    except BertClsError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / DESCRIPTION} is malformed: {error!r}") from error


def _parsed(folder: Path, content: dict[str, Any]) -> Bundle:
    if content["format"] != FORMAT:
        raise BundleError(
            f"{folder} has format {content['format']}. This version reads format {FORMAT}.",
            hint="install the version of bert-cls that wrote it (see its `versions`).",
        )
    rule = Rule.from_dict(content["rule"])
    known = {"format", "task", "labels", "pair", "pooling", "pad_id", "text", "rule"}
    if rule.task != content["task"] or content["pooling"] not in get_args(Pooling):
        raise BundleError(f"{folder / DESCRIPTION} contradicts itself on task or pooling.")
    return Bundle(
        folder=folder,
        space=LabelSpace(tuple(content["labels"])),
        rule=rule,
        text=TextSettings(**content["text"]),
        pooling=content["pooling"],
        pair=bool(content["pair"]),
        pad_id=int(content["pad_id"]),
        details={k: v for k, v in content.items() if k not in known},
    )
