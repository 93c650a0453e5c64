"""Training speed: our loop against transformers' Trainer, same network, rows, rates and epochs.

The Trainer gets our network (pooling and head), our start of the head, and our optimiser's
groups and rates, so that the dev scores differ by the loop alone. In a, b and c the encoder is
opened as transformers opens it (its own attention, its config's dropout); c' has ours.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
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
from bert_cls.losses import Loss, make_loss
from bert_cls.metrics import mean_average_precision
from bert_cls.network import Network
from bert_cls.text import Tokens
from bert_cls.tokens import subset
from bert_cls.training import Request, Silent
from bert_cls.training.loop import Trainer
from bert_cls.training.precision import choose_precision
from bert_cls.training.prepare import read_audited
from bert_cls.training.recipe import Settled
from bert_cls.training.setup import Setup, set_up
from record import RESULTS, console, data_set, machine, show, write_results
from token_rows import synthetic

CPU = torch.device("cpu")
LENGTH = 64
FLOPS_TARGET = 45.0
COMPARED_WITH_GEMM = ("grouped", "ours")


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
    """What a system starts from; `setup.network` itself stays untrained."""

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
        "data.train_rows": args.rows,
        "data.leak": "drop",
        "training.epochs": args.epochs,
    }
    config, origins = resolve_config(settings=args.settings, flags=flags)
    request = Request(data_set(args.data), Path(), config, origins)
    setup = set_up(request, read_audited(request.data, config, Silent()), Silent())
    if setup.dataset.task != "multilabel":
        sys.exit(f"{args.data} holds {setup.dataset.task} data. This benchmark takes multilabel.")
    return Bench(
        setup=setup,
        settings=setup.recipe.training,
        loss=make_loss(setup.loss_name, "multilabel", setup.statistics),
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


def measure(name: str, args: argparse.Namespace, scored: bool) -> dict[str, Any]:
    """One system once: a batch to warm up, the timed epochs, and 64-token texts."""
    bench, system = prepare(args), SYSTEMS[name]
    train, precision = bench.setup.splits["train"], choose_precision("auto", CPU)
    rows = args.padded_rows if system.padded else args.rows
    tokens = subset(train.tokens, np.arange(len(train.tokens))[:rows])
    truth, epochs = train.truth[: len(tokens)], 1 if system.padded else args.epochs
    peaks = [gemm.peak(getattr(torch, precision))]
    warm = subset(tokens, np.arange(len(tokens))[: peer.BATCH])
    epochs_of(system, bench, warm, truth[: len(warm)], 1)
    seconds, network = epochs_of(system, bench, tokens, truth, epochs)
    out: dict[str, Any] = {
        "rows": len(tokens),
        "epochs": epochs,
        "seconds": sum(seconds),
        "rows_per_second": len(tokens) * epochs / sum(seconds),
        "useful_gflops": bench.gflops(len(tokens.ids) * epochs, sum(seconds)),
        "scores": dev_scores(bench, network) if scored else {},
        "start": {
            "recipe": bench.settings.model_dump(mode="json"),
            "parameters_outside_embeddings": bench.parameters,
            "precision": precision,
        },
    }
    if name in COMPARED_WITH_GEMM:
        encoder: Any = bench.setup.network.encoder
        shape = {"vocabulary": encoder.config.vocab_size, "outputs": bench.setup.outputs}
        tokens, truth = synthetic(args.flops_rows, LENGTH, **shape)
        seconds, _ = epochs_of(system, bench, tokens, truth, 2)
        out["gflops_at_64"] = bench.gflops(len(tokens.ids), min(seconds))
    peaks.append(gemm.peak(getattr(torch, precision)))
    return out | {"gemm": max(peaks)}


def race(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Every system in every round, the order turned each time, each in a process of its own."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in args.systems}
    for number in range(args.rounds):
        for name in args.systems if number % 2 == 0 else reversed(args.systems):
            scored = args.scores and number == 0 and not SYSTEMS[name].padded
            # our loop changes how the process keeps freed memory, which would help the Trainer too
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                found = process.submit(measure, name, args, scored).result()
            rounds[name].append(found)
            rate = found["rows_per_second"]
            console.print(f"round {number + 1}  {SYSTEMS[name].name}: {rate:.1f} rows/s")
    return rounds


def best_of(args: argparse.Namespace, rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The best round of each system, and its ratios."""
    best = {n: max(found, key=lambda f: f["rows_per_second"]) for n, found in rounds.items()}
    ours = best["ours"]["rows_per_second"] if "ours" in best else None
    everything = [found for several in rounds.values() for found in several]
    limit, shape = max(found["gemm"] for found in everything)
    systems = {}
    for name, found in best.items():
        at_64 = max(f["gflops_at_64"] for f in rounds[name]) if "gflops_at_64" in found else None
        systems[name] = {
            "name": SYSTEMS[name].name,
            **{key: found[key] for key in ("rows", "epochs", "rows_per_second", "useful_gflops")},
            "seconds": [f["seconds"] for f in rounds[name]],
            "ratio": ours / found["rows_per_second"] if ours else None,
            "target_ratio": SYSTEMS[name].target,
            **rounds[name][0]["scores"],
            "gflops_at_64_tokens": at_64,
            "percent_of_gemm": 100 * at_64 / limit if at_64 else None,
        }
    return {
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "trainer_batch_size": peer.BATCH,
        "machine": machine(),
        **everything[0]["start"],
        "gemm": {"unit": gemm.unit(), "gflops": limit, "shape": shape},
        "target_percent_of_gemm": FLOPS_TARGET,
        "systems": systems,
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="car_aspect", help="a multilabel data set")
    parser.add_argument("--rows", type=int, default=1200, help="training rows (default 1200)")
    parser.add_argument("--padded-rows", type=int, default=96, help="rows of a (default 96)")
    parser.add_argument("--flops-rows", type=int, default=512, help="64-token rows (default 512)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="the best counts (default 2)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--scores", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="any setting")
    parser.add_argument("--output", type=Path, default=RESULTS / "training_speed.json")
    return parser.parse_args()


def show_all(content: dict[str, Any]) -> None:
    """The two tables."""
    systems, settings, limit = content["systems"], content["settings"], content["gemm"]
    columns = ("name", "rows_per_second", "ratio", "target_ratio", "useful_gflops")
    show(
        f"{settings['data']}, {settings['rows']} rows, {settings['epochs']} epoch(s), batch "
        f"{content['recipe']['batch_size']} (ours), {content['trainer_batch_size']} (Trainer)",
        ("", "rows/s", "ours is x times", "target", "useful GFLOP/s", "dev mAP", "dev micro-F1"),
        [[s.get(c) for c in (*columns, "dev_map", "dev_micro_f1")] for s in systems.values()],
    )
    show(
        f"{LENGTH}-token texts; {content['precision']} GEMM ({limit['unit']}) "
        f"{limit['gflops']:.0f} GFLOP/s at {limit['shape']}; target {FLOPS_TARGET:.0f} %",
        ("", "useful GFLOP/s", "% of GEMM"),
        [
            [systems[n][c] for c in ("name", "gflops_at_64_tokens", "percent_of_gemm")]
            for n in COMPARED_WITH_GEMM
            if n in systems
        ],
    )


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    data_set(args.data)
    if find_spec("accelerate") is None:
        sys.exit("transformers' Trainer, the peer, needs accelerate: pip install accelerate")
    try:
        content = best_of(args, race(args))
    except BertClsError as error:
        sys.exit(str(error))
    show_all(content)
    write_results(args.output, content)
    console.print(f"\nwritten: {args.output.name}")


if __name__ == "__main__":
    main()
