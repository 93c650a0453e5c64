"""JSON rows, one value at a time, with what the standard parser lets through caught."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable

from bert_cls.data.labels import show
from bert_cls.data.problems import some
from bert_cls.data.raw import Fault, NumberLiteral

BLANK = " \t\r\n"
LONGEST_LITERAL = 1 << 20
LONGEST_EXAMPLE = 500
_PYTHON_WORD = re.compile(r"None|True|False|nan|inf")


class JsonRow(dict[str, object]):
    """A raw row of a JSON file; `text` is the row as it stands there."""

    __slots__ = ("text",)
    text: str

    def spelled(self, key: str) -> object:
        """The value of a key, a number as its literal."""
        value = self.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return value
        try:
            return JsonParser(keep_literals=True).parse(self.text)[0][key]
        except RecursionError:
            return value


def row_of_text(value: object, text: str) -> JsonRow | Fault:
    """A parsed value as a row with the text it was parsed from; a Fault when it is no object."""
    if not isinstance(value, dict):
        message = (
            "a row must be an object with text_a, and label where it has one. "
            f"Got {show(value)} instead."
        )
        return Fault("D05", message, raw=text)
    row = JsonRow(value)
    row.text = text
    return row


class JsonParser:
    """A strict JSON parser that collects in `faults` what Python's own accepts.

    Repeated keys (D12) and NaN or Infinity (D06) are found at any depth. With `keep_literals`
    numbers come as NumberLiteral. Not for use by several threads at once.
    """

    def __init__(self, *, keep_literals: bool = False) -> None:
        self.faults: list[Fault] = []
        literal = NumberLiteral if keep_literals else None
        self.parse, self.parse_loosely = (
            json.JSONDecoder(
                object_pairs_hook=self._object,
                parse_constant=self._constant,
                parse_int=literal,
                parse_float=literal,
                strict=strict,
            ).raw_decode
            for strict in (True, False)
        )

    def take_fault(self, raw: str) -> Fault | None:
        """The first fault since the last call, with the row it belongs to."""
        if not self.faults:
            return None
        first = self.faults[0]
        self.faults.clear()
        return Fault(first.code, first.message, first.hint, first.key, raw)

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = [key for key, n in counts.items() if n > 1]
            message = f"the object has the key {some(twice)} more than once."
            self.faults.append(Fault("D12", message, "keep one of them", twice[0]))
        return found

    def _constant(self, name: str) -> None:
        hint = "write null, or leave the row out"
        self.faults.append(Fault("D06", f"{name} is not JSON.", hint))


def explain(
    error: ValueError | RecursionError,
    text: str,
    *,
    last: bool,
    raw: str,
    byte: Callable[[str], str] = lambda before: "",
) -> Fault:
    """Why `text` does not parse; `last` when nothing comes after it in the file.

    `byte` words where in the file the text goes on after a beginning of it.
    """
    if isinstance(error, RecursionError):
        return Fault("D18", "nested too deep to read.", "rows are flat objects", raw=raw)
    if not isinstance(error, json.JSONDecodeError):
        return Fault("D19", "a number has over 4,300 digits.", raw=raw)
    at, column = error.pos, error.colno
    if error.msg.startswith("Invalid control"):
        message = f"raw control character U+{ord(text[at]):04X} in a string, column {column}."
        return Fault("D15", message, r"write it as \n, \t or \u00XX", raw=raw)
    if last and (inside := _open_end(error, text)):
        where = f"column {column}{byte(text[:at])}"
        message = f"the file ends inside {inside}, {where}: is it still being written?"
        return Fault("D04", message, raw=raw)
    found = repr(text[at : at + 12]) if at < len(text) else "the end of the line"
    message = f"not JSON at column {column}: {_lower(error.msg)}. Got {found}."
    return Fault("D05", message, _remedy(error, text), raw=raw)


def extra_data(text: str, end: int) -> json.JSONDecodeError:
    """The error for what comes after a value that ends at `end`."""
    at = len(text) - len(text[end:].lstrip(BLANK))
    return json.JSONDecodeError("Extra data", text, at)


def _open_end(error: json.JSONDecodeError, text: str) -> str | None:
    if error.msg.startswith("Unterminated string"):
        return "a string"
    if error.pos >= len(text.rstrip(BLANK)):
        return "a row"
    cut_escape = error.msg.startswith("Invalid \\") and error.pos > len(text) - len("\\u0000")
    return "a string" if cut_escape else None


def _remedy(error: json.JSONDecodeError, text: str) -> str | None:
    at = error.pos
    if "'" in text[at : at + 1] or _PYTHON_WORD.match(text, at):
        return python_remedy(text)
    before = text[:at].rstrip(BLANK)[-1:]
    if text[at : at + 1] in ("}", "]") or "trailing comma" in error.msg:
        return "take away the comma before it" if before == "," else None
    if error.msg.startswith("Extra data") and text[at] in ",{":
        return "each row needs a line of its own, without a comma at its end"
    if "',' delimiter" in error.msg and text[at : at + 1] == "{":
        return "put a comma between the rows"
    return None


def python_remedy(text: str) -> str:
    """What to write instead of Python's notation; with the row itself where it can be read."""
    general = "JSON has double quotes, and null, true, false instead of None, True, False"
    row = python_row_as_json(text)
    return general if row is None else f"{general}. Write {row}"


def python_row_as_json(text: str) -> str | None:
    """The (first) row of a text in Python's notation as JSON; None when it is none, or long.

    JSON's own null, true and false may stand among it.
    """
    if len(text) > LONGEST_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes in somebody's text
            tree = ast.parse(text.strip(), mode="eval")
            value = ast.literal_eval(_JsonWords().visit(tree))
        row = value[0] if isinstance(value, list) and value else value
        written = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return written if isinstance(row, dict) and len(written) <= LONGEST_EXAMPLE else None


class _JsonWords(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        words = {"null": None, "true": True, "false": False}
        return ast.Constant(words[node.id]) if node.id in words else node


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
