"""What other people's libraries may not do while ours work."""

from __future__ import annotations

import os


def quiet_hub() -> None:
    """No library may phone home, and none may talk over our own output."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
