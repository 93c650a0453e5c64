"""The least that a whole number may be, by what Python calls it; the command line has the same."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

from bert_cls.errors import ConfigError

LEAST: dict[str, int] = {"passes": 8, "resamples": 0, "seed": 0, "skip": 0, "top": 1, "window": 1}


def check_ranges(least: Mapping[str, int] = LEAST, **given: object) -> None:
    """ConfigError for a number below its `least`, and for what is no whole number."""
    for name, value in given.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or int(value) < least[name]:  # type: ignore[call-overload]
            raise ConfigError(
                f"{name} must be a whole number, at least {least[name]}. Got {value!r} instead."
            )
