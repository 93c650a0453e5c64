"""What computes logits: one contract, a table of engines."""

from bert_cls.engines.engine import (
    ENGINES,
    FILES,
    Engine,
    choose,
    open_engine,
    passed_over,
    run,
)

__all__ = ["ENGINES", "FILES", "Engine", "choose", "open_engine", "passed_over", "run"]
