"""Export: build an engine's file, run the development rows through both engines, keep it or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.engines.engine import FILES, Engine, Logits, exports_of, files_of, open_engine, run
from bert_cls.engines.machine import multiplies_bfloat16
from bert_cls.engines.second_look import MARGINS
from bert_cls.engines.torch_engine import open_torch
from bert_cls.errors import EngineError
from bert_cls.export.activations import collect
from bert_cls.export.check import (
    FLOAT_TOLERANCE,
    INT8_TOLERANCE,
    MOST_SECOND_LOOKS,
    REGRESSION_TOLERANCE,
    Agreement,
    compare,
    second_look_margins,
    seconds,
)
from bert_cls.export.graph import to_onnx
from bert_cls.export.quantise import quantise, sites
from bert_cls.export.rows import Rows, rows_of
from bert_cls.folders import (
    MANIFEST,
    check_replaceable,
    clean_orphans,
    followed,
    scratch_folder,
)
from bert_cls.locks import Lock
from bert_cls.memory import is_shortage
from bert_cls.tokens import subset

_TIMED_ROWS = 200
_FLOAT_SITES = (0, 4, 8)
"""how many of the most sensitive layers stay in float32, tried one after the other"""
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how it answered."""

    name: str
    files: tuple[str, ...]
    facts: Mapping[str, Any]
    """as stored in `bert_cls.json` under `engines`"""


@dataclass(frozen=True, slots=True)
class _Work:
    """One export under way."""

    bundle: Bundle
    scratch: Bundle
    """the same model, its folder the one that candidates are written to"""
    rows: Rows
    wanted: Logits
    """of torch in float32, on the rows to check"""
    seconds: float
    """of torch in float32, on the rows to time"""
    graph: onnx.ModelProto


def export_checked(folder: Path, target: str, notify: Notify) -> list[Exported]:
    """What `bert_cls.export.export` says, where the packages it needs are there."""
    folder = followed(folder).resolve()
    for name in clean_orphans(folder.parent, shared=True):
        notify(f"removed {name}, left by an interrupted write")
    with _alone(folder, notify):
        bundle = bundles.load(folder)
    names = tuple(dict.fromkeys((target.removesuffix("-int8"), target)))
    check_replaceable(folder)
    bundles.check_names(bundle, [file for name in names for file in files_of(name)])
    notify("reading rows to check by")
    rows = rows_of(bundle)
    notify(f"checking on {rows.origin}")
    with scratch_folder(folder) as place:
        work = _begin(bundle, place, rows, notify)
        done = []
        for name in names:
            build = _int8 if name.endswith("-int8") else _float
            done.append(build(work, name, notify))
            known = {**work.scratch.details["engines"], name: done[-1].facts}
            work = replace(work, scratch=replace(work.scratch, details={"engines": known}))
        files = {name: place / name for one in done for name in one.files}
        with _alone(folder, notify):
            now = _as_it_is(bundle)
            facts = {**exports_of(now), **{one.name: one.facts for one in done}}
            with _writing(folder):
                bundles.extend(now, files, facts)
    return done


