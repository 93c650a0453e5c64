"""The command line: a table of commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from bert_cls.commands.check import check
from bert_cls.commands.compare import compare
from bert_cls.commands.distill import distill
from bert_cls.commands.encoders import fetch_encoder, list_encoders, trim_encoder
from bert_cls.commands.evaluate import evaluate
from bert_cls.commands.explain import explain
from bert_cls.commands.export import export
from bert_cls.commands.other_flags import with_commands
from bert_cls.commands.predict import predict
from bert_cls.commands.settings import show_settings
from bert_cls.commands.train import train
from bert_cls.errors import BertClsError, Interrupted, exit_code, printable
from bert_cls.failures import explained

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train,
    "evaluate": evaluate,
    "check": check,
    "compare": compare,
    "explain": explain,
    "distill": distill,
    "predict": predict,
    "export": export,
    "settings": show_settings,
}
ENCODERS: dict[str, Callable[..., Any]] = {
    "list": list_encoders,
    "fetch": fetch_encoder,
    "trim": trim_encoder,
}


class _Commands(TyperGroup):
    """Ends at Ctrl-C and at a pipe that nobody reads; typer would, with codes of its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            sys.exit(130)
        except BrokenPipeError:
            _flush()
            sys.exit(141)


app = typer.Typer(
    name="bert-cls",
    cls=_Commands,
    help="Turns a labelled JSON file into a BERT text classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
encoders_app = typer.Typer(help="Base encoders: list, fetch, trim.", no_args_is_help=True)
app.add_typer(encoders_app, name="encoders")
for table, to in ((COMMANDS, app), (ENCODERS, encoders_app)):
    for name, command in table.items():
        to.command(name)(command)


def main() -> None:
    """Run a command; errors of ours become a message and an exit code, never a traceback."""
    try:
        app()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich and click say 1, of help above all
            _flush()
            sys.exit(141)
        raise
    except Exception as error:
        if (known := explained(error)) is None:
            raise
        _end(known)


def flags_of(command: Sequence[str]) -> set[str]:
    """The long and short flags of a command; none where there is no such command."""
    commands: Any = typer.main.get_command(app)
    found = commands.commands.get(*command) if command else None
    return {name for each in found.params for name in each.opts} if found else set()


def _end(error: BertClsError) -> NoReturn:
    # all ranks of a torchrun speak on one terminal
    label = "" if (rank := os.environ.get("RANK", "0")) == "0" else f"rank {rank}: "
    if not isinstance(error, Interrupted):  # which says itself that it was stopped
        label += "error: "
    text = with_commands(str(error), lambda: flags_of(sys.argv[1:2]))
    typer.echo(printable(f"{label}{text}"), err=True)
    _flush()
    sys.exit(exit_code(error))


def _flush() -> None:
    """Write what standard output still holds; where that fails, Python's own end must not again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # it may have no number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
