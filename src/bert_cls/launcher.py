"""What a launcher of several processes (torchrun) left in the environment."""

from __future__ import annotations

import os

from bert_cls.errors import ConfigError

_DEFAULTS = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "TORCHELASTIC_RESTART_COUNT": 0}


def launched(name: str) -> int:
    """A whole number, 0 or more; that of a single process where the variable is empty or not set.

    ConfigError when it is no such number.
    """
    value = os.environ.get(name) or str(_DEFAULTS[name])
    if not (value.isascii() and value.isdigit()):
        raise ConfigError(
            f"{name} in the environment must be a whole number. Got {value!r} instead.",
            hint=f"unset {name}; launchers of several processes set it, nobody else needs to.",
        )
    return int(value)
