"""Every setting: its one home, its default, and the sentence that says what it does.

Precedence: defaults < file < flags. A field that is None is decided by the recipe
(`training/recipe.py`) from what the encoder is and how many rows there are.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bert_cls.errors import ConfigError, pick
from bert_cls.files import at_home, read_bounded

Origins = dict[str, str]
TEACHER = "teacher"
"""The origin of what a student took over."""


class Section(BaseModel):
    """Frozen; unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataConfig(Section):
    """What is read and how it is split."""

    task: Literal["binary", "multiclass", "multilabel", "regression"] | None = None
    """The task; None reads it from the whole file."""
    encoding: str | None = None
    """Text encoding of the files; None means UTF-8, else what a detector is sure of."""
    on_bad_row: Literal["fail", "quarantine"] = "fail"
    """`fail` stops when any row is wrong; `quarantine` writes such rows to a file and goes on."""
    coerce_numbers: bool = False
    """Take a number given as text for the text it is written as; otherwise it is an error."""
    fix_unicode: bool = False
    """Replace halves of surrogate pairs by U+FFFD, counted; otherwise they are an error."""
    merge_labels: Path | None = None
    """JSON object {label: the label it is merged into}, for spellings of one label."""
    dev_share: float = Field(0.1, gt=0, lt=1)
    """Share of the rows that are split which becomes dev when there is no dev file."""
    test_share: float = Field(0.1, ge=0, lt=1)
    """Share of the rows of a single file that becomes the test split; 0 for none."""
    leak: Literal["error", "drop", "allow"] = "error"
    """Texts of train that are also in dev or test: stop, drop them from train, or accept."""
    conflict: Literal["keep", "drop", "error"] = "keep"
    """Texts that have different labels: keep them, drop their rows from train, or stop."""
    train_rows: int | None = Field(None, ge=1)
    """A seeded sample of this many training rows; None uses all."""


class TextConfig(Section):
    """How text becomes tokens."""

    max_length: int = Field(256, ge=8, le=8192)
    """Tokens a row may have, special ones included; batches are padded to their longest row only,
    so a generous value costs nothing for short texts."""
    long: Literal["head", "head_tail", "windows", "error"] = "head"
    """What is read of a longer text: its head, a quarter head and the rest tail, overlapping
    windows over all of it, or an error."""
    max_windows: int = Field(8, ge=2, le=64)
    """Windows a row may have; of a row that needs more the first ones and the last are read."""
    window_overlap: float = Field(0.25, ge=0, le=0.75)
    """The share of a window that the next one repeats, where `max_windows` allows it."""
    window_pooling: Literal["mean", "max", "logsumexp"] | None = None
    """How a row's logits come from its windows'; None: max for multilabel, else mean."""
    normalise: Literal["none", "nfkc"] = "none"
    """`nfkc` folds full-width and compatibility characters before tokenising."""
    lowercase: bool | None = None
    """Overrides the case setting of a BERT vocabulary; None keeps it."""


class EncoderConfig(Section):
    """The pretrained network."""

    name: str = Field("multilingual-e5-small-zh", min_length=1)
    """A folder, a hub id, or a built-in (see `bert-cls encoders list`)."""
    pooling: Literal["cls", "cls_pooler", "mean"] | None = None
    """What the head sees: the first token, the first token through the pooler, or the mean."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout inside the encoder's layers and before the head."""
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on attention weights; 0 is faster (docs/decisions/001)."""

    @field_validator("name", mode="before")
    @classmethod
    def _folder(cls, value: object) -> object:
        """A Path is a folder, never a hub id: it must not lose its "./"."""
        return str(at_home(value).absolute()) if isinstance(value, Path) else value


class TrainingConfig(Section):
    """The loop."""

    epochs: int | None = Field(None, ge=1)
    """Passes over the training rows; the best one by development score is kept."""
    batch_size: int | None = Field(None, ge=1)
    """Rows of one optimiser step."""
    learning_rate: float | None = Field(None, gt=0, le=1)
    """Peak rate of the encoder."""
    head_learning_rate: float | None = Field(None, gt=0, le=100)
    """Peak rate of the head, which starts from nothing."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """AdamW's decay; biases and norms have none."""
    adam_epsilon: float = Field(1e-8, gt=0, le=1)
    """AdamW's epsilon."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises linearly; afterwards it falls to 0."""
    warmup_steps: int | None = Field(None, ge=0)
    """The same in steps; overrides the share."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many steps; the schedule is laid out for them."""
    micro_tokens: int = Field(2048, ge=64)
    """Padded tokens computed at once; larger batches are accumulated. Changes memory, and results
    by rounding; 1,024 was as fast, 4,096 slower."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 autocast where the processor multiplies it in hardware, else float32."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many epochs without a better development score; None never stops early."""
    prior_bias: bool | None = None
    """Start the head's bias at the log-odds of label sets' labels, or at the log shares of classes,
    with `loss.class_weights` of the weighted rows; of label sets and classes only."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """Every row once an epoch, or as many rows drawn so that all classes are equally frequent in
    the mean; of label sets a row's rarest label counts."""
    save_steps: int | None = Field(None, ge=1)
    """A checkpoint every so many steps; None: after every epoch."""
    keep_checkpoints: int = Field(1, ge=0)
    """Newest checkpoints kept; the best one is kept besides. 0 keeps all."""
    log_steps: int = Field(50, ge=1)
    """Steps between two progress reports."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Seeds the split, the order of rows, dropout and the head."""


