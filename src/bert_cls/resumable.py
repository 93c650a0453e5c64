"""Predictions written so that an interrupted job can be gone on with, to the same bytes.

While a job runs its rows are in OUT.part, and OUT.part.json says what the job is (input, model,
settings) and how many rows and bytes of the part are safely on disk. What was written after that
point is cut off and computed again. OUT itself appears when all rows are in it. The part is locked
from before it is looked at until it has its name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from bert_cls.errors import ConfigError, DataError
from bert_cls.folders import followed, is_written_to, sync, write_file
from bert_cls.locks import lock
from bert_cls.outputs import LINES, Counts, Rows, check_suffix, lines_of, writing

FORMAT = 3
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
    """Where the rows of an unfinished job are: beside the output, or what a link of it leads to.

    Where that has another suffix, which says nothing of the rows' form, the output's is added.
    """
    target = followed(output)
    form = "" if target.suffix.lower() == output.suffix.lower() else output.suffix.lower()
    return target.with_name(f"{target.name}{form}.part")


def state_of(output: Path) -> Path:
    """Where an unfinished job is described."""
    part = part_of(output)
    return part.with_name(f"{part.name}.json")


def can_resume(output: str) -> bool:
    """Whether a job that writes `output` can be resumed. ConfigError for an unknown suffix.

    A pipe or device is written to as the rows come, and nothing takes its place.
    """
    in_lines = output != "-" and check_suffix(output) in LINES
    return in_lines and not is_written_to(followed(Path(output)))


@dataclass(slots=True)
class Begun:
    """A job that this process alone may write: what it is, and what of it is there."""

    output: Path
    job: Job
    part: BinaryIO
    """open for appending, and locked"""
    written: Written
    kept: int = 0
    """how many rows are safely on disk, which an interrupted job goes on after"""

    @property
    def rows(self) -> int:
        """How many rows are there; 0 for a job that begins."""
        return self.written.rows


@contextmanager
def begin(output: Path, job: Job, *, resume: bool | None) -> Iterator[Begun]:
    """What there is of a job already. Until the block ends no other process can write it.

    With `resume` True an unfinished job goes on, if there is one; with False it is forgotten; with
    None it is a ConfigError that says so. ConfigError when the unfinished job is another one, or
    when another process is writing it or something else has the name of one of its files, DataError
    when these are damaged. A job without a row leaves no part: there is nothing to go on with.
    """
    path, state = part_of(output), state_of(output)
    with writing(path):
        _check_files(path, state)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _locked(path)
        if resume is False:
            with part:  # new files, not emptied ones: where nothing locks, who wrote them notices
                path.unlink()
                state.unlink(missing_ok=True)
                part = _locked(path)
    try:
        found = _found(path, state, job, resume=resume)
        begun = Begun(output, job, part, found, found.rows)
        try:
            yield begun
        finally:
            if not begun.rows and _is_at(path, part):
                state.unlink(missing_ok=True)
                path.unlink()
    finally:
        with suppress(OSError):  # what could not be written was said, and does not count
            part.close()


def _check_files(*paths: Path) -> None:
    """ConfigError when something that is no file has the name of one of a job's own files."""
    for path in paths:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise ConfigError(
                f"{path} is {what}. The rows of an unfinished job are kept under that name.",
                hint="move it away, or give another output.",
            )


def _locked(path: Path) -> BinaryIO:
    """The file at `path`, made where there is none. ConfigError while another process has it."""
    while True:
        part = path.open("a+b")
        try:
            lock(part.fileno())
        except BlockingIOError:
            part.close()
            raise ConfigError(
                f"another predict is writing {path}.",
                hint="wait for its end, or give another output.",
            ) from None
        if _is_at(path, part):
            return part
        part.close()  # before it was locked it got its name, or was forgotten


def _is_at(path: Path, part: BinaryIO) -> bool:
    """Whether an open file is still the one of that name."""
    return path.exists() and os.path.samestat(path.stat(), os.fstat(part.fileno()))


