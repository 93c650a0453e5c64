"""Training speed: our loop against transformers' Trainer, same network, rows, rates and epochs.

The Trainer gets our network (pooling and head), our start of the head, and our optimiser's
groups and rates, so that the dev scores differ by the loop alone. In a, b and c the encoder is
opened as transformers opens it (its own attention, its config's dropout); c' has ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import gemm
import trainer_peer as peer
from bert_cls.config import resolve_config
from bert_cls.decision import tune
from bert_cls.engines import run as run_engine
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import BertClsError
from bert_cls.losses import LabelStatistics, Loss, make_loss
from bert_cls.metrics import mean_average_precision
from bert_cls.network import Network
from bert_cls.text import Tokens
from bert_cls.training import Request, Silent
from bert_cls.training.loop import Trainer, choose_precision
from bert_cls.training.prepare import read_dataset
from bert_cls.training.recipe import Settled
from bert_cls.training.setup import Setup, set_up
from record import RESULTS, console, data_set, machine, show, write_results
from token_rows import first, synthetic

CPU = torch.device("cpu")
LENGTH = 64
FLOPS_TARGET = 45.0


@dataclass(frozen=True, slots=True)
class System:
    """One way to train; `target` is how many times faster ours should be."""

    name: str
    ours: bool = False
    our_encoder: bool = False
    bf16: bool = False
    grouped: bool = False
    padded: bool = False
    target: float | None = None


SYSTEMS: dict[str, System] = {
    "padded": System("a  Trainer, all padded to the maximum, fp32", padded=True, target=16.0),
    "default": System("b  Trainer, fp32", target=4.0),
    "grouped": System("c  Trainer, bf16, group_by_length", bf16=True, grouped=True, target=1.4),
    "network": System("c' c with our encoder settings", our_encoder=True, bf16=True, grouped=True),
    "ours": System("d  ours", ours=True, our_encoder=True),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What every system starts from; `setup.network` itself stays untrained."""

    setup: Setup
    settings: Settled
    loss: Loss
    parameters: int
    """outside the embeddings"""

    def network(self, system: System) -> Network:
        """A new network; all start from the same head."""
        setup = self.setup
        if system.our_encoder:
            return deepcopy(setup.network)
        network = peer.stock_network(
            setup.encoder_folder, outputs=setup.outputs, pooling=setup.recipe.pooling
        )
        network.head.load_state_dict(setup.network.head.state_dict())
        return network

    def gflops(self, tokens: int, seconds: float) -> float:
        """Useful operations: 6 a parameter and real token (Kaplan et al. 2020), in 1e9 a second."""
        return 6 * self.parameters * tokens / seconds / 1e9


def prepare(args: argparse.Namespace) -> Bench:
    """Read, tokenise, and settle the recipe."""
    flags = {
        "encoder.name": args.encoder,
        "data.train_rows": args.rows,
        "data.leak": "drop",
        "training.epochs": args.epochs,
        "training.seed": args.seed,
    }
    config, origins = resolve_config(flags=flags)
    request = Request(data_set(args.data), Path(), config, origins)
    setup = set_up(request, read_dataset(request.data, config, Silent()), Silent())
    if setup.dataset.task != "multilabel":
        sys.exit(f"{args.data} holds {setup.dataset.task} data. This benchmark takes multilabel.")
    statistics = LabelStatistics(setup.counts, len(setup.splits["train"].truth))
    return Bench(
        setup=setup,
        settings=setup.recipe.training,
        loss=make_loss(setup.loss_name, "multilabel", statistics),
        parameters=sum(
            p.numel() for n, p in setup.network.named_parameters() if "embeddings." not in n
        ),
    )


def epochs_of(
    system: System, bench: Bench, tokens: Tokens, truth: NDArray[Any], epochs: int
) -> tuple[list[float], Network]:
    """Seconds of each epoch from the common start, and the trained network."""
    network, setup, settings = bench.network(system), bench.setup, bench.settings
    if not system.ours:
        seconds = peer.train(
            network,
            bench.loss,
            tokens,
            truth,
            settings=settings,
            epochs=epochs,
            pad_id=setup.pad_id,
            pad_to=setup.text.settings.max_length if system.padded else None,
            bf16=system.bf16,
            grouped=system.grouped,
        )
        return seconds, network
    trainer = Trainer(
        network,
        bench.loss,
        tokens,
        truth,
        settings=settings.model_copy(update={"epochs": epochs}),
        pad_id=setup.pad_id,
        evaluate=None,
        observer=Silent(),
        device=CPU,
    )
    return [epoch.seconds for epoch in trainer.run()], network


def dev_scores(bench: Bench, network: Network) -> dict[str, float]:
    """MAP, and micro-F1 at one cut for all labels, each row's chosen on the other folds of dev."""
    dev, setup = bench.setup.splits["dev"], bench.setup
    engine = TorchEngine(network, precision="float32", device=CPU)
    logits = run_engine(engine, dev.tokens, pad_id=setup.pad_id, outputs=setup.outputs)
    tuned = tune(logits, dev.truth, task="multilabel", tuner="global", objective="micro_f1")
    return {
        "dev_map": 100 * mean_average_precision(dev.truth, logits.astype(np.float64)),
        "dev_micro_f1": 100 * tuned.crossfit["global"],
    }


