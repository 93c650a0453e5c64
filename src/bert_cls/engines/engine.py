"""The contract of an engine, the table of engines, and how rows are run through one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bert_cls.bundle import Bundle
from bert_cls.decision import Rule
from bert_cls.engines.machine import multiplies_int8
from bert_cls.engines.process import check_process, opened_here
from bert_cls.errors import EXTRAS, EngineError, in_shell, installed_as, pick
from bert_cls.text import PaddedBatch, Tokens, batches_by_length

LOG = logging.getLogger("bert_cls")
_FEW = 4
"""rounds of batches"""
ROWS_STEP = 8
"""Rows of a batch are a multiple of it where there are more: few sizes, which come again."""
Logits = NDArray[np.float32]
"""float32 [rows, outputs]"""


class Engine(Protocol):
    """Padding, batch size, order and neighbours must not change a row's logits.

    float32 engines: not beyond 1e-5. int8 engines: no label that `run` decides on, as far as the
    export could measure. OpenVINO's in int8 and bfloat16: not a bit, but for bulk (docs/engines.md
    says how much there).
    """

    name: str
    max_tokens: int
    """padded tokens of a batch at which the engine was measured to be fastest"""

    def logits(self, batch: PaddedBatch) -> Logits:
        """float32 [rows, outputs]."""


@runtime_checkable
class Parallel(Protocol):
    """An engine that works on several batches at once."""

    at_once: int
    """how many"""

    def logits_of(self, batches: Iterable[tuple[int, PaddedBatch]]) -> Iterator[tuple[int, Logits]]:
        """Logits of numbered batches, under their numbers, in any order."""


@runtime_checkable
class SecondLook(Protocol):
    """An engine that knows which of its answers are too close to call, and who is to make them."""

    def unsure(self, logits: Logits, rule: Rule) -> NDArray[np.bool_]:
        """Bool [rows]: rows whose labels the rule might decide otherwise."""

    def surer(self) -> Engine:
        """The engine that computes them. It may be unsure of some in turn."""


def run(
    engine: Engine,
    tokens: Tokens,
    *,
    pad_id: int,
    outputs: int,
    rule: Rule | None = None,
    told: Callable[[int], None] = lambda pieces: None,
) -> Logits:
    """float32 logits [rows, outputs] in the rows' order; batches are of similar length.

    What comes again among them is computed once: the same text has the same answer in one call.
    With the `rule` that will decide, rows about which a SecondLook engine is unsure are computed
    again by its surer engine, and so on: a row's logits are all of the last that saw it. `told`
    hears of each batch how many pieces it had (a row, or a window of one), and of those that came
    again; what it raises stops the run. EngineError in a process that was forked since the engine
    was opened.
    """
    check_process(engine)
    pieces = tokens.pieces
    out = np.zeros((len(pieces), outputs), dtype=np.float32)
    first = pieces.first_alike()
    different = np.unique(first)
    _fill(out, engine, pieces, different, pad_id, told)
    told(len(pieces) - len(different))
    logits = tokens.pooled(out[first])
    rows = np.arange(len(logits))
    while rule is not None and isinstance(engine, SecondLook):
        rows = rows[engine.unsure(logits[rows], rule)]
        if not len(rows):
            break
        engine = engine.surer()
        again = np.unique(first[rows if tokens.windows is None else tokens.windows.of(rows)])
        _fill(out, engine, pieces, again, pad_id, lambda _: told(0))
        logits = tokens.pooled(out[first])
    return logits


def _fill(
    out: Logits,
    engine: Engine,
    tokens: Tokens,
    rows: NDArray[np.int64],
    pad_id: int,
    told: Callable[[int], None],
) -> None:
    """Write the logits of `rows` into their places of `out`."""
    at_once = engine.at_once if isinstance(engine, Parallel) else 1
    parts = even_batches(tokens.lengths[rows], engine.max_tokens, at_once)
    chosen = [rows[part] for part in parts]
    batches = ((number, tokens.padded(part, pad_id)) for number, part in enumerate(chosen))
    if isinstance(engine, Parallel):
        answers = engine.logits_of(batches)
    else:
        answers = ((number, engine.logits(batch)) for number, batch in batches)
    for number, logits in answers:
        out[chosen[number]] = logits
        told(len(logits))


def even_batches(
    lengths: NDArray[np.int64], max_tokens: int, at_once: int
) -> list[NDArray[np.int64]]:
    """Row numbers in batches of similar length; where there are few, so that none works alone.

    Then there are as many as `at_once` workers take in whole rounds, and the largest is as small as
    it can be. Many batches are left as they are: one that is late hardly counts, and sizes that
    come again spare an engine to prepare itself for others.
    """
    batches = list(batches_by_length(lengths, max_tokens, step=ROWS_STEP))
    if at_once == 1 or len(lengths) == 1 or len(batches) > _FEW * at_once:
        return batches
    most = -(-len(batches) // at_once) * at_once
    low, high = 0, max_tokens  # `high` never makes too many
    while high - low > 1:
        middle = (low + high) // 2
        tried = list(batches_by_length(lengths, middle, step=ROWS_STEP))
        if len(tried) > most:
            low = middle
        else:
            high, batches = middle, tried
    return batches


def feeds(batch: PaddedBatch, names: Iterable[str]) -> dict[str, NDArray[np.int64]]:
    """The inputs of an exported network, under the names Hugging Face gives them."""
    values = {
        "input_ids": batch.ids,
        "attention_mask": batch.mask.astype(np.int64),
        "token_type_ids": batch.types,
    }
    return {name: values[name] for name in names}


@dataclass(frozen=True, slots=True)
class Kind:
    """What opens an engine, and what it needs."""

    module: str
    precision: str
    package: str
    """import name of what has to be installed"""
    export: str = ""
    """what `bert-cls export --to` calls its file; empty: it reads the weights, always there"""

    @property
    def extra(self) -> str:
        """What to type after `pip install` to get the package."""
        return installed_as(EXTRAS[self.package])


def open_engine(bundle: Bundle, name: str = "auto") -> Engine:
    """Open the named engine on a model folder; "auto" is the best of `choose`.

    With "auto" the logger `bert_cls` is warned of exports that would be better and cannot be used.
    EngineError says what to install, or what to export, when the engine cannot be opened.
    """
    if name == "auto":
        name = choose(bundle)
        for sentence in passed_over(bundle):
            LOG.warning("engine %s, not %s", name, sentence)
    kind = pick(ENGINES, name, "engine")
    if kind.export and (absent := _absent(bundle, kind.export)):
        raise EngineError(
            f"{bundle.folder} has no file for the engine {name} ({absent}).",
            hint=f"bert-cls export {in_shell(bundle.folder)} --to {kind.export}; or choose another "
            "engine",
        )
    try:
        opened: Engine = import_module(kind.module).open_engine(bundle, kind)
    except ImportError as error:
        raise EngineError(
            f"the engine {name} needs a package that is not installed: {error.name}.",
            hint=f"pip install '{kind.extra}'; or, where torch is installed, bert-cls export "
            "writes the model for an engine that is installed here",
        ) from error
    opened_here(opened, name)
    return opened


def choose(bundle: Bundle) -> str:
    """The best engine that the folder has a checked file for and that this machine can run.

    int8 files count only where the processor multiplies int8 and the export measured that they
    answer alike. EngineError says what to install when there is none.
    """
    name, obstacles = _weighed(bundle)
    if name is None:
        raise EngineError(
            f"nothing here computes with {bundle.folder}: {'; '.join(obstacles)}.",
            hint="or, where torch is installed: "
            f"bert-cls export {in_shell(bundle.folder)} --to openvino",
        )
    return name


def passed_over(bundle: Bundle) -> list[str]:
    """Engines that `choose` would prefer, why they cannot be used, and what to do; [] for none."""
    return _weighed(bundle)[1]


def _weighed(bundle: Bundle) -> tuple[str | None, list[str]]:
    """The first of PREFERENCE that can be used, and what keeps those before it from being."""
    obstacles: dict[str, list[str]] = {}
    chosen = None
    for name in PREFERENCE:
        obstacle = _obstacle(bundle, name)
        if obstacle is None:
            chosen = name
            break
        obstacles.setdefault(obstacle, []).append(name)
    said = [f"{', '.join(names)}: {why}" for why, names in obstacles.items() if why]
    return chosen, said


def _obstacle(bundle: Bundle, name: str) -> str | None:
    """Why an engine cannot be used; "" where there never was a file for it, None where it can."""
    kind = ENGINES[name]
    if kind.export and (absent := _absent(bundle, kind.export)):
        again = f"(bert-cls export {in_shell(bundle.folder)} --to {kind.export})"
        if kind.export in _exported(bundle):
            return f"{absent} is missing {again}"
        there = (bundle.folder / absent).exists()
        return f"{absent} is no export of this model {again}" if there else ""
    if kind.precision == "int8" and not multiplies_int8():
        return (
            f"this processor does not multiply int8 itself (--engine {name} uses it all the same)"
        )
    if find_spec(kind.package) is None:
        return f"{kind.package} is not installed (pip install '{kind.extra}')"
    return None


def _absent(bundle: Bundle, export: str) -> str | None:
    """The first file that an export of this very model lacks; None where it has all it reads.

    int8 reads the float32 file too, in its second look.
    """
    if export not in _exported(bundle):
        return FILES[export]
    read = (*files_of(export), *files_of(export.removesuffix("-int8")))
    return next((name for name in read if not (bundle.folder / name).is_file()), None)


def files_of(export: str) -> tuple[str, ...]:
    """The names in the model folder of what is exported, the main file first."""
    main = FILES[export]
    return (main, main.replace(".xml", ".bin")) if main.endswith(".xml") else (main,)


def exports_of(bundle: Bundle) -> dict[str, Any]:
    """What `details` say of the exports whose files are all there."""
    exported = _exported(bundle).items()
    return {name: facts for name, facts in exported if name in FILES and not _absent(bundle, name)}


def _exported(bundle: Bundle) -> Mapping[str, Any]:
    exported: Mapping[str, Any] = bundle.details.get("engines", {})
    return exported


_TORCH = "bert_cls.engines.torch_engine"
_OPENVINO = "bert_cls.engines.openvino_engine"
_ONNX = "bert_cls.engines.onnx_engine"

FILES: dict[str, str] = {
    "openvino": "openvino.xml",
    "openvino-int8": "openvino-int8.xml",
    "onnx": "model.onnx",
    "onnx-int8": "model-int8.onnx",
}
"""what can be exported, and its main file in the model folder"""
ENGINES: dict[str, Kind] = {
    "torch": Kind(_TORCH, "float32", "torch"),
    "torch-bfloat16": Kind(_TORCH, "bfloat16", "torch"),
    "openvino": Kind(_OPENVINO, "float32", "openvino", "openvino"),
    "openvino-bfloat16": Kind(_OPENVINO, "bfloat16", "openvino", "openvino"),
    "openvino-int8": Kind(_OPENVINO, "int8", "openvino", "openvino-int8"),
    "onnx": Kind(_ONNX, "float32", "onnxruntime", "onnx"),
    "onnx-int8": Kind(_ONNX, "int8", "onnxruntime", "onnx-int8"),
}
PREFERENCE = ("openvino-int8", "onnx-int8", "openvino", "onnx", "torch")
"""the fastest first for 6 layers and more, of those that give the labels of float32"""
