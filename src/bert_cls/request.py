"""What a training run was asked to do, as it is kept in the output folder for resuming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bert_cls.bundle import DESCRIPTION
from bert_cls.config import Origins, RunConfig
from bert_cls.errors import BundleError, ConfigError
from bert_cls.folders import write_file

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
    content = orjson.loads((output / RUN).read_bytes())
    return Request(
        data=Path(content["data"]),
        output=output,
        config=RunConfig.model_validate(content["config"]),
        origins=content["origins"],
        preset=content["preset"],
        labels=Path(content["labels"]) if content["labels"] else None,
    )


def remember(request: Request, data_files: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    """Store what a resumed run and a reader of its checkpoints need.

    `data_files` maps names to sha256; `files` are the encoder's config and tokenizer.
    """
    content = {
        "data": str(request.data.absolute()),
        "labels": str(request.labels.absolute()) if request.labels else None,
        "config": request.config.model_dump(mode="json"),
        "origins": request.origins,
        "preset": request.preset,
        "data_files": dict(data_files),
        "files": sorted(files),
    }
    request.output.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_file(request.output / name, data)
    write_file(request.output / RUN, orjson.dumps(content, option=orjson.OPT_INDENT_2))
