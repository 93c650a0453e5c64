"""What a training run was asked to do, as it is kept in the output folder for resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bert_cls.config import Origins, RunConfig
from bert_cls.errors import BundleError, ConfigError
from bert_cls.folders import verify, write_file

RUN = "run.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; stored in the output folder so that a run can be resumed."""

    data: Path
    output: Path
    config: RunConfig
    origins: Origins = field(default_factory=dict)
    preset: str = "balanced"
    labels: Path | None = None


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


def is_same(request: Request) -> bool:
    """Whether the run in the output folder was started with this very request."""
    try:
        started = _request(request.output, read_run(request.output))
    except BundleError:
        return False
    return _content(started) == _content(request)


def remember(request: Request, data_files: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    """Store what a resumed run and a reader of its checkpoints need.

    `data_files` maps names to sha256; `files` are the encoder's config and tokenizer. The request
    is written first: from then on the run can be resumed.
    """
    content = _content(request) | {"data_files": dict(data_files), "files": sorted(files)}
    request.output.mkdir(parents=True, exist_ok=True)
    _write(request.output, content)
    for name, data in files.items():
        write_file(request.output / name, data)


def add_file(output: Path, name: str) -> None:
    """Remember one more file that the run wrote, and overwriting may take away."""
    if (output / RUN).is_file():
        content = read_run(output)
        _write(output, content | {"files": sorted({*content["files"], name})})


def read_run(output: Path) -> dict[str, Any]:
    """What is remembered of the run in `output`; BundleError when it is absent or was changed."""
    path = output / RUN
    if not path.is_file():
        raise BundleError(f"{output} has no {RUN}: no run of bert-cls was started there.")
    try:
        content = orjson.loads(path.read_bytes())
        digest = content.pop("sha256")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read: {error!r}", hint=_ANEW) from error
    if digest != _digest(content):
        raise BundleError(
            f"{path} has changed since it was written (its sha256 differs).", hint=_ANEW
        )
    return dict(content)


_ANEW = "train anew with --overwrite."


def _content(request: Request) -> dict[str, Any]:
    return {
        "data": str(request.data.absolute()),
        "labels": str(request.labels.absolute()) if request.labels else None,
        "config": request.config.model_dump(mode="json"),
        "origins": dict(request.origins),
        "preset": request.preset,
    }


def _request(output: Path, content: Mapping[str, Any]) -> Request:
    return Request(
        data=Path(content["data"]),
        output=output,
        config=RunConfig.model_validate(content["config"]),
        origins=content["origins"],
        preset=content["preset"],
        labels=Path(content["labels"]) if content["labels"] else None,
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
