"""What tests damage folders with."""

from __future__ import annotations

import json
from pathlib import Path


class Canary:
    """What runs when a pickle of it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def rewrite(path: Path, **changes: object) -> None:
    content = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(content), encoding="utf-8")
