"""What an audit says: findings with a count, places and a remedy, and the whole they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bert_cls.data.example import Task
from bert_cls.data.problems import KINDS, count
from bert_cls.errors import DataError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXCERPT_CHARACTERS = 40
LENGTH_CODES = ("D23", "D41")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place of a finding: `row` is "line 17" or "row 17 (line 86)", "" for a whole file.

    `excerpt` is the beginning of the row's text, or of the row as it stood; `detail` says what is
    the matter with this one.
    """

    file: str
    row: str
    excerpt: str = ""
    detail: str = ""

    def __str__(self) -> str:
        said = (self.file, self.row, f'"{self.excerpt}"' if self.excerpt else "", self.detail)
        return ": ".join(part for part in said if part)


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that is wrong (`error`, `warning`) or worth knowing (`note`).

    `code` is a key of KINDS. `count` is how many rows, or what else the message counts. `title` is
    the name of this kind of finding, that of its code where no other is given.
    """

    code: str
    severity: Severity
    count: int
    message: str
    remedy: str | None = None
    examples: tuple[Occurrence, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", KINDS[self.code])


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Rows of one split: those that can be read, those of them with a label, and the refused."""

    file: str
    rows: int
    labelled: int
    refused: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the rows are in tokens, special ones included; estimated without an encoder."""

    estimated: bool
    max_length: int
    median: int
    p99: int
    longest: int
    over: int
    """Rows of more than `max_length` tokens."""
    unknown_share: float | None
    """Tokens the encoder has no piece for, 0 to 1; None when it always has one, or is not there."""


@dataclass(frozen=True, slots=True)
class Values:
    """The numbers of a regression split."""

    smallest: float
    mean: float
    largest: float


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything an audit found; findings are sorted, errors first.

    `labels` are label names to rows by split, the most frequent in train first. `task` is None
    when the labels make none.
    """

    data: str
    task: Task | None
    pair: bool
    splits: dict[str, SplitCounts]
    labels: dict[str, dict[str, int]]
    values: dict[str, Values]
    lengths: Lengths | None
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def raise_errors(self, command: str) -> None:
        """DataError that says every finding of severity "error"; nothing when there is none.

        `command` is where to read on: the `bert-cls check` that finds the same.
        """
        errors = self.of("error")
        if not errors:
            return
        if len(errors) == 1:
            (error,) = errors
            said = "\n".join(spelled(replace(error, remedy=None)))
            raise DataError(f"{self.data}: {said}", hint=error.remedy or command)
        lines = [line for error in errors for line in spelled(error)]
        raise DataError("\n".join([f"{self.data}: {self.totals()}", *lines]), hint=command)

    def totals(self) -> str:
        """`1 error, 2 warnings, 0 notes`."""
        return ", ".join(count(len(self.of(severity)), severity) for severity in SEVERITIES)

    def summary(self) -> list[dict[str, Any]]:
        """JSON-ready: how many findings of each kind and severity, and what they count in all."""
        table: dict[tuple[Severity, str, str], list[int]] = {}
        for finding in self.findings:
            kind = (finding.severity, finding.code, finding.title)
            table.setdefault(kind, []).append(finding.count)
        return [
            {
                "code": code,
                "title": title,
                "severity": severity,
                "findings": len(counts),
                "count": sum(counts),
            }
            for (severity, code, title), counts in table.items()
        ]

    def measured(self, lengths: Lengths, findings: Iterable[Finding]) -> Audit:
        """The same with counted lengths and what there is to say of them (D23, D41)."""
        others = [finding for finding in self.findings if finding.code not in LENGTH_CODES]
        return replace(self, lengths=lengths, findings=in_order([*others, *findings]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        totals = {severity: len(self.of(severity)) for severity in SEVERITIES}
        return {"totals": totals, **asdict(self)}


def spelled(finding: Finding) -> list[str]:
    """A finding as lines of plain text."""
    lines = [f"{finding.code} {finding.title}: {finding.message}"]
    lines += [f"  {example}" for example in finding.examples]
    return lines + ([f"  remedy: {finding.remedy}"] if finding.remedy else [])


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then notes; each by code and message."""
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.code, f.message)))


def excerpt(text: str) -> str:
    """The beginning of a text, its line breaks, controls and half characters as escapes."""
    shown = plain(text[:EXCERPT_CHARACTERS])
    return shown + "..." if len(text) > EXCERPT_CHARACTERS else shown


def plain(text: str) -> str:
    """The text with everything that is not printed as an escape, so that it can be shown."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def percent(part: float, whole: int) -> str:
    """`4.2 %`; `under 0.1 %` rather than 0 for what exists."""
    share = 100 * part / whole if whole else 0.0
    return "under 0.1 %" if 0 < share < 0.1 else f"{share:.1f} %"
