"""Whose an output folder is: one run's at a time, and nothing of it is removed that is not ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bert_cls.bundle import DESCRIPTION
from bert_cls.decision.domain import FILE as DOMAIN_FILE
from bert_cls.errors import BundleError, ConfigError, TrainingError
from bert_cls.files import inside
from bert_cls.folders import MANIFEST, check_place, clean_orphans, is_scratch, listed, remove_folder
from bert_cls.locks import Lock
from bert_cls.request import RUN, read_run
from bert_cls.sample import SAMPLE
from bert_cls.training.checkpoint import (
    checkpoints,
    is_checkpoint,
    step_of,
    writing,
)

REPORT, REPORT_JSON = "report.html", "report.json"
QUARANTINE = "quarantine.jsonl"
WRITTEN = frozenset(
    {
        "config.json",
        DESCRIPTION,
        DOMAIN_FILE,
        "evaluation.json",
        MANIFEST,
        "model.safetensors",
        QUARANTINE,
        REPORT,
        REPORT_JSON,
        RUN,
        SAMPLE,
        "tokenizer.json",
        "tokenizer_config.json",
    }
)
"""the files that a run writes, besides its checkpoints"""


def claim(lock: Lock, *, resume: bool, overwrite: bool, notice: Callable[[str], None]) -> None:
    """Make sure that a run may write to the lock's folder, then tidy up after an interrupted write.

    ConfigError, with nothing removed, when it cannot be a folder, another run is at work there, it
    holds something and is neither to be resumed nor overwritten, or what it holds and no run of
    ours wrote would be replaced.
    """
    output = lock.folder
    check_folder(output)
    with writing(output, need=0):
        lock.take()
        if not resume and not overwrite and is_in_use(output):
            raise ConfigError(
                f"output folder {output} is not empty.",
                hint="give another folder, --overwrite, or --resume to go on with a run in it.",
            )
        if strange := in_the_way(output):
            raise ConfigError(
                f"{output} holds {', '.join(strange)}, which is not recognisably of a run of "
                "bert-cls, so it is neither used nor removed.",
                hint="move it away, or give another folder.",
            )
        for name in clean_orphans(output):
            notice(f"removed {name}, left by an interrupted write")


def check_in_place(lock: Lock) -> None:
    """TrainingError when the folder is not the one that was claimed: it is never made anew."""
    if not lock.is_in_place():
        raise TrainingError(
            f"{lock.folder} was moved or removed while training. Nothing was written there since.",
            hint="where it was moved to, it can go on: bert-cls train --resume THERE",
        )


def check_folder(output: Path) -> None:
    """ConfigError when there is, and can be, no folder at this path that we may write to."""
    if output.is_symlink() and not output.exists():
        raise ConfigError(
            f"output folder {output} is a link that leads nowhere.", hint="give another folder."
        )
    if not output.exists():
        check_place(output)
    elif not output.is_dir():
        raise ConfigError(f"output folder {output} is a file.", hint="give another folder.")
    elif not os.access(output, os.W_OK | os.X_OK):
        raise ConfigError(
            f"output folder {output} may not be written to.",
            hint="give another folder, or the right to write there.",
        )


def is_in_use(output: Path) -> bool:
    """Whether a folder is there and holds more than what an interrupted write left."""
    return output.is_dir() and not all(map(is_scratch, output.iterdir()))


def in_the_way(output: Path) -> list[str]:
    """What bears the name of something that a run writes, and no run of ours wrote."""
    named = sorted(path for path in output.glob("checkpoint-*") if step_of(path) >= 0)
    strange = [path.name for path in named if not is_checkpoint(path)]
    if not _is_ours(output):
        strange += sorted(name for name in WRITTEN if os.path.lexists(output / name))
    return strange


def _is_ours(output: Path) -> bool:
    """Whether a run of ours wrote to the folder itself."""
    with suppress(BundleError):
        return bool(read_run(output))
    with suppress(BundleError):
        return DESCRIPTION in listed(output)
    return bool(checkpoints(output))


def clear(output: Path) -> None:
    """Remove an earlier run of ours; only when the new one is sure to begin.

    What says which files are ours goes last, so that a run stopped here can be cleared again.
    """
    for name in ours(output):
        path = output / name
        if path.is_dir():
            remove_folder(path)  # half removed, nobody could tell whose it was
        else:
            path.unlink(missing_ok=True)


def size(output: Path) -> int:
    """Bytes of what `clear` removes."""
    places = [output / name for name in ours(output)]
    files = [f for place in places for f in (place.rglob("*") if place.is_dir() else [place])]
    return sum(f.stat().st_size for f in files if f.is_file())


def ours(output: Path) -> list[str]:
    """What a run of ours wrote into a folder; everything else in it is left alone.

    The folder may be a stranger's: no name, and no link in it, leads out of the folder.
    """
    if not _is_ours(output):
        return []
    names = [folder.name for folder in checkpoints(output)]
    with suppress(BundleError):  # absent, or damaged: what it listed is written over
        names += listed(output)
    if (output / RUN).is_file():
        names += [QUARANTINE, REPORT, REPORT_JSON]
        with suppress(BundleError):
            names += read_run(output).get("files", [])  # another version's may have none
    return [name for name in [*names, MANIFEST, RUN] if inside(output, name)]
