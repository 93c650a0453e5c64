"""Encoders that are built once in a test session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import tiny_encoder

# nothing here may reach a hub; tests that do so name their own server
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Callable[[str], Path]:
    """Gives the folder of a family's tiny encoder; do not write to it."""
    built: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in built:
            built[family] = tiny_encoder(family, tmp_path_factory.mktemp("encoder") / family)
        return built[family]

    return folder
