"""JSON Lines: one object a line, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

from bert_cls.data.json_text import JsonParser, explain, extra_data, row_of_text
from bert_cls.data.problems import Problem
from bert_cls.data.raw import Fault, Options, RawRow
from bert_cls.data.source import Source

BLANK = b" \t\r\n"
BOM = "\ufeff"


def read_jsonl(source: Source, options: Options) -> Iterator[RawRow]:
    """(line, value) for each line that is not blank; a line that does not parse is a Fault."""
    parser = JsonParser(keep_literals=options.coerce_numbers)
    parse, faults = parser.parse, parser.faults
    for line, stored in enumerate(source.lines(), 1):
        data = stored.strip(BLANK)
        if not data:
            continue
        try:
            text = data.decode(source.codec)
            if text[0] == BOM:
                text = _without_bom(text, source, line)
            value, end = parse(text)
        except (ValueError, RecursionError) as error:
            faults.clear()
            yield line, _fault(error, data, source, stored[: stored.index(data)])
            continue
        if end != len(text):
            yield line, explain(extra_data(text, end), text, last=False, raw=text)
        elif faults:
            yield line, parser.take_fault(text)
        else:
            yield line, row_of_text(value, text)


def _without_bom(text: str, source: Source, line: int) -> str:
    message = f"BOM: the byte order mark at the start of line {line} was skipped."
    source.notes.append(Problem("D01", source.name, f"line {line}", None, message, "note"))
    return text[len(BOM) :]


def _fault(error: ValueError | RecursionError, data: bytes, source: Source, indent: bytes) -> Fault:
    """What is wrong with a line: `indent` and then `data`."""

    def byte(before: str) -> str:
        return source.offset_in_last(indent + before.encode(source.codec, "replace"))

    raw = data.decode(source.codec, "backslashreplace")
    if not isinstance(error, UnicodeDecodeError):
        return explain(error, raw, last=source.open_end, raw=raw, byte=byte)
    if source.open_end and error.reason == "unexpected end of data":
        where = source.offset_in_last(indent + data[: error.start])
        message = f"the file ends inside a character{where}: is it still being written?"
        return Fault("D04", message, raw=raw)
    found = " ".join(f"0x{byte:02X}" for byte in data[error.start : error.end])
    hint = "mend that place, or say what the file is with --encoding"
    column = len(data[: error.start].decode(source.codec)) + 1
    message = f"column {column}: {found} is not {source.codec}."
    return Fault("D02", message, hint, raw=raw)
