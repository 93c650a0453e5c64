"""Classifier: the one object behind every face."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from bert_cls import bundle as bundles
from bert_cls.arguments import optional_path, path_of, renames_of, settings_of
from bert_cls.bundle import Bundle
from bert_cls.copies import again, recipe
from bert_cls.data import Example, Problem, targets
from bert_cls.decision import Domain
from bert_cls.engines import Engine, open_engine, run
from bert_cls.explain import PASSES, Explanation
from bert_cls.explainers import explain as run_explainer
from bert_cls.judging import Text, encode_texts, evaluation_of, labelled, misfit, read_on, readable
from bert_cls.lookahead import ahead, windows_of
from bert_cls.metrics import Evaluation
from bert_cls.prediction import Prediction, predictions
from bert_cls.python_names import naming_keywords
from bert_cls.ranges import LEAST, check_ranges
from bert_cls.report import (
    About,
    Explain,
    Judged,
    LinearBar,
    Nearest,
    ReportData,
    judge,
    report_data,
)
from bert_cls.text import TextEncoder, TextError, Tokens

if TYPE_CHECKING:
    from bert_cls.training.loop import Observer

# batches are made of rows of like length out of so many: 3 to 15 % of what is computed is padding
# then (ten data sets in file order, median 5 %), against 10 to 40 % with 1,024
WINDOW = 4096


class Classifier:
    """A model folder opened for use."""

    def __init__(self, bundle: Bundle, engine: Engine, text: TextEncoder) -> None:
        self.bundle = bundle
        self.engine = engine
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, also in another process, opens the folder again: see `copies`."""
        return again, recipe(type(self), self.bundle, self.engine)

    @classmethod
    def load(cls, folder: str | Path, *, engine: str = "auto", check: bool = True) -> Classifier:
        """Open a model folder; `check` compares its files with their sha256.

        `engine` "auto" is the fastest that the folder has a file for and that runs here (the logger
        `bert_cls` is warned of exports that cannot be used); else one of `engines.ENGINES`.
        BundleError for a damaged folder, EngineError for an engine that is not installed.
        """
        bundle = bundles.load(folder, check=check)
        text = bundles.open_text(bundle)
        return cls(bundle, open_engine(bundle, engine), text)

    @classmethod
    @naming_keywords()
    def train(
        cls,
        data: str | Path,
        output: str | Path = "model",
        *,
        encoder: str | Path | None = None,
        labels: str | Path | Sequence[str] | None = None,
        preset: str = "balanced",
        config: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        init_from: str | Path | None = None,
        rename_labels: str | Path | Mapping[str, str] | None = None,
        overwrite: bool = False,
        observer: Observer | None = None,
    ) -> Classifier:
        """Train on a folder or file and open the result.

        A Path as `encoder` is a local folder. `labels` are the label names in order, or a file of
        them. `settings` maps "section.field", as `bert-cls settings` lists them, to values; they
        stand above those of the file `config`. `init_from` is a model to start from,
        `rename_labels` {its label: the name now}, or a file of that.
        Needs the extra `train`. DataError, ConfigError, EncoderError and TrainingError say what is
        wrong; after an interruption `resume` goes on.
        """
        from bert_cls.training import Silent, requested, train

        request = requested(
            path_of("data", data),
            path_of("output", output),
            preset=preset,
            file=optional_path("config", config),
            flags=settings_of(settings, encoder=encoder),
            labels=Path(labels) if isinstance(labels, str) else labels,
            init_from=optional_path("init_from", init_from),
            renames=renames_of(rename_labels),
            origin="argument",
        )
        train(request, observer or Silent(), overwrite=overwrite)
        return cls.load(output)

    @classmethod
    @naming_keywords()
    def resume(cls, output: str | Path, *, observer: Observer | None = None) -> Classifier:
        """Go on with the interrupted run in a folder, bit for bit, and open the result.

        ConfigError when its model is finished, or what it was started with has changed.
        """
        from bert_cls.training import Silent, resumed, train

        train(resumed(path_of("output", output)), observer or Silent(), resume=True)
        return cls.load(output)

    @naming_keywords()
    def distill(
        self,
        output: str | Path,
        *,
        layers: int,
        data: str | Path | None = None,
        unlabelled: str | Path | None = None,
        preset: str = "balanced",
        config: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        observer: Observer | None = None,
    ) -> Classifier:
        """Train a student with `layers` of this model's layers, and open it.

        It learns from this model's answers to the rows of `data` (None: those this model was
        trained on) and to the texts of the file `unlabelled`. Arguments and errors are otherwise
        as of `train`.
        """
        from bert_cls.training import Silent, student_request, train

        request = student_request(
            self.bundle.folder,
            path_of("output", output),
            layers=layers,
            data=optional_path("data", data),
            unlabelled=optional_path("unlabelled", unlabelled),
            preset=preset,
            file=optional_path("config", config),
            flags=settings_of(settings),
            origin="argument",
        )
        train(request, observer or Silent(), overwrite=overwrite)
        return type(self).load(output)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the outputs; empty for regression."""
        return self.bundle.space.names

    def with_rule(self, **changes: Any) -> Classifier:
        """The same model with parts of its decision rule replaced, for example `thresholds`.

        ConfigError for a rule that does not fit the model's labels.
        """
        rule = self.bundle.rule.changed(changes)
        rule.check_fits(len(self.labels))
        return Classifier(replace(self.bundle, rule=rule), self.engine, self.text)

    def predict(self, texts: Sequence[Text], *, out_of_domain: bool = False) -> list[Prediction]:
        """One Prediction a text, in order. Pairs are tuples (or Examples with both texts).

        `out_of_domain` adds how strange each text is. DataError when a text is empty, or a pair
        was given to a model of single texts or the reverse.
        """
        if not (examples := readable(self.bundle, texts)):
            return []
        tokens = self.tokens(examples)
        return self._decided(tokens, self.logits(tokens), out_of_domain=out_of_domain)

    def explain(
        self,
        texts: Sequence[Text],
        labels: Sequence[str] | str | None = None,
        *,
        method: str = "occlusion",
        passes: int = PASSES,
    ) -> list[Explanation]:
        """What each text's labels rest on, character by character; one Explanation a text.

        `labels` are the labels to explain, or one of them; without them those that the model gives,
        or its best one where it gives none; a regression has one, "score". `method` is occlusion
        (any engine) or gradient (the torch engine); `passes` bounds the hidden versions of a text.
        ConfigError for an unknown label or method, DataError for texts as in `predict`.
        """
        examples = readable(self.bundle, texts)
        return run_explainer(method, self, examples, labels, passes=passes)

    def predict_stream(
        self,
        rows: Iterable[Example | Problem],
        *,
        top: int | None = None,
        window: int = WINDOW,
        skip: int = 0,
        out_of_domain: bool = False,
        computed: Callable[[float], None] = lambda rows: None,
    ) -> Generator[dict[str, Any]]:
        """One JSON-ready object a row, in order: a prediction, or {"index", "error"}.

        `top` keeps only the highest scores of each row; `out_of_domain` adds how strange it is.
        Problems of severity "note" are passed over. Rows are looked at `window` at a time, and the
        next window is read and tokenised while a thread computes the one before, so memory does
        not grow with the input and the engine does not wait. An error of `rows` is raised after the
        answers before it; closing the iterator ends the thread.

        `skip` rows are read and not answered; the others get the answers they would have had
        without it, bit for bit, because windows and batches stay the same. After each batch
        `computed` is told, in the thread, how many rows it had; refused rows are told in equal
        shares with the batches of their window. Of the rows of `skip` those in the first window
        are computed again, and taken off what is told of its first batch: all told is never more
        than the rows to be answered.
        """
        check_ranges(window=window, skip=skip, top=LEAST["top"] if top is None else top)
        stop = Event()

        def compute(ready: _Ready) -> list[Prediction]:
            if ready.tokens is None:
                computed(len(ready.rows) - ready.skip)
                return []
            rows_a_piece = len(ready.rows) / len(ready.tokens.pieces)
            again = ready.skip

            def told(pieces: int) -> None:
                nonlocal again
                if stop.is_set():
                    raise RuntimeError("the engine was stopped.")
                computed(pieces * rows_a_piece - again)
                again = 0

            logits = self.logits(ready.tokens, told=told)
            return self._decided(ready.tokens, logits, out_of_domain=out_of_domain)

        for ready, predicted in ahead(self._ready(rows, window, skip), compute, stop=stop):
            answers = iter(predicted)
            for place, row in enumerate(ready.rows):
                if place in ready.refused:
                    answer: dict[str, Any] = {"error": ready.refused[place]}
                else:
                    answer = next(answers).to_dict(top=top)
                if place >= ready.skip:
                    yield {"index": row.index, **answer}

    def _ready(self, rows: Iterable[Example | Problem], window: int, skip: int) -> Iterator[_Ready]:
        """Windows of rows with their tokens; those wholly within `skip` are left out."""
        end = 0
        for part in windows_of(read_on(rows), most=window):
            begin, end = end, end + len(part)
            if end <= skip:
                continue
            refused = {i: reason for i, row in enumerate(part) if (reason := self._refusal(row))}
            good = [
                (i, r) for i, r in enumerate(part) if isinstance(r, Example) and i not in refused
            ]
            try:
                tokens = self.tokens([row for _, row in good]) if good else None
            except TextError:  # one of them cannot be read, and the others can
                refused |= {i: reason for i, row in good if (reason := self._unreadable(row))}
                good = [(i, row) for i, row in good if i not in refused]
                tokens = self.tokens([row for _, row in good]) if good else None
            yield _Ready(part, refused, tokens, max(0, skip - begin))

    def _refusal(self, row: Example | Problem) -> str | None:
        return str(row) if isinstance(row, Problem) else misfit(self.bundle, row)

    def _unreadable(self, example: Example) -> str | None:
        try:
            self.tokens([example])
        except TextError as error:
            return error.reason
        return None

    def evaluate(
        self, examples: Sequence[Example], *, resamples: int = 1000, seed: int = 0
    ) -> Evaluation:
        """Figures on labelled examples, every row decided; labels are merged as in training.

        Rows without a label are not counted, which `notes` says. DataError names labels the model
        does not know, and rows it cannot read.
        """
        judged = self._judged(examples)
        return evaluation_of(self.bundle, judged, resamples=resamples, seed=seed)

    def report(
        self,
        examples: Sequence[Example],
        *,
        about: About,
        linear_bar: Callable[[Evaluation], LinearBar | None] = lambda _: None,
        texts: bool = True,
        explain: Explain | None = None,
        nearest: Nearest | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> ReportData:
        """All that the report page says of labelled examples; `report.page` makes it HTML.

        `linear_bar` gives the linear model's figures on the same rows, where they are known.
        `texts=False` leaves texts out; `explain`, such as `explain.weigher(model)`, is asked what
        spoke for labels that are wrong, and `nearest`, such as
        `nearest.finder(model, rows, count=2)`, which training rows are like them. DataError as in
        `evaluate`.
        """
        judged = self._judged(examples)
        evaluation = evaluation_of(self.bundle, judged, resamples=resamples, seed=seed)
        return report_data(
            judged,
            evaluation,
            self.bundle,
            about=about,
            linear_bar=linear_bar(evaluation),
            texts=texts,
            explain=explain,
            nearest=nearest,
        )

    def _judged(self, examples: Sequence[Example]) -> Judged:
        rows, notes = labelled(self.bundle, examples)
        truth = targets(rows, self.bundle.task, self.bundle.space)
        tokens = self.tokens(rows)
        judged = judge(self.bundle.rule, rows, tokens, truth, self.logits(tokens))
        return replace(judged, notes=notes)

    def export(self, to: str = "openvino-int8") -> Classifier:
        """Write an engine's files into the model folder; gives the model opened by that engine.

        `to` is openvino, openvino-int8, onnx or onnx-int8. EngineError when the answers would not
        be those of the network; the folder is then as it was.
        """
        from bert_cls.export import export

        export(self.bundle.folder, to, lambda message: None)
        return self.load(self.bundle.folder, engine=to)

    def logits(self, tokens: Tokens, *, told: Callable[[int], None] = lambda pieces: None) -> Any:
        """float32 [rows, outputs] of tokens in their order; `told` as in `engines.run`."""
        return run(
            self.engine,
            tokens,
            pad_id=self.bundle.pad_id,
            outputs=self.bundle.outputs,
            rule=self.bundle.rule,
            told=told,
        )

    def _decided(self, tokens: Tokens, logits: Any, *, out_of_domain: bool) -> list[Prediction]:
        found = predictions(self.bundle.rule, self.bundle.space, logits, tokens.cut.tolist())
        if not out_of_domain:
            return found
        strange = self.domain.strangeness(logits).tolist()
        pairs = zip(found, strange, strict=True)
        return [replace(each, out_of_domain=share) for each, share in pairs]

    @property
    def domain(self) -> Domain:
        """What the development rows looked like. BundleError for a model that does not know."""
        with bundles.naming(self.bundle.folder):
            return Domain.of(self.bundle.folder, outputs=self.bundle.outputs)

    def tokens(self, examples: Sequence[Example]) -> Tokens:
        """Token ids of rows, of both texts where the model reads pairs."""
        return encode_texts(examples, self.bundle.pair, self.text)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A window of rows, why some have no answer, the others' tokens, how many were answered."""

    rows: list[Example | Problem]
    refused: dict[int, str]
    tokens: Tokens | None
    skip: int
