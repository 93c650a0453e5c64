"""Predictions on a processor: ours against what people use, the same texts in the same run.

Each system is sorted and batched as it does best, but for the pipeline, which is used as people use
it. They are timed in turns, round by round, for a processor's speed is not the same at all times.
Useful operations count 2 x parameters outside the embeddings x real tokens; padding counts nothing.
The limit is the processor's int8 matrix product, measured here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors import safe_open

import record
from answers import OURS, flips_of, invariance_of
from bert_cls import Classifier
from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.engines import Engine, open_engine, run
from bert_cls.engines.machine import usable_cores
from bert_cls.engines.onnx_engine import OnnxEngine
from bert_cls.export import export
from bert_cls.export.check import CLOSE
from bert_cls.text import Tokens
from bert_cls.tokens import subset

RESULT = record.RESULTS / "inference.json"
_SHAPES = ((2048, 2048, 2048), (4096, 384, 1536), (1024, 1536, 384))
_SINGLES = 100
_PIPELINE_ROWS = 200


@dataclass
class Work:
    """The model and the rows that every system answers."""

    bundle: Bundle
    tokens: Tokens
    texts: list[str]
    rounds: int
    single: Tokens


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a model folder trained on the data set")
    parser.add_argument("--data", default="car_aspect")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--flip-rows", type=int, default=2000)
    parser.add_argument(
        "--mean", type=int, default=0, help="time texts of about so many tokens; 0: as they come"
    )
    parser.add_argument("--invariance-rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="after one to warm up")
    options = parser.parse_args()
    if min(options.invariance_rows, options.rounds) < 1:
        parser.error("--invariance-rows and --rounds must be at least 1.")
    torch.set_num_threads(usable_cores())
    for target in ("openvino-int8", "onnx"):
        if target not in bundles.load(options.model).details.get("engines", {}):
            export(options.model, target, lambda message: None)
    classifier = Classifier.load(options.model, engine="torch")
    folder = record.data_set(options.data)
    texts = _timed_texts(folder, options.mean, classifier)[: options.rows]
    timed = classifier.text.encode_in_chunks(texts)
    many = classifier.text.encode_in_chunks(_texts(folder, "test", "dev")[: options.flip_rows])
    singles = subset(timed, np.arange(len(timed))[:_SINGLES])
    work = Work(classifier.bundle, timed, texts, options.rounds, singles)
    limit = int8_limit()
    able = {"onnx-int8"} & set(classifier.bundle.details["engines"])
    systems = {n: make for n, make in SYSTEMS.items() if able or make is not _onnx_int8_alone}
    rows = measured(work, systems)
    flips = flips_of(classifier.bundle, many)
    first = subset(many, np.arange(len(many))[: options.invariance_rows])
    invariance = invariance_of(classifier.bundle, first)
    report(work, rows, limit, flips, invariance, options)


def _timed_texts(folder: Path, mean: int, classifier: Classifier) -> list[str]:
    """Test and dev texts; with `mean` those of about so many tokens, of train too."""
    if not mean:
        return _texts(folder, "test", "dev")
    texts = _texts(folder, "test", "dev", "train")
    lengths = classifier.text.encode_in_chunks(texts).lengths
    return [text for text, n in zip(texts, lengths, strict=True) if abs(n - mean) <= mean * 0.3]


def _texts(folder: Path, *names: str) -> list[str]:
    """Each once: ours computes those that come again no second time."""
    texts = (
        row["text_a"]
        for name in names
        for row in json.loads((folder / f"{name}.json").read_text("utf-8"))
    )
    return list(dict.fromkeys(texts))


def int8_limit() -> float:
    """The best GFLOP/s of torch's int8 matrix product over a few shapes."""
    best = 0.0
    for rows, inner, columns in _SHAPES:
        left = torch.randint(-99, 99, (rows, inner), dtype=torch.int8)
        right = torch.randint(-99, 99, (inner, columns), dtype=torch.int8)
        for _ in range(20):
            began = time.perf_counter()
            torch._int_mm(left, right)
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - began) / 1e9)
    return best