def race(bench: Bench, names: Sequence[str], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every system in every round, the order turned each time; the best round counts."""
    train = bench.setup.splits["train"]
    out: dict[str, dict[str, Any]] = {}
    for number in range(-1, args.rounds):  # round -1 warms up on a single batch
        for name in names if number % 2 == 0 else reversed(names):
            system = SYSTEMS[name]
            rows = args.padded_rows if system.padded else args.rows
            tokens = first(train.tokens, peer.BATCH if number < 0 else rows)
            epochs = 1 if number < 0 or system.padded else args.epochs
            seconds, network = epochs_of(system, bench, tokens, train.truth[: len(tokens)], epochs)
            rate = len(tokens) * epochs / sum(seconds)
            console.print(f"round {number + 1}  {system.name}: {rate:.1f} rows/s")
            if number < 0:
                continue
            found = out.setdefault(name, {"rows": len(tokens), "epochs": epochs, "seconds": []})
            found["seconds"].append(sum(seconds))
            found["rows_per_second"] = max(rate, found.get("rows_per_second", 0.0))
            useful = bench.gflops(len(tokens.ids) * epochs, sum(seconds))
            found["useful_gflops"] = max(useful, found.get("useful_gflops", 0.0))
            if args.scores and not system.padded and "dev_map" not in found:
                found |= dev_scores(bench, network)
    return out


def efficiency(bench: Bench, names: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    """Useful GFLOP/s at 64-token texts beside what the processor can multiply, in one run."""
    encoder: Any = bench.setup.network.encoder
    vocabulary = int(encoder.config.vocab_size)
    tokens, truth = synthetic(
        args.flops_rows, LENGTH, vocabulary=vocabulary, outputs=bench.setup.outputs
    )
    precision = choose_precision("auto", CPU)
    peaks, best = [gemm.peak(getattr(torch, precision))], dict.fromkeys(names, 0.0)
    for _ in range(args.rounds):
        for name in names:
            seconds, _network = epochs_of(SYSTEMS[name], bench, tokens, truth, 2)
            best[name] = max(best[name], bench.gflops(len(tokens.ids), min(seconds)))
            peaks.append(gemm.peak(getattr(torch, precision)))
    limit, shape = max(peaks)
    return {
        "length": LENGTH,
        "rows": args.flops_rows,
        "gemm": {
            "dtype": precision,
            "unit": gemm.unit(),
            "shape": shape,
            "gflops": limit,
            "all": peaks,
        },
        "useful_gflops": best,
        "percent_of_gemm": {name: 100 * value / limit for name, value in best.items()},
        "target_percent": FLOPS_TARGET,
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="car_aspect", help="a multilabel data set")
    parser.add_argument("--encoder", help="folder, hub id or built-in; default: the product's")
    parser.add_argument("--rows", type=int, default=1200, help="training rows (default 1200)")
    parser.add_argument("--padded-rows", type=int, default=96, help="rows of a (default 96)")
    parser.add_argument("--flops-rows", type=int, default=512, help="64-token rows (default 512)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="the best counts (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--scores", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, default=RESULTS / "training_speed.json")
    return parser.parse_args()


def show_all(args: argparse.Namespace, content: dict[str, Any]) -> None:
    """The two tables."""
    found, flops, batch = content["systems"], content["flops"], content["batch"]
    columns = ("name", "rows_per_second", "ratio", "target_ratio", "useful_gflops")
    show(
        f"{args.data}, {args.rows} rows, {args.epochs} epoch(s), "
        f"batch {batch['ours']} (ours), {batch['trainer']} (Trainer)",
        ("", "rows/s", "ours is x times", "target", "useful GFLOP/s", "dev mAP", "dev micro-F1"),
        [[row.get(c) for c in (*columns, "dev_map", "dev_micro_f1")] for row in found.values()],
    )
    limit = flops["gemm"]
    show(
        f"{LENGTH}-token texts; GEMM in {limit['dtype']} ({limit['unit']}) reaches "
        f"{limit['gflops']:.0f} GFLOP/s at {limit['shape']}",
        ("", "useful GFLOP/s", "% of GEMM", "target"),
        [
            [
                SYSTEMS[n].name,
                value,
                flops["percent_of_gemm"][n],
                FLOPS_TARGET if n == "ours" else None,
            ]
            for n, value in flops["useful_gflops"].items()
        ],
    )


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    if find_spec("accelerate") is None:
        sys.exit("transformers' Trainer, the peer, needs accelerate: pip install accelerate")
    try:
        bench = prepare(args)
    except BertClsError as error:
        sys.exit(str(error))
    found = race(bench, args.systems, args)
    ours = found["ours"]["rows_per_second"] if "ours" in found else None
    content = {
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "recipe": bench.settings.model_dump(mode="json"),
        "batch": {"ours": bench.settings.batch_size, "trainer": peer.BATCH},
        "machine": machine(),
        "parameters_outside_embeddings": bench.parameters,
        "systems": {
            name: {
                "name": SYSTEMS[name].name,
                **found[name],
                "ratio": ours / found[name]["rows_per_second"] if ours else None,
                "target_ratio": SYSTEMS[name].target,
            }
            for name in args.systems
        },
        "flops": efficiency(bench, [n for n in ("grouped", "ours") if n in found], args),
    }
    show_all(args, content)
    write_results(args.output, content)
    console.print(f"\nwritten: {args.output.name}")


if __name__ == "__main__":
    main()
