"""Training: the one loop, and a run from a data set to a model folder."""

from bert_cls.request import Request, requested, resumed
from bert_cls.training.finish import Trained
from bert_cls.training.loop import EpochResult, Progress, Silent
from bert_cls.training.run import train
from bert_cls.training.student import student_request

__all__ = [
    "EpochResult",
    "Progress",
    "Request",
    "Silent",
    "Trained",
    "requested",
    "resumed",
    "student_request",
    "train",
]