@dataclass
class System:
    """One way of answering."""

    answer: Callable[[Tokens, list[str]], Any]


def _engine(name: str) -> Callable[[Work], System]:
    def opened(work: Work) -> System:
        return _of(work, open_engine(bundles.load(work.bundle.folder), name))

    return opened


def _of(work: Work, engine: Engine, *, second_look: bool = True) -> System:
    b = work.bundle
    rule = b.rule if second_look else None
    return System(lambda t, _: run(engine, t, pad_id=b.pad_id, outputs=b.outputs, rule=rule))


def _int8_alone(work: Work) -> System:
    return _of(work, open_engine(work.bundle, "openvino-int8"), second_look=False)


def _onnx_int8_alone(work: Work) -> System:
    return _of(work, open_engine(work.bundle, "onnx-int8"), second_look=False)


def _dynamic(work: Work) -> System:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "dynamic.onnx"
        source = work.bundle.folder / "model.onnx"
        quantize_dynamic(source, path, weight_type=QuantType.QInt8, per_channel=True)
        session = onnxruntime.InferenceSession(path)
    return _of(work, OnnxEngine(session, precision="dynamic int8"))


def _pipeline(work: Work) -> System:
    """The pipeline's own tokenizer and batches around our network as a transformers model."""
    from transformers import AutoTokenizer, XLMRobertaConfig
    from transformers.modeling_outputs import SequenceClassifierOutput
    from transformers.modeling_utils import PreTrainedModel
    from transformers.pipelines import TextClassificationPipeline
    from transformers.utils import logging

    from bert_cls.engines.torch_engine import open_torch

    network = open_torch(work.bundle).network.eval()

    class Wrapped(PreTrainedModel):
        config_class = XLMRobertaConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            logits = self.network(input_ids, torch.zeros_like(input_ids), attention_mask.bool())
            return SequenceClassifierOutput(logits=logits)

    model = Wrapped(network.encoder.config)
    model.config.id2label = dict(enumerate(work.bundle.space.names))
    model.config.problem_type = "multi_label_classification"
    tokenizer = AutoTokenizer.from_pretrained(str(work.bundle.folder), local_files_only=True)
    logging.set_verbosity_error()
    pipe = TextClassificationPipeline(model=model, tokenizer=tokenizer, top_k=None, batch_size=32)
    return System(lambda _, texts: list(pipe(texts, truncation=True, max_length=256)))


def measured(work: Work, systems: dict[str, Callable[[Work], System]]) -> list[dict[str, Any]]:
    """Load time, texts a second (first and best pass), single-text latency, and how ours compares.

    Ours is so many times as fast: the median over the rounds but the first.
    """
    opened, loads, latencies = {}, {}, {}
    for name, make in systems.items():
        began = time.perf_counter()
        opened[name] = make(work)
        loads[name] = time.perf_counter() - began
        _latencies(opened[name], work)
        latencies[name] = _latencies(opened[name], work)
    few = subset(work.tokens, np.arange(len(work.tokens))[:_PIPELINE_ROWS])
    passes: dict[str, list[float]] = {name: [] for name in opened}
    for number in range(work.rounds + 1):
        for name, system in opened.items():
            slow = systems[name] is _pipeline
            if slow and number > 1:
                continue
            rows = few if slow else work.tokens
            began = time.perf_counter()
            system.answer(rows, work.texts[: len(rows)])
            passes[name].append((time.perf_counter() - began) / len(rows))
        record.console.print(f"round {number} of {work.rounds}", style="dim")
    out = []
    for name in opened:
        times = [theirs / ours for theirs, ours in zip(passes[name], passes[OURS], strict=False)]
        out.append(
            {
                "system": name,
                "texts_per_second": 1 / min(passes[name]),
                "first_pass": 1 / passes[name][0],
                "ours_is_times": float(np.median(times[1:])),
                "ours_is_times_by_round": [round(each, 3) for each in times],
                "p50_ms": float(np.percentile(latencies[name], 50)),
                "p95_ms": float(np.percentile(latencies[name], 95)),
                "load_seconds": loads[name],
            }
        )
    return out