def _found(path: Path, state: Path, job: Job, *, resume: bool | None) -> Written:
    size = path.stat().st_size
    if not size:  # a description without rows is that of a job that was killed as it ended
        return Written()
    if not state.exists():
        raise DataError(f"{path} has no {state.name}, which says what it is.", hint=f"{_ANEW}.")
    before, written = _read(state)
    if not written.rows:
        return Written()
    if resume is None:
        raise ConfigError(
            f"{path} holds {written.rows} rows of an unfinished job.",
            hint=f"--resume goes on; {_ANEW}.",
        )
    told, now = _told(before), _told(orjson.loads(orjson.dumps(job)))  # as read: no tuples
    for name in sorted({*told, *now}):
        if told.get(name) != now.get(name):
            raise ConfigError(
                f"{path} was begun with {name} {_shown(told.get(name))}, and now it is {name} "
                f"{_shown(now.get(name))}: the rows would not fit together.",
                hint=f"restore it, or {_ANEW}.",
            )
    if size < written.bytes:
        raise DataError(f"{path} has {size} bytes. {written.bytes} were written.", hint=f"{_ANEW}.")
    return written


def write(
    rows: Rows, begun: Begun, *, plain_csv: bool = False, seconds: float = _SECONDS
) -> Written:
    """Append `rows`, which follow those of `begun`, and give the file its name at the end.

    `plain_csv` as in `write_predictions`.

    The count is brought to disk every `seconds`, and when an error or Ctrl-C ends the rows early.
    DataError when the part was removed or replaced meanwhile, or cannot be written.
    """
    path, part = part_of(begun.output), begun.part
    lines = lines_of(str(begun.output), plain_csv=plain_csv)
    with _keeping(begun), writing(path):
        part.truncate(begun.written.bytes)  # what is behind the last row that counts
        _commit(begun)  # rows never are without their description
        try:
            if not begun.written.bytes:
                part.write(lines.head)
                begun.written = Written(bytes=len(lines.head))
            last = time.monotonic()
            for row in rows:
                content = lines.next_row(row, begun.rows)
                part.write(content)
                # one assignment: Ctrl-C may come between any two
                begun.written = Written(
                    begun.written.counts.plus(row), begun.written.bytes + len(content)
                )
                if time.monotonic() - last >= seconds:
                    _commit(begun)
                    last = time.monotonic()
            part.write(lines.tail)  # does not count: what goes on writes it again
        finally:
            _commit(begun)
    with _keeping(begun), writing(begun.output):
        try:
            path.rename(followed(begun.output))
            sync(path.parent)
        finally:  # also where Ctrl-C comes between the two
            if not path.exists():
                state_of(begun.output).unlink(missing_ok=True)
    return begun.written


@contextmanager
def _keeping(begun: Begun) -> Iterator[None]:
    """Say of an error of writing that rows are kept, and how to go on."""
    try:
        yield
    except DataError as error:
        if not begun.kept or not isinstance(error.__cause__, OSError):
            raise
        raise DataError(
            f"{error.message} {begun.kept:,} rows are kept in {part_of(begun.output)}.",
            hint="when that is mended, the same command with --resume goes on.",
        ) from error


def _commit(begun: Begun) -> None:
    """First the rows, then the count of them."""
    begun.part.flush()
    path = part_of(begun.output)
    if not _is_at(path, begun.part):  # its name and its description are another job's
        raise DataError(
            f"{path} was removed or replaced while it was written.", hint="give the command again."
        )
    os.fsync(begun.part.fileno())
    content = {"format": FORMAT, "job": begun.job, **asdict(begun.written)}
    write_file(state_of(begun.output), orjson.dumps(content))
    begun.kept = begun.rows


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


def _told(job: Job) -> dict[str, Any]:
    """What a job is, with the name of each thing a message may be about."""
    told: dict[str, Any] = {}
    for name, value in job.items():
        inner = value if isinstance(value, Mapping) else {}
        # settings are known by their own names
        told |= {key if name == "settings" else f"{name} {key}": inner[key] for key in inner}
        told |= {} if isinstance(value, Mapping) else {name: value}
    return told


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) < 40 else text[:12] + "..."
