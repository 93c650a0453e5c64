"""Long measurements in parts: each trained network is a part, written down as soon as it is done.

A script says which parts it wants and what one is; here they are trained several at a time, and
those that are there already are not trained again.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import zlib
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from record import (
    RESULTS,
    ROOT,
    console,
    data_set,
    machine,
    read_results,
    source_hash,
    write_results,
)

ROWS = {"train": 3000, "dev": 800, "test": 1500}
LAYERS = (0, 2, 4, 7, 9, 11)
PASSES = 4
Part = dict[str, Any]


class Wanted(Protocol):
    """What names a part within the results."""

    @property
    def key(self) -> str:
        """The name."""


W = TypeVar("W", bound=Wanted)


def command_line(about: str | None, names: Collection[str], output: str) -> ArgumentParser:
    """What every script of parts takes."""
    parser = ArgumentParser(description=about, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--workers", type=int, default=2, help="networks trained at a time")
    parser.add_argument("--table", action="store_true", help="show what is there, train nothing")
    parser.add_argument("--markdown", action="store_true", help="the tables as docs have them")
    parser.add_argument("--place", type=Path, default=ROOT / "bench-out" / "losses")
    parser.add_argument("--output", type=Path, default=RESULTS / output)
    return parser


def parsed(parser: ArgumentParser, names: Collection[str]) -> Namespace:
    """The words of the command line; ends the script at data that are none of the names."""
    args = parser.parse_args()
    if unknown := sorted(set(args.data) - set(names)):
        parser.error(f"data must be of {list(names)}. Got {unknown} instead.")
    args.data = args.data or list(names)
    return args


def there(output: Path) -> dict[str, Part]:
    """The finished parts; ends the script where there are none."""
    parts: dict[str, Part] = read_results(output).get("parts", {})
    if not parts:
        sys.exit(f"{output.name} has no finished part.")
    return parts


def train_missing(
    args: Namespace,
    missing: Callable[[Mapping[str, Part]], Sequence[W]],
    run_part: Callable[[W, Path], Part],
) -> None:
    """Train what `missing` names, given the parts that are there, several at a time."""
    output, workers = args.output, args.workers
    for data in args.data:
        prepare_encoder(make_subset(data, args.place / data))
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start, initargs=(threads,)
    )
    running: dict[Future[Part], W] = {}
    with pool:
        while True:
            parts = read_results(output).get("parts", {})
            left = [part for part in missing(parts) if part not in running.values()]
            while left and len(running) < workers:
                part = left.pop(0)
                running[pool.submit(run_part, part, args.place)] = part
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = running.pop(future)
                _keep(output, part.key, future.result())
                console.print(f"{part.key}: done, {len(left) + len(running)} or more to go")


def _start(threads: int) -> None:
    """A worker: few threads, and a signal to the group ends it quietly."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


def _keep(path: Path, key: str, found: Part) -> None:
    here = machine()
    made = {"source": source_hash(), "processor": here["processor"], "date": here["date"]}
    parts = read_results(path).get("parts", {}) | {key: found | made}
    write_results(path, {"machine": here, "parts": dict(sorted(parts.items()))})


# --- the same rows and the same small encoder for all


def make_subset(name: str, folder: Path) -> Path:
    """The fixed rows of a data set, drawn with seed 0; made once."""
    if (folder / "test.json").is_file():
        return folder
    source = data_set(name)
    folder.mkdir(parents=True, exist_ok=True)
    if (source / "labels.json").is_file():
        (folder / "labels.json").write_bytes((source / "labels.json").read_bytes())
    for split, wanted in ROWS.items():
        rows = json.loads((source / f"{split}.json").read_text("utf-8"))
        drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:wanted])
        content = json.dumps([rows[i] for i in drawn.tolist()], ensure_ascii=False)
        scratch = folder / f".{split}.{os.getpid()}"
        scratch.write_text(content, "utf-8")
        scratch.replace(folder / f"{split}.json")
    return folder