class LossConfig(Section):
    """What training minimises."""

    name: str | None = None
    """A loss by name (`bert-cls settings --losses` shows them and their options); None: bce,
    cross_entropy or mse by task."""
    options: dict[str, float | bool | str] = Field(default_factory=dict)
    """The loss's own options, for example {"gamma_negative": 4}."""
    class_weights: Literal["none", "balanced", "sqrt", "auto"] | dict[str, float] = "none"
    """How much each label counts: none, balanced (by 1 / rows), sqrt (its root), auto (sqrt where
    classes differ tenfold), or {"label": weight}; for cross_entropy and bce."""


class DistillationConfig(Section):
    """How a student learns from its teacher (`bert-cls distill`)."""

    temperature: float = Field(2.0, ge=0.1, le=100)
    """Teacher's and student's logits are divided by it before they are compared."""
    label_weight: float = Field(0.5, ge=0, le=1)
    """Share of the labels in the loss of a labelled row, the rest is the teacher's."""


class DecisionConfig(Section):
    """How scores become labels."""

    tuner: str = "auto"
    """How thresholds are chosen: fixed (one half), global, shrunk, micromacro, or auto: the best of
    them by cross-fitting on dev, with an F-measure as the objective the best of the last three.
    Where no dev row has a label, global stays at one half, whatever the objective would prefer.
    Classes have a threshold only with binary data and objective f1."""
    objective: str | None = None
    """What is aimed at. Multilabel: micro_macro (None), micro_f1, macro_f1, samples_f1,
    exact_match; classes: accuracy (None), macro_f1, and of binary data f1 of the second class."""
    calibrate: Literal["none", "temperature", "power", "platt", "auto"] = "auto"
    """Make scores probabilities on dev: one temperature, with a power of the best logit's lead
    (power, classes only), a slope and offset for each label (platt, multilabel only), or auto: a
    temperature where it lowers the cross-fitted log loss, power or platt where they do so beyond
    noise. None is used that does not lower it."""
    abstain: float | None = Field(None, ge=0, lt=1)
    """Leave the least certain rows undecided: this share of the development rows."""
    min_confidence: float | None = Field(None, ge=0, le=1)
    """Leave rows undecided that the model is less sure of than this."""
    min_labels: int = Field(0, ge=0)
    """At least so many labels a row, filled up with the highest scores (multilabel)."""
    max_labels: int | None = Field(None, ge=1)
    """At most so many labels a row (multilabel)."""

    @field_validator("calibrate", mode="before")
    @classmethod
    def _yes_or_no(cls, value: object) -> object:
        """Models of version 0.1 say true or false."""
        return {True: "auto", False: "none"}.get(value, value) if isinstance(value, bool) else value


class ReportConfig(Section):
    """What is shown after training."""

    linear_bar: bool = True
    """Train TF-IDF with a linear SVM on the same rows and show it beside the model."""
    resamples: int = Field(1000, ge=0)
    """Bootstrap resamples behind the intervals; 0 for none."""
    texts: bool = True
    """Show texts of wrong rows in the report; false leaves every text of the data out of it."""
    neighbours: int = Field(2, ge=0, le=10)
    """Training rows shown beside each of those texts, the most like it; 0 for none."""
    explain: bool = True
    """Mark in those texts what spoke for the wrong label, the surest rows first, in about a
    twentieth of the time that training took."""


class ExportConfig(Section):
    """What the model folder keeps for `bert-cls export`."""

    calibration_rows: int = Field(300, ge=0)
    """Training rows and development rows kept in the model folder, as token ids, which whoever has
    the folder can read; 0 keeps none, and export then needs the data where it was."""


