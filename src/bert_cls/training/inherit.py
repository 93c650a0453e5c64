"""Starting from a model that was trained before, also when its labels have changed since.

The encoder and the rows of the head are taken over by label name; a new label starts at its prior,
or at 0 where `training.prior_bias` is false.
What the old model reads and how it pools belongs to its weights and stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import load_file

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.data import LabelSpace, Task, read_label_renames
from bert_cls.data.example import CLASS_TASKS
from bert_cls.data.nearest import nearest
from bert_cls.encoders import read_files
from bert_cls.errors import BundleError, ConfigError, pick, shortened
from bert_cls.folders import sha256
from bert_cls.network import Network, check_floats
from bert_cls.request import Request


def inherit(request: Request) -> Request:
    """The request with the old model's encoder, pooling and text settings.

    ConfigError when one of them was asked to be different.
    """
    if request.init_from is None:
        return request
    if request.init_from.resolve() == request.output.resolve():
        raise ConfigError("--init-from and -o are the same folder.", hint="give another -o.")
    old = bundles.load(request.init_from)
    stored = old.details.get("config", {})
    kept: dict[str, Any] = {f"text.{name}": value for name, value in old.text.to_dict().items()}
    kept["text.lowercase"] = stored.get("text", {}).get("lowercase")
    kept["encoder.pooling"] = old.pooling
    kept["encoder.name"] = str(request.init_from.absolute())
    sections = request.config.model_dump()
    origins = dict(request.origins)
    for key, value in kept.items():
        section, _, field = key.partition(".")
        asked = sections[section][field]
        if key in origins and asked != value:
            raise _refused(key, f"{asked!r} (from {origins[key]})", value, request.init_from)
        sections[section][field] = value
        origins[key] = f"taken over from {request.init_from.name}"
    try:
        config = type(request.config).model_validate(sections)
    except ValidationError as error:
        found = error.errors()[0]
        key, value = ".".join(map(str, found["loc"])), shortened(found["input"])
        raise BundleError(
            f"{request.init_from}: {key}: {found['msg']}. Got {value} instead."
        ) from error
    return replace(request, config=config, origins=origins)


def _refused(key: str, asked: str, value: object, old: Path) -> ConfigError:
    """Why a setting cannot be what was asked beside the old model."""
    if key == "encoder.name":
        return ConfigError(
            f"{key} is {asked}, but --init-from {old} brings an encoder of its own.",
            hint="leave one of them out; --encoder alone starts with a new head.",
        )
    return ConfigError(
        f"{key} is {asked}, but {old} was trained with {value!r}.",
        hint=f"leave {key} out; or start from its encoder alone, with a new head: "
        f"--encoder {old} instead of --init-from.",
    )


def inputs_of(request: Request, folder: Path) -> dict[str, str]:
    """sha256 of what a run starts from besides its rows: label maps, the encoder in `folder`.

    Of a student there is no encoder: its teacher is checked as a whole.
    """
    maps = {"--merge-labels": request.config.data.merge_labels, "--rename-labels": request.renames}
    found = {f"{said} {path.name}": path for said, path in maps.items() if isinstance(path, Path)}
    if request.distillation is None:
        files = read_files(folder)
        found |= {f"encoder {path.relative_to(folder).as_posix()}": path for path in files}
    if request.init_from is not None:
        found[f"--init-from {bundles.DESCRIPTION}"] = request.init_from / bundles.DESCRIPTION
    digests = {name: sha256(path) for name, path in found.items()}
    if isinstance(request.renames, Mapping):
        content = orjson.dumps(dict(request.renames), option=orjson.OPT_SORT_KEYS)
        digests["--rename-labels"] = hashlib.sha256(content).hexdigest()
    return digests


def take_over(
    network: Network,
    folder: Path,
    task: Task,
    space: LabelSpace,
    *,
    renames: Path | Mapping[str, str] | None,
    encoding: str | None,
    priors: NDArray[np.float32] | None,
    scale: tuple[float, float],
) -> str:
    """Fill the head from the old model, by label name; one line that says what happened.

    `renames` are old names to new ones, or a file of them in the data's `encoding`; `priors`
    float32 [outputs] are the biases of labels that are new; None: 0. ConfigError when the tasks
    differ (two classes or more are one), or a renaming names no label or gives a name twice.
    """
    old = bundles.load(folder, check=False)
    if old.task != task and not {old.task, task} <= CLASS_TASKS:
        raise ConfigError(
            f"{folder} is a {old.task} model, the data are {task}.",
            hint=f"start from its encoder alone: --encoder {folder} instead of --init-from.",
        )
    tensors = load_file(folder / "model.safetensors")
    head = network.head
    weight, bias = (
        tensors.get(f"classifier.{name}", torch.empty(0)) for name in ("weight", "bias")
    )
    with bundles.naming(folder):
        check_floats({"classifier.weight": weight, "classifier.bias": bias})
    if weight.shape != (old.outputs, head.in_features) or bias.shape != (old.outputs,):
        raise BundleError(f"{folder}: the weights have no head for {old.outputs:,} labels.")
    if task == "regression":
        if renames is not None:
            raise ConfigError(
                f"{folder} is a regression: it has no labels that {_said(renames)} could rename."
            )
        mean, spread = scale
        with torch.no_grad():  # the loop learns targets of mean 0 and spread 1
            head.weight.copy_(weight / spread)
            head.bias.copy_((bias - mean) / spread)
        return f"from {folder.name}: encoder and head taken over"
    names = _renames(renames, encoding, old, space)
    places = _places(old, names)
    known = [name for name in space.names if name in places]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        if priors is not None:
            head.bias.copy_(torch.from_numpy(priors))
        for name in known:
            head.weight[space.ids[name]] = weight[places[name]]
            head.bias[space.ids[name]] = bias[places[name]]
    renamed = sum(names.get(name, name) != name for name in old.space.names)
    return (
        f"from {folder.name}: encoder and {len(known)} of {len(old.space)} labels taken over "
        f"({renamed} renamed), {len(space) - len(known)} new labels start at "
        f"{'0' if priors is None else 'their prior'}, "
        f"{len(old.space) - len(known)} are gone"
    )


def _places(old: Bundle, names: Mapping[str, str]) -> dict[str, int]:
    """Rows of the old head by new name; an old label whose name another is given is gone."""
    places = {name: i for i, name in enumerate(old.space.names) if name not in names}
    return places | {new: old.space.ids[name] for name, new in names.items()}


def _said(renames: Path | Mapping[str, str]) -> str:
    return renames.name if isinstance(renames, Path) else "--rename-labels"


def _renames(
    given: Path | Mapping[str, str] | None, encoding: str | None, old: Bundle, space: LabelSpace
) -> Mapping[str, str]:
    if given is None:
        return {}
    said = _said(given)
    renames = read_label_renames(given, encoding=encoding) if isinstance(given, Path) else given
    for name, new in renames.items():
        pick(old.space.ids, name, f"{said}: a label of the old model")
        if new not in space.ids:
            near = nearest(new, space.names, furthest=max(1, len(new) - 1))
            raise ConfigError(
                f"{said}: {name!r} is to be called {new!r}, which is no label of the data.",
                hint=f"did you mean {near!r}?" if near else "new names are labels of the data.",
            )
    after = list(renames.values())
    if twice := sorted({name for name in after if after.count(name) > 1}):
        raise ConfigError(
            f"{said}: more than one label of the old model would be called {twice[0]!r}.",
            hint="to merge labels use --merge-labels on the data, and rename only one of them.",
        )
    return renames
