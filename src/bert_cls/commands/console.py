"""What the commands share: the console, and quiet libraries."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def open_console(*, stderr: bool = True) -> Console:
    """A rich console; wide when the output is no terminal, so that tables are not folded."""
    from rich.console import Console

    width = None if os.environ.get("COLUMNS") or sys.stderr.isatty() else 120
    return Console(stderr=stderr, width=width)


def quiet_hub() -> None:
    """No library may phone home, and none may talk over our own output."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
