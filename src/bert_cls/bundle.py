"""The model folder: everything predicting, evaluating and exporting need, and no code.

bert_cls.json            what the model is: task, labels, rule, text settings, configuration
config.json              the encoder, as Hugging Face writes it
model.safetensors        all weights under Hugging Face's names, the head as `classifier`
tokenizer.json           the tokenizer, with tokenizer_config.json for Hugging Face
evaluation.json          figures on the test (or else development) rows, where there were any
calibration.safetensors  token ids of a sample of rows, for `bert-cls export` (optional)
domain.safetensors       what development rows looked like, to tell strange ones (optional)
openvino.xml, ...        exported networks (`engines.FILES`; optional)
MANIFEST.json            sizes and sha256 of the above, written last

Beside them and not in the manifest are run.json, what the run was asked for and what it read,
report.json, and report.html: that holds texts of the data, so that people may take it away before
they pass the model on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import orjson

from bert_cls.arguments import path_of
from bert_cls.data.example import LabelSpace, Task
from bert_cls.data.label_files import checked_names
from bert_cls.decision import Rule
from bert_cls.encoders.facts import Pooling, positions_of, read_config
from bert_cls.errors import BertClsError, BundleError, shortened
from bert_cls.files import read_bounded, read_object
from bert_cls.folders import (
    MANIFEST,
    be_like,
    listed,
    verify,
    write_file,
    write_folder,
    write_manifest,
)
from bert_cls.foreign_tokenizer import MOST_BYTES
from bert_cls.text import TextEncoder, TextSettings, text_settings

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
    merges: Mapping[str, str] = field(default_factory=dict)
    """Label names of the data that training merged into others: old to new."""
    weights: str | None = None
    """sha256 of the weights, when the folder was opened and its files checked."""

    @property
    def task(self) -> Task:
        """The rule's task."""
        return self.rule.task

    @property
    def data_files(self) -> Mapping[str, str]:
        """The sha256 of each file that training read, by its name; none where that is not said."""
        files: Mapping[str, str] = self.details.get("data", {}).get("files", {})
        return files

    @property
    def outputs(self) -> int:
        """Width of the head: one per label, 1 for regression."""
        return max(1, len(self.space))

    def description(self) -> dict[str, Any]:
        """What `bert_cls.json` holds."""
        merged = {"label_merges": {"format": FORMAT, "names": dict(self.merges)}}
        return {
            "format": FORMAT,
            "task": self.task,
            "labels": list(self.space.names),
            "pair": self.pair,
            "pooling": self.pooling,
            "pad_id": self.pad_id,
            "text": {**self.text.to_dict(), "special_tokens": _SPECIAL_TOKENS},
            "rule": self.rule.to_dict(),
            **(merged if self.merges else {}),
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


def extend(bundle: Bundle, files: Mapping[str, Path], engines: Mapping[str, Any]) -> None:
    """Move exported networks into a finished folder and describe them under `engines`.

    The folder is replaced as a whole: after a crash it is as it was, or as it was to be. Files of
    the same names are replaced; `files` maps names in the folder to where they are now.
    """
    before = listed(bundle.folder)
    names = {name for name in before if (bundle.folder / name).exists()} | set(files)
    details = {**bundle.details, "engines": dict(engines)}
    description = orjson.dumps(
        replace(bundle, details=details).description(), option=orjson.OPT_INDENT_2
    )

    def write(scratch: Path) -> None:
        replaced = {*files, DESCRIPTION, MANIFEST}
        _take_all(bundle.folder, scratch, leave_out=replaced)
        for name, path in files.items():
            shutil.move(path, scratch / name)
        (scratch / DESCRIPTION).write_bytes(description)

    write_folder(bundle.folder, write, listed=names)


def check_names(bundle: Bundle, names: Iterable[str]) -> None:
    """BundleError where a folder, link or pipe, which no export wrote, has the name of a file."""
    for path in (bundle.folder / name for name in names):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise BundleError(
                f"{path} is not a regular file. An exported network is kept under that name.",
                hint="move it away.",
            )


def _take_all(source: Path, target: Path, *, leave_out: Container[str]) -> None:
    """Put all that is in `source` but the named files into `target`: linked, or else copied.

    Exported networks are copied: who opens one refuses a second name of it. Links stay links, and
    are not followed: in a stranger's folder they may lead anywhere.
    """
    folders = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        place = target / name
        if name in leave_out:
            continue
        if path.is_symlink():
            place.symlink_to(path.readlink())
        elif path.is_dir():
            os.scandir(path).close()  # PermissionError, where rglob would pass it over
            place.mkdir()
            folders.append((place, path))
        else:
            _put_file(path, place)
    for place, path in reversed(folders):  # when all is in them: they may be closed to writing
        be_like(place, path)


def _put_file(path: Path, place: Path) -> None:
    if path.suffix not in _NETWORKS or not path.is_file():  # a pipe has nothing to copy
        with suppress(OSError):  # a file system without links
            os.link(path, place)
            return
    shutil.copy2(path, place)


def load(folder: str | Path, *, check: bool = True) -> Bundle:
    """Open a model folder; `check` compares every file with the manifest's sha256.

    BundleError says which file is missing, changed or malformed; of exported networks only those
    that are used must be there, which `engines` sees to. The folder may be a stranger's:
    docs/security.md lists what is checked.
    """
    folder = path_of("folder", folder)
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
        verify(folder, spared=_NETWORKS)
        files = listed(folder)
        if unlisted := sorted(set(_REQUIRED) - set(files)):
            raise BundleError(f"{folder / MANIFEST} does not list {unlisted[0]}.")
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: {name} is missing.")
    content = read_object(folder / DESCRIPTION, BundleError)
    with naming(folder):
        bundle = _parsed(folder, content)
        _check_encoder(bundle)
    return replace(bundle, weights=files["model.safetensors"]) if check else bundle


def open_text(bundle: Bundle) -> TextEncoder:
    """The model's tokenizer with its text settings. BundleError for one that cannot be used."""
    path = bundle.folder / "tokenizer.json"
    content = read_bounded(path, BundleError, most=MOST_BYTES)
    rows = read_config(bundle.folder)["vocab_size"]
    with naming(bundle.folder):
        return TextEncoder.from_json(content, bundle.text, rows=rows)


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """What is wrong with a file of a model folder, as a BundleError that names the folder once."""
    try:
        yield
    except BertClsError as error:
        named = error.message.startswith(tuple(f"{folder}{mark}" for mark in (":", " ", "/", "\\")))
        message = error.message if named else f"{folder}: {error.message}"
        raise BundleError(message, hint=error.hint) from error


def _parsed(folder: Path, content: Mapping[str, Any]) -> Bundle:
    if (found := content.get("format")) != FORMAT or type(found) is not int:
        raise BundleError(
            f"{folder} has format {str(found)[:60]}. This version reads format {FORMAT}.",
            hint="install the version of bert-cls that wrote it (see its `versions`).",
        )
    kinds = {"task": str, "labels": list, "pair": bool, "pooling": str, "pad_id": int}
    kinds |= {"text": dict, "rule": dict}
    for key, kind in kinds.items():
        if key not in content:
            raise BundleError(f"{folder / DESCRIPTION} is malformed: {key!r} is missing.")
        if type(content[key]) is not kind:
            raise BundleError(f"{folder / DESCRIPTION} is malformed: {key} is no {kind.__name__}.")
    rule = Rule.from_dict(content["rule"])
    space = LabelSpace(checked_names(content["labels"], DESCRIPTION))
    counts: dict[Task, bool] = {"regression": len(space) == 0, "binary": len(space) == 2}
    fits = counts.get(rule.task, len(space) > 0)
    rule.check_fits(len(space))
    if rule.task != content["task"] or content["pooling"] not in get_args(Pooling) or not fits:
        raise BundleError(f"{folder / DESCRIPTION} contradicts itself on task, labels or pooling.")
    return Bundle(
        folder=folder,
        space=space,
        rule=rule,
        text=_text(folder, content["text"]),
        pooling=content["pooling"],
        pair=content["pair"],
        pad_id=content["pad_id"],
        details=_details(folder, content),
        merges=_merges(folder, content.get("label_merges"), space),
    )


def _merges(folder: Path, stored: object, space: LabelSpace) -> dict[str, str]:
    """Names that are none of the labels, to labels; not stored where none were merged."""
    if stored is None:
        return {}
    content = stored if isinstance(stored, dict) and stored.get("format") == FORMAT else {}
    names = content.get("names")
    if not isinstance(names, dict):
        raise BundleError(f"{folder / DESCRIPTION} is malformed: label_merges is no map of names.")
    ids = space.ids
    for old, new in names.items():
        if old in ids or not isinstance(new, str) or new not in ids:
            raise BundleError(
                f"{folder / DESCRIPTION} contradicts itself: label_merges has {shortened(old)}, "
                "which must be none of the labels and become one of them."
            )
    return dict(names)


def _text(folder: Path, stored: Mapping[str, Any]) -> TextSettings:
    """The text settings. BundleError where typed special tokens were to be more than text."""
    settings = dict(stored)
    if (found := settings.pop("special_tokens", None)) != _SPECIAL_TOKENS:
        raise BundleError(
            f"{folder / DESCRIPTION}: text.special_tokens must be {_SPECIAL_TOKENS!r}. "
            f"Got {shortened(found)} instead."
        )
    return text_settings(settings)


def _details(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """What is for people, in the shapes that it is read in; only counts are computed with."""
    details = {k: v for k, v in content.items() if k not in _KNOWN}
    for name, (fits, wanted) in _SHAPES.items():
        section, _, field = name.rpartition(".")
        within = details.get(section, {}) if section else details
        if field in within and not fits(within[field]):
            raise BundleError(f"{folder / DESCRIPTION} is malformed: {name} is no {wanted}.")
    seed = details.get("config", {}).get("training", {}).get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise BundleError(
            f"{folder / DESCRIPTION} is malformed: config.training.seed must be a whole number "
            f"from 0. Got {shortened(seed)} instead."
        )
    counts = details.get("data", {}).get("label_counts")
    if counts:
        named = isinstance(counts, dict) and set(counts) == set(content["labels"])
        if not named or not all(type(n) is int and n >= 0 for n in counts.values()):
            raise BundleError(
                f"{folder / DESCRIPTION} is malformed: data.label_counts is not one count a label."
            )
    return details


def _check_encoder(bundle: Bundle) -> None:
    """BundleError when texts would have more tokens, or other ids, than the encoder can read."""
    config = read_config(bundle.folder)
    positions, rows = positions_of(config), config["vocab_size"]
    if bundle.text.max_length > positions or not 0 <= bundle.pad_id < rows:
        raise BundleError(
            f"{bundle.folder / DESCRIPTION}: text.max_length must be at most {positions} and "
            f"pad_id below {rows:,} with this encoder. Got {bundle.text.max_length} and "
            f"{bundle.pad_id} instead."
        )


def _is_object_of(value: object, kind: type) -> bool:
    return isinstance(value, dict) and all(type(inner) is kind for inner in value.values())


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(inner, dict) for inner in value)


_SHAPES: dict[str, tuple[Callable[[object], bool], str]] = {
    "config": (lambda value: _is_object_of(value, dict), "object of objects"),
    "origins": (lambda value: _is_object_of(value, str), "object of words"),
    "engines": (lambda value: _is_object_of(value, dict), "object of objects"),
    "history": (_is_list_of_objects, "list of objects"),
    "data": (lambda value: isinstance(value, dict), "object"),
    "data.files": (lambda value: _is_object_of(value, str), "object of words"),
    "data.rows": (lambda value: _is_object_of(value, int), "object of whole numbers"),
}
"""what of `details` is read again, outer parts before inner ones"""
_NETWORKS = (".onnx", ".xml", ".bin")  # exported, and opened by programs of others
_SPECIAL_TOKENS = "literal"  # typed in a text they are ordinary characters; no other way is built
_KNOWN = {"format", "task", "labels", "pair", "pooling", "pad_id", "text", "rule", "label_merges"}
