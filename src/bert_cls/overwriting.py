"""No command writes over what it reads, over data, or over its own other output."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bert_cls.data.dataset import is_read_from_folder
from bert_cls.errors import ConfigError
from bert_cls.folders import MANIFEST, check_place, followed, is_written_to, listed


def check_output(
    output: Path | None, *inputs: Path | None, trained_on: Iterable[Path | None] = ()
) -> None:
    """ConfigError when a file cannot be written there, is one of those that are read, or data.

    Of a model folder those are the files of its manifest, of one of data its splits and labels. A
    file is data when it is, or would be taken for, a split or the labels of a folder that holds
    `inputs` or `trained_on`, the data of models that are named.
    """
    if output is None:
        return
    if not is_written_to(followed(output)):
        check_place(followed(output))
    for path in inputs if output.exists() else ():
        if path is not None and any(e.exists() and output.samefile(e) for e in _files_read(path)):
            raise ConfigError(
                f"{output} is read by this very command; writing it would destroy it.",
                hint="give another name for the output.",
            )
    for path in (*inputs, *trained_on):
        if path is not None:
            _refuse_as_data(output, path)


def _refuse_as_data(output: Path, place: Path) -> None:
    """ConfigError when a file is the data at `place`, or would be read with it from then on."""
    folder, there = _folder_of(place)
    beside = is_read_from_folder(output.name) and any(map(is_read_from_folder, there))
    if beside and os.path.realpath(output.parent) == os.path.realpath(folder):
        raise ConfigError(
            f"{output} would be read as a part of the data in {folder} from then on"
            + (", and what is there would be lost." if output.name in there else "."),
            hint="give another name for the output.",
        )
    if place.name in there and output.exists() and output.samefile(place):
        raise ConfigError(
            f"{output} is what the model was trained on; writing it would destroy it.",
            hint="give another name for the output.",
        )


def _folder_of(place: Path) -> tuple[Path, list[str]]:
    """A folder, or that of a file, and the names in it; none where it may not be looked into."""
    for folder in (place, place.parent):
        with suppress(OSError, ValueError):  # a file, not there, not ours to read, no path at all
            return folder, [path.name for path in folder.iterdir()]
    return place.parent, []


def _files_read(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    read = [each for each in path.iterdir() if is_read_from_folder(each.name)]
    if (path / MANIFEST).is_file():
        read += [path / name for name in (MANIFEST, *listed(path))]
    return read


def refuse_same(one: Path | None, other: Path | None) -> None:
    """ConfigError when two outputs are one file: the second would be all that is left."""
    if one is None or other is None or one.resolve() != other.resolve():
        return
    if not one.exists() or one.is_file() or one.is_dir():  # a device takes both
        raise ConfigError(
            f"{one} is to be written twice, and one output would be lost.",
            hint="give the two outputs different names.",
        )
