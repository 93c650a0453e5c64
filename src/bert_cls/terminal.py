"""What people see on a terminal: progress, notices, tables; commands say on which stream."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bert_cls.metrics.collapse import ALARM

if TYPE_CHECKING:
    from bert_cls.data import RowStream
    from bert_cls.data.findings import Audit
    from bert_cls.decision import Rule
    from bert_cls.metrics import Evaluation
    from bert_cls.report import LinearBar
    from bert_cls.training.loop import EpochResult
    from bert_cls.training.loop import Progress as TrainingProgress

_PER_LABEL_ROWS = 20
_EXAMPLES = 3
_LEADS = 3
# from here on figures are written with three digits, and with a power of ten
_SMALL, _TINY, _LARGE = 1e-2, 1e-4, 1e5
_REDRAW_SECONDS, _LOG_SECONDS = 0.2, 30.0
_MEASURED_SECONDS = 2.0
"""a rate of less than that says little"""
_SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


class TerminalObserver:
    """Progress of a training run: a bar on a terminal, plain lines in a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._steps = 0
        self._began = time.perf_counter()
        self._bar: Progress | None = None
        self._task: Any = None

    def phase(self, message: str) -> None:
        """What is being done now."""
        self.close()
        said = f"[dim]{_clock(self._began)}[/dim]  {escape(message)}"
        self.console.print(said, highlight=False, soft_wrap=True)  # it may hold a command to copy

    def noticed(self, message: str) -> None:
        """Something a user must know."""
        where = self._bar.console if self._bar else self.console
        where.print(f"[yellow]note[/yellow]   {escape(message)}", highlight=False)

    def started(self, *, steps: int, rows: int, precision: str) -> None:
        """Before the first step."""
        self.phase(f"training: {rows} rows, {steps} steps, {precision}")
        self._steps = steps
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("       {task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=steps)
            self._bar.start()

    def stepped(
        self, progress: TrainingProgress, *, loss: float, rate: float, rows_per_second: float
    ) -> None:
        """Every `log_steps` steps."""
        text = f"epoch {progress.epoch + 1}  loss {loss:.4f}  {rows_per_second:.0f} rows/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.step, description=text)
            return
        # the seconds of all steps: those before a run was gone on with are in progress too
        seconds = progress.seconds + sum(epoch.seconds for epoch in progress.history)
        left = seconds / progress.step * (self._steps - progress.step)
        self.console.print(
            f"{_clock(self._began)}  step {progress.step}/{self._steps}  {text}  rate {rate:.2g}  "
            f"about {_duration(left)} left",
            highlight=False,
        )

    def evaluated(self, result: EpochResult, *, best: bool) -> None:
        """After each epoch."""
        score = "" if result.score is None else f"  dev score {result.score:z.4f}"
        where = self._bar.console if self._bar else self.console
        where.print(
            f"[dim]{_clock(self._began)}[/dim]  epoch {result.epoch}: loss {result.loss:.4f}{score}"
            f"{'  (best)' if best else ''}  {result.seconds:.0f} s",
            highlight=False,
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class PredictionProgress:
    """How far a prediction is: a line that is rewritten on a terminal, rare lines in a log.

    `done` rows were there before. Some of them may be computed again, and are told below zero
    first: the rate has them, the rows do not.
    """

    def __init__(self, console: Console, rows: RowStream, *, done: int = 0) -> None:
        self.console = console
        self._rows = rows
        self._done = done
        self._computed = 0.0
        self._measured_from: tuple[float, float] | None = None  # the time, and the rows until then
        self._every = _REDRAW_SECONDS if console.is_terminal else _LOG_SECONDS
        self._began = self._told = time.perf_counter()
        self._line = console.status("reading", spinner="line") if console.is_terminal else None

    def __enter__(self) -> PredictionProgress:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.stop()

    def computed(self, rows: float) -> None:
        """After each batch, from any thread."""
        now = time.perf_counter()
        self._computed += rows
        if self._measured_from is None:  # the first batch waited for reading and tokenising
            self._measured_from = now, self._computed
        if now - self._told < self._every:
            return
        self._told = now
        text = self._text(now, *self._measured_from)
        if self._line is not None:
            self._line.update(text)
        else:
            self.console.print(text, highlight=False)

    def _text(self, now: float, since: float, before: float) -> str:
        reached, expected = self._done + self._computed, self._rows.expected
        done = max(self._done, int(reached))
        seconds, rows = now - since, self._computed - before
        measured = rows > 0 and seconds >= _MEASURED_SECONDS
        text = f"{_clock(self._began)}  {done:,} rows"
        if measured:
            text += f"  {rows / seconds:,.0f} rows/s"
        if expected is not None:
            text += f"  {done / max(expected, done, 1):.0%}"
        if measured and expected is not None:
            text += f", about {_duration(max(0, expected - reached) * seconds / rows)} left"
        return text


def settings_table(config: Mapping[str, Any], origins: Mapping[str, str]) -> Table:
    """The settings that are not plain defaults, with where each came from."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("setting", "value", "why"):
        table.add_column(column, overflow="fold")
    for key in sorted(origins):
        section, _, field = key.partition(".")
        table.add_row(key, escape(str(config[section][field])), escape(origins[key]))
    return table


def figures_table(
    title: str,
    evaluation: Evaluation,
    bar: LinearBar | None = None,
    teacher: Evaluation | None = None,
) -> Table:
    """The headline figures with intervals, beside them the linear bar and a student's teacher."""
    beside = {"teacher": teacher, "linear bar": None if bar is None else bar.evaluation}
    table = Table(title=escape(title), title_justify="left", box=None, padding=(0, 2))
    table.header_style = "bold"
    table.add_column("")
    table.add_column("model", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, other in beside.items():
        if other is not None:
            table.add_column(name, justify="right")
    for name in evaluation.headline:
        interval = evaluation.intervals.get(name)
        cells = [
            name,
            figure(evaluation.metrics.get(name)),
            f"{figure(interval[0])} to {figure(interval[1])}" if interval else "",
        ]
        cells += [figure(o.metrics.get(name)) for o in beside.values() if o is not None]
        table.add_row(*cells)
    if "macro_f1_present" in evaluation.headline:
        table.caption = "macro_f1_all: over all labels; macro_f1_present: over those that rows have"
        table.caption_justify = "left"
    return table


def lead_lines(bar: LinearBar | None) -> list[str]:
    """Whether the first headline figures differ from the linear bar's, and by how much."""
    lines = []
    for lead in bar.lead[:_LEADS] if bar else ():
        said = (
            "not established"
            if lead.verdict == "not established"
            else f"the model is {lead.verdict}"
        )
        lines.append(
            f"{lead.metric} against the linear bar: {signed(lead.difference)} "
            f"({signed(lead.low)} to {signed(lead.high)} on the same rows), {said}"
        )
    return lines


def label_table(
    evaluation: Evaluation, rule: Rule, *, rest: str, rows: int = _PER_LABEL_ROWS
) -> Table:
    """Figures and thresholds of the most frequent labels; `rest` says where the others are."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("label", overflow="fold")
    names = [row.name for row in evaluation.per_label]
    # of binary data only the second class has one
    cuts = dict(zip(names[len(names) - len(rule.thresholds) :], rule.thresholds, strict=True))
    columns = ("precision", "recall", "F1", "average precision", "rows", "predicted")
    for column in (*columns, "threshold") if cuts else columns:
        table.add_column(column, justify="right")
    ordered = sorted(evaluation.per_label, key=lambda row: -row.support)
    for row in ordered[:rows]:
        figures = (row.precision, row.recall, row.f1, row.average_precision)
        cells = [*map(figure, figures), str(row.support), str(row.predicted)]
        table.add_row(escape(row.name), *cells, *([_threshold(cuts.get(row.name))] if cuts else []))
    if len(ordered) > rows:
        table.caption = f"{len(ordered) - rows} rarer labels are {escape(rest)}"
        table.caption_justify = "left"
    return table


def groups_line(evaluation: Evaluation) -> str:
    """Mean F1 of frequent, less frequent and rare labels; "" where training counts are unknown."""
    groups = [
        name for name in ("head", "medium", "tail") if f"macro_f1_{name}" in evaluation.metrics
    ]
    said = ", ".join(f"{name} {figure(evaluation.metrics[f'macro_f1_{name}'])}" for name in groups)
    return f"macro F1 by training rows of the labels: {said}" if said else ""


def undecided_line(rule: Rule) -> str:
    """That rows are left undecided; "" where all are decided."""
    if rule.min_confidence is None:
        return ""
    return (
        f"this model leaves rows below confidence {rule.min_confidence:.4f} undecided; the "
        "figures above count every row"
    )


def reliability_table(evaluation: Evaluation) -> Table:
    """Scores against what came true, bin by bin."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("scores")
    for column in ("count", "mean score", "came true"):
        table.add_column(column, justify="right")
    for row in evaluation.reliability:
        table.add_row(
            f"{row.low:.2f} to {row.high:.2f}",
            f"{row.count:,}",
            f"{row.score:.3f}",
            f"{row.share:.3f}",
        )
    return table


def coverage_table(evaluation: Evaluation) -> Table:
    """Accuracy of the most certain rows, by the share of rows that are decided."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    right = "exact match" if evaluation.task == "multilabel" else "accuracy"
    for column in ("decided", "rows", right, "confidence at least"):
        table.add_column(column, justify="right")
    for row in evaluation.coverage:
        cells = (f"{row.coverage:.0%}", f"{row.rows:,}", f"{row.accuracy:.4f}")
        table.add_row(*cells, f"{row.min_confidence:.4f}")
    return table


def splits_table(audit: Audit) -> Table:
    """Rows of each split, as they were read."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("split", "file"):
        table.add_column(column, overflow="fold")
    for column in ("rows", "labelled", "refused"):
        table.add_column(column, justify="right")
    for split, counts in audit.splits.items():
        cells = (f"{n:,}" for n in (counts.rows, counts.labelled, counts.refused))
        table.add_row(split, escape(counts.file), *cells)
    return table


def labels_table(audit: Audit) -> Table:
    """Rows of each label in each split, the most frequent first; the range of numbers."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("split" if audit.values else "label", overflow="fold")
    for column in ("smallest", "mean", "largest") if audit.values else audit.splits:
        table.add_column(column, justify="right")
    for split, values in audit.values.items():
        table.add_row(split, *(f"{v:g}" for v in (values.smallest, values.mean, values.largest)))
    for label, counts in list(audit.labels.items())[:_PER_LABEL_ROWS]:
        table.add_row(escape(label), *(f"{counts[split]:,}" for split in audit.splits))
    if (rest := len(audit.labels) - _PER_LABEL_ROWS) > 0:
        table.caption = f"and {rest:,} rarer labels"
        table.caption_justify = "left"
    return table


def audit_table(audit: Audit) -> Table:
    """The findings with some examples each and their remedies, errors first."""
    table = Table(box=None, padding=(0, 2, 1, 0), show_header=False)
    table.add_column("severity", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for finding in audit.findings:
        said = Text(f"{finding.title}: ", style="bold").append(finding.message, style="not bold")
        for example in finding.examples[:_EXAMPLES]:
            said.append(f"\n- {example}", style="not bold")
        if finding.remedy:
            said.append(f"\nremedy: {finding.remedy}", style="not bold")
        table.add_row(
            Text(finding.severity, _SEVERITY_STYLES[finding.severity]), finding.code, said
        )
    return table


def bullet_lines(lines: Sequence[str]) -> str:
    """Notes under a table, one a line; warnings stand out."""
    return "\n".join(
        f"[bold yellow]! {escape(line)}[/]" if line.startswith(ALARM) else f"- {escape(line)}"
        for line in lines
    )


def _threshold(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if math.isfinite(value) else "never"


def figure(value: float | None) -> str:
    """A figure for people, by the page's rule: three digits of what is very large or small."""
    if value is None:
        return "–"
    size = abs(value)
    if value == 0 or _SMALL <= size < _LARGE:
        return f"{value:.4f}"
    if size < _TINY or size >= _LARGE:
        digits, power = f"{value:.2e}".split("e")
        return f"{digits}e{int(power)}"
    return f"{value:#.3g}"


def signed(value: float) -> str:
    """A difference of figures, with its sign."""
    return ("-" if value < 0 else "+") + figure(abs(value))


def _clock(began: float) -> str:
    seconds = int(time.perf_counter() - began)
    return f"{seconds // 60:3d}:{seconds % 60:02d}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
