"""What a student takes over from its teacher: data, text settings, layers; the rest is a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.config import TEACHER, Origins, RunConfig, resolve_config
from bert_cls.data.dataset import find_splits
from bert_cls.encoders.facts import layers_key, read_config
from bert_cls.errors import BundleError, ConfigError, DataError
from bert_cls.files import read_object
from bert_cls.folders import listed, sha256
from bert_cls.request import RUN, Distillation, Request
from bert_cls.training import aims

UNLABELLED = "unlabelled: "
"""Stands before the name of the file of further texts among a run's data files."""
_ANSWERING = ("config.json", "model.safetensors", "tokenizer.json")
_INHERITED = ("data", "encoder", "loss", "decision")
_FIXED = ("data.task", "encoder.name", "encoder.pooling")
_SPLITTING = ("training.seed", "data.dev_share", "data.test_share")


def student_request(
    teacher: Path,
    output: Path,
    *,
    layers: int,
    data: Path | None = None,
    unlabelled: Path | None = None,
    preset: str = "balanced",
    file: Path | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    origin: str = "flag",
) -> Request:
    """The run that trains a student of `layers` layers from the model folder `teacher`.

    Without `data` the teacher's own is taken, if its files are what they were. Configuration:
    defaults < the teacher's data, text, loss and decision settings < `file` < `settings` < `flags`.
    BundleError, ConfigError and DataError say what does not fit.
    """
    bundle = bundles.load(teacher)
    _ = aims.calibrated(bundle), aims.adjusted(bundle)  # what the last step will ask
    if output.resolve() == teacher.resolve():
        raise ConfigError(f"{output} is the teacher.", hint="give the student a folder of its own.")
    for path in (data, unlabelled):
        if path is not None and not path.exists():
            raise DataError(f"there is no data {path}.")
    kept = spread(layers, depth(teacher))
    where = data or _own_data(bundle)
    inherited = _inherited(bundle)
    config, origins = resolve_config(
        preset=preset,
        file=file,
        settings=settings,
        flags=flags,
        inherited=inherited,
        origin=origin,
    )
    _check_fixed(config, origins, inherited, where)
    distillation = Distillation(teacher, fingerprint(bundle), kept, unlabelled)
    names = bundle.space.names or None
    return Request(where, output, config, origins, preset, names, distillation)


def depth(folder: Path) -> int:
    """Layers of the encoder in a folder."""
    config = read_config(folder)
    if config.get("num_hidden_groups", 1) != 1:
        raise ConfigError(f"{folder}: layers of an encoder with several groups cannot be dropped.")
    layers: int = config.get(layers_key(config), 0)
    return layers


def spread(wanted: int, available: int) -> tuple[int, ...]:
    """`wanted` of the layers 0 to `available` - 1, evenly apart, the first and the last with them.

    One layer is the first: it is the one that reads embeddings. ConfigError when out of range.
    """
    if not 1 <= wanted <= available:
        raise ConfigError(
            f"--layers must be from 1 to {available}, the teacher's depth. Got {wanted} instead."
        )
    return tuple(int(n) for n in np.linspace(0, available - 1, wanted).round())


def open_teacher(distillation: Distillation) -> Bundle:
    """The teacher's folder; ConfigError when it is another than at the start of the run."""
    bundle = bundles.load(distillation.teacher)
    if fingerprint(bundle) != distillation.fingerprint:
        raise ConfigError(
            f"the teacher {distillation.teacher} changed since the run was started, so it cannot "
            "go on exactly.",
            hint="restore it, or distil anew with --overwrite.",
        )
    return bundle


def fingerprint(teacher: Bundle) -> str:
    """sha256 of what a model's answers depend on; an export of it leaves that as it is."""
    files = {name: sha for name, sha in listed(teacher.folder).items() if name in _ANSWERING}
    description = {key: value for key, value in teacher.description().items() if key != "engines"}
    content = orjson.dumps([files, description], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()


def _inherited(bundle: Bundle) -> dict[str, Any]:
    """By "section.field": the teacher's settings that are no defaults, and what must not differ."""
    config, origins = bundle.details.get("config", {}), bundle.details.get("origins", {})
    keys = [key.partition(".") for key in origins]
    taken = {
        f"{section}.{field}": config[section][field]
        for section, _, field in keys
        if section in _INHERITED and field in config.get(section, {})
    }
    taken |= {f"text.{name}": value for name, value in bundle.text.to_dict().items()}
    return taken | {
        "data.task": bundle.task,
        "encoder.name": config.get("encoder", {}).get("name"),
        "encoder.pooling": bundle.pooling,
        "training.seed": config.get("training", {}).get("seed", 0),
    }


def _check_fixed(
    config: RunConfig, origins: Origins, inherited: Mapping[str, Any], data: Path
) -> None:
    """ConfigError for settings that would make a student of something else, or leak held-out rows.

    Where dev rows were held out of train by seed, another seed or share would hold out rows that
    the teacher was trained on.
    """
    settings = config.model_dump()
    for key in _FIXED:
        if origins[key] != TEACHER:
            raise ConfigError(f"{key} is the teacher's. It cannot be set for a student.")
    if "dev" in find_splits(data)[0]:
        return
    defaults = RunConfig().model_dump()
    for key in _SPLITTING:
        section, _, field = key.partition(".")
        before = inherited.get(key, defaults[section][field])
        if settings[section][field] != before:
            raise ConfigError(
                f"{key} must stay {before}: {data} has no dev file, and other rows would be held "
                "out than the teacher did not see.",
                hint="give a folder with train, dev and test files as --data.",
            )


def _own_data(bundle: Bundle) -> Path:
    """Where the teacher's data is; DataError unless every file of it is what it was."""
    hint = "say where the rows are with --data."
    if not (bundle.folder / RUN).is_file():
        raise BundleError(
            f"{bundle.folder} has no {RUN}, so the data it was trained on is not known.", hint=hint
        )
    try:
        content = read_object(bundle.folder / RUN, BundleError)
        data, labels = Path(content["data"]), content["labels"]
        files = dict(content["data_files"])
    except (BundleError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{bundle.folder / RUN} is malformed: {error!r}", hint=hint) from error
    for name, digest in files.items():
        if name.startswith(UNLABELLED):
            continue
        places = [data / name, data, *([Path(labels)] if isinstance(labels, str) else [])]
        path = next((p for p in places if p.name == name and p.is_file()), None)
        if path is None:
            raise DataError(
                f"{name}, which the teacher was trained on, is not in {data}.", hint=hint
            )
        if sha256(path) != digest:
            raise DataError(f"{path} changed since the teacher was trained on it.", hint=hint)
    return data
