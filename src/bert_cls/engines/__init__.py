"""What computes logits: one contract, a table of engines."""

from bert_cls.engines.engine import ENGINES, Engine, open_engine, run

__all__ = ["ENGINES", "Engine", "open_engine", "run"]
