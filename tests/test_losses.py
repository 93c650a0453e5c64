"""Losses against the formulas in plain Python, and one contract over the whole registry."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bert_cls.data.example import LabelSpace
from bert_cls.errors import ConfigError
from bert_cls.losses import (
    ALIASES,
    LOSSES,
    UNKNOWN,
    Formula,
    LabelStatistics,
    Loss,
    label_statistics,
    label_weights,
    make_loss,
    priors,
    resolve_name,
    resolve_options,
)
from bert_cls.losses.elementwise import asl

COUNTS = (1, 40, 7, 0, 100, 18)
ROWS = 100
LABELS = len(COUNTS)

MULTILABEL = sorted(name for name, spec in LOSSES.items() if "multilabel" in spec.tasks)
CLASSES = sorted(name for name, spec in LOSSES.items() if "multiclass" in spec.tasks)
REGRESSION = sorted(name for name, spec in LOSSES.items() if "regression" in spec.tasks)
NEEDS_STATISTICS = ["bce_weighted", "class_balanced", "distribution_balanced"]

# Options other than the defaults that each formula is checked with as well.
OTHER_OPTIONS = {
    "cross_entropy": [
        {"label_smoothing": 0.1},
    ],
    "focal_softmax": [{"gamma": 0.5}, {"gamma": 0.0}],
    "logit_adjustment": [{"tau": 0.5}, {"tau": 0.0}],
    "bce": [{"label_smoothing": 0.1}],
    "bce_weighted": [{"cap": 3.0}],
    "focal": [{"gamma": 0.0, "alpha": 0.25}, {"gamma": 0.5, "alpha": 0.25}],
    "asl": [
        {"gamma_negative": 2.0, "gamma_positive": 1.0, "clip": 0.0},
        {"gamma_negative": 0.5, "clip": 0.2},
        {"gamma_negative": 0.0, "clip": 0.2},
    ],
    "class_balanced": [{"beta": 0.9, "gamma": 2.0}, {"beta": 0.0}],
    "distribution_balanced": [
        {"alpha": 0.5, "beta": 0.0},
        {"mu": 0.05, "scale": 3.0, "kappa": 0.2, "gamma": 1.0},
    ],
    "hill": [{"gamma": 1.0, "margin": 0.0, "limit": 2.0}],
    "multilabel_margin": [{"virtual_zero": False}],
    "huber": [{"delta": 0.3}],
}
CASES = [(name, {}) for name in LOSSES] + [
    (name, options) for name, many in OTHER_OPTIONS.items() for options in many
]


# The formulas, one row at a time, with nothing but `math`. None is an unknown cell.


def sig(x):
    return 1 / (1 + math.exp(-x))


def share(count):
    return min(max(count / ROWS, 0.5 / ROWS), 1 - 0.5 / ROWS)


def softmax(x):
    total = sum(math.exp(v) for v in x)
    return [math.exp(v) / total for v in x]


def by_cell(cell):
    """The mean over labels of `cell(logit, target, label)` over the known cells of a row."""

    def row(x, y, **options):
        total = 0.0
        for c in range(len(x)):
            if y[c] is not None:
                total += cell(x[c], y[c], c, **options)
        return total / len(x)

    return row


def cross_entropy_row(x, y, *, label_smoothing):
    p = softmax(x)
    loss = 0.0
    for c in range(len(x)):
        target = label_smoothing / len(x) + (1 - label_smoothing) * (c == y)
        loss -= target * math.log(p[c])
    return loss


def focal_softmax_row(x, y, *, gamma):
    p = softmax(x)[y]
    return -((1 - p) ** gamma) * math.log(p)


def logit_adjustment_row(x, y, *, tau):
    moved = [v + tau * math.log(share(n)) for v, n in zip(x, COUNTS, strict=True)]
    return -math.log(softmax(moved)[y])


def bce_cell(x, y, c):
    return -y * math.log(sig(x)) - (1 - y) * math.log(1 - sig(x))


def bce_row(x, y, *, label_smoothing):
    mean = sum(v for v in y if v is not None) / len(y)
    smooth = [None if v is None else v * (1 - label_smoothing) + label_smoothing * mean for v in y]
    return by_cell(bce_cell)(x, smooth)


def bce_weighted_cell(x, y, c, *, cap):
    weight = min(max((ROWS - COUNTS[c]) / max(COUNTS[c], 1), 1), cap)
    return -weight * y * math.log(sig(x)) - (1 - y) * math.log(1 - sig(x))


def focal_cell(x, y, c, *, gamma, alpha):
    p = sig(x)
    positive = -alpha * (1 - p) ** gamma * math.log(p)
    negative = -(1 - alpha) * p**gamma * math.log(1 - p)
    return 2 * (y * positive + (1 - y) * negative)


def asl_cell(x, y, c, *, gamma_negative, gamma_positive, clip, detach_focus):
    p = sig(x)
    q = max(p - clip, 0)
    positive = (1 - p) ** gamma_positive * math.log(p)
    negative = q**gamma_negative * math.log(1 - q)
    return -y * positive - (1 - y) * negative


def class_balanced_cell(x, y, c, *, beta, gamma):
    weights = [(1 - beta) / (1 - beta ** max(n, 1)) for n in COUNTS]
    return weights[c] * LABELS / sum(weights) * focal_cell(x, y, c, gamma=gamma, alpha=0.5)


def distribution_balanced_row(x, y, *, alpha, beta, mu, scale, kappa, gamma):
    of_row = sum(v / max(n, 1) for v, n in zip(y, COUNTS, strict=True) if v is not None)

    def cell(v, target, c):
        if of_row > 0:
            ratio = 1 / max(COUNTS[c], 1) / of_row
            weight = alpha + sig(beta * (ratio - mu))
        else:
            weight = alpha + (1 if beta else 0.5)
        shift = kappa * math.log(1 / share(COUNTS[c]) - 1)
        q1, q0 = sig(v - shift), sig(scale * (v - shift))
        positive = (1 - q1) ** gamma * math.log(q1)
        negative = q0**gamma * math.log(1 - q0) / scale
        return -weight * (target * positive + (1 - target) * negative)

    return by_cell(cell)(x, y)


def zlpr_row(x, y):
    not_had = sum((1 - t) * math.exp(v) for v, t in zip(x, y, strict=True) if t is not None)
    had = sum(t * math.exp(-v) for v, t in zip(x, y, strict=True) if t is not None)
    return math.log(1 + not_had) + math.log(1 + had)


def hill_cell(x, y, c, *, gamma, margin, limit):
    s, p = sig(x - margin), sig(x)
    return -y * (1 - s) ** gamma * math.log(s) + (1 - y) * (limit - p) * p**2


def multilabel_margin_row(x, y, *, virtual_zero):
    has = [v for v, t in zip(x, y, strict=True) if t is not None and t > 0.5]
    has_not = [v for v, t in zip(x, y, strict=True) if t is not None and t <= 0.5]
    total = 0.0
    for a in has:
        for b in has_not:
            total += max(0.0, 1 - (a - b))
    if virtual_zero:
        total += sum(max(0.0, 1 - a) for a in has) + sum(max(0.0, 1 + b) for b in has_not)
    return total / len(x)


def mse_row(x, y):
    return (x[0] - y) ** 2


def huber_row(x, y, *, delta):
    error = abs(x[0] - y)
    return error**2 / 2 if error <= delta else delta * (error - delta / 2)


REFERENCE = {
    "cross_entropy": cross_entropy_row,
    "focal_softmax": focal_softmax_row,
    "logit_adjustment": logit_adjustment_row,
    "bce": bce_row,
    "bce_weighted": by_cell(bce_weighted_cell),
    "focal": by_cell(focal_cell),
    "asl": by_cell(asl_cell),
    "class_balanced": by_cell(class_balanced_cell),
    "distribution_balanced": distribution_balanced_row,
    "zlpr": zlpr_row,
    "hill": by_cell(hill_cell),
    "multilabel_margin": multilabel_margin_row,
    "mse": mse_row,
    "huber": huber_row,
}


# Making data.


def task_of(name):
    return sorted(LOSSES[name].tasks)[-1]  # multiclass before binary


def statistics_of(name, counts=COUNTS, rows=ROWS):
    used = () if name in REGRESSION else counts
    return LabelStatistics(counts=np.array(used, dtype=np.int64), rows=rows)


def made(name, options=None, counts=COUNTS, rows=ROWS, weights=None):
    statistics = statistics_of(name, counts, rows)
    return make_loss(name, task_of(name), statistics, options=options or {}, weights=weights)


def draw(name, rows=9, labels=LABELS, seed=0, spread=2.0):
    """Random logits and targets; in multilabel data row 0 has no label and row 1 every label."""
    generator = torch.Generator().manual_seed(seed)
    columns = 1 if name in REGRESSION else labels
    logits = torch.randn(rows, columns, generator=generator) * spread
    if name in REGRESSION:
        return logits, torch.randn(rows, generator=generator) * spread
    if name in CLASSES:
        return logits, torch.randint(labels, (rows,), generator=generator)
    targets = (torch.rand(rows, labels, generator=generator) < 0.35).float()
    targets[:1] = 0.0
    targets[1:2] = 1.0
    return logits, targets


def assert_close(found, expected, rtol=1e-5, atol=1e-6):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=rtol, atol=atol)


def loss_and_gradient(loss, logits, targets):
    leaf = logits.clone().requires_grad_()
    values = loss(leaf, targets)
    values.sum().backward()
    return values.detach(), leaf.grad


def plain_targets(targets):
    """Targets as Python numbers, None where unknown."""
    return [
        [None if math.isnan(v) or v < 0 else v for v in row] if isinstance(row, list) else row
        for row in targets.tolist()
    ]


def reference(name, logits, targets, options):
    filled = resolve_options(name, options)
    rows = zip(logits.tolist(), plain_targets(targets), strict=True)
    return [REFERENCE[name](x, y, **filled) for x, y in rows]


# Every loss is its formula.


def test_every_loss_has_a_formula_here():
    assert set(REFERENCE) == set(LOSSES)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_the_formula(name, options, seed):
    logits, targets = draw(name, rows=20, seed=seed)
    expected = reference(name, logits, targets, options)
    assert_close(made(name, options)(logits, targets), torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_is_the_slope_of_the_formula(name, options):
    logits, targets = draw(name, rows=6, seed=3)
    logits = logits.double()
    _, gradient = loss_and_gradient(made(name, options), logits, targets)
    step = 1e-6
    for row, column in itertools.product(*map(range, logits.shape)):
        ahead, behind = logits[row : row + 1].clone(), logits[row : row + 1].clone()
        ahead[0, column] += step
        behind[0, column] -= step
        above = reference(name, ahead, targets[row : row + 1], options)[0]
        below = reference(name, behind, targets[row : row + 1], options)[0]
        slope = (above - below) / (2 * step)
        assert gradient[row, column].item() == pytest.approx(slope, abs=2e-6, rel=1e-4)


@pytest.mark.parametrize("name", sorted(set(MULTILABEL) - {"multilabel_margin"}))
def test_soft_targets_follow_the_formula(name):
    logits, _ = draw(name, seed=5)
    targets = torch.rand(logits.shape, generator=torch.Generator().manual_seed(6))
    expected = reference(name, logits, targets, {})
    assert_close(made(name)(logits, targets), torch.tensor(expected), rtol=1e-4, atol=1e-6)


# The same numbers as torch where torch has the loss.


def test_bce_is_torch_bce():
    logits, targets = draw("bce")
    expected = functional.binary_cross_entropy_with_logits(logits, targets)
    assert_close(made("bce")(logits, targets).mean(), expected)
    expected = functional.multilabel_soft_margin_loss(logits, targets, reduction="none")
    assert_close(made("bce")(logits, targets), expected)


@pytest.mark.parametrize("labels", [1, 2, 65])
def test_plain_margin_is_torch_margin(labels):
    logits, targets = draw("multilabel_margin", rows=40, labels=labels)
    indices = torch.full_like(logits, -1, dtype=torch.int64)
    for row in range(len(targets)):
        having = [c for c in range(labels) if targets[row, c] == 1]
        indices[row, : len(having)] = torch.tensor(having, dtype=torch.int64)
    loss = made("multilabel_margin", {"virtual_zero": False}, counts=(3,) * labels)
    values, gradient = loss_and_gradient(loss, logits, targets)
    leaf = logits.clone().requires_grad_()
    expected = torch.nn.MultiLabelMarginLoss(reduction="none")(leaf, indices)
    expected.sum().backward()
    assert_close(values, expected.detach())
    assert_close(gradient, leaf.grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torch_cross_entropy(smoothing):
    logits, targets = draw("cross_entropy")
    expected = functional.cross_entropy(
        logits, targets, reduction="none", label_smoothing=smoothing
    )
    values = made("cross_entropy", {"label_smoothing": smoothing})(logits, targets)
    assert_close(values, expected)


def test_regression_is_torch():
    logits, targets = draw("mse")
    squared = functional.mse_loss(logits.squeeze(1), targets, reduction="none")
    assert_close(made("mse")(logits, targets), squared)
    smooth = functional.smooth_l1_loss(logits.squeeze(1), targets, reduction="none")
    assert_close(made("huber")(logits, targets), smooth)


# The contract, over the registry.


@pytest.mark.parametrize("name", LOSSES)
def test_entry_describes_itself(name):
    spec = LOSSES[name]
    assert spec.tasks
    assert spec.source
    for option in spec.options.values():
        assert option.meaning
        assert option.low <= option.default <= option.high
    loss = made(name)
    assert (loss.name, loss.options) == (name, spec.defaults)
    assert loss.calibrated == spec.calibrated


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_one_finite_float32_a_row(name, options, rows):
    logits, targets = draw(name, rows=rows)
    values, gradient = loss_and_gradient(made(name, options), logits, targets)
    assert values.shape == (rows,)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert (values >= 0).all()
    assert gradient.shape == logits.shape
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_large_logits_stay_finite(name, options, size):
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=LABELS)))
    logits, targets = draw(name, rows=LABELS * len(signs))
    logits = size * signs.repeat(LABELS, 1)[:, : logits.shape[1]]
    if name in CLASSES:
        targets = torch.arange(LABELS).repeat_interleave(len(signs))
    values, gradient = loss_and_gradient(made(name, options), logits, targets)
    assert values.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_logits_are_computed_in_float32(name, dtype):
    logits, targets = draw(name)
    half = logits.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, gradient = loss_and_gradient(made(name), half, targets)
    assert values.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.equal(values, made(name)(half.float(), targets))


@pytest.mark.parametrize("name", LOSSES)
def test_float64_logits_stay_float64(name):
    logits, targets = draw(name)
    values, gradient = loss_and_gradient(made(name), logits.double(), targets)
    assert values.dtype == gradient.dtype == torch.float64


def test_autocast_does_not_reach_into_a_formula():
    formula = Formula(lambda logits, targets: (logits @ logits.T).diagonal())
    loss = Loss("mse", LOSSES["mse"], formula, outputs=1, options={})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(torch.zeros(2, 1), torch.zeros(2)).dtype == torch.float32


@pytest.mark.parametrize(("name", "options"), CASES)
def test_logits_and_targets_are_left_alone(name, options):
    logits, targets = draw(name)
    before = logits.clone(), targets.clone()
    loss_and_gradient(made(name, options), logits, targets)
    assert torch.equal(logits, before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize(("name", "options"), [*CASES, ("asl", {"detach_focus": True})])
def test_no_grad_is_respected(name, options):
    logits, targets = draw(name)
    logits.requires_grad_()
    with torch.no_grad():
        assert not made(name, options)(logits, targets).requires_grad
        assert not torch.is_grad_enabled()
    assert made(name, options)(logits, targets).requires_grad


@pytest.mark.parametrize(("name", "options"), CASES)
def test_rows_do_not_touch_each_other(name, options):
    logits, targets = draw(name, rows=12)
    loss = made(name, options)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    whole = loss(logits, targets)
    assert_close(loss(logits[order], targets[order]), whole[order])
    parts = torch.cat([loss(logits[a:b], targets[a:b]) for a, b in [(0, 1), (1, 8), (8, 12)]])
    assert_close(parts, whole)


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if c[0] not in REGRESSION])
def test_order_of_labels_does_not_matter(name, options):
    logits, targets = draw(name)
    order = [3, 0, 5, 1, 4, 2]
    moved = made(name, options, counts=tuple(COUNTS[c] for c in order))
    if name in CLASSES:
        moved_targets = torch.tensor([order.index(c) for c in targets.tolist()])
    else:
        moved_targets = targets[:, order]
    assert_close(moved(logits[:, order], moved_targets), made(name, options)(logits, targets))


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_moves_each_logit_towards_its_target(name):
    logits, targets = draw(name, rows=40, seed=4)
    _, gradient = loss_and_gradient(made(name), logits, targets)
    if name in REGRESSION:
        up = (targets > logits.squeeze(1))[:, None]
    elif name in CLASSES:
        up = functional.one_hot(targets, LABELS) == 1
    else:
        up = targets == 1
    assert (gradient[up] <= 1e-7).all()
    assert (gradient[~up] >= -1e-7).all()
    assert (gradient[up] < -1e-4).any()
    assert (gradient[~up] > 1e-4).any()


@pytest.mark.parametrize("name", LOSSES)
def test_descending_the_gradient_learns_the_targets(name):
    logits, targets = draw(name, rows=10, seed=7)
    loss = made(name)
    for step in np.linspace(0.4, 0.0, 80):
        logits = logits - step * loss_and_gradient(loss, logits, targets)[1].sign()
    if name in REGRESSION:
        assert (logits.squeeze(1) - targets).abs().max() < 0.05
    elif name in CLASSES:
        assert torch.equal(logits.argmax(dim=1), targets)
    else:
        assert torch.equal(logits >= 0, targets == 1)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_statistics_move_and_save_with_the_module(name, options):
    loss, other = made(name, options), made(name, options, counts=(5, 6, 7, 8, 9, 10))
    assert set(loss.state_dict()) == {key for key, _ in loss.named_buffers()}
    assert not list(loss.parameters())
    other.load_state_dict(loss.state_dict())
    logits, targets = draw(name)
    assert torch.equal(other(logits, targets), loss(logits, targets))
    assert all(buffer.dtype == torch.float64 for buffer in other.double().buffers())


@pytest.mark.parametrize("name", [*NEEDS_STATISTICS, "logit_adjustment"])
def test_statistics_are_in_buffers(name):
    assert made(name).state_dict()


# Unknown targets.


@pytest.mark.parametrize("name", MULTILABEL)
@pytest.mark.parametrize("mark", [float(UNKNOWN), math.nan])
def test_unknown_cells_cost_nothing(name, mark):
    logits, targets = draw(name, rows=30, seed=2)
    hidden = torch.rand(targets.shape, generator=torch.Generator().manual_seed(3)) < 0.3
    hidden[2] = True
    targets[hidden] = mark
    loss = made(name)
    values, gradient = loss_and_gradient(loss, logits, targets)
    expected = reference(name, logits, targets, {})
    assert_close(values, torch.tensor(expected), rtol=1e-4, atol=1e-6)
    assert (gradient[hidden] == 0).all()
    assert values[2] == 0
    elsewhere = torch.where(hidden, logits + 50, logits)
    assert_close(loss(elsewhere, targets), values)


@pytest.mark.parametrize("name", CLASSES)
def test_rows_of_unknown_class_cost_nothing(name):
    logits, targets = draw(name)
    whole = made(name)(logits, targets)
    targets[[0, 4]] = UNKNOWN
    values, gradient = loss_and_gradient(made(name), logits, targets)
    assert (values[[0, 4]] == 0).all()
    assert (gradient[[0, 4]] == 0).all()
    assert torch.equal(values[[1, 2, 3]], whole[[1, 2, 3]])
    assert made(name)(logits, torch.full_like(targets, UNKNOWN)).sum() == 0


@pytest.mark.parametrize("name", REGRESSION)
def test_rows_of_unknown_number_cost_nothing(name):
    logits, targets = draw(name)
    targets[1] = math.nan
    targets[2] = UNKNOWN
    values, gradient = loss_and_gradient(made(name), logits, targets)
    assert values[1] == 0
    assert gradient[1] == 0
    assert values[2] > 90  # -100 is a number like any other here


# Labels that are rare, everywhere, or alone; rows that are empty or full.


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if c[0] not in REGRESSION])
@pytest.mark.parametrize(("counts", "rows"), [((0,) * 6, 0), ((0,) * 6, 9), ((9,) * 6, 9)])
def test_labels_that_no_row_or_every_row_has(name, options, counts, rows):
    loss = made(name, options, counts=counts, rows=rows)
    assert all(buffer.isfinite().all() for buffer in loss.buffers())
    values, gradient = loss_and_gradient(loss, *draw(name))
    assert values.isfinite().all()
    assert gradient.isfinite().all()


def test_positive_weights_stay_between_1_and_the_cap():
    loss = made("bce_weighted", {"cap": 10.0}, counts=(0, 1, 25, 80, 100, 50))
    assert loss.positive_weight.tolist() == [10, 10, 3, 1, 1, 1]


def test_priors_stay_inside_0_and_1():
    statistics = LabelStatistics(counts=np.array([0, 5, 10]), rows=10)
    assert priors(statistics).tolist() == [0.05, 0.5, 0.95]


@pytest.mark.parametrize("name", sorted(set(MULTILABEL)))
def test_empty_and_full_rows_teach_which_they_are(name):
    loss = made(name)
    logits = torch.zeros(2, LABELS)
    targets = torch.tensor([[0.0] * LABELS, [1.0] * LABELS])
    values, gradient = loss_and_gradient(loss, logits, targets)
    assert (values > 0).all()
    assert (gradient[0] > 0).all()
    assert (gradient[1] < 0).all()


def test_plain_margin_learns_nothing_from_empty_and_full_rows_nor_a_level():
    loss = made("multilabel_margin", {"virtual_zero": False})
    logits, targets = draw("multilabel_margin")
    values, gradient = loss_and_gradient(loss, logits, targets)
    assert values[:2].tolist() == [0, 0]
    assert (gradient[:2] == 0).all()
    assert_close(loss(logits + 7, targets), values)
    assert not torch.allclose(made("multilabel_margin")(logits + 7, targets), values)


@pytest.mark.parametrize("name", MULTILABEL)
def test_a_single_label(name):
    loss = made(name, counts=(3,))
    logits = torch.tensor([[-1.5], [0.0], [2.0]])
    for target in (0.0, 1.0):
        values, gradient = loss_and_gradient(loss, logits, torch.full((3, 1), target))
        assert values.isfinite().all()
        assert (gradient * (1 - 2 * target) >= 0).all()
        assert gradient.any()


def test_zlpr_of_a_single_label_is_bce():
    logits, targets = draw("zlpr", labels=1)
    assert_close(
        made("zlpr", counts=(3,))(logits, targets), made("bce", counts=(3,))(logits, targets)
    )


@pytest.mark.parametrize("name", CLASSES)
def test_two_classes_are_binary(name):
    statistics = LabelStatistics(counts=np.array([3, 9]), rows=12)
    logits, targets = draw(name, labels=2)
    both = [make_loss(name, task, statistics)(logits, targets) for task in ("binary", "multiclass")]
    assert torch.equal(*both)


# Laws of single losses.


def test_asl_still_moves_a_positive_it_is_sure_is_negative():
    logits = torch.full((1, LABELS), -50.0)
    _, gradient = loss_and_gradient(made("asl"), logits, torch.ones(1, LABELS))
    assert_close(gradient, torch.full((1, LABELS), -1 / LABELS))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
def test_asl_has_a_slope_where_the_clip_begins(gamma):
    loss = made("asl", {"gamma_negative": gamma, "clip": 0.5})
    _, gradient = loss_and_gradient(loss, torch.zeros(1, LABELS), torch.zeros(1, LABELS))
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("clip", [0.0, 1e-300, 1e-8, 3e-8, 1e-7, 1e-3, 0.05])
def test_asl_is_finite_however_small_its_clip(clip, dtype):
    how = {"gamma_negative": 4.0, "gamma_positive": 1.0, "clip": clip, "detach_focus": False}
    logits = torch.tensor([[-1e4, -80.0, 0.0, 17.0, 80.0, 1e4]], dtype=dtype, requires_grad=True)
    for targets in (torch.zeros(1, 6), torch.ones(1, 6)):
        value = asl(logits, targets.to(dtype), **how)
        (slope,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert slope.isfinite().all()
    sure = asl(logits, torch.zeros(1, 6, dtype=dtype), **how)
    assert sure.item() > 0.5


def test_asl_with_detached_focus_has_the_value_but_only_the_outer_slope():
    logits, targets = draw("asl")
    options = {"gamma_positive": 1.0}
    values, gradient = loss_and_gradient(made("asl", options), logits, targets)
    detached = made("asl", {**options, "detach_focus": True})
    detached_values, detached_gradient = loss_and_gradient(detached, logits, targets)
    assert_close(detached_values, values)
    p = logits.sigmoid()
    q = (p - 0.05).clamp(min=0)
    outer = torch.where(targets == 1, -((1 - p) ** 2), q**4 / (1 - q) * p * (1 - p))
    assert_close(detached_gradient, outer / LABELS)
    assert not torch.allclose(detached_gradient, gradient)


def test_neutral_options_are_binary_cross_entropy():
    logits, targets = draw("bce")
    expected = made("bce")(logits, targets)
    neutral = {
        "focal": {"gamma": 0.0},
        "asl": {"gamma_negative": 0.0, "clip": 0.0},
        "class_balanced": {"beta": 0.0},
        "bce_weighted": {"cap": 1.0},
        "distribution_balanced": {
            "alpha": 0.5, "beta": 0.0, "scale": 1.0, "kappa": 0.0, "gamma": 0.0
        },
    }  # fmt: skip
    for name, options in neutral.items():
        assert_close(made(name, options)(logits, targets), expected)


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any),
    st.sampled_from(["balanced", "sqrt"]),
)
@settings(max_examples=50, deadline=None)
def test_class_weights_average_1_over_the_training_rows(counts, wanted):
    weights, targets = weights_and_targets(counts, wanted)
    flat = made("cross_entropy", counts=counts, rows=sum(counts), weights=weights)(
        torch.zeros(len(targets), len(counts)), targets
    )
    assert flat.mean().item() == pytest.approx(math.log(len(counts)), rel=1e-4)


def test_full_class_weight_makes_classes_count_the_same():
    counts = (1, 4, 20)
    weights, targets = weights_and_targets(counts, "balanced")
    loss = made("cross_entropy", counts=counts, rows=25, weights=weights)
    flat = loss(torch.zeros(25, 3), targets)
    totals = [flat[targets == c].sum().item() for c in range(3)]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-5)


def weights_and_targets(counts, wanted):
    statistics = LabelStatistics(np.array(counts), sum(counts))
    names = [str(c) for c in range(len(counts))]
    weights, _ = label_weights(wanted, "cross_entropy", names, statistics)
    return weights, torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])


def test_a_class_weight_is_of_the_whole_row_smoothed_part_and_all():
    logits, targets = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([1])
    weights, options = np.array([1.0, 2.0, 0.5]), {"label_smoothing": 0.3}
    counts = {"counts": (1, 1, 1), "rows": 3}
    weighed = made("cross_entropy", options, weights=weights, **counts)(logits, targets)
    assert_close(weighed, 2 * made("cross_entropy", options, **counts)(logits, targets))


def test_smoothing_keeps_the_number_of_positives():
    targets = torch.tensor([[1.0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    _, gradient = loss_and_gradient(
        made("bce", {"label_smoothing": 0.3}), torch.zeros(3, LABELS), targets
    )
    smoothed = 0.5 - gradient * LABELS  # gradient of BCE is (p - y) / labels
    assert_close(smoothed.sum(dim=1), targets.sum(dim=1))


# What the best logits mean: expected gradients under known probabilities.


def expected_gradient(name, logits, probabilities):
    """Expected gradient [labels] when targets are drawn with these probabilities."""
    labels = len(probabilities)
    loss = made(name, counts=COUNTS[:labels])
    if name in CLASSES:
        targets, chances = torch.arange(labels), torch.tensor(probabilities).double()
    else:
        rows = list(itertools.product([0.0, 1.0], repeat=labels))
        targets = torch.tensor(rows)
        chances = torch.tensor(
            [
                math.prod(q if y else 1 - q for q, y in zip(probabilities, r, strict=True))
                for r in rows
            ]
        ).double()
    leaf = torch.tensor(logits).double().repeat(len(targets), 1).requires_grad_()
    (loss(leaf, targets) * chances).sum().backward()
    return leaf.grad.sum(dim=0)


@pytest.mark.parametrize("name", [*MULTILABEL, *CLASSES])
def test_calibrated_means_the_best_logits_give_the_probabilities(name):
    probabilities = [0.1, 0.3, 0.6]
    if name in CLASSES:
        logits = [math.log(q) for q in probabilities]
    else:
        logits = [math.log(q / (1 - q)) for q in probabilities]
    steepest = expected_gradient(name, logits, probabilities).abs().max().item()
    assert (steepest < 1e-6) == LOSSES[name].calibrated


@pytest.mark.parametrize(
    ("name", "fires_from"),
    [("bce", 0.5), ("focal", 0.5), ("asl", 0.1276), ("hill", 0.2), ("bce_weighted", 1 / 21)],
)
def test_true_probability_from_which_a_label_is_given_by_default(name, fires_from):
    # At logit 0 the expected gradient changes sign where the best logit is 0.
    below = expected_gradient(name, [0.0], [fires_from - 0.005])[0]
    above = expected_gradient(name, [0.0], [fires_from + 0.005])[0]
    assert above < 0 < below


# Wrong targets and logits are refused.


@pytest.mark.parametrize("name", MULTILABEL)
def test_bool_rows_from_the_label_space_are_targets(name):
    space = LabelSpace(tuple("abcdef"))
    hot = space.multi_hot([["a", "c"], [], list("abcdef")])
    logits = draw(name, rows=3)[0]
    values = made(name)(logits, torch.from_numpy(hot))
    assert torch.equal(values, made(name)(logits, torch.from_numpy(hot).float()))


@pytest.mark.parametrize("name", MULTILABEL)
@pytest.mark.parametrize(
    "targets",
    [
        torch.tensor([[1, 0, 0, 1, 0, 0]]),  # multi-hot int64, which torch would read as indices
        torch.tensor([[3, 0, -1, -1, -1, -1]]),
        torch.zeros(1, 2),
        torch.zeros(6),
        torch.zeros(2, 6),
    ],
)
def test_multilabel_targets_must_be_multi_hot(name, targets):
    with pytest.raises(ValueError, match="multilabel targets must be multi-hot"):
        made(name)(torch.zeros(1, LABELS), targets)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    "targets", [torch.zeros(3), torch.zeros(3, 1).long(), torch.zeros(3, 6), torch.zeros(2).long()]
)
def test_class_targets_must_be_indices(name, targets):
    with pytest.raises(ValueError, match=r"class targets must be int64 \[3\]"):
        made(name)(torch.zeros(3, LABELS), targets)


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("targets", [torch.zeros(3, 1), torch.zeros(1), torch.zeros(3).long()])
def test_regression_never_compares_every_row_with_every_other(name, targets):
    with pytest.raises(ValueError, match=r"regression targets must be float \[3\]"):
        made(name)(torch.zeros(3, 1), targets)


@pytest.mark.parametrize("name", LOSSES)
def test_logits_must_have_one_column_an_output(name):
    logits, targets = draw(name, rows=3)
    for wrong in (torch.zeros(3), torch.zeros(3, LABELS + 1), torch.zeros(3, 1, LABELS)):
        with pytest.raises(ValueError, match="logits must be"):
            made(name)(wrong, targets)
    assert made(name)(logits, targets).shape == (3,)


# Names, tasks and options.


def test_unknown_name_lists_what_fits_the_task():
    with pytest.raises(ConfigError) as caught:
        resolve_name("bec", "multilabel")
    assert caught.value.message == (
        f"--loss must be one of {MULTILABEL} for multilabel data. Got 'bec' instead."
    )
    assert caught.value.hint == "did you mean 'bce'?"


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_a_loss_is_for_its_tasks_only(name, task):
    if task in LOSSES[name].tasks:
        assert resolve_name(name, task) == name
        return
    with pytest.raises(ConfigError, match=f"for {task} data. Got '{name}' instead") as caught:
        make_loss(name, task, LabelStatistics(counts=np.array([1, 2]), rows=3))
    assert sorted(LOSSES[name].tasks)[0] in caught.value.hint


@pytest.mark.parametrize("old", sorted(set(ALIASES) - {"MultiLabelMarginLoss"}))
def test_old_names_are_the_torch_losses_of_that_name(old):
    name = ALIASES[old]
    logits, targets = draw(name)
    loss = make_loss(old, task_of(name), statistics_of(name))
    expected = getattr(torch.nn, old)()(logits.squeeze(1), targets)
    assert loss.name == name
    assert_close(loss(logits, targets).mean(), expected)


def test_old_margin_loss_has_a_label_at_zero_now():
    loss = make_loss("MultiLabelMarginLoss", "multilabel", statistics_of("multilabel_margin"))
    assert (loss.name, loss.options) == ("multilabel_margin", {"virtual_zero": True})


def test_old_name_for_another_task_is_refused_by_its_own_name():
    with pytest.raises(ConfigError, match="Got 'MultiLabelMarginLoss' instead"):
        resolve_name("MultiLabelMarginLoss", "multiclass")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("asl", {"gama_negative": 1.0}, "option of loss 'asl' must be one of"),
        ("asl", {"clip": -0.1}, "option 'clip' of loss 'asl' must be a number from 0 to 0.5"),
        ("asl", {"clip": math.nan}, "Got nan instead"),
        ("asl", {"gamma_negative": True}, "must be a number"),
        ("asl", {"clip": "0.1"}, "must be a number"),
        ("multilabel_margin", {"virtual_zero": 0.0}, "must be true or false"),
        ("mse", {"delta": 1.0}, "must have no options"),
    ],
)
def test_wrong_options_are_refused(name, options, says):
    with pytest.raises(ConfigError, match=says):
        made(name, options)


def test_options_are_filled_in_and_change_what_is_calibrated():
    assert resolve_options("focal", {"gamma": 1}) == {"gamma": 1.0, "alpha": 0.5}
    assert isinstance(resolve_options("focal", {"gamma": 1})["gamma"], float)
    assert made("bce", {"label_smoothing": 0}).calibrated
    assert not made("bce", {"label_smoothing": 0.1}).calibrated


@pytest.mark.parametrize(("task", "labels"), [("binary", 1), ("multiclass", 1), ("multilabel", 0)])
def test_too_few_labels_are_refused(task, labels):
    name = "bce" if task == "multilabel" else "cross_entropy"
    statistics = LabelStatistics(counts=np.ones(labels, dtype=np.int64), rows=3)
    with pytest.raises(ConfigError, match=f"{task} data must have at least"):
        make_loss(name, task, statistics)


# Counting labels.


@given(st.integers(0, 20), st.integers(1, 6), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_labels_are_counted(rows, labels, seed):
    generator = random.Random(seed)
    hot = np.array([[generator.random() < 0.4 for _ in range(labels)] for _ in range(rows)])
    found = label_statistics(hot.reshape(rows, labels), "multilabel", labels=labels)
    assert found.counts.tolist() == [
        sum(bool(hot[r][c]) for r in range(rows)) for c in range(labels)
    ]
    assert found.rows == rows
    classes = np.array([generator.randrange(labels) for _ in range(rows)], dtype=np.int64)
    found = label_statistics(classes, "multiclass", labels=labels)
    assert found.counts.tolist() == [classes.tolist().count(c) for c in range(labels)]


def test_unknown_targets_are_not_counted():
    hot = np.array([[1.0, math.nan, 0.0], [UNKNOWN, 1.0, 1.0]])
    assert label_statistics(hot, "multilabel", labels=3).counts.tolist() == [1, 1, 1]
    classes = np.array([UNKNOWN, 1, 1])
    assert label_statistics(classes, "multiclass", labels=3).counts.tolist() == [0, 2, 0]
    assert label_statistics(np.array([0.5, 2.0]), "regression", labels=0).counts.tolist() == []


@pytest.mark.parametrize("counts", [[[1]], [-1], [4]])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="counts must be"):
        LabelStatistics(counts=np.array(counts), rows=3)
