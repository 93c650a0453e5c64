"""What the reader has to say about the rows of all files, counted by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bert_cls.data.findings import Finding, Occurrence, Severity, excerpt, plain
from bert_cls.data.problems import Problem, count
from bert_cls.errors import DataError

MESSAGES_KEPT = 1000
_COUNT = re.compile(r"([\d,]+) rows?(?= )")


@dataclass(slots=True)
class _Kind:
    rows: int = 0
    messages: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    examples: list[Occurrence] = field(default_factory=list)


class ProblemTally:
    """Collects problems of rows and of whole files in little memory; `findings` says them.

    `row_severity` is that of a row that cannot be read: "warning" where it would be quarantined.
    """

    def __init__(self, *, shown: int, row_severity: Severity = "error") -> None:
        self._shown = shown
        self._row_severity = row_severity
        self._rows: dict[str, _Kind] = {}
        self._notes: dict[tuple[str, str], _Kind] = {}
        self._broken: list[Finding] = []

    def refused(self, problems: Sequence[Problem]) -> None:
        """The problems of one row that is no example."""
        for problem in problems:
            kind = self._rows.setdefault(problem.code, _Kind())
            kind.rows += 1
            message = problem.message, problem.hint
            if message in kind.messages or len(kind.messages) < MESSAGES_KEPT:
                kind.messages[message] += 1
            if len(kind.examples) < self._shown:
                shown = excerpt(problem.raw or "")
                kind.examples.append(
                    Occurrence(plain(problem.file), problem.row, shown, plain(problem.message))
                )

    def noticed(self, notes: Iterable[Problem]) -> None:
        """Notes of a file, which count their rows themselves."""
        for note in notes:
            found = _COUNT.match(note.message)
            message = plain(_COUNT.sub("{rows}", note.message, count=1) if found else note.message)
            kind = self._notes.setdefault((note.code, message), _Kind())
            kind.rows += int(found[1].replace(",", "")) if found else 1
            kind.messages[message, note.hint] += 1
            kind.examples.append(Occurrence(plain(note.file), note.row))

    def broken(self, error: DataError, file: str) -> None:
        """What is wrong with a whole file."""
        message = plain(error.message)
        code = code_of(message)
        remedy = error.hint or REMEDIES.get(code)
        self._broken.append(
            Finding(code, "error", 1, message, remedy and plain(remedy), (Occurrence(file, ""),))
        )

    def findings(self) -> list[Finding]:
        """A finding for each kind of row, each note, and each file that is broken."""
        found = [self._row_finding(code, kind) for code, kind in self._rows.items()]
        for (code, template), kind in self._notes.items():
            message = template.replace("{rows}", count(kind.rows, "row"))
            (_, hint), _ = kind.messages.most_common(1)[0]
            remedy = hint or NOTE_REMEDIES.get(code)
            examples = tuple(kind.examples[: self._shown])
            found.append(Finding(code, "note", kind.rows, message, remedy, examples))
        return found + self._broken

    def _row_finding(self, code: str, kind: _Kind) -> Finding:
        # the most common words, and of these the first by the alphabet, so order does not matter
        (message, hint), most = min(
            kind.messages.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or "")
        )
        others = kind.rows - most
        more = f" {count(others, 'other')} of this kind." if others else ""
        remedy = "; ".join(dict.fromkeys(part for part in (hint, REMEDIES.get(code)) if part))
        text = plain(f"{count(most, 'row')}: {message}{more}")
        return Finding(
            code, self._row_severity, kind.rows, text, plain(remedy), tuple(kind.examples)
        )


def code_of(message: str) -> str:
    """The code of an error about a whole file, which comes without one."""
    return next((code for pattern, code in FILE_CODES if re.search(pattern, message)), "D39")


DROPPED = "mend the row; --fix FOLDER leaves it out of a copy"
REMEDIES: dict[str, str] = {
    "D02": "say what the file is with --encoding",
    "D04": "let the writer finish, or take the last row away",
    "D05": DROPPED,
    "D06": "write null, or leave the row out",
    "D07": "give the row a text; --fix FOLDER leaves it out of a copy",
    "D08": "rename the key; --fix FOLDER leaves the row out of a copy",
    "D09": "make it text, in JSON with quotes; --fix FOLDER does that with numbers",
    "D10": "store the column as text",
    "D11": DROPPED,
    "D12": DROPPED,
    "D13": "give each row an index of its own; --fix FOLDER leaves the later row out of a copy",
    "D14": "--fix FOLDER writes a copy with U+FFFD there",
    "D15": DROPPED,
    "D18": "rows are flat objects",
    "D19": DROPPED,
    "D20": "put labelled rows there",
    "D22": "give the row a text; --fix FOLDER leaves it out of a copy",
    "D33": DROPPED,
    "D36": DROPPED,
}
NOTE_REMEDIES: dict[str, str] = {
    "D02": "nothing, if the texts look right; else --encoding",
    "D13": "give the rows an index to find them again in predictions",
    "D16": "nothing; the encoder passes over them",
    "D37": "write null",
}
# First match wins: the words that the reader's errors about whole files have in them.
FILE_CODES: tuple[tuple[str, str], ...] = (
    (r"no rows(\.| that can)", "D20"),
    (r"still being written|ends before|ends inside|cannot be read past", "D04"),
    (r"nested too deep", "D18"),
    (r"raw control character", "D15"),
    (r"looks the same as|is given twice", "D27"),
    (r"another (order|set) of labels", "D28"),
    (r"label name has|holds the control character|empty name", "D40"),
    (r"is not (UTF-8|utf|gb|big5)|cannot be read as utf|is not \S+ \(", "D02"),
    (r"columns|the file holds|must hold", "D21"),
    (r"not JSON|Extra data", "D05"),
)
