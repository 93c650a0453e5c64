"""What is wrong with a row or a file, said so that a person can find it and mend it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bert_cls.errors import DataError

Severity = Literal["error", "note"]
SHOWN = 20
HINTS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (`error`) or was noticed or repaired (`note`).

    `code` is a key of KINDS. `row` is "line 17" in files of lines, "row 17 (line 86)" in a JSON
    array and "row 17" in a table, all counted from 1, and "" when the whole file is meant.
    `index` is the row's own index, or its position from 0 when rows carry none; None when unknown.
    `raw` is the row as it stood, for quarantine.
    """

    code: str
    file: str
    row: str
    key: str | None
    message: str
    severity: Severity = "error"
    hint: str | None = None
    index: int | str | None = None
    raw: str | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.row, self.message) if part)


def summarise(problems: Iterable[Problem]) -> str:
    """All kinds with their counts, errors first; at most 20 problems of a kind are spelled out."""
    kinds: dict[tuple[Severity, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.severity, problem.code), []).append(problem)
    return "\n".join(_summary_of_kind(kinds[kind]) for kind in sorted(kinds))


def _summary_of_kind(problems: list[Problem]) -> str:
    first = problems[0]
    lines = [f"{first.code} {KINDS[first.code]}: {count(len(problems), first.severity)}"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more")
    hints = list(dict.fromkeys(p.hint for p in problems[:SHOWN] if p.hint))
    lines += [f"  hint: {hint}" for hint in hints[:HINTS_SHOWN]]
    return "\n".join(lines)


def raise_errors(problems: Iterable[Problem]) -> None:
    """DataError that says every problem of severity "error"; nothing when there is none."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return
    if len(errors) == 1:
        raise DataError(str(errors[0]), hint=errors[0].hint)
    files = Counter(problem.file for problem in errors)
    where = " and ".join(f"{file} ({n})" if len(files) > 1 else file for file, n in files.items())
    raise DataError(f"{count(len(errors), 'error')} in {where}\n{summarise(errors)}")


def write_quarantine(path: Path, problems: Iterable[Problem]) -> int:
    """Write bad rows and why they are bad as JSON Lines; returns the number of rows.

    A line is {"file", "row", "code", "message", "raw", "further"}; `raw` is the row as it stood,
    `further` has {"code", "message"} of each other problem of the row.
    """
    rows: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        if problem.severity == "error" and problem.row:
            rows.setdefault((problem.file, problem.row), []).append(problem)
    text = "".join(f"{_quarantined(*of_row)}\n" for of_row in rows.values())
    # A lone surrogate has no UTF-8; its escape is how the row had it.
    path.write_bytes(text.encode("utf-8", "backslashreplace"))
    return len(rows)


def _quarantined(first: Problem, *others: Problem) -> str:
    line = {
        "file": first.file,
        "row": first.row,
        "code": first.code,
        "message": first.message,
        "raw": first.raw,
        "further": [{"code": other.code, "message": other.message} for other in others],
    }
    return json.dumps(line, ensure_ascii=False)


def count(n: int, noun: str) -> str:
    """`1 row`, `2 rows`, `1,000 rows`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def some(names: Iterable[object], shown: int = 10) -> str:
    """Names for a sentence: all of them, or the first `shown` and how many more there are."""
    words = [repr(name) if isinstance(name, str) else str(name) for name in names]
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


KINDS: dict[str, str] = {
    "D01": "byte order mark",
    "D02": "text encoding",
    "D03": "UTF-16 or UTF-32",
    "D04": "file ends too early",
    "D05": "malformed row",
    "D06": "NaN or infinity",
    "D07": "text missing",
    "D08": "keys",
    "D09": "text is not a string",
    "D10": "date instead of text",
    "D11": "label type",
    "D12": "key given twice",
    "D13": "index",
    "D14": "lone surrogate",
    "D15": "raw control character",
    "D16": "control characters in texts",
    "D18": "nested too deep",
    "D19": "number out of range",
    "D20": "no rows",
    "D21": "layout of the file",
    "D22": "blank text",
    "D23": "texts over the maximum length",
    "D24": "huge texts",
    "D25": "unknown label",
    "D26": "label without rows",
    "D27": "labels that look the same",
    "D28": "label order",
    "D29": "too few classes",
    "D30": "rare labels",
    "D31": "rows without a label",
    "D32": "list of labels",
    "D33": "labels do not fit the task",
    "D34": "the same text twice",
    "D35": "nearly the same text twice",
    "D36": "contradicting labels",
    "D37": "pairs of texts",
    "D39": "file",
    "D40": "label name",
    "D41": "unknown tokens",
    "D42": "case and width",
}
NONE_OF_THE_LABELS = "rows with none of the labels"
"""What D31 is called where somebody has labelled the rows, with []."""
