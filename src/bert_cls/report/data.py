"""What a report says, as frozen data: one structure feeds the page, the JSON and the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from bert_cls.errors import DataError
from bert_cls.metrics import DEFINITIONS, Evaluation, PairedDifference, Stretch

Split = Literal["test", "dev", "file"]
Seen = Literal["trained", "tuned"]

FORMAT = 1
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class About:
    """Which model was evaluated on what, and when."""

    model: str
    """name of the model folder"""
    data: str
    """name of the file or folder the rows are from"""
    split: Split
    """`dev`: the rows the rule was tuned on, scored and decided without them (cross-fitted);
    `file`: rows given to `evaluate`"""
    created: str
    """date, YYYY-MM-DD"""
    version: str
    """of bert-cls"""
    seen: Seen | None = None
    """of a `file`: whether it is one the model was trained on, or one its rule was tuned on"""

    @classmethod
    def today(cls, model: Path, data: Path, split: Split, seen: Seen | None = None) -> About:
        """A model folder and a file or folder of data, by their names, with date and version."""
        names = (path.absolute().name.encode("utf-8", "replace").decode() for path in (model, data))
        created, version = date.today().isoformat(), metadata.version("bert-cls")
        return cls(next(names), next(names), split, created, version, seen)


@dataclass(frozen=True, slots=True)
class LinearBar:
    """The linear model on the same rows."""

    evaluation: Evaluation
    lead: tuple[PairedDifference, ...] = ()
    """the model minus the linear model in headline metrics, where it was compared row by row"""

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON types, and `lead` beside its fields."""
        return self.evaluation.to_dict() | {"lead": [asdict(each) for each in self.lead]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LinearBar:
        """The inverse of `to_dict`; DataError when malformed."""
        lead = values.get("lead", ())
        try:
            compared = tuple(PairedDifference(**each) for each in lead)
        except TypeError as error:
            raise DataError(f"linear bar: its lead is malformed ({error}).") from error
        return cls(Evaluation.from_dict(values), compared)


@dataclass(frozen=True, slots=True)
class LabelCurve:
    """Precision against recall of one label, or of all row-label decisions together (None).

    `threshold`, `at_recall` and `at_precision` are where the model decides; the threshold is None
    where it decides by the highest score, or never. `steps` is how many points the curve has
    before it was thinned to those listed.
    """

    label: str | None
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    thresholds: tuple[float, ...]
    steps: int
    average_precision: float | None
    threshold: float | None
    at_recall: float | None
    at_precision: float | None


@dataclass(frozen=True, slots=True)
class CalibrationCurve:
    """Probability said and share that came true, in the bins that hold rows (or cells)."""

    when: Literal["before", "after"]
    """before or after calibration (a temperature, or a slope and offset a label)"""
    said: tuple[float, ...]
    came_true: tuple[float, ...]
    rows: tuple[int, ...]
    error: float
    """expected calibration error"""


@dataclass(frozen=True, slots=True)
class Pair:
    """How many rows have `true` and were given `given` in error; None is no label."""

    true: str | None
    given: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What is taken for what.

    `matrix` has a row and a column for each of `labels` (true and given), in classes the rows of
    each pair, in multilabel data one row and column more for no label at all. `left_out` labels,
    those with the fewest mistakes, are not in the matrix. `pairs` are the largest of one label for
    another, then the largest of labels missed or given alone.
    """

    labels: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    left_out: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Predicted against true numbers of a seeded sample, and residuals of all rows in bins."""

    truth: tuple[float, ...]
    scores: tuple[float, ...]
    edges: tuple[float, ...]
    """[bins + 1]"""
    residuals: tuple[int, ...]
    """[bins] rows whose predicted minus true number lies between two edges"""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are read whole, or cut: their mean error and the first headline figure."""

    rows: int
    error: float
    interval: tuple[float, float] | None
    metric: float | None


@dataclass(frozen=True, slots=True)
class Truncation:
    """Rows read whole against rows that lost tokens to the maximum length."""

    max_length: int
    windows: int
    """of `max_length` tokens each that a row may have; 1 where it is read once"""
    metric: str
    whole: Part | None
    cut: Part | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One label of a wrong row: its score, the threshold (if any), and whether it was given."""

    label: str
    score: float
    threshold: float | None
    given: bool


@dataclass(frozen=True, slots=True)
class NearRow:
    """A training row that the model sees as like another: `similarity` is a cosine, -1..1."""

    index: int | str
    text_a: str
    text_b: str | None
    label: tuple[str, ...] | str | float | None
    similarity: float


@dataclass(frozen=True, slots=True)
class WorstRow:
    """A row that is wrong. Texts are None where the report is to hold none."""

    index: int | str
    text_a: str | None
    text_b: str | None
    shortened: bool
    """whether more text follows than is listed"""
    cut: bool
    """whether the model did not see all of it"""
    confidence: float
    """score of what is wrong, 0..1; absolute error of a number"""
    true: tuple[str, ...] | float
    given: tuple[str, ...] | float
    wrong: tuple[Verdict, ...]
    spoke: tuple[tuple[str, float], ...] | None
    """pieces of text_a with how much the strongest of them spoke for the label `explained`, or
    against it where it is missed, the others with 0; None where the row is not explained"""
    spoke_b: tuple[tuple[str, float], ...] | None
    """the same of text_b; None for single texts too"""
    explained: str | None = None
    """the surest label given in error; of a row that only misses labels, the surest of these"""
    nearest: tuple[NearRow, ...] = ()
    """the training rows most like it, where they were at hand"""


@dataclass(frozen=True, slots=True)
class Group:
    """Labels of like frequency in training: how many, their training rows, mean F1 if known."""

    name: Literal["head", "medium", "tail"]
    labels: tuple[str, ...]
    fewest: int
    most: int
    f1: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """How often the audit of the training data found something."""

    severity: str
    code: str
    title: str
    count: int


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a report says."""

    about: About
    evaluation: Evaluation
    linear_bar: LinearBar | None
    rule: Mapping[str, Any]
    groups: tuple[Group, ...]
    curves: tuple[LabelCurve, ...]
    calibration: tuple[CalibrationCurve, ...]
    mistakes: Mistakes | None
    numbers: Numbers | None
    lengths: tuple[Stretch, ...]
    truncation: Truncation
    worst: tuple[WorstRow, ...]
    wrong_rows: int
    texts: bool
    history: tuple[Mapping[str, Any], ...]
    split_rows: Mapping[str, int]
    audit: tuple[Found, ...]
    settings: tuple[tuple[str, str, str], ...]
    """setting, value, why, for those that are not plain defaults"""

    def without_texts(self) -> ReportData:
        """The same with no text of the data in it."""
        bare = [
            replace(
                row,
                text_a=None,
                text_b=None,
                shortened=False,
                spoke=None,
                spoke_b=None,
                explained=None,
                nearest=(),
            )
            for row in self.worst
        ]
        return replace(self, worst=tuple(bare), texts=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the fields of `Evaluation.to_dict` as they are, and all others beside them.

        `definitions` has a sentence for each metric.

        Numbers outside the evaluations and the rule, which may be put to scores again, are rounded
        to 6 significant digits.
        """
        evaluations = ("evaluation", "linear_bar")
        own = {
            field.name: plain(getattr(self, field.name))
            for field in fields(self)
            if field.name not in evaluations
        }
        own["rule"] = {k: list(v) if isinstance(v, tuple) else v for k, v in self.rule.items()}
        bar = None if self.linear_bar is None else self.linear_bar.to_dict()
        said = {name: DEFINITIONS[name] for name in self.evaluation.metrics}
        evaluation = self.evaluation.to_dict()
        return {"report": FORMAT, **evaluation, "definitions": said, "linear_bar": bar, **own}


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as JSON types, floats rounded to 6 significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return plain(asdict(value)) if hasattr(value, "__dataclass_fields__") else value
