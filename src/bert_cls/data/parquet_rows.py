"""parquet: nothing is inferred from the values; list columns are lists of names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bert_cls.data.cells import column_names
from bert_cls.data.layout import KNOWN_KEYS, LABEL_KEYS
from bert_cls.data.problems import Problem, some
from bert_cls.data.raw import Fault, Options, RawRow
from bert_cls.data.rows import as_written
from bert_cls.data.source import Source
from bert_cls.data.tables import missing, plain_file
from bert_cls.errors import DataError

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 1024


def read_parquet(source: Source, options: Options) -> Iterator[RawRow]:
    """(row from 1, row) in constant memory; list columns are lists of names."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise missing(source, "pyarrow") from None
    try:
        with parquet.ParquetFile(plain_file(source)) as file:
            names = column_names(file.schema_arrow.names, source)
            # Other columns may hold what Python has no value for; their names are enough.
            known = [name for name in names if name in KNOWN_KEYS]
            blank = dict.fromkeys(names)
            columns = None if options.every_column else known
            if columns is None:
                _note_text_columns(file.schema_arrow, names, source)
            unread = _unread(file.schema_arrow, names)
            number, rows = 0, max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                read = batch if columns else _as_json_has_them(batch.rename_columns(names), source)
                for row in read.to_pylist():
                    number += 1
                    source.share = number / rows
                    fault = next((unread[name] for name in unread if row[name] is not None), None)
                    row = {**blank, **row}
                    yield number, row if fault is None else replace(fault, raw=as_written(row))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{source.name}: cannot be read as parquet: {error}") from None


def _unread(schema: pyarrow.Schema, names: list[str]) -> dict[str, Fault]:
    """What is wrong with a value in the columns of bytes or exact decimals, and what to do."""
    from pyarrow import types

    faults: dict[str, Fault] = {}
    for name, kind in zip(names, schema.types, strict=True):
        inner = kind
        while hasattr(inner, "value_type"):  # of lists and dictionaries
            inner = inner.value_type
        decimal = types.is_decimal(inner)
        if name not in KNOWN_KEYS or not (decimal or _is_bytes(inner)):
            continue
        is_label = name in LABEL_KEYS
        wanted = "float64, or to string for class names," if is_label and decimal else "string"
        wanted = "a list of strings" if types.is_nested(kind) else wanted
        message = f"{name} holds {kind}, and no {'label' if is_label else 'text'}."
        hint = f"cast the column {name!r} to {wanted} and write the file again"
        faults[name] = Fault("D11" if is_label else "D09", message, hint, name)
    return faults


def _is_bytes(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    checks = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in checks)


def _note_text_columns(schema: pyarrow.Schema, names: list[str], source: Source) -> None:
    """Say which columns, of those that nothing is read from, become text."""
    as_text = [
        name
        for name, kind in zip(names, schema.types, strict=True)
        if name not in KNOWN_KEYS and _has_no_json(kind)
    ]
    if as_text:
        message = f"the columns {some(as_text)} hold what JSON has not, and become text."
        source.notes.append(Problem("D21", source.name, "", None, message, "note"))


def _as_json_has_them(batch: pyarrow.RecordBatch, source: Source) -> pyarrow.RecordBatch:
    """The batch with times and exact decimals as text, for Python would not hold all of them.

    DataError names a column where that cannot be done.
    """
    import pyarrow

    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = column.type if name in KNOWN_KEYS else _as_text(column.type)
        try:
            columns.append(column if kind == column.type else column.cast(kind))
        except pyarrow.ArrowException as error:
            raise DataError(
                f"{source.name}: the column {name!r} ({column.type}) cannot be written as text: "
                f"{error}",
                hint="take the column away, or store it as text",
            ) from None
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_text(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type with strings for times and decimals, in lists and structs too."""
    import pyarrow
    from pyarrow import types

    if types.is_temporal(kind) or types.is_decimal(kind):
        return pyarrow.string()
    if types.is_list(kind) or types.is_large_list(kind):
        return pyarrow.list_(_as_text(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([f.with_type(_as_text(f.type)) for f in kind])
    return kind


def _has_no_json(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_nested(kind):
        return any(_has_no_json(kind.field(i).type) for i in range(kind.num_fields))
    return types.is_temporal(kind) or types.is_decimal(kind) or _is_bytes(kind)
