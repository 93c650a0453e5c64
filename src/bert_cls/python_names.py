"""What a flag that a message names is called where the caller is a Python program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from bert_cls.config import FLAGS
from bert_cls.errors import BertClsError

_FLAG = re.compile(r"(?<!\S)(?:--[a-z][a-z-]*|-o)(?![\w-])")
# it is a command to type, and its flags are its own
_COMMAND = re.compile(r"bert-cls (?:check|settings) .*")


@contextmanager
def naming_keywords() -> Iterator[None]:
    """Add to the hint of an error what each flag in it is from Python."""
    try:
        yield
    except BertClsError as error:
        found = dict.fromkeys(_FLAG.findall(_COMMAND.sub("", str(error))))
        if said := [f"{flag} is {KEYWORDS[flag]}" for flag in found if flag in KEYWORDS]:
            hint = f"{error.hint}\n" if error.hint else ""
            error.hint = f"{hint}from Python: {', '.join(said)}"
        raise


KEYWORDS: dict[str, str] = {flag: f'settings={{"{key}": ...}}' for key, flag in FLAGS.items()} | {
    "-o": "output",
    "--config": "config",
    "--data": "data",
    "--encoder": "encoder",
    "--init-from": "init_from",
    "--labels": "labels",
    "--layers": "layers",
    "--overwrite": "overwrite=True",
    "--preset": "preset",
    "--rename-labels": "rename_labels",
    "--resume": "Classifier.resume(folder)",
    "--set": "settings",
}
