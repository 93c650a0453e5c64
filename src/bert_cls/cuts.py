"""What cutting long texts costs, in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.errors import BertClsError
from bert_cls.metrics import Evaluation
from bert_cls.text import TextSettings
from bert_cls.tokens import Tokens

_FEWEST = 10


def windows_notice(tokens: Tokens, settings: TextSettings) -> str | None:
    """How many training texts are read in windows, and what is cut even so; None when none is."""
    full = tokens.full_lengths
    many = int((full > settings.max_length).sum())
    cut = int(tokens.cut.sum())
    if not many or tokens.windows is None:
        return None
    share = f"of {len(tokens)} training texts"
    longest = f"the middle text has {int(np.median(full))}, the longest {int(full.max())}"
    more = len(tokens.pieces) / len(tokens)
    return (
        f"{many} {share} ({many / len(tokens):.1%}) are read in windows of {settings.max_length} "
        f"tokens, {more:.2f} windows a text; {longest}; {cut} need more than "
        f"{settings.max_windows} and are cut"
    )


def most_read(settings: TextSettings) -> str:
    """How much is read of a text at most: "256 tokens", or "8 windows of 256 tokens"."""
    windows = f"{settings.max_windows} windows of " if settings.long == "windows" else ""
    return f"{windows}{settings.max_length} tokens"


def cut_note(
    cut: NDArray[np.bool_], settings: TextSettings, judge: Callable[[Any], Evaluation]
) -> str | None:
    """How many evaluated rows are cut, and the first figure on them and on the others.

    `cut` bool [rows]; `judge` evaluates the rows where a mask is True. None when no row is cut.
    """
    count = int(cut.sum())
    if not count:
        return None
    most = most_read(settings)
    windowed = settings.long == "windows"
    are = f"need more than {most} and are cut" if windowed else f"are cut to {most}"
    share = f"{count} of {len(cut)} rows ({count / len(cut):.1%}) {are}"
    if min(count, len(cut) - count) < _FEWEST:
        return share
    try:
        on_cut, on_others = judge(cut), judge(~cut)
    except BertClsError:  # a figure that needs both classes, for example
        return share
    name = on_cut.headline[0]
    figures = [evaluation.metrics.get(name) for evaluation in (on_cut, on_others)]
    if None in figures:
        return share
    return f"{share}: {name} {figures[0]:.4f} on them, {figures[1]:.4f} on the others"
