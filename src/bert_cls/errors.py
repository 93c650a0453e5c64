"""Every error a user can meet, what the shell is told about it, and the one sentence for bad names.

BertClsError
├── ConfigError      a setting, flag or preset is wrong
├── DataError        rows, files or labels are wrong
├── EncoderError     a base encoder cannot be found, fetched or opened
├── BundleError      a model folder is missing, damaged or not trusted
├── TrainingError    training cannot go on (not-finite loss, no memory, no space)
│   └── Interrupted  asked to stop; a checkpoint says how to go on
└── EngineError      an inference engine cannot be opened or disagrees
"""

from __future__ import annotations

import difflib
import re
import reprlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class BertClsError(Exception):
    """What is wrong and where (`message`), and what to do about it (`hint`)."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class ConfigError(BertClsError):
    """A setting, flag or preset is wrong."""


class DataError(BertClsError):
    """Rows, files or labels are wrong."""


class EncoderError(BertClsError):
    """A base encoder cannot be found, fetched or opened."""


class BundleError(BertClsError):
    """A model folder is missing, damaged or not trusted."""


class TrainingError(BertClsError):
    """Training cannot go on."""


class Interrupted(TrainingError):  # noqa: N818 - a request to stop is not a fault
    """Training was asked to stop; `signal_number` is the signal that asked."""

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number


class EngineError(BertClsError):
    """An inference engine cannot be opened or disagrees with another."""


EXIT_CODES: dict[type[BertClsError], int] = {
    BertClsError: 1,
    ConfigError: 2,
    DataError: 2,
    EncoderError: 3,
    BundleError: 3,
    TrainingError: 4,
    EngineError: 5,
}


def exit_code(error: BertClsError) -> int:
    """The process exit code for an error: 128 + signal after an interruption, else by its class."""
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


# control characters but for tab and line feed; marks that turn the direction of writing; other ends
# of lines
_OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with what a terminal would obey instead of showing it written as escapes."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxdict = 10


def shortened(value: object) -> str:
    """A stranger's value as Python writes it, without the middle of a long one: for messages."""
    return _SHORT.repr(value)


EXTRAS: dict[str, str] = {
    "onnx": "export",
    "onnxruntime": "onnx",
    "openpyxl": "tables",
    "openvino": "",
    "pyarrow": "tables",
    "sklearn": "train",
    "torch": "train",
    "transformers": "train",
}
"""packages by their import names, and the extra that installs them; "" for the base install"""


def installed_as(extra: str) -> str:
    """What to type after `pip install` for an extra; "" is the base install."""
    return f"bert-cls[{extra}]" if extra else "bert-cls"


def not_installed(error: ModuleNotFoundError) -> EngineError | None:
    """What to install, where a package of EXTRAS is missing; None for any other module."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return _absent([package], EXTRAS[package])


def require(packages: Iterable[str], extra: str) -> None:
    """EngineError that names all `packages` of EXTRAS that are missing; `extra` installs them."""
    missing = [package for package in dict.fromkeys(packages) if find_spec(package) is None]
    if missing:
        raise _absent(missing, extra if any(EXTRAS[package] for package in missing) else "")


def _absent(packages: Sequence[str], extra: str) -> EngineError:
    *others, last = packages
    said = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    return EngineError(f"{said} not installed.", hint=f"pip install '{installed_as(extra)}'")


def pick(table: Mapping[str, T], name: str, field: str) -> T:
    """Look `name` up in a registry; ConfigError lists what `field` may be and the nearest name."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    raise ConfigError(
        f"{field} must be one of {sorted(table)}. Got {name!r} instead.",
        hint=f"did you mean {near[0]!r}?" if near else None,
    )


def in_shell(path: Path) -> str:
    """A path as a word of a command that a hint names: quoted, and never taken for a flag."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
