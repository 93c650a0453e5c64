"""A repaired copy of a data set, and a line for every change.

The copy holds what training would read with --on-bad-row quarantine, --coerce-numbers,
--fix-unicode, --merge-labels and --leak drop; rows that name a label twice are mended besides.
"""

from __future__ import annotations

import math
import shutil
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from bert_cls.data.cells import TableRow
from bert_cls.data.dataset import LABELS_FILE, find_splits, labels_beside, whole_names
from bert_cls.data.encoding import UTF8_BOM
from bert_cls.data.example import Example, Task
from bert_cls.data.exports import adapt
from bert_cls.data.label_counts import names_of
from bert_cls.data.label_files import checked_names, merged_labels
from bert_cls.data.labels import SURROGATE, show
from bert_cls.data.layout import Layout, find_layout
from bert_cls.data.problems import KINDS, Problem
from bert_cls.data.raw import Fault, NumberLiteral, Options
from bert_cls.data.read import find_format
from bert_cls.data.rows import REPLACEMENT, RowChecker
from bert_cls.data.source import Source, opened
from bert_cls.data.split import text_key
from bert_cls.data.written import OTHERWISE, WRITERS, dumped, text_file
from bert_cls.errors import DataError
from bert_cls.folders import appearing

CHANGES_FILE = "changes.jsonl"
LAYOUTS_KEPT = 1000
LEFT_OUT = "row left out: "
SAME_INDEX = f"{LEFT_OUT}its index was used before"
LEAKED = f"{LEFT_OUT}its text is in dev or test"
NAMES_KEPT = "label names written, because a label is left without a row of train"
TABLES = (".csv", ".tsv")
RECODED = ("D02", "D03")
READ_OTHERWISE = ("D01", *RECODED, "D21")  # notes on how the bytes were read
Step = tuple[str, str, Callable[[object], object]]  # code, words, the same object when all is well
RawObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the copy and the original, a line of changes.jsonl.

    `row` is "" when the whole file is meant, `key` None when the whole row is. `after` is None for
    a row that was left out, and `before` then the row, as text where it is no JSON.
    """

    file: str
    row: str
    code: str
    what: str
    key: str | None
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair wrote: rows by split, and how many changes of each kind (code and words).

    `data` is the copy: the folder, or in it the file when one file was repaired.
    """

    data: Path
    rows: dict[str, int]
    changes: Counter[tuple[str, str]]


def repair(
    path: str | Path,
    target: str | Path,
    *,
    task: Task | None = None,
    label_merges: Mapping[str, str] | None = None,
    labels: str | Path | Sequence[str] | None = None,
    encoding: str | None = None,
) -> Repaired:
    """Write a copy of the splits (and labels.json) to the folder `target`, and changes.jsonl.

    Left out: rows that cannot be read or have no text, and rows of train whose text is in dev or
    test. Mended: numbers as texts, half characters, labels given twice in a row, merged labels.
    Files keep their names and formats, in UTF-8; parquet and xlsx become JSON Lines. Where a label
    is left without a row of train the copy has a labels.json, unless `labels` says the names.
    DataError when the folder is not empty, or a file is broken as a whole; then nothing is written.
    """
    path, target = Path(path), Path(target)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise DataError(f"{target}: is not empty.", hint="name a new folder for the copy")
    paths, _ = find_splits(path)
    names = whole_names(path, labels, label_merges or {}, encoding=encoding)
    options = Options(coerce_numbers=True, task=task, every_column=True, names=names)
    held = array("q")
    copies: dict[str, _Copy] = {}
    with _copied(target) as scratch, (scratch / CHANGES_FILE).open("wb") as stream:
        changes: Counter[tuple[str, str]] = Counter()

        def log(change: Change) -> None:
            changes[change.code, _kind(change)] += 1
            stream.write(_line(change))

        for split in sorted(paths, key=HELD_OUT_FIRST.index):
            leaked = array("q", sorted(held)) if split == "train" else array("q")
            with opened(paths[split], encoding=encoding) as source:
                copy = copies[split] = _Copy(source, options, label_merges or {}, leaked, log)
                copy.write(scratch)
            held += copy.labelled if split == "dev" else copy.texts
        if beside := labels_beside(path):
            _copy_labels(beside, scratch / LABELS_FILE, label_merges or {}, encoding, log)
        elif labels is None and "train" in copies:
            _keep_names(copies["train"].names, scratch / LABELS_FILE, log)
    data = target if path.is_dir() else target / copies["train"].name
    return Repaired(data, {split: len(copies[split].texts) for split in paths}, changes)


