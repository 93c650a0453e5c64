"""Encoders that are built once in a test session, and copies of them to damage."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tiny import tiny_encoder
from tiny_e5 import e5_file

# networks here are tiny: a second thread costs more than it brings, here and in child processes
os.environ.setdefault("OMP_NUM_THREADS", "1")
# nothing here may reach a hub; tests that do so name their own server
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# started in the background by a shell, a process ignores Ctrl-C, and so do its children
signal.signal(signal.SIGINT, signal.default_int_handler)

# a busy machine is no failing test
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Callable[[str], Path]:
    """Gives the folder of a family's tiny encoder; do not write to it."""
    built: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in built:
            built[family] = tiny_encoder(family, tmp_path_factory.mktemp("encoder") / family)
        return built[family]

    return folder


@pytest.fixture
def copied(encoder, tmp_path) -> Callable[[str], Path]:
    """Gives a copy of a family's encoder folder, to change."""
    return lambda family: Path(shutil.copytree(encoder(family), tmp_path / family))


@pytest.fixture(scope="session")
def e5_source(tmp_path_factory):
    """A tiny file of weights in the built-ins' own format, and the tensors that are in it."""
    path = tmp_path_factory.mktemp("e5") / "e5-small-q4.bin"
    content, values = e5_file()
    path.write_bytes(content)
    return path, values
