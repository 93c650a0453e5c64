"""Classifier: the one object behind every face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.config import resolve_config
from bert_cls.data import Example, Problem, targets
from bert_cls.decision import Rule
from bert_cls.engines import Engine, open_engine, run
from bert_cls.errors import DataError
from bert_cls.metrics import Evaluation, evaluate
from bert_cls.prediction import Prediction, predictions
from bert_cls.text import TextEncoder, Tokens

if TYPE_CHECKING:
    from bert_cls.training.loop import Observer

Text = str | tuple[str, str] | Example
_WINDOW = 4096


class Classifier:
    """A model folder opened for use."""

    def __init__(self, bundle: Bundle, engine: Engine, text: TextEncoder) -> None:
        self.bundle = bundle
        self.engine = engine
        self.text = text

    @classmethod
    def load(cls, folder: str | Path, *, engine: str = "auto", check: bool = True) -> Classifier:
        """Open a model folder; `check` compares its files with their sha256.

        `engine` "auto" is the fastest that the folder has a file for and that runs here; else one
        of `engines.ENGINES`. BundleError for a damaged folder, EngineError for an engine that is
        not installed.
        """
        bundle = bundles.load(Path(folder), check=check)
        content = (bundle.folder / "tokenizer.json").read_bytes()
        text = TextEncoder.from_json(content, bundle.text)
        return cls(bundle, open_engine(bundle, engine), text)

    @classmethod
    def train(
        cls,
        data: str | Path,
        output: str | Path = "model",
        *,
        encoder: str | None = None,
        preset: str = "balanced",
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        observer: Observer | None = None,
    ) -> Classifier:
        """Train on a folder or file and open the result.

        `settings` maps "section.field" to values (see `bert-cls train --help`). Needs the extra
        `train`. DataError, ConfigError, EncoderError and TrainingError say what is wrong.
        """
        from bert_cls.training import Request, Silent, train

        config, origins = resolve_config(
            preset=preset, flags={"encoder.name": encoder, **(settings or {})}
        )
        request = Request(Path(data), Path(output), config, origins, preset)
        train(request, observer or Silent(), overwrite=overwrite)
        return cls.load(output)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the outputs; empty for regression."""
        return self.bundle.space.names

    def with_rule(self, **changes: Any) -> Classifier:
        """The same model with parts of its decision rule replaced, for example `thresholds`."""
        rule: Rule = replace(self.bundle.rule, **changes)
        return Classifier(replace(self.bundle, rule=rule), self.engine, self.text)

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """One Prediction a text, in order. Pairs are tuples (or Examples with both texts).

        DataError when a text is empty, or a pair was given to a model of single texts or the
        reverse.
        """
        examples = [_example(i, text) for i, text in enumerate(texts)]
        for example in examples:
            if problem := self._misfit(example):
                raise DataError(f"text {example.index}: {problem}")
        return self._predict(examples)

    def predict_stream(
        self,
        rows: Iterable[Example | Problem],
        *,
        top: int | None = None,
        window: int = _WINDOW,
    ) -> Iterator[dict[str, Any]]:
        """One JSON-ready object a row, in order: a prediction, or {"index", "error"}.

        `top` keeps only the highest scores of each row.

        Rows are looked at `window` at a time, so memory does not grow with the input. Problems of
        severity "note" are passed over.
        """
        iterator = (r for r in rows if isinstance(r, Example) or r.severity == "error")
        while batch := list(islice(iterator, window)):
            good = [r for r in batch if isinstance(r, Example) and not self._misfit(r)]
            answers = iter(self._predict(good))
            for row in batch:
                if isinstance(row, Problem):
                    yield {"index": row.index, "error": str(row)}
                elif problem := self._misfit(row):
                    yield {"index": row.index, "error": problem}
                else:
                    yield {"index": row.index, **next(answers).to_dict(top=top)}

    def evaluate(
        self, examples: Sequence[Example], *, resamples: int = 1000, seed: int = 0
    ) -> Evaluation:
        """Figures on labelled examples. DataError names labels the model does not know."""
        labelled = [e for e in examples if e.label is not None]
        if not labelled:
            raise DataError("no row has a label, so there is nothing to evaluate.")
        self._check_labels(labelled)
        truth = targets(labelled, self.bundle.task, self.bundle.space)
        scores = self.bundle.rule.scores(self.logits(self._tokens(labelled)))
        counts = self.bundle.details.get("data", {}).get("label_counts") or None
        return evaluate(
            self.bundle.task,
            self.bundle.space,
            truth,
            scores,
            self.bundle.rule.decide(scores),
            train_counts=[counts[name] for name in self.labels] if counts else None,
            calibrated=self.bundle.rule.calibrated,
            resamples=resamples,
            seed=seed,
        )

    def logits(self, tokens: Tokens) -> Any:
        """float32 [rows, outputs] of tokens in their order."""
        return run(
            self.engine,
            tokens,
            pad_id=self.bundle.pad_id,
            outputs=self.bundle.outputs,
            rule=self.bundle.rule,
        )

    def _predict(self, examples: Sequence[Example]) -> list[Prediction]:
        if not examples:
            return []
        tokens = self._tokens(examples)
        return predictions(
            self.bundle.rule, self.bundle.space, self.logits(tokens), tokens.cut.tolist()
        )

    def _tokens(self, examples: Sequence[Example]) -> Tokens:
        second = [e.text_b or "" for e in examples] if self.bundle.pair else None
        return self.text.encode_in_chunks([e.text_a for e in examples], second)

    def _misfit(self, example: Example) -> str | None:
        """Why this model cannot read a row, or None."""
        if self.bundle.pair and example.text_b is None:
            return "this model reads pairs; text_b is missing."
        if not self.bundle.pair and example.text_b is not None:
            return "this model reads single texts; text_b was given."
        if not example.text_a.strip() or (self.bundle.pair and not (example.text_b or "").strip()):
            return "the text is empty."
        return None

    def _check_labels(self, examples: Sequence[Example]) -> None:
        kinds = {"multilabel": tuple, "regression": (int, float)}
        kind = kinds.get(self.bundle.task, str)
        for example in examples:
            if not isinstance(example.label, kind):  # type: ignore[arg-type]
                raise DataError(
                    f"row {example.index}: label {example.label!r} does not fit a "
                    f"{self.bundle.task} model."
                )
            names = example.label if isinstance(example.label, tuple) else (example.label,)
            unknown = [n for n in names if self.labels and n not in self.bundle.space.ids]
            if unknown:
                raise DataError(
                    f"row {example.index}: label {unknown[0]!r} is not one of the model's "
                    f"{len(self.labels)} labels."
                )


def _example(index: int, text: Text) -> Example:
    if isinstance(text, Example):
        return text
    if isinstance(text, str):
        return Example(index, text)
    first, second = text
    return Example(index, first, second)
