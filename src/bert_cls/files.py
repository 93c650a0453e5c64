"""Opening files that strangers made: plain ones only, and never more of them than is sensible."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import orjson

from bert_cls.errors import BertClsError

MOST_JSON = 16 * 2**20
_DEEPEST_JSON = 100
_MOST_HEADER = 2 * 2**20  # that of 256 layers, the most there may be, has a quarter of it
_LONGEST_NAME = 255
_PART = re.compile(r"[^\\/:\x00-\x1f\x7f]+")


def at_home(path: Path) -> Path:
    """The path with a leading ~ spelt out; as it is where there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def read_bounded(path: Path, error: type[BertClsError], *, most: int = MOST_JSON) -> bytes:
    """The bytes of a regular file (or of one that a link leads to) of at most `most` bytes.

    `error` is raised for anything else: a pipe would wait for ever, a device never end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise error(f"{path} cannot be read: it is not a regular file.")
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except (OSError, ValueError) as caught:
        raise error(f"{path} cannot be read: {caught}") from caught
    if len(content) > most:
        raise error(f"{path} cannot be read: it has more than {most:,} bytes.")
    return content


def read_object(path: Path, error: type[BertClsError]) -> dict[str, Any]:
    """The JSON object in a file; `error` is raised for what is none."""
    return parse_object(read_bounded(path, error), path, error)


def parse_object(content: bytes, where: object, error: type[BertClsError]) -> dict[str, Any]:
    """The JSON object that bytes are; `error` names `where` for what is none."""
    try:
        found = orjson.loads(content)
    except ValueError as caught:
        raise error(f"{where} cannot be read: {caught}") from caught
    if not isinstance(found, dict):
        raise error(f"{where} cannot be read: it is not a JSON object.")
    inner: list[Any] = [found]
    for _ in range(_DEEPEST_JSON):
        parts = (part.values() if isinstance(part, dict) else part for part in inner)
        inner = [each for part in parts for each in part if isinstance(each, dict | list)]
    if inner:  # what is read can be four times as deep as what can be written
        raise error(f"{where} cannot be read: it is more than {_DEEPEST_JSON} levels deep.")
    return found


def check_header(path: Path, error: type[BertClsError]) -> None:
    """`error` for a safetensors file whose list of tensors is larger than is sensible."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if size > _MOST_HEADER:
        raise error(
            f"{path} is not a whole safetensors file: its header would have {size:,} bytes, at "
            f"most {_MOST_HEADER:,} are read.",
            hint="fetch or copy it again.",
        )


def check_plain(path: Path, error: type[BertClsError]) -> None:
    """`error` unless `path` itself is a regular file, with no second name anywhere."""
    try:
        status = path.lstat()
    except (OSError, ValueError) as caught:
        raise error(f"{path} cannot be opened: {caught}") from caught
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path} is not a regular file.", hint="copy the file itself there.")
    if status.st_nlink != 1:
        raise error(
            f"{path} has {status.st_nlink} names on this disk (hard links).",
            hint="copy the file instead of linking it.",
        )


def is_inner_name(name: object) -> bool:
    """Whether `name` is a relative path, with slashes, that stays inside of its folder anywhere.

    It has at most 255 bytes, the longest that every file system takes.
    """
    if not isinstance(name, str) or len(name.encode(errors="surrogatepass")) > _LONGEST_NAME:
        return False
    return all(_PART.fullmatch(part) and part not in (".", "..") for part in name.split("/"))


def inside(folder: Path, name: str) -> bool:
    """Whether `folder / name` is in the folder itself, with no link on the way out of it."""
    if not is_inner_name(name):
        return False
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            return False
    return True
