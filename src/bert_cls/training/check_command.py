"""The `bert-cls check` that looks at data as a run does: what a run's messages name to read on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from bert_cls.config import FLAGS, RunConfig
from bert_cls.data.dataset import LABELS_FILE, declared_names
from bert_cls.data.findings import plain
from bert_cls.errors import DataError, in_shell
from bert_cls.run_rows import merges_of

SHARED: dict[str, str] = {
    **{key: flag for key, flag in FLAGS.items() if key.startswith("data.")},
    "text.max_length": "--max-length",
    "text.long": "--long",
    "text.normalise": "--normalise",
    "text.lowercase": "--lowercase",
}
"""Setting to the flag of `check`; both have the same default."""


def check_command(
    data: Path,
    config: RunConfig,
    *,
    labels: Path | Sequence[str] | None = None,
    teacher: Path | None = None,
) -> str:
    """The command for a shell, with every option that is not the default.

    Label names that were given as such have no file: the command says what it must hold.
    """
    words: list[str] = []
    settings, defaults = config.model_dump(), RunConfig().model_dump()
    for key, flag in SHARED.items():
        section, _, field = key.partition(".")
        value = settings[section][field]
        if value != defaults[section][field]:
            words += _said(flag, value)
    encoder = str(teacher or config.encoder.name)
    if encoder != defaults["encoder"]["name"]:
        words += ["--encoder", encoder]
    if isinstance(labels, Path):
        words += ["--labels", str(labels)]
    command = plain(f"bert-cls check {in_shell(data)} {shlex.join(words)}".rstrip())
    if labels is None or isinstance(labels, Path) or _are_beside(data, labels, config):
        return command
    return f"{command} --labels FILE (a JSON list of the {len(labels)} label names given)"


def _said(flag: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]


def _are_beside(data: Path, labels: Sequence[str], config: RunConfig) -> bool:
    """Whether the folder's labels.json says the same: `check` finds it by itself."""
    if not (data / LABELS_FILE).is_file():
        return False
    try:
        declared_names(data, labels, merges_of(config), encoding=config.data.encoding)
    except DataError:
        return False
    return True
