"""A long file through a 6-layer model: rows a second, and memory that does not grow.

Short titles are made from a seed (as in data_pass.py). `overlapped` is `predict_stream` into a
.jsonl file as the command writes it; its peer, `in turn`, does the same work without a thread: read
a window, tokenise it, compute it, write it. Each way runs in a process of its own, on `--few` and
on `--rows` rows, and memory at its highest is compared between the two.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bert_cls.bundle import Bundle, save
from bert_cls.classifier import WINDOW, Classifier
from bert_cls.data import Example, LabelSpace, stream
from bert_cls.decision import Rule
from bert_cls.encoders import DEFAULT, resolve
from bert_cls.encoders.trim import trim
from bert_cls.engines import ENGINES
from bert_cls.lookahead import windows_of
from bert_cls.resumable import begin, write
from bert_cls.sample import SAMPLE, sample_bytes
from bert_cls.text import TextEncoder, TextSettings
from data_pass import _LABELS, write_rows
from record import RESULTS, console, machine, show, write_results

LAYERS = (0, 2, 4, 7, 9, 11)
FLAT = 0.10
"""How much more memory the long run may take than the short one and still be called flat."""


def make_model(folder: Path, titles: Path, engine: str) -> None:
    """A model folder around the trimmed built-in, its head random: speed does not ask."""
    import torch
    from safetensors.torch import save as to_bytes

    from bert_cls.export import export
    from bert_cls.network import open_network, tensors_by_name

    encoder = folder / "encoder"
    trim(resolve(DEFAULT, notify=console.print), encoder, layers=LAYERS)
    torch.manual_seed(0)
    network = open_network(encoder, outputs=len(_LABELS), pooling="mean")
    torch.nn.init.normal_(network.head.weight, std=2.0)  # sure of its rows, as a trained one
    text = TextEncoder.from_json((encoder / "tokenizer.json").read_bytes(), TextSettings())
    some = [row.text_a for row in islice(stream(titles), 600) if isinstance(row, Example)]
    sample = {"train": text.encode(some[:300]), "dev": text.encode(some[300:])}
    pad = int(network.encoder.config.pad_token_id)
    rule = Rule(task="multiclass", activation="softmax")
    bundle = Bundle(folder, LabelSpace(tuple(_LABELS)), rule, TextSettings(), "mean", False, pad)
    files = {name: (encoder / name).read_bytes() for name in ("config.json", "tokenizer.json")}
    weights = to_bytes(tensors_by_name(network), metadata={"format": "pt"})
    files[SAMPLE] = sample_bytes(sample, 300, seed=0)
    save(bundle, {**files, "model.safetensors": weights})
    if ENGINES[engine].export:
        export(folder, ENGINES[engine].export, console.print)


def in_turn(model: Classifier, rows: Any) -> Iterator[dict[str, Any]]:
    """What `predict_stream` gives, one thing after the other."""
    examples = (row for row in rows if isinstance(row, Example))
    for window in windows_of(examples, most=WINDOW):
        for row, prediction in zip(window, model.predict(window), strict=True):
            yield {"index": row.index, **prediction.to_dict()}


def measure(way: str, folder: Path, path: Path, output: Path, engine: str) -> dict[str, Any]:
    """One file through the model in this process."""
    model = Classifier.load(folder, engine=engine)
    model.predict(["预热"] * 64)
    began, busy = time.perf_counter(), time.process_time()
    rows = stream(path)
    answers = model.predict_stream(rows) if way == "overlapped" else in_turn(model, rows)
    job = {"input": str(path)}
    with begin(output, job, resume=False) as begun:
        written = write(answers, begun)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": written.rows,
        "rows_per_second": written.rows / seconds,
        "cores_used": (time.process_time() - busy) / seconds,
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
        "output_mb": output.stat().st_size / 1e6,
    }


def apart(work: Callable[..., Any], *args: Any) -> Any:
    """In a fresh process. This one stays small: a child's highest memory begins at its parent's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *args).result()


def race(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Both ways on few rows and on many, each in a fresh process."""
    found = []
    with tempfile.TemporaryDirectory(prefix="bert-cls-bench-") as scratch:
        folder = Path(scratch) / "model"
        for rows in (args.few, args.rows):
            path = Path(scratch) / f"rows-{rows}.jsonl"
            write_rows(path, rows, seed=args.seed)
            if not folder.exists():
                apart(make_model, folder, path, args.engine)
            for way in ("overlapped", "in turn"):
                if rows == args.rows and way == "in turn" and args.no_peer:
                    continue
                output = Path(scratch) / "out.jsonl"
                figures = {"way": way, **apart(measure, way, folder, path, output, args.engine)}
                if figures["rows"] != rows:
                    sys.exit(f"{rows} rows were written. {figures['rows']} came back.")
                console.print(f"{way}, {rows:,} rows: {figures['rows_per_second']:,.1f} rows/s")
                found.append(figures)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=100_000)
    parser.add_argument("--engine", choices=ENGINES, default="openvino-int8")
    parser.add_argument("--no-peer", action="store_true", help="`in turn` on the few rows only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "stream.json")
    args = parser.parse_args()
    if not 0 < args.few < args.rows:
        parser.error("--few must be over 0 and less than --rows.")
    found = race(args)
    columns = ("cores_used", "peak_mb", "output_mb")
    show(
        f"{len(LAYERS)} layers, {args.engine}",
        ("", "rows", "rows/s", "cores", "peak MB", "output MB"),
        [
            [f["way"], f"{f['rows']:,}", f["rows_per_second"], *(f[c] for c in columns)]
            for f in found
        ],
    )
    few, many = (
        next(f for f in found if f["way"] == "overlapped" and f["rows"] == rows)
        for rows in (args.few, args.rows)
    )
    peer = next(f for f in reversed(found) if f["way"] == "in turn")
    ours = next(f for f in found if f["way"] == "overlapped" and f["rows"] == peer["rows"])
    growth = many["peak_mb"] / few["peak_mb"] - 1
    ratio = ours["rows_per_second"] / peer["rows_per_second"]
    console.print(
        f"\nmemory at {args.rows:,} rows against {args.few:,}: {growth:+.1%} "
        f"({'flat' if growth <= FLAT else 'not flat'}); overlapped against in turn: {ratio:.3f}"
    )
    settings = {k: v for k, v in vars(args).items() if k != "output"}
    content = {"settings": settings, "machine": machine(), "runs": found}
    write_results(args.output, {**content, "memory_growth": growth, "overlap_ratio": ratio})
    console.print(f"written: {args.output.name}")


if __name__ == "__main__":
    main()
