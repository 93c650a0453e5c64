"""An open data file as bytes, lines or text: plain or gzip, file or standard input."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bert_cls.data.encoding import UTF8_BOM, choose_codec, splits_at_newlines, wide_codec
from bert_cls.data.problems import Problem
from bert_cls.errors import DataError

STDIN = "-"
SEND_LINES = "give - and send JSON Lines to standard input"
BLOCK_BYTES = 1 << 20
NO_TEXT: dict[bytes, tuple[str, str]] = {
    b"\x1f\x8b": ("the file is compressed with gzip", ".gz"),
    b"PAR1": ("the file is Parquet", ".parquet"),
    b"PK\x03\x04": ("the file is a zip archive, as Excel's are", ".xlsx"),
}
"""How files that are no text begin: what they are, and the suffix they are read under."""
_BY_NAME = "standard input is read as JSON Lines: give the file by its name"
FROM_PIPE = {".gz": "unpack it: zcat FILE | bert-cls ...", ".parquet": _BY_NAME, ".xlsx": _BY_NAME}

_CUT_OFF = ("unexpected end of data", "incomplete multibyte sequence", "truncated data")
"""what decoders say of bytes that end inside a character"""


class BinaryFile(Protocol):
    """What a Source reads from."""

    def read(self, size: int = ..., /) -> bytes | None:
        """At most `size` bytes; b"" at the end."""


class Source:
    """Bytes of one data file, and what became known about their encoding on the way.

    `name` is for messages; `suffix` says the format (".jsonl" for "rows.jsonl.gz"); `codec`
    decodes each line that `lines` has given; `stored_as` is the encoding of the file's bytes;
    `notes` grows as repairs are made; `open_end` is True once the last line turned out to have no
    line break; `size` is how many bytes were read. `share` says how much of the file has been given
    out, for readers of lines; others set it.
    """

    def __init__(
        self, name: str, suffix: str, raw: BinaryFile, *, encoding: str | None, path: Path | None
    ) -> None:
        self.name = name
        self.suffix = suffix
        self.path = path
        self.codec = "utf-8"
        self.notes: list[Problem] = []
        self.open_end = False
        self.stored_as = "utf-8"
        self.size = 0
        self._raw = raw
        self._encoding = encoding
        self._blocks = self._decided_blocks()
        self._peeked: bytes | None = None
        self._read_share: Callable[[], float] | None = None
        self._share: float | None = None
        self._received = self._given = 0

    @property
    def share(self) -> float | None:
        """How much of the file its rows so far are, 0 to 1; None where that cannot be known."""
        if self._share is not None or self._read_share is None or not self._received:
            return self._share
        return self._read_share() * min(1.0, self._given / self._received)

    @share.setter
    def share(self, share: float) -> None:
        self._share = share

    def measured_by(self, read_share: Callable[[], float]) -> None:
        """Take `read_share` for how much of the file has been read from disk."""
        self._read_share = read_share

    def peek(self) -> bytes:
        """The first block, which stays to be read; empty for an empty file."""
        if self._peeked is None:
            self._peeked = next(self._blocks, b"")
        return self._peeked

    def blocks(self) -> Iterator[bytes]:
        """What is left of the file, without its byte order mark, in blocks of about 1 MiB."""
        if self._peeked:
            yield self._peeked
            self._peeked = b""
        yield from self._blocks

    def lines(self) -> Iterator[bytes]:
        r"""Lines without their \n; cut at that byte alone, so U+2028 and \r stay inside."""
        pending: list[bytes] = []
        for block in self.blocks():
            self._received += len(block)
            first, *rest = block.split(b"\n")
            pending.append(first)
            if rest:
                last = rest.pop()
                for line in (b"".join(pending), *rest):
                    self._given += len(line) + 1
                    yield line
                pending = [last]
        last = b"".join(pending)
        if last:
            self.open_end = True
            yield last

    def offset(self, text: str) -> int:
        """How many bytes the beginning `text` of the file takes up, byte order mark included."""
        return len(text.encode(self.stored_as, "replace"))

    def offset_in_last(self, beginning: bytes) -> str:
        """Words such as " (byte 17)": where what follows a beginning of the last line given is.

        Empty for UTF-16 and the like, whose bytes are not those of the lines given.
        """
        if self.stored_as not in ("utf-8-sig", self.codec):
            return ""
        return f" (byte {self.offset('') + self._given + len(beginning)})"

    def text(self) -> str:
        """The whole file as one string. DataError names the first byte that does not fit."""
        data = b"".join(self.blocks())
        try:
            return data.decode(self.codec)
        except UnicodeDecodeError as error:
            if error.reason in _CUT_OFF:
                raise self._cut_off() from None
            line = data.count(b"\n", 0, error.start) + 1
            byte = self.offset("") + error.start
            raise DataError(
                f"{self.name}: line {line}: byte {byte} is not {self.codec} ({error.reason}).",
                hint="mend that place, or say what the file is with --encoding",
            ) from None

    def _read(self) -> bytes:
        # read1 of a pipe gives what is there, instead of waiting for a whole block.
        read = getattr(self._raw, "read1", self._raw.read)
        try:
            block: bytes = read(BLOCK_BYTES) or b""
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{self.name}: cannot be read past byte {self.size}: {error}",
                hint="is the file still being written, or only partly copied?",
            ) from None
        self.size += len(block)
        return block

    def _decided_blocks(self) -> Iterator[bytes]:
        head = self._read()
        while 0 < len(head) < len(codecs.BOM_UTF32_LE) and (more := self._read()):
            head += more
        self._check_text(head)
        if wide := self._wide_codec(head):
            self.stored_as = wide
            yield from self._transcoded(head, wide)
            return
        if head.startswith(UTF8_BOM) and self._encoding in (None, "utf-8"):
            self._note("D01", "BOM: the byte order mark at the start was skipped.")
            self.stored_as = "utf-8-sig"
            head = head[len(UTF8_BOM) :]
        elif self._encoding is not None:
            self.codec = self.stored_as = self._encoding
        undecided = self._encoding is None
        while head:
            if undecided and not head.isascii():
                offset = self.size - len(head)
                self.codec, note = choose_codec(head, file=self.name, offset=offset)
                if note is not None:
                    self.stored_as = self.codec
                    self.notes.append(note)
                undecided = False
            yield head
            head = self._read()

    def _check_text(self, head: bytes) -> None:
        """DataError for a file that is no text, and would be called text in a wrong encoding."""
        for magic, (what, suffix) in NO_TEXT.items():
            if head.startswith(magic):
                raise DataError(
                    f"{self.name}: {what}.",
                    hint=f"rename it to {self.name}{suffix}" if self.path else FROM_PIPE[suffix],
                )

    def _wide_codec(self, head: bytes) -> str | None:
        if self._encoding is not None:
            return None if splits_at_newlines(self._encoding) else self._encoding
        wide = wide_codec(head)
        if wide is not None:
            self._note("D03", f"read as {wide}.")
        return wide

    def _transcoded(self, head: bytes, codec: str) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(codec)()
        try:
            while head:
                yield decoder.decode(head).encode("utf-8")
                head = self._read()
            yield decoder.decode(b"", final=True).encode("utf-8")
        except UnicodeError as error:
            if getattr(error, "reason", "") in _CUT_OFF:
                raise self._cut_off() from None
            raise DataError(
                f"{self.name}: cannot be read as {codec} before byte {self.size}: {error}",
                hint="say what the file is with --encoding",
            ) from None

    def _cut_off(self) -> DataError:
        return DataError(
            f"{self.name}: the file ends inside a character.",
            hint="is the file still being written, or only partly copied?",
        )

    def _note(self, code: str, message: str) -> None:
        self.notes.append(Problem(code, self.name, "", None, message, "note"))


@contextmanager
def opened(path: str | Path, *, encoding: str | None = None) -> Iterator[Source]:
    """Open a data file; "-" is standard input, read as JSON Lines; .gz is unpacked.

    DataError for what is no readable file: missing, a folder, a pipe or device, no permission.
    """
    if encoding is not None:
        splits_at_newlines(encoding)
        encoding = codecs.lookup(encoding).name
    if str(path) == STDIN:
        if sys.stdin is None:
            raise DataError("standard input is closed.", hint="give a file, or send JSON Lines")
        yield Source("stdin", ".jsonl", sys.stdin.buffer, encoding=encoding, path=None)
        return
    path = Path(path)
    check_is_file(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    try:
        plain = path.open("rb", buffering=0)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}.") from None
    with plain:
        raw: BinaryFile = gzip.GzipFile(fileobj=plain) if packed else plain
        source = Source(path.name, suffix, raw, encoding=encoding, path=path)
        size = max(1, path.stat().st_size)
        source.measured_by(lambda: 1.0 if plain.closed else plain.tell() / size)
        yield source


def check_is_file(path: Path, *, otherwise: str = SEND_LINES) -> None:
    """DataError when `path` is not a regular file; `otherwise` says what to give for a pipe."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        if os.path.lexists(path):
            raise DataError(
                f"{path}: is a link to {path.readlink()}, which cannot be reached.",
                hint="fetch what it leads to, or take the link away",
            ) from None
        raise DataError(f"{path}: no such file.", hint=_neighbour(path)) from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a folder, and one file is needed.", hint=_files_in(path))
    if not stat.S_ISREG(mode):
        raise DataError(
            f"{path}: is a pipe or a device, not a file.",
            hint=otherwise,
        )


def _neighbour(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    return _files_in(path.parent)


def _files_in(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())[:10]
    return f"{folder} holds {', '.join(names)}" if names else f"{folder} is empty"
