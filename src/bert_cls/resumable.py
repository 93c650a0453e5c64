"""Predictions written so that an interrupted job can be gone on with, to the same bytes.

While a job runs its rows are in OUT.part, and OUT.part.json says what the job is (input, model,
settings) and how many rows and bytes of the part are safely on disk. What was written after that
point is cut off and computed again. OUT itself appears when all rows are in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from bert_cls.errors import ConfigError, DataError
from bert_cls.folders import write_file
from bert_cls.outputs import LINES, Counts, Rows, check_suffix, lines_of, writing

FORMAT = 2
_SECONDS = 1.0
_ANEW = "--no-resume begins again and replaces it"
Job = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """How far a job is: the rows of the part, and its bytes."""

    counts: Counts = field(default_factory=Counts)
    bytes: int = 0

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.counts.rows


def part_of(output: Path) -> Path:
    """Where the rows of an unfinished job are."""
    return output.with_name(output.name + ".part")


def state_of(output: Path) -> Path:
    """Where an unfinished job is described."""
    return output.with_name(output.name + ".part.json")


def can_resume(output: str) -> bool:
    """Whether a job that writes `output` can be resumed. ConfigError for an unknown suffix."""
    return output != "-" and check_suffix(output) in LINES


def begin(output: Path, job: Job, *, resume: bool | None) -> Written:
    """How many rows of a job are there already; 0 for one that begins.

    With `resume` True an unfinished job goes on, if there is one; with False it is forgotten; with
    None it is a ConfigError that says so. ConfigError when the unfinished job is another one,
    DataError when its files are damaged.
    """
    part, state = part_of(output), state_of(output)
    if resume is False:
        part.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
    if not part.exists():
        return Written()
    if resume is None:
        rows = _read(state)[1].rows if state.exists() else "some"
        raise ConfigError(
            f"{part} holds {rows} rows of an unfinished job.", hint=f"--resume goes on; {_ANEW}."
        )
    if not state.exists():
        raise DataError(f"{part} has no {state.name}, which says what it is.", hint=f"{_ANEW}.")
    before, written = _read(state)
    for name in sorted({*before, *job}):
        if before.get(name) != job.get(name):
            raise ConfigError(
                f"{part} was begun with {name} {_shown(before.get(name))}. Now it is "
                f"{_shown(job.get(name))}, so the rows would not fit together.",
                hint=f"restore it, or {_ANEW}.",
            )
    if part.stat().st_size < written.bytes:
        raise DataError(
            f"{part} has {part.stat().st_size} bytes. {written.bytes} were written.",
            hint=f"{_ANEW}.",
        )
    return written


def write(
    rows: Rows,
    output: Path,
    job: Job,
    written: Written,
    *,
    plain_csv: bool = False,
    seconds: float = _SECONDS,
) -> Written:
    """Append `rows`, which follow those `written`, and give the file its name at the end.

    `plain_csv` as in `write_predictions`.

    The count is brought to disk every `seconds`, and when an error or Ctrl-C ends the rows early.
    An error before the first row leaves no part: there is nothing to go on with.
    """
    part, state = part_of(output), state_of(output)
    lines = lines_of(str(output), plain_csv=plain_csv)
    with writing(part):
        if not part.exists():  # a part never is without its description
            part.parent.mkdir(parents=True, exist_ok=True)
            _commit(None, state, job, written)
        try:
            with _opened(part, written) as file:
                try:
                    if not written.bytes:
                        file.write(lines.head)
                        written = Written(bytes=len(lines.head))
                    last = time.monotonic()
                    for row in rows:
                        content = lines.row(row)
                        file.write(content)
                        # one assignment: Ctrl-C may come between any two
                        written = Written(written.counts.plus(row), written.bytes + len(content))
                        if time.monotonic() - last >= seconds:
                            _commit(file, state, job, written)
                            last = time.monotonic()
                finally:
                    _commit(file, state, job, written)
        except Exception:
            if not written.rows:
                part.unlink(missing_ok=True)
                state.unlink(missing_ok=True)
            raise
    with writing(output):
        part.rename(output)
        state.unlink()
    return written


def _commit(file: BinaryIO | None, state: Path, job: Job, written: Written) -> None:
    """First the rows, then the count of them."""
    if file is not None:
        file.flush()
        os.fsync(file.fileno())
    write_file(state, orjson.dumps({"format": FORMAT, "job": job, **asdict(written)}))


@contextmanager
def _opened(part: Path, written: Written) -> Iterator[BinaryIO]:
    """The part, ready for the next row: what is behind the last row that counts is cut off."""
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(written.bytes)
        file.seek(written.bytes)
        yield file


def _read(state: Path) -> tuple[Job, Written]:
    try:
        content = orjson.loads(state.read_bytes())
        if content["format"] != FORMAT or not isinstance(content["job"], dict):
            raise ValueError("of another version")
        return content["job"], Written(
            Counts(**{name: int(value) for name, value in content["counts"].items()}),
            int(content["bytes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{state} cannot be read: {error}.", hint=f"{_ANEW}.") from error


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    text = str(value) if value else "none"
    return text if len(text) < 40 else text[:12] + "..."