def _latencies(system: System, work: Work) -> list[float]:
    """Milliseconds of one text after the other."""
    found = []
    for row in range(len(work.single)):
        one = _row(work.single, row)
        began = time.perf_counter()
        system.answer(one, [work.texts[row]])
        found.append((time.perf_counter() - began) * 1000)
    return found


def _row(tokens: Tokens, row: int) -> Tokens:
    start, end = int(tokens.starts[row]), int(tokens.starts[row + 1])
    return Tokens(
        tokens.ids[start:end],
        tokens.types[start:end],
        np.array([0, end - start]),
        tokens.full_lengths[row : row + 1],
    )


def _parameters(bundle: Bundle) -> int:
    """Parameters outside the embeddings."""
    with safe_open(bundle.folder / "model.safetensors", "np") as file:
        return sum(
            int(np.prod(file.get_slice(name).get_shape()))
            for name in file.keys()  # noqa: SIM118 - no dict
            if "embeddings" not in name
        )


def report(
    work: Work,
    rows: list[dict[str, Any]],
    limit: float,
    flips: dict[str, dict[str, Any]],
    invariance: dict[str, dict[str, Any]],
    options: argparse.Namespace,
) -> None:
    """Tables on the terminal and the result file."""
    real = int(work.tokens.lengths.sum())
    each = 2 * _parameters(work.bundle) * real / len(work.tokens) / 1e9
    for row in rows:
        row["useful_gflops"] = row["texts_per_second"] * each
        row["share_of_limit"] = row["useful_gflops"] / limit
    keys = ("texts_per_second", "first_pass", "ours_is_times", "useful_gflops", "share_of_limit")
    last = ("p50_ms", "p95_ms", "load_seconds")
    record.show(
        f"{len(work.tokens)} texts of {real / len(work.tokens):.1f} tokens; int8 limit "
        f"{limit:.0f} GFLOP/s",
        ("system", "texts/s", "first pass", "ours x", "GFLOP/s", "of limit", "p50", "p95", "load"),
        [[row["system"], *(row[k] for k in (*keys, *last))] for row in rows],
    )
    record.show(
        f"labels that differ from torch float32 where its margin is over {CLOSE}",
        ("system", "rows", "flips", "largest difference"),
        [[n, f["rows"], f["flips"], f["largest_score_difference"]] for n, f in flips.items()],
    )
    looks = flips[OURS]["second_looks"]
    record.console.print(f"looked at again: {looks:.1%}")
    record.show(
        "the same text alone, in 20 random batches (float32: 2), in two padding lengths; in a file",
        ("engine", "other labels", "largest score difference", "rows over 0.001"),
        [
            [n, f["flips"], f["largest_score_difference"], f.get("rows_over_0.001", "")]
            for n, f in invariance.items()
        ],
    )
    content = record.read_results(RESULT)
    name = f"{options.data}, mean {real / len(work.tokens):.0f} tokens"
    content[name] = {
        "machine": record.machine(),
        "rows": len(work.tokens),
        "limit_gflops": limit,
        "systems": rows,
        "flips": flips,
        "invariance": invariance,
    }
    record.write_results(RESULT, content)


SYSTEMS: dict[str, Callable[[Work], System]] = {
    "transformers pipeline, batch 32, unsorted": _pipeline,
    "torch fp32, sorted": _engine("torch"),
    "torch bf16, sorted": _engine("torch-bfloat16"),
    "onnxruntime fp32": _engine("onnx"),
    "onnxruntime dynamic int8": _dynamic,
    "onnxruntime on our static int8": _onnx_int8_alone,
    "openvino fp32": _engine("openvino"),
    "openvino bf16": _engine("openvino-bfloat16"),
    "openvino on our static int8": _int8_alone,
    OURS: _engine("openvino-int8"),
}


if __name__ == "__main__":
    main()
