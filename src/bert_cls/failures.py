"""What ends a command and is no error of ours: said as one where its cause is known."""

from __future__ import annotations

from bert_cls.errors import BertClsError, DataError, not_installed
from bert_cls.memory import is_shortage


def explained(error: Exception) -> BertClsError | None:
    """The error that a user is told of; None for what nobody foresaw.

    Known are a package that is not installed, what the system refuses, and a lack of memory.
    """
    if isinstance(error, BertClsError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return not_installed(error)
    if is_shortage(error):
        return DataError(
            "out of memory.", hint="free memory, or give less at once, and give the command again."
        )
    if isinstance(error, OSError):  # no permission, no space, a folder where a file is to be
        place = error.filename2 or error.filename
        return DataError(f"{place}: {error.strerror}." if place else str(error))
    return None