def prepare_encoder(data: Path) -> Path:
    """The built-in encoder with 6 of its layers and the pieces of a data set; made once."""
    from bert_cls.data import Example, stream
    from bert_cls.encoders import open_tokenizer, pieces_of_texts, resolve, trim

    folder = data / "encoder"
    if not (folder / "config.json").is_file():
        source = resolve("multilingual-e5-small-zh")
        rows = [row for split in ROWS for row in stream(data / f"{split}.json")]
        texts = [
            text
            for row in rows
            if isinstance(row, Example)
            for text in (row.text_a, row.text_b)
            if text is not None
        ]
        keep = pieces_of_texts(open_tokenizer(source), texts)
        trim(source, folder, keep=keep, layers=list(LAYERS))
    return folder


# --- one network


def request_of(data: str, place: Path, settings: Mapping[str, Any]) -> Any:
    """What is asked of the package for the fixed rows of a data set, and besides by `settings`."""
    from bert_cls.config import resolve_config
    from bert_cls.training import Request

    flags = {
        "encoder.name": str(place / data / "encoder"),
        "training.epochs": PASSES,
        "data.leak": "drop",
    }
    config, origins = resolve_config(flags={**flags, **settings})
    return Request(place / data, place / "unused", config, origins)


def set_up_alone(request: Any) -> Any:
    """Everything before the first step; see `training.setup.Setup`."""
    from bert_cls.training.loop import Silent
    from bert_cls.training.prepare import read_audited
    from bert_cls.training.setup import set_up

    observer = Silent()
    return set_up(request, read_audited(request.data, request.config, observer), observer)


def train_alone(setup: Any, request: Any) -> tuple[Sequence[Any], dict[str, Any], Any]:
    """The history, float32 logits of dev and test, and an engine around the trained network."""
    import torch

    from bert_cls.engines.torch_engine import TorchEngine
    from bert_cls.training.loop import Silent
    from bert_cls.training.ranks import Alone
    from bert_cls.training.setup import logits_of, make_trainer

    alone, device = Alone(), torch.device("cpu")
    trainer = make_trainer(setup, Silent(), request, device=device, ranks=alone)
    history = trainer.run()
    engine = TorchEngine(setup.network, precision=trainer.precision, device=device)
    logits = {name: logits_of(engine, setup, name, alone) for name in ("dev", "test")}
    return history, logits, engine


# --- one against another


def paired_gap(
    ours: Sequence[Any], others: Sequence[Any], metric: str
) -> tuple[float, float, float] | None:
    """Mean difference of outcomes (ours - others) and its interval over the same rows.

    None where the metric is undefined.
    """
    from bert_cls.metrics.intervals import families_of
    from bert_cls.metrics.resampling import on_all_rows, percentile_interval, resample

    outcomes = [*ours, *others]
    families = families_of(outcomes[0].task, [metric])
    drawn = [values[metric] for values in resample(outcomes, families, resamples=1000, seed=0)]
    points = [on_all_rows(each, families[0])[metric] for each in outcomes]
    split = len(ours)
    difference = np.mean(drawn[:split], axis=0) - np.mean(drawn[split:], axis=0)
    point = float(np.mean(points[:split]) - np.mean(points[split:]))
    interval = percentile_interval(difference, point)
    return (point, *interval) if interval else None


# --- what is kept of a part, as text


def pack(values: Any) -> str:
    """An array's bytes as text; bools as bits."""
    array = np.asarray(values)
    content = (np.packbits(array, axis=None) if array.dtype == bool else array).tobytes()
    return base64.b85encode(zlib.compress(content, 9)).decode()


def unpack(text: str, shape: tuple[int, ...], dtype: Any = bool) -> Any:
    """The reverse of `pack`."""
    content = zlib.decompress(base64.b85decode(text))
    if dtype is not bool:
        return np.frombuffer(content, dtype=dtype).reshape(shape)
    bits = np.frombuffer(content, dtype=np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
