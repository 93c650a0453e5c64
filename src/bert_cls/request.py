"""What a training run was asked to do, as it is kept in the output folder for resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from bert_cls.config import Origins, RunConfig, resolve_config
from bert_cls.errors import BundleError, ConfigError
from bert_cls.files import at_home, read_object
from bert_cls.folders import verify, write_file

RUN = "run.json"


@dataclass(frozen=True, slots=True)
class Distillation:
    """Who teaches a run, and which of the teacher's layers it starts from."""

    teacher: Path
    """a finished model folder"""
    fingerprint: str
    """sha256 of what its answers depend on; exports of it are not"""
    layers: tuple[int, ...]
    """numbers of the teacher's layers that the student keeps, in order"""
    unlabelled: Path | None = None
    """a file of further texts"""

    def to_dict(self) -> dict[str, Any]:
        """What `run.json` holds."""
        return {
            "teacher": str(self.teacher.absolute()),
            "fingerprint": self.fingerprint,
            "layers": list(self.layers),
            "unlabelled": str(self.unlabelled.absolute()) if self.unlabelled else None,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Distillation:
        """The reverse of `to_dict`."""
        unlabelled = content["unlabelled"]
        return cls(
            Path(content["teacher"]),
            content["fingerprint"],
            tuple(content["layers"]),
            Path(unlabelled) if unlabelled else None,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; stored in the output folder so that a run can be resumed."""

    data: Path
    output: Path
    config: RunConfig
    origins: Origins = field(default_factory=dict)
    preset: str = "balanced"
    labels: Path | tuple[str, ...] | None = None
    """a file of label names, or the names"""
    distillation: Distillation | None = None
    init_from: Path | None = None
    """a model folder to start from; what it gives is in `config` and the first checkpoint"""
    renames: Path | Mapping[str, str] | None = None
    """{label of that model: its name in the data}, or a JSON file of that"""


def requested(
    data: Path,
    output: Path,
    *,
    preset: str = "balanced",
    file: Path | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    labels: Path | Sequence[str] | None = None,
    init_from: Path | None = None,
    renames: Path | Mapping[str, str] | None = None,
    origin: str = "flag",
) -> Request:
    """The request of a run that trains on `data`; the settings are those of `resolve_config`."""
    if isinstance(labels, Set):
        raise ConfigError("labels must be in an order. A set has none.", hint="give a list.")
    if not (labels is None or isinstance(labels, Path)):
        if not isinstance(labels, Iterable):
            raise ConfigError(f"labels must be names in their order, or a file. Got {labels!r}.")
        labels = tuple(labels)
    if renames is not None and init_from is None:
        raise ConfigError("--rename-labels needs --init-from MODEL.")
    config, origins = resolve_config(
        preset=preset, file=file, settings=settings, flags=flags, origin=origin
    )
    return Request(
        data, output, config, origins, preset, labels, init_from=init_from, renames=renames
    )


def resumed(output: Path) -> Request:
    """The request that an interrupted run in `output` was started with.

    ConfigError when its model is there and whole; a damaged one is made again by going on.
    """
    request = _request(output, read_run(output))
    if _is_whole(output):
        raise ConfigError(
            f"{output} is a finished model. There is nothing to resume.",
            hint="to train again use another folder, or --overwrite.",
        )
    return request


def anchored(request: Request) -> Request:
    """The request with a local encoder and the file of merges absolute.

    A run is then gone on with from any working folder.
    """
    config = request.config
    encoder, data = config.encoder, config.data
    folder = at_home(Path(encoder.name))
    if folder.is_dir():
        encoder = encoder.model_copy(update={"name": str(folder.absolute())})
    if data.merge_labels is not None:
        data = data.model_copy(update={"merge_labels": data.merge_labels.absolute()})
    return replace(request, config=config.model_copy(update={"encoder": encoder, "data": data}))


def is_same(request: Request) -> bool:
    """Whether the run in the output folder was started with this very request."""
    try:
        started = _request(request.output, read_run(request.output))
    except BundleError:
        return False
    return _content(started) == _content(request)


def remember(
    request: Request,
    data_files: Mapping[str, str],
    inputs: Mapping[str, str],
    files: Mapping[str, bytes],
) -> None:
    """Store what a resumed run and a reader of its checkpoints need.

    `data_files` and `inputs` map names to sha256; `files` are the encoder's config and tokenizer.
    The request is written first: from then on the run can be resumed.
    """
    content = _content(request) | {
        "data_files": dict(data_files),
        "inputs": dict(inputs),
        "files": sorted(files),
    }
    request.output.mkdir(parents=True, exist_ok=True)
    _write(request.output, content)
    for name, data in files.items():
        write_file(request.output / name, data)


def identity(
    request: Request,
    data_files: Mapping[str, str],
    inputs: Mapping[str, str],
    labels: Sequence[str],
    held_out: str,
) -> str:
    """sha256 of all that decides which weights a run comes to: its checkpoints bear it.

    Settings, seed, what the files hold that it reads, the order of the labels, and which rows are
    held out; not where they are.
    """
    kept = ("config", "preset", "distillation")
    content = {key: value for key, value in _content(request).items() if key in kept}
    files = {"data_files": dict(data_files), "inputs": dict(inputs)}
    return _digest(content | files | {"order": list(labels), "held_out": held_out})


def add_file(output: Path, name: str) -> None:
    """Remember one more file that the run wrote, and overwriting may take away."""
    if (output / RUN).is_file():
        content = read_run(output)
        _write(output, content | {"files": sorted({*content.get("files", []), name})})


def read_run(output: Path) -> dict[str, Any]:
    """What is remembered of the run in `output`; BundleError when it is absent or was changed."""
    path = output / RUN
    if not path.is_file():
        raise BundleError(f"{output} has no {RUN}: no run of bert-cls was started there.")
    content = dict(read_object(path, BundleError))
    if content.pop("sha256", None) != _digest(content):
        raise BundleError(
            f"{path} has changed since it was written (its sha256 differs).",
            hint="train anew with --overwrite.",
        )
    return content


def data_of(model: Path) -> Path | None:
    """Where the data of a model's run were; None when its folder does not say, or not credibly."""
    try:
        place = read_run(model).get("data")
    except BundleError:
        return None
    return Path(place) if isinstance(place, str) else None


def _content(request: Request) -> dict[str, Any]:
    labels, renames = request.labels, request.renames
    return {
        "data": str(request.data.absolute()),
        "labels": list(labels) if isinstance(labels, tuple) else _absolute(labels),
        "config": request.config.model_dump(mode="json"),
        "origins": dict(request.origins),
        "preset": request.preset,
        "distillation": request.distillation.to_dict() if request.distillation else None,
        "init_from": _absolute(request.init_from),
        "renames": dict(renames) if isinstance(renames, Mapping) else _absolute(renames),
    }


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


def _path(stored: str | None) -> Path | None:
    return Path(stored) if stored else None


def _request(output: Path, content: Mapping[str, Any]) -> Request:
    """The request that `run.json` holds. BundleError when this version has other settings."""
    try:
        before, known = _settings(content["config"]), _settings(RunConfig().model_dump())
        if odd := sorted(before ^ known):
            why = "is not known here" if odd[0] in before else "is not in it"
            raise _of_another_version(output, f"{odd[0]} {why}")
        return _parsed(output, content)
    except KeyError as error:
        raise _of_another_version(output, f"{error.args[0]} is not in it") from None
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"]))
        raise _of_another_version(output, f"{where}: {found['msg']}") from None


def _of_another_version(output: Path, why: str) -> BundleError:
    return BundleError(
        f"the run in {output} was started by another version of bert-cls ({RUN}: {why}).",
        hint="go on with that version, or train anew with --overwrite.",
    )


def _settings(config: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {f"{section}.{name}" for section, fields in config.items() for name in fields}


def _parsed(output: Path, content: Mapping[str, Any]) -> Request:
    labels, taught, renames = content["labels"], content["distillation"], content["renames"]
    return Request(
        data=Path(content["data"]),
        output=output,
        config=RunConfig.model_validate(content["config"]),
        origins=dict(content["origins"]),
        preset=str(content["preset"]),
        labels=tuple(labels) if isinstance(labels, list) else _path(labels),
        distillation=Distillation.from_dict(taught) if taught else None,
        init_from=_path(content["init_from"]),
        renames=renames if isinstance(renames, dict) else _path(renames),
    )


def _write(output: Path, content: dict[str, Any]) -> None:
    sealed = content | {"sha256": _digest(content)}
    write_file(output / RUN, orjson.dumps(sealed, option=orjson.OPT_INDENT_2))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _is_whole(output: Path) -> bool:
    try:
        verify(output)
    except BundleError:
        return False
    return True