@contextmanager
def _writing(folder: Path, *, need: int = 0, half: Iterable[Path] = ()) -> Iterator[None]:
    """EngineError for what the disk refuses, with the bytes needed and those free without `half`.

    OpenVINO says it as a RuntimeError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if is_shortage(error):
            raise
        for path in half:
            path.unlink(missing_ok=True)
        room = f"{need / 1e6:.3g} MB are needed, " if need else ""
        free = shutil.disk_usage(folder).free
        raise EngineError(
            f"{folder} could not be written: {' '.join(str(error).split())}. {room}"
            f"{free / 1e6:.3g} MB are free. The model is as it was.",
            hint="make it writable or free some space beside it, then give the command again.",
        ) from error


@contextmanager
def _alone(folder: Path, notify: Notify) -> Iterator[None]:
    """Keep trainings and other exports out of the folder; waits for those that are at work there.

    Of a training only until it takes the model away: then it is a ConfigError.
    """
    told: list[str] = []

    def waits() -> bool:
        if not told:
            told.append(f"waiting for another run that writes to {folder}")
            notify(told[0])
        return (folder / MANIFEST).is_file()

    with Lock(folder) as lock:
        lock.take(waits)
        yield


def _as_it_is(bundle: Bundle) -> Bundle:
    """The folder's bundle at the end of an export: another one may have ended meanwhile.

    EngineError when it is another model now.
    """
    now = bundles.load(bundle.folder)
    if replace(now, details={}) != replace(bundle, details={}):  # the weights' sha256 is in them
        raise EngineError(
            f"{bundle.folder} became another model while it was exported. Nothing was written.",
            hint="give the command again.",
        )
    return now


def _begin(bundle: Bundle, place: Path, rows: Rows, notify: Notify) -> _Work:
    notify("answering in torch")
    reference = open_torch(bundle)
    wanted = _answers(bundle, reference, rows)
    _check_finite(bundle, wanted, rows)
    timed = _seconds(bundle, reference, rows)
    graph = to_onnx(bundle)
    engines = {name: dict.fromkeys(MARGINS, 0.0) for name in FILES}  # until they are measured
    scratch = replace(bundle, folder=place, details={"engines": engines})
    return _Work(bundle, scratch, rows, wanted, timed, graph)


def _check_finite(bundle: Bundle, wanted: Logits, rows: Rows) -> None:
    """EngineError when it is the model that gives no numbers, and no engine is to blame."""
    bad = np.flatnonzero(~np.isfinite(wanted).all(axis=1))
    if len(bad):
        raise EngineError(
            f"{bundle.folder} itself gives no finite numbers for {len(bad)} of {len(wanted)} rows "
            f"(the first is row {bad[0] + 1} of {rows.origin}). Nothing was written.",
            hint="train it again.",
        )


def _float(work: _Work, name: str, notify: Notify) -> Exported:
    notify(f"writing {name}")
    _write(work.graph, work, name)
    engine = open_engine(work.scratch, name)
    agreement = compare(work.bundle.rule, work.wanted, _answers(work.bundle, engine, work.rows))
    if agreement.largest_difference > FLOAT_TOLERANCE or agreement.flips:
        raise _refused(work.bundle, name, agreement, FLOAT_TOLERANCE)
    facts = _facts(work, name, engine, agreement)
    if name == "openvino" and multiplies_bfloat16():
        notify("answering in bfloat16")
        found = _second_look(work, open_engine(work.scratch, "openvino-bfloat16"))[1]
        if all(np.isfinite(found[name]) for name in MARGINS):
            facts["bfloat16"] = found
    return Exported(name, files_of(name), facts)


def _int8(work: _Work, name: str, notify: Notify) -> Exported:
    notify("collecting activations")
    places = sites(work.graph)
    samples = collect(work.graph, [site.tensor for site in places], work.rows, work.bundle)
    order: list[str] = []
    for count in [count for count in _FLOAT_SITES if count < len(places)]:
        kept = order[:count]
        notify(f"quantising{f', {count} layers in float32' if count else ''}")
        graph, errors = quantise(work.graph, samples, keep=frozenset(kept))
        order = order or sorted(errors, key=lambda tensor: -errors[tensor])
        _write(graph, work, name)
        agreement, facts, engine = _judge(work, name)
        if _good(work.bundle, agreement, facts):
            facts = _facts(work, name, engine, agreement) | facts | {"float32_layers": kept}
            return Exported(name, files_of(name), facts)
    if agreement.flips == 0 and agreement.largest_difference <= _tolerance(work.bundle):
        raise EngineError(
            f"{name} is unsure of {facts['second_looks']:.0%} of the rows (at most "
            f"{MOST_SECOND_LOOKS:.0%}), which would be computed twice. Nothing was written.",
            hint=f"export to {name.removesuffix('-int8')}",
        )
    raise _refused(work.bundle, name, agreement, _tolerance(work.bundle))


def _judge(work: _Work, name: str) -> tuple[Agreement, dict[str, Any], Engine]:
    """int8 by itself sets the margin of the second look; all stages together are judged."""
    alone, facts = _second_look(work, open_engine(work.scratch, name))
    known = work.scratch.details["engines"]
    trial = replace(work.scratch, details={"engines": {**known, name: facts}})
    engine = open_engine(trial, name)
    facts["second_looks"] = round(float(np.mean(engine.unsure(alone, work.bundle.rule))), 4)  # type: ignore[attr-defined]
    given = _answers(work.bundle, engine, work.rows)
    return compare(work.bundle.rule, work.wanted, given), facts, engine


def _second_look(work: _Work, engine: Engine) -> tuple[Logits, dict[str, Any]]:
    """An engine's own answers, and which of them are too close to call."""
    rule = work.bundle.rule
    alone = run_plain(work, engine)
    margins = dict(zip(MARGINS, second_look_margins(rule, work.wanted, alone), strict=True))
    return alone, {**margins, "alone": compare(rule, work.wanted, alone).to_dict()}


