"""Dropout, batches and optimiser, each by its laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from bert_cls.legacy.log import LogObserver
from bert_cls.losses import LabelStatistics, make_loss
from bert_cls.network import open_network
from bert_cls.terminal import TerminalObserver
from bert_cls.training.batches import dealt, epoch_batches, micro_batches
from bert_cls.training.dropout import ByteDropout, Source, install
from bert_cls.training.loop import EpochResult, Progress, Silent, Trainer
from bert_cls.training.optimiser import make_optimiser, schedule, set_rates
from bert_cls.training.recipe import Settled
from tiny import FAMILIES

# --- dropout


def of_rows(rows: int, *, length: int = 64, seed: int = 1) -> Source:
    source = Source(seed)
    source.start(0, [(row, 0) for row in range(rows)], [length] * rows)
    return source


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_its_rate(p):
    out = ByteDropout(p, of_rows(1, seed=0)).train()(torch.ones(1, 400_000))
    rate = round(p * 256) / 256
    kept = out != 0
    assert abs(rate - p) <= 1 / 512
    assert abs(1 - kept.float().mean() - rate) < 0.004
    assert torch.allclose(out[kept], torch.tensor(1 / (1 - rate)))
    assert abs(out.mean() - 1) < 0.02 / (1 - rate)


def test_dropped_values_are_spread_evenly():
    out = ByteDropout(0.25, of_rows(64, seed=3)).train()(torch.ones(64, 64, 64)) == 0
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        assert (out.float().mean(others) - 0.25).abs().max() < 0.03
    pairs = (out[1:] & out[:-1]).float().mean()
    assert abs(pairs - 0.25**2) < 0.005


def test_gradients_pass_where_values_did():
    values = torch.randn(7, 50, requires_grad=True)
    out = ByteDropout(0.4, of_rows(7)).train()(values)
    out.backward(torch.full_like(out, 2.0))
    scale = 256 / (256 - round(0.4 * 256))
    assert torch.allclose(out, values * (out != 0) * scale)
    assert torch.allclose(values.grad, (out != 0) * 2.0 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_and_shape_stay(dtype):
    values = torch.ones(3, 5, dtype=dtype, requires_grad=True)
    out = ByteDropout(0.5, of_rows(3)).train()(values)
    out.sum().backward()
    assert out.dtype == values.grad.dtype == dtype
    assert out.shape == (3, 5)


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    values = torch.randn(100)
    assert ByteDropout(0.5, Source(0)).eval()(values) is values
    for p in (0.0, 0.001):
        assert ByteDropout(p, Source(0)).train()(values) is values


def test_bytes_are_a_function_of_seed_step_and_place():
    def draw(seed: int, step: int, *place: int) -> torch.Tensor:
        source = Source(seed)
        source.start(3, [(9, 9)], [4])
        source.like(torch.ones(1, 4, 5))
        source.start(step, [place], [4])
        return torch.cat([source.like(torch.ones(1, size)) for size in (5, 60)], dim=1)

    places = [(0, 1, 2), (0, 2, 1), (1, 1, 2), (0, 1, 3), (0, 1), (0, 1, 2, 1)]
    drawn = [draw(*place) for place in places]
    for place, values in zip(places, drawn, strict=True):
        assert torch.equal(values, draw(*place))
    for a, b in itertools.combinations(drawn, 2):
        assert not torch.equal(a, b)
    assert drawn[0].dtype == torch.uint8
    every = of_rows(1, seed=9).like(torch.ones(1, 256_000)).long()
    counts = torch.bincount(every.flatten(), minlength=256)
    assert counts.min() > 800
    assert counts.max() < 1200


@pytest.mark.parametrize("family", FAMILIES)
def test_every_dropout_of_a_network_is_replaced(encoder, family):
    network = open_network(
        encoder(family), outputs=2, pooling="mean", dropout=0.2, attention_dropout=0.3
    )
    rates = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    source = Source(1)
    install(network, source)
    replaced = [m for m in network.modules() if isinstance(m, ByteDropout)]
    assert not [m for m in network.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in replaced] == rates
    assert all(m.source is source for m in replaced)

    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    inputs = (ids, torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool))

    def logits(step: int) -> torch.Tensor:
        source.start(step, [(row, 0) for row in range(3)], [9] * 3)
        torch.manual_seed(step)
        return network(*inputs).detach()

    network.train()
    assert torch.equal(logits(4), logits(4))
    assert not torch.equal(logits(4), logits(5))
    network.eval()
    assert torch.equal(logits(4), logits(5))


# --- batches

row_lengths = st.lists(st.integers(1, 500), min_size=1, max_size=300).map(
    lambda values: np.array(values, dtype=np.int64)
)


@given(
    lengths=row_lengths, size=st.integers(1, 40), seed=st.integers(0, 99), epoch=st.integers(0, 9)
)
def test_an_epoch_sees_every_row_once(lengths, size, seed, epoch):
    batches = epoch_batches(lengths, size, seed=seed, epoch=epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    sizes = sorted(len(batch) for batch in batches)
    assert sizes[-1] <= size
    assert all(n == size for n in sizes[1:]), "at most one is short"
    assert len(batches) == -(-len(lengths) // size)
    again = epoch_batches(lengths, size, seed=seed, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_epochs_and_seeds_shuffle_differently():
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    orders = {
        (seed, epoch): tuple(np.concatenate(epoch_batches(lengths, 16, seed=seed, epoch=epoch)))
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    assert len(set(orders.values())) == len(orders)


def test_batches_hold_rows_of_like_length_in_shuffled_order():
    lengths = np.random.default_rng(0).integers(1, 500, 4000)
    batches = epoch_batches(lengths, 16, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()
    widths = [int(lengths[batch].max()) for batch in batches]
    assert abs(np.corrcoef(widths[:-1], widths[1:])[0, 1]) < 0.2


@given(lengths=row_lengths, max_tokens=st.integers(1, 3000))
def test_parts_of_a_batch_fit_and_keep_its_order(lengths, max_tokens):
    rows = np.random.default_rng(len(lengths)).permutation(len(lengths))
    parts = list(micro_batches(rows, lengths, max_tokens))
    assert np.array_equal(np.concatenate(parts), rows)
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        assert len(part) == 1 or len(part) * lengths[part].max() <= max_tokens
        if following is not None:
            grown = [*part, following[0]]
            assert len(grown) * lengths[grown].max() > max_tokens, "no part is cut early"


@given(
    lengths=row_lengths,
    size=st.integers(1, 40),
    max_tokens=st.integers(1, 3000),
    world=st.integers(1, 5),
)
def test_ranks_share_out_every_row_once_and_know_its_place(lengths, size, max_tokens, world):
    rows = np.random.default_rng(size).permutation(len(lengths))[:size]
    wholes = list(micro_batches(rows, lengths, max_tokens))
    shares = [
        list(dealt(micro_batches(rows, lengths, max_tokens), rank=rank, world=world))
        for rank in range(world)
    ]
    assert sorted(row for share in shares for part in share for row in part.rows) == sorted(rows)
    for share in shares:
        for part in share:
            assert np.array_equal(part.rows, rows[part.start : part.start + len(part.rows)])
            assert sum(bool(np.isin(part.rows, whole).any()) for whole in wholes) == 1
    if len(wholes) >= world:  # nothing is cut that need not be
        parts = [part for share in shares for part in share]
        assert sorted(len(part.rows) for part in parts) == sorted(map(len, wholes))
    elif len(rows) >= world:
        assert all(shares)


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=9),
    start=st.integers(0, 8),
    wider=st.integers(0, 3),
    seed=st.integers(0, 5),
)
def test_rows_have_the_same_dropout_in_any_part_and_however_wide(lengths, start, wider, seed):
    start = min(start, len(lengths) - 1)
    places, source = [(row, 0) for row in range(len(lengths))], Source(seed)

    def drawn(first: int, more: int) -> list[torch.Tensor]:
        own = lengths[first:]
        rows, width = len(own), max(own) + more
        source.start(7, places[first:], own)
        shapes = [(rows, width, 5), (rows, 2, width, width), (rows, width, 3), (rows, 8)]
        return [source.like(torch.ones(shape)) for shape in shapes]

    for among, alone in zip(drawn(0, 0), drawn(start, wider), strict=True):
        for row, length in enumerate(lengths[start:]):
            one, other = among[start + row], alone[row]
            if one.ndim == 2:
                one, other, rest = one[:length], other[:length], other[length:]
                assert not rest.any()
            elif one.ndim == 3:
                one, other = one[:, :length, :length], other[:, :length, :length]
            assert torch.equal(one, other)


def test_no_rows_make_no_parts():
    assert list(micro_batches(np.array([], dtype=np.int64), np.array([1, 2]), 10)) == []


# --- optimiser


def optimiser_of(network: nn.Module, **changes: float) -> torch.optim.AdamW:
    options = {"learning_rate": 0.01, "head_learning_rate": 0.1, "weight_decay": 0.5} | changes
    return make_optimiser(network, epsilon=1e-6, **options)


def test_every_parameter_is_in_the_group_it_belongs_to(encoder):
    network = open_network(encoder("bert"), outputs=2, pooling="cls_pooler")
    optimiser = optimiser_of(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    seen = []
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            plain = name.endswith("bias") or "LayerNorm" in name
            assert group["weight_decay"] == (0.0 if plain else 0.5), name
            expected = 0.1 if name.startswith("head.") else 0.01
            assert group["lr"] == group["base_lr"] == expected, name
    assert sorted(seen) == sorted(names.values())


def test_a_step_is_adamws():
    network = nn.ModuleDict({"body": nn.Linear(3, 2), "head": nn.Linear(2, 1)})
    optimiser = optimiser_of(network)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    for number, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, 0.3 + number)
    optimiser.step()
    for number, (name, parameter) in enumerate(network.named_parameters()):
        rate = 0.1 if name.startswith("head") else 0.01
        decay = 0.5 if parameter.ndim > 1 else 0.0
        gradient = 0.3 + number
        step = rate * gradient / (gradient + 1e-6)
        expected = before[name] * (1 - rate * decay) - step
        assert torch.allclose(parameter, expected, atol=1e-6), name


@given(steps=st.integers(1, 400), warmup=st.integers(0, 100))
@settings(max_examples=60)
def test_the_rate_rises_then_falls_and_never_stands_still(steps, warmup):
    warmup = min(warmup, steps - 1)
    rates = [schedule(step, steps=steps, warmup=warmup) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[warmup] == 1
    assert all(a < b for a, b in itertools.pairwise(rates[: warmup + 1]))
    assert all(a > b for a, b in itertools.pairwise(rates[warmup:]))
    rises, falls = np.diff(rates[: warmup + 1]), np.diff(rates[warmup:])
    assert np.ptp(rises) < 1e-12 if len(rises) else True
    assert np.ptp(falls) < 1e-12 if len(falls) else True
    assert schedule(steps, steps=steps, warmup=warmup) == 0
    assert schedule(steps + 5, steps=steps, warmup=warmup) == 0


def test_rates_are_set_from_their_base():
    optimiser = optimiser_of(nn.ModuleDict({"body": nn.Linear(3, 2), "head": nn.Linear(2, 1)}))
    for factor in (0.5, 0.1, 1.0, 0.0):
        set_rates(optimiser, factor)
        for group in optimiser.param_groups:
            assert group["lr"] == pytest.approx(group["base_lr"] * factor)
    assert {group["base_lr"] for group in optimiser.param_groups} == {0.01, 0.1}


# --- devices


def test_what_a_loss_knows_of_the_labels_is_where_the_network_is():
    statistics = LabelStatistics(np.array([30, 10]), 40)
    loss = make_loss("cross_entropy", "multiclass", statistics, weights=np.array([0.5, 2.5]))
    network = nn.ModuleDict({"encoder": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
    fields = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-4, "head_learning_rate": 1e-4}
    trainer = Trainer(
        network,
        loss,
        [None] * 40,
        np.zeros(40, dtype=np.int64),
        settings=Settled(**fields, prior_bias=False),
        pad_id=0,
        evaluate=None,
        observer=Silent(),
        device=torch.device("meta"),  # a device that is not the processor, on any machine
    )
    buffers = dict(trainer.loss.named_buffers())
    assert {name: tensor.device.type for name, tensor in buffers.items()} == {
        "class_weight": "meta"
    }


@pytest.mark.parametrize("score", [-0.0, -1e-6, 0.0])
def test_a_score_that_rounds_to_nothing_has_no_sign(score, caplog, capsys):
    result = EpochResult(epoch=1, step=3, loss=0.5, score=score, seconds=1.0)
    TerminalObserver(Console()).evaluated(result, best=False)
    assert "dev score 0.0000" in capsys.readouterr().out
    with caplog.at_level("INFO"):
        LogObserver(batch_size=1).evaluated(result, best=False)
    assert "dev score = 0.0000" in caplog.text


def test_the_time_left_counts_the_seconds_of_the_steps_before_a_run_was_gone_on_with(capsys):
    observer = TerminalObserver(Console(width=200))
    observer.started(steps=1000, rows=8, precision="float32")
    epoch = EpochResult(epoch=1, step=500, loss=0.5, score=None, seconds=50.0)
    progress = Progress(step=950, epoch=1, seconds=45.0, history=[epoch])
    observer.stepped(progress, loss=0.5, rate=1e-4, rows_per_second=80.0)
    assert "step 950/1000" in (said := capsys.readouterr().out)
    assert "about 5 s left" in said