def _copy_labels(
    path: Path,
    target: Path,
    merges: Mapping[str, str],
    encoding: str | None,
    log: Callable[[Change], None],
) -> None:
    """labels.json as it is, but with names merged and in plain UTF-8; a broken one as it is."""
    shutil.copyfile(path, target)
    try:
        before, after = merged_labels(path, merges, encoding=encoding)
    except DataError:
        return
    content = path.read_bytes()
    marked, plain = content.startswith(UTF8_BOM), _is_utf8(content)
    if after == before and plain and not marked:
        return
    target.write_text(f"{dumped(after)}\n", "utf-8")
    if marked:
        said = "BOM: the byte order mark at the start was left out."
        log(Change(path.name, "", "D01", said, None, None, None))
    if not plain:
        log(Change(path.name, "", "D02", "not UTF-8. Written in UTF-8", None, None, None))
    if after != before:
        log(Change(path.name, "", "D27", "labels merged", None, before, after))


def _keep_names(rows: Mapping[str, int], target: Path, log: Callable[[Change], None]) -> None:
    """labels.json with the names of all `rows` of train, where one has no row left."""
    gone = [name for name, left in rows.items() if not left]
    if not gone:
        return
    with suppress(DataError):  # names that look the same: an error of the rows, with or without
        names = checked_names([*sorted(rows)], LABELS_FILE)
        target.write_text(f"{dumped(names)}\n", "utf-8")
        log(Change(LABELS_FILE, "", "D26", NAMES_KEPT, None, None, names))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in content  # UTF-16 without its mark


class _Copy:
    """One file on its way into the copy.

    `texts` are hashes of the texts written so far, `labelled` those of rows with a label; `names`
    counts the rows written of each label, those that had none but leaked ones too.
    """

    def __init__(
        self,
        source: Source,
        options: Options,
        merges: Mapping[str, str],
        leaked: array[int],
        log: Callable[[Change], None],
    ) -> None:
        self.texts, self.labelled = array("q"), array("q")
        self.names: Counter[str] = Counter()
        self._merges = merges
        self._suffix = source.suffix if source.suffix in WRITERS else OTHERWISE
        same = self._suffix == source.suffix
        self.name = source.name if same else f"{Path(source.name).stem}{self._suffix}"
        self._source = source
        self._options = options
        self._leaked = leaked
        self._log = log
        self._labels: list[Step] = [*LABEL, ("D27", "labels merged", _merging(merges))]
        self._indices: set[int] = set()
        self._leaked_indices: set[int] = set()

    def write(self, folder: Path) -> None:
        """Write the file. DataError when no row is left."""
        source, name = self._source, self.name
        words, write = WRITERS[self._suffix]
        try:
            with text_file(folder / name) as file:
                write(self._rows(), file)
        except RecursionError:
            raise DataError(f"{source.name}: a row is nested too deep to be written.") from None
        except UnicodeEncodeError:
            raise DataError(
                f"{source.name}: the first line names a column with bytes that are not "
                f"{source.codec}.",
                hint="mend that line, or say what the file is with --encoding",
            ) from None
        if not self.texts:
            raise DataError(f"{source.name}: no row would be left in a repaired copy.")
        said = [note for note in source.notes if note.code in READ_OTHERWISE]
        for note in said:
            self._log(self._change("", note.code, f"{note.message} Written as {words}"))
        if not source.stored_as.startswith("utf-8") and not any(n.code in RECODED for n in said):
            self._log(self._change("", "D02", f"read as {source.stored_as}. Written as {words}"))
        if name != source.name:
            self._log(self._change("", "D21", f"{source.name} is written as {name}, {words}"))

    def _rows(self) -> Iterator[RawObject]:
        """The rows to be written; everything that changes on the way is logged."""
        source, options = self._source, self._options
        found = find_format(source)
        checker = RowChecker(source.name, found.place, options)
        layout_of = lru_cache(LAYOUTS_KEPT)(find_layout)
        raw_rows = adapt(found.reader(source, options), source, options)
        for position, (number, raw) in enumerate(raw_rows):
            place = checker.place(position, number)
            row: object = raw
            changes: list[Change] = []
            if isinstance(raw, dict):
                row, changes = self._mended(raw, layout_of(tuple(raw)), place)
            # rows without an index are numbered by their place, which is another one in the copy
            item = checker.check(row, len(self.texts), number)
            numbered = isinstance(row, dict) and row.get(layout_of(tuple(row)).index) is not None
            refusal = self._refusal(item, numbered=numbered)
            if refusal is not None:
                self._log(self._change(place, *refusal, before=_as_stood(raw)))
            elif isinstance(row, dict):
                for change in changes:
                    self._log(change)
                yield _with_cells(row, raw) if self._suffix in TABLES else row

    def _mended(self, raw: RawObject, layout: Layout, place: str) -> tuple[RawObject, list[Change]]:
        row = dict(raw)
        changes: list[Change] = []
        steps = {layout.text_a: TEXT, layout.text_b: TEXT, layout.index: INDEX}
        chains = (*steps.items(), (layout.label, self._labels))
        if self._suffix != self._source.suffix:
            others = row.keys() - {key for key, _ in chains}
            chains += tuple((key, OTHER) for key in sorted(others))
        for key, chain in chains:
            for code, words, mend in chain if key in row else ():
                before, after = row[key], mend(row[key])
                if after is not before:
                    row[key] = after
                    stood = before if _finite(before) is before else show(before)
                    changes.append(self._change(place, code, words, key, stood, after))
        return row, changes

    def _refusal(self, item: Example | list[Problem], *, numbered: bool) -> tuple[str, str] | None:
        """Why a row is left out, as code and words; a row that stays is remembered.

        `numbered`: its index is its own. Only then no row after it may bear it, should it leak.
        """
        if not isinstance(item, Example):
            return item[0].code, f"{LEFT_OUT}{item[0].message.rstrip('.')}"
        text, index = hash(text_key(item)), hash(repr(item.index))
        if index in self._indices or (numbered and index in self._leaked_indices):
            return "D13", SAME_INDEX
        place = bisect_left(self._leaked, text)
        names = dict.fromkeys(names_of(item.label, self._options.task, self._merges), 1)
        if item.label is not None and self._leaked[place : place + 1] == array("q", [text]):
            self.names.update(dict.fromkeys(names, 0))
            if numbered:
                self._leaked_indices.add(index)
            return "D34", LEAKED
        self.names.update(names)
        self._indices.add(index)
        self.texts.append(text)
        if item.label is not None:
            self.labelled.append(text)
        return None

    def _change(
        self,
        place: str,
        code: str,
        what: str,
        key: str | None = None,
        before: object = None,
        after: object = None,
    ) -> Change:
        return Change(self._source.name, place, code, what, key, before, after)