def _good(bundle: Bundle, agreement: Agreement, facts: Mapping[str, Any]) -> bool:
    return (
        agreement.flips == 0
        and agreement.largest_difference <= _tolerance(bundle)
        and facts["second_looks"] <= MOST_SECOND_LOOKS
    )


def _tolerance(bundle: Bundle) -> float:
    return REGRESSION_TOLERANCE if bundle.task == "regression" else INT8_TOLERANCE


def _refused(bundle: Bundle, name: str, agreement: Agreement, tolerance: float) -> EngineError:
    largest = f"{agreement.largest_difference:.2g}"
    differs = (
        f"the largest difference is {largest} standard deviations of the answers"
        if bundle.task == "regression"
        else f"{agreement.flips} of {agreement.rows} rows get other labels, and a score differs by "
        f"{largest}"
    )
    return EngineError(
        f"{name} answers differently from the trained network: {differs} (at most {tolerance}). "
        "Nothing was written.",
        hint=None if not name.endswith("-int8") else f"export to {name.removesuffix('-int8')}",
    )


def _facts(work: _Work, name: str, engine: Engine, agreement: Agreement) -> dict[str, Any]:
    size = sum((work.scratch.folder / file).stat().st_size for file in files_of(name))
    return {
        **agreement.to_dict(),
        "checked_on": work.rows.origin,
        "bytes": size,
        "times_torch": round(work.seconds / _seconds(work.bundle, engine, work.rows), 2),
    }


def _answers(bundle: Bundle, engine: Engine, rows: Rows) -> Logits:
    return run(engine, rows.check, pad_id=bundle.pad_id, outputs=bundle.outputs, rule=bundle.rule)


def run_plain(work: _Work, engine: Engine) -> Logits:
    """Answers without a second look."""
    bundle = work.bundle
    return run(engine, work.rows.check, pad_id=bundle.pad_id, outputs=bundle.outputs)


def _seconds(bundle: Bundle, engine: Engine, rows: Rows) -> float:
    few = replace(rows, check=subset(rows.check, np.arange(min(_TIMED_ROWS, len(rows.check)))))
    return seconds(lambda: _answers(bundle, engine, few))


def _write(graph: onnx.ModelProto, work: _Work, name: str) -> None:
    content = graph.SerializeToString()
    place = work.scratch.folder / FILES[name]
    half = [work.scratch.folder / file for file in files_of(name)]
    with _writing(work.bundle.folder, need=len(content), half=half):
        if name.startswith("onnx"):
            place.write_bytes(content)
            return
        import openvino

        model = openvino.Core().read_model(content)
        openvino.save_model(model, place, compress_to_fp16=False)