class RunConfig(Section):
    """All settings of a run."""

    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    encoder: EncoderConfig = EncoderConfig()
    training: TrainingConfig = TrainingConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig = DistillationConfig()
    decision: DecisionConfig = DecisionConfig()
    report: ReportConfig = ReportConfig()
    export: ExportConfig = ExportConfig()


SECTIONS: dict[str, Any] = {name: f.annotation for name, f in RunConfig.model_fields.items()}
# how many passes each makes depends on the number of rows: see training/recipe.py
PRESETS = ("fast", "balanced", "accurate")
FLAGS: dict[str, str] = {
    "encoder.name": "--encoder",
    "data.task": "--task",
    "data.leak": "--leak",
    "data.conflict": "--conflict",
    "data.on_bad_row": "--on-bad-row",
    "data.encoding": "--encoding",
    "data.coerce_numbers": "--coerce-numbers",
    "data.fix_unicode": "--fix-unicode",
    "data.merge_labels": "--merge-labels",
    "training.epochs": "--epochs",
    "training.learning_rate": "--learning-rate",
    "training.batch_size": "--batch-size",
    "training.seed": "--seed",
    "loss.name": "--loss",
}
"""the settings that `bert-cls train` has flags for"""


def resolve_config(
    *,
    preset: str = "balanced",
    file: Path | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    inherited: Mapping[str, Any] | None = None,
    origin: str = "flag",
) -> tuple[RunConfig, Origins]:
    """Merge defaults, a TOML or JSON file, `section.field=value` and flags; check the preset.

    `flags` maps "section.field" to a value; a flag that is None was not given; `origin` is what
    they are called. `inherited`, of the same form, is what a student takes over from its teacher:
    above defaults, below all else. Gives the configuration and, for each field that is not a
    default, where its value came from. ConfigError names an unknown field and the nearest one.
    """
    pick(dict.fromkeys(PRESETS), preset, "--preset")
    layers: list[tuple[str, dict[str, Any]]] = [(TEACHER, dict(inherited or {}))]
    if file is not None:
        layers.append((file.name, _flatten(_read_file(file), file.name)))
    layers.append(("--set", dict(_parse_setting(text) for text in settings)))
    layers.append((origin, {k: v for k, v in (flags or {}).items() if v is not None}))
    merged: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    origins: Origins = {}
    for source, values in layers:
        for key, value in values.items():
            section, field = _known_field(key, source, value)
            merged[section][field] = value
            origins[key] = source
    return _validated(merged, origins), origins


def describe_fields() -> list[tuple[str, str, str]]:
    """(section.field, default, sentence) of every setting."""
    return [
        (
            f"{name}.{key}",
            json.dumps(field.get_default(call_default_factory=True), default=str),
            field.description or "",
        )
        for name, section in SECTIONS.items()
        for key, field in section.model_fields.items()
    ]


def _validated(merged: dict[str, dict[str, Any]], origins: Origins) -> RunConfig:
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        found = error.errors()
        # where words or a table may stand, what is wrong inside of the table says more
        of_field = [each for each in found if each["loc"][:2] == found[0]["loc"][:2]]
        first = max(of_field, key=lambda each: len(each["loc"]))
        key = ".".join(str(part) for part in first["loc"][:2])
        raise ConfigError(
            f"{key} (from {origins.get(key, 'the configuration')}): {first['msg']}. "
            f"Got {first['input']!r} instead."
        ) from error


def _known_field(key: str, origin: str, value: object) -> tuple[str, str]:
    known = {f"{name}.{field}" for name, s in SECTIONS.items() for field in s.model_fields}
    if key in SECTIONS:
        inner = value if isinstance(value, Mapping) else ()
        written = [name for name in (f"{key}.{field}" for field in inner) if name in known]
        raise ConfigError(
            f"{origin}: {key} is a section of settings, not one of them.",
            hint=f'write "{written[0] if written else f"{key}.FIELD"}"; '
            "`bert-cls settings` lists them.",
        )
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1)
        raise ConfigError(
            f"{origin}: there is no setting {key!r}.",
            hint=f"did you mean {near[0]!r}?" if near else f"sections: {sorted(SECTIONS)}.",
        )
    section, _, field = key.partition(".")
    return section, field


def _parse_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes section.field=value. Got {text!r} instead.")
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return key.strip(), value


def _read_file(file: Path) -> dict[str, Any]:
    try:
        text = read_bounded(file, ConfigError).decode("utf-8")
        content = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"configuration file {file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {file} is not a table of sections.")
    return content


def _flatten(content: Mapping[str, Any], origin: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, fields in content.items():
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{origin}: {section!r} must be a section with fields in it.")
        flat |= {f"{section}.{field}": value for field, value in fields.items()}
    return flat