@contextmanager
def _copied(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes `target`. DataError instead of what the system says."""
    try:
        target.resolve().parent.mkdir(parents=True, exist_ok=True)
        with appearing(target) as scratch:
            yield scratch
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}.") from None


def _kind(change: Change) -> str:
    """What happened, without the words of one row alone, such as its lines and values."""
    own_words = change.what.startswith(LEFT_OUT) and change.what not in (SAME_INDEX, LEAKED)
    return f"{LEFT_OUT}{KINDS[change.code]}" if own_words else change.what


def _line(change: Change) -> bytes:
    return f"{dumped({f.name: getattr(change, f.name) for f in fields(change)})}\n".encode()


def _with_cells(row: RawObject, raw: object) -> RawObject:
    """The row with every label cell as it stood whose label was not mended."""
    if not isinstance(raw, TableRow):
        return row
    return row | {key: cell for key, cell in raw.cells.items() if row[key] is raw[key]}


def _as_stood(raw: object) -> object:
    if isinstance(raw, Fault):
        return raw.raw
    try:
        dumped(raw)
    except RecursionError:
        return show(raw)
    return raw


def _number_as_text(value: object) -> object:
    if type(value) is NumberLiteral:
        return str(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else value


def _whole_characters(value: object) -> object:
    if isinstance(value, list):
        mended = [_whole(item) for item in value]
        return value if all(a is b for a, b in zip(mended, value, strict=True)) else mended
    return _whole(value)


def _whole(value: object) -> object:
    if type(value) is str and SURROGATE.search(value):
        return SURROGATE.sub(REPLACEMENT, value)
    return value


def _finite(value: object) -> object:
    """The value with null for what JSON has no number for, in lists and objects too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        found = [_finite(item) for item in value]
        return value if all(a is b for a, b in zip(found, value, strict=True)) else found
    if isinstance(value, dict):
        fields = {key: _finite(item) for key, item in value.items()}
        return value if all(fields[key] is item for key, item in value.items()) else fields
    return value


def _once(value: object) -> object:
    if not isinstance(value, list) or not all(type(item) is str for item in value):
        return value
    distinct = list(dict.fromkeys(value))
    return value if len(distinct) == len(value) else distinct


def _merging(merges: Mapping[str, str]) -> Callable[[object], object]:
    def merge(value: object) -> object:
        label = value
        if type(value) is str:
            label = merges.get(value, value)
        elif isinstance(value, list) and all(type(item) is str for item in value):
            label = list(dict.fromkeys(merges.get(name, name) for name in value))
        return value if label == value else label

    return merge


HELD_OUT_FIRST = ("test", "dev", "train")
WHOLE = ("D14", "half characters replaced by U+FFFD", _whole_characters)
INDEX: list[Step] = [WHOLE]
TEXT: list[Step] = [("D09", "a number written as text", _number_as_text), WHOLE]
OTHER: list[Step] = [("D06", "a value that is no number left empty", _finite)]
LABEL: list[Step] = [WHOLE, ("D32", "a label named once instead of twice", _once)]
