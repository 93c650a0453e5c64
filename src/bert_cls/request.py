"""What a training run was asked to do, as it is kept in the output folder for resuming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bert_cls.bundle import DESCRIPTION
from bert_cls.config import Origins, RunConfig
from bert_cls.errors import BundleError, ConfigError
from bert_cls.files import read_object
from bert_cls.folders import write_file

RUN = "run.json"


@dataclass(frozen=True, slots=True)
class Distillation:
    """Who teaches a run, and which of the teacher's layers it starts from."""

    teacher: Path
    """a finished model folder"""
    manifest: str
    """sha256 of its manifest, which names the sha256 of all its files"""
    layers: tuple[int, ...]
    """numbers of the teacher's layers that the student keeps, in order"""
    unlabelled: Path | None = None
    """a file of further texts"""

    def to_dict(self) -> dict[str, Any]:
        """What `run.json` holds."""
        return {
            "teacher": str(self.teacher.absolute()),
            "manifest": self.manifest,
            "layers": list(self.layers),
            "unlabelled": str(self.unlabelled.absolute()) if self.unlabelled else None,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Distillation:
        """The reverse of `to_dict`."""
        unlabelled = content["unlabelled"]
        return cls(
            Path(content["teacher"]),
            content["manifest"],
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
    renames: Path | None = None
    """JSON object {label of that model: its name in the data}"""


def resumed(output: Path) -> Request:
    """The request that an interrupted run in `output` was started with."""
    if not (output / RUN).is_file():
        raise BundleError(f"{output} has no {RUN}: no run of bert-cls was started there.")
    if (output / DESCRIPTION).is_file():
        raise ConfigError(
            f"{output} is a finished model. There is nothing to resume.",
            hint="to train again use another folder, or --overwrite.",
        )
    content = read_object(output / RUN, BundleError)
    try:
        return _parsed(output, content)
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{output / RUN} is malformed: {reason}") from error


def _parsed(output: Path, content: Mapping[str, Any]) -> Request:
    labels, taught = content["labels"], content.get("distillation")
    return Request(
        data=Path(content["data"]),
        output=output,
        config=RunConfig.model_validate(content["config"]),
        origins=dict(content["origins"]),
        preset=str(content["preset"]),
        labels=tuple(labels) if isinstance(labels, list) else Path(labels) if labels else None,
        distillation=Distillation.from_dict(taught) if taught else None,
    )


def remember(request: Request, data_files: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    """Store what a resumed run and a reader of its checkpoints need.

    `data_files` maps names to sha256; `files` are the encoder's config and tokenizer.
    """
    labels = request.labels
    content = {
        "data": str(request.data.absolute()),
        "labels": str(labels.absolute()) if isinstance(labels, Path) else labels,
        "config": request.config.model_dump(mode="json"),
        "origins": request.origins,
        "preset": request.preset,
        "distillation": request.distillation.to_dict() if request.distillation else None,
        "data_files": dict(data_files),
        "files": sorted(files),
    }
    request.output.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_file(request.output / name, data)
    write_file(request.output / RUN, orjson.dumps(content, option=orjson.OPT_INDENT_2))
