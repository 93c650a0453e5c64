"""From a model folder to engine files in it, each checked against the network it came from."""

from bert_cls.export.run import Exported, export

__all__ = ["Exported", "export"]
