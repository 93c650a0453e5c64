"""`bert-cls check`: what is wrong with a data set."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from bert_cls.commands.console import is_stdio, open_console, write_output
from bert_cls.errors import ConfigError, pick
from bert_cls.quiet import quiet_hub

if TYPE_CHECKING:
    from bert_cls.data.findings import Audit
    from bert_cls.data.lengths import TextLengths
    from bert_cls.data.repair import Repaired


def check(
    data: Annotated[
        Path, typer.Argument(help="A folder with train, dev, test files, or one file.")
    ],
    encoder: Annotated[
        str | None,
        typer.Option(help="Count tokens as this encoder does; without it the default if fetched."),
    ] = None,
    max_length: Annotated[int, typer.Option(min=8, max=8192, help="Tokens a row may have.")] = 256,
    long: Annotated[
        str, typer.Option(help="Longer rows, as text.long in training: error refuses them.")
    ] = "head",
    normalise: Annotated[
        str, typer.Option(help="As text.normalise, where tokens are counted: none, nfkc.")
    ] = "none",
    lowercase: Annotated[
        bool | None,
        typer.Option(
            "--lowercase/--no-lowercase", help="As text.lowercase, where tokens are counted."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="binary, multiclass, multilabel, regression.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="JSON list of label names.")] = None,
    merge_labels: Annotated[
        Path | None, typer.Option(help="JSON object {label: label it is merged into}.")
    ] = None,
    leak: Annotated[
        str, typer.Option(help="Texts of train in dev or test: error, drop, allow.")
    ] = "error",
    conflict: Annotated[
        str, typer.Option(help="Texts with different labels: keep, drop, error.")
    ] = "keep",
    on_bad_row: Annotated[
        str, typer.Option(help="fail, or quarantine: bad rows are warnings.")
    ] = "fail",
    coerce_numbers: Annotated[
        bool, typer.Option("--coerce-numbers", help="Take numbers for the texts they are.")
    ] = False,
    fix_unicode: Annotated[
        bool, typer.Option("--fix-unicode", help="Replace broken characters by U+FFFD.")
    ] = False,
    encoding: Annotated[str | None, typer.Option(help="The files' text encoding.")] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all as JSON; - is standard output."),
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a repaired copy, and check that.")
    ] = None,
) -> None:
    """What is wrong with a data set, before training; exit code 1 when there are errors."""
    quiet_hub()
    import orjson

    from bert_cls.data import read_label_merges
    from bert_cls.data.audit import audit
    from bert_cls.data.label_files import read_labels
    from bert_cls.data.repair import repair
    from bert_cls.data.text_findings import CONFLICTS, LEAKS
    from bert_cls.encoders import read_files
    from bert_cls.errors import DataError
    from bert_cls.folders import clean_orphans, followed
    from bert_cls.overwriting import check_output, refuse_same

    pick(LEAKS, leak, "--leak")
    pick(CONFLICTS, conflict, "--conflict")
    printed = is_stdio(json_file)
    if json_file is not None and not printed:
        counting = read_files(Path(encoder)) if encoder and Path(encoder).is_dir() else []
        check_output(json_file, data, labels, merge_labels, *counting)
        refuse_same(json_file, fix)
        refuse_same(json_file.parent, fix)
    merges = read_label_merges(merge_labels, encoding=encoding) if merge_labels else None
    options: dict[str, Any] = {"task": task, "label_merges": merges}
    lengths = _text_lengths(encoder, max_length, long, normalise=normalise, lowercase=lowercase)
    checked: dict[str, Any] = {"labels": labels, "leak": leak, "conflict": conflict}
    checked |= {"on_bad_row": on_bad_row, "coerce_numbers": coerce_numbers}
    checked |= {"fix_unicode": fix_unicode, "text_lengths": lengths}
    found = audit(data, encoding=encoding, **options, **checked)
    content = orjson.dumps(found.to_dict(), option=orjson.OPT_INDENT_2)
    if not printed:
        _show_audit(found)
    if json_file is not None:
        write_output(json_file, content, "as JSON", open_console(stderr=printed))
    if fix is not None:
        for name in clean_orphans(followed(fix).resolve().parent, shared=True):
            typer.echo(f"removed {name}, left by an interrupted write", err=True)
        repaired = repair(data, fix, labels=labels, encoding=encoding, **options)
        with suppress(DataError):  # the audit says it; the copy is UTF-8, the label file is not
            checked["labels"] = labels and read_labels(labels, encoding=encoding, merges=merges)
        found = audit(repaired.data, **options, **checked)
        _show_repair(repaired, found, stderr=printed)
    if found.of("error"):
        raise typer.Exit(1)


def _text_lengths(
    encoder: str | None, max_length: int, long: str, *, normalise: str, lowercase: bool | None
) -> TextLengths:
    """Counts tokens with an encoder; estimates them when none is named and the default not here."""
    from bert_cls.data.lengths import EstimatedLengths, TokenLengths, unknown_id
    from bert_cls.encoders import DEFAULT, describe, is_here, open_tokenizer, resolve
    from bert_cls.text import LongText, Normalise, TextEncoder, TextSettings

    pick({word: word for word in get_args(LongText)}, long, "--long")
    folded = pick({word: word for word in get_args(Normalise)}, normalise, "--normalise")
    if encoder is None and not is_here(DEFAULT):
        return EstimatedLengths(max_length, long)
    console = open_console()
    folder = resolve(
        DEFAULT if encoder is None else encoder,
        notify=lambda line: console.print(line, highlight=False),
    )
    if max_length > (most := describe(folder).positions):
        raise ConfigError(f"--max-length must be at most {most} with this encoder.")
    tokenizer = open_tokenizer(folder, lowercase=lowercase)
    text = TextEncoder(tokenizer, TextSettings(max_length, normalise=folded))
    return TokenLengths(text, max_length, unknown_id(text.tokenizer.to_str()), long)


def _show_audit(found: Audit) -> None:
    from bert_cls.terminal import audit_table, labels_table, splits_table

    console = open_console(stderr=False)
    texts = "pairs of texts" if found.pair else "single texts"
    console.print(
        f"{found.data}: {found.task or 'no task'}, {texts}", markup=False, highlight=False
    )
    console.print(splits_table(found))
    if found.labels or found.values:
        console.print(labels_table(found))
    if found.lengths is not None:
        lengths = found.lengths
        console.print(
            f"{'estimated tokens' if lengths.estimated else 'tokens'}: the middle row has "
            f"{lengths.median:,}, 99 of 100 have at most {lengths.p99:,}, the longest has "
            f"{lengths.longest:,}; {lengths.over:,} are over {lengths.max_length:,}",
            highlight=False,
        )
    console.print()
    console.print(audit_table(found))
    console.print(found.totals(), highlight=False)


def _show_repair(repaired: Repaired, found: Audit, *, stderr: bool) -> None:
    from bert_cls.data.repair import CHANGES_FILE

    console = open_console(stderr=stderr)
    lines = [f"repaired copy: {repaired.data}; {CHANGES_FILE} beside it has every change"]
    for (code, words), changes in sorted(repaired.changes.items()):
        lines.append(f"- {code} {words}: {changes:,}")
    left = sorted({finding.code for finding in found.of("error")})
    lines.append(f"errors left in it: {', '.join(left) or 'none'}")
    console.print("\n".join(lines), markup=False, highlight=False)
