"""From a model folder to engine files in it, each checked against the network it came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bert_cls.engines import ENGINES, FILES
from bert_cls.errors import pick, require

if TYPE_CHECKING:
    from bert_cls.export.run import Exported

__all__ = ["export"]


def export(folder: Path, target: str, notify: Callable[[str], None]) -> list[Exported]:
    """Write an engine's files into a model folder, and for int8 those of its float32 engine too.

    EngineError when a package is missing, or the answers differ by more than is stated in `check`;
    ConfigError where the folder may not be written to, or a training is at work in it. The folder
    is then as it was.
    """
    pick(FILES, target, "the engine to export to")
    measuring = ["openvino"] if target.endswith("-int8") else []  # activations, by OpenVINO
    require(["torch", "transformers", "onnx", ENGINES[target].package, *measuring], "export")

    from bert_cls.export.run import export_checked

    return export_checked(folder, target, notify)
