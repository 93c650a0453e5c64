"""Static int8: weights by column, activations by scales that are fixed once, on sample rows.

Fixed scales are what keeps an answer from depending on its neighbours in a batch. Before it is
rounded, each activation channel is divided by a factor that its weights are multiplied by (Xiao et
al. 2022, SmoothQuant); the factor's exponent and the range are those with the least squared error
of the layer's own output. Weights are rounded one input channel after the other, each passing its
error on to those that follow (Frantar et al. 2023, GPTQ). The matrix products of attention stay in
float: they are 3 % of the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bert_cls.export.activations import Seen

Floats = NDArray[np.float32]

_EXPONENTS = (0.0, 0.4, 0.6, 0.8, 1.0)
_SHRINKS = (1.0, 0.85, 0.7)
_DAMPING = 0.01
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Site:
    """A tensor that one or more linear layers read, and those layers' weights by name."""

    tensor: str
    weights: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scales:
    """How a site is rounded: `factors` float32 [channels] divide, then u8 of one scale and zero."""

    factors: Floats
    scale: np.float32
    zero: np.uint8
    error: float
    """squared error of the layers' outputs over the outputs' own squares, on the sample"""

    def rounded(self, x: Floats) -> Floats:
        """The values [tokens, channels] as the quantised layer sees them, still divided."""
        q = np.rint(x / self.factors / self.scale) + np.float32(self.zero)
        return np.asarray((np.clip(q, 0, 255) - np.float32(self.zero)) * self.scale, np.float32)


def sites(model: onnx.ModelProto) -> list[Site]:
    """Where linear layers with constant weights read, in the graph's order."""
    constant = {t.name for t in model.graph.initializer if len(t.dims) == 2}
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constant:
            found.setdefault(node.input[0], []).append(node.input[1])
    return [Site(tensor, tuple(weights)) for tensor, weights in found.items()]


def quantise(
    model: onnx.ModelProto, samples: Mapping[str, Seen], *, keep: frozenset[str] = frozenset()
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """A copy of `model` whose linear layers are int8 but for those reading the tensors in `keep`.

    `samples` says what each site's tensor was. Also gives each site's relative squared error of
    output.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    errors = {}
    replaced: dict[tuple[str, str], tuple[str, str]] = {}
    for number, site in enumerate(s for s in sites(model) if s.tensor not in keep):
        values = [weights[name] for name in site.weights]
        seen = samples[site.tensor]
        scales = _search(seen, values)
        errors[site.tensor] = scales.error
        tensor = _insert_input(result, f"int8_{number}", site.tensor, scales)
        passing = _passing(scales.rounded(seen.sample))
        for place, (name, value) in enumerate(zip(site.weights, values, strict=True)):
            smooth = value * scales.factors[:, None]
            weight = _insert_weight(result, f"int8_{number}_{place}", smooth, passing)
            replaced[site.tensor, name] = (tensor, weight)
    _rewire(result, replaced)
    return result, errors


def _search(seen: Seen, weights: Sequence[Floats]) -> Scales:
    """The factors and range with the least squared error of the outputs."""
    x = seen.sample
    joined = np.concatenate(weights, axis=1)
    exact = x @ joined
    power = float(np.square(exact).sum()) or 1.0
    reach = np.maximum(np.maximum(-seen.low, seen.high), 1e-6)
    strength = np.maximum(np.abs(joined).max(axis=1), 1e-6)
    tried = []
    for exponent in _EXPONENTS:
        factors = reach**exponent / strength ** (1 - exponent) if exponent else np.ones_like(reach)
        factors = np.asarray(factors / np.exp(np.log(factors).mean()), np.float32)
        smooth = joined * factors[:, None]
        column = _column_scales(smooth)
        coarse = np.rint(smooth / column) * column
        for candidate in _ranges(seen, factors):
            error = float(np.square(candidate.rounded(x) @ coarse - exact).sum()) / power
            tried.append(replace(candidate, error=error))
    return min(tried, key=lambda scales: scales.error)


def _ranges(seen: Seen, factors: Floats) -> Iterator[Scales]:
    low = min(0.0, float((seen.low / factors).min()))
    high = max(0.0, float((seen.high / factors).max()))
    for shrink in _SHRINKS:
        least, most = low * shrink, high * shrink
        scale = np.float32(max(most - least, 1e-8) / 255)
        yield Scales(factors, scale, np.uint8(round(-least / float(scale))), 0.0)


def _passing(x: Floats) -> Floats:
    """Float32 [channels, channels], upper: how a channel's error is passed on to later ones.

    The Cholesky factor of the inverse of the damped second moments of the rounded activations.
    """
    moments = (x.T @ x / len(x)).astype(np.float64)
    moments += np.eye(len(moments)) * (_DAMPING * moments.diagonal().mean() + 1e-12)
    return np.linalg.cholesky(np.linalg.inv(moments)).T.astype(np.float32)


def _round_weight(weight: Floats, scale: Floats, passing: Floats) -> NDArray[np.int8]:
    """int8 [channels, columns] of `weight` over `scale`, errors passed on."""
    left = weight.copy()
    rounded = np.zeros(weight.shape, dtype=np.int8)
    for start in range(0, len(weight), _BLOCK):
        end = min(start + _BLOCK, len(weight))
        errors = np.zeros((end - start, weight.shape[1]), dtype=np.float32)
        for channel in range(start, end):
            steps = np.clip(np.rint(left[channel] / scale), -127, 127)
            rounded[channel] = steps
            error = (left[channel] - steps * scale) / passing[channel, channel]
            left[channel + 1 : end] -= np.outer(passing[channel, channel + 1 : end], error)
            errors[channel - start] = error
        left[end:] -= passing[start:end, end:].T @ errors
    return rounded


def _column_scales(weight: Floats) -> Floats:
    return np.asarray(np.maximum(np.abs(weight).max(axis=0), 1e-8) / 127, np.float32)


def _insert_input(model: onnx.ModelProto, name: str, tensor: str, scales: Scales) -> str:
    """Divide, quantise, dequantise behind `tensor`; gives the new tensor's name."""
    inverse = np.asarray(1 / scales.factors, np.float32)
    _constants(model, {f"{name}_by": inverse, f"{name}_s": scales.scale, f"{name}_z": scales.zero})
    pair = [f"{name}_s", f"{name}_z"]
    nodes = [
        helper.make_node("Mul", [tensor, f"{name}_by"], [f"{name}_m"]),
        helper.make_node("QuantizeLinear", [f"{name}_m", *pair], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", *pair], [f"{name}_x"]),
    ]
    model.graph.node.extend(nodes)
    return f"{name}_x"


def _insert_weight(model: onnx.ModelProto, name: str, value: Floats, passing: Floats) -> str:
    """int8 and its scales by column, dequantised; gives the new tensor's name."""
    scale = _column_scales(value)
    rounded = _round_weight(value, scale, passing)
    zeros = np.zeros(len(scale), np.int8)
    inputs = [f"{name}_q", f"{name}_s", f"{name}_z"]
    _constants(model, dict(zip(inputs, (rounded, scale, zeros), strict=True)))
    node = helper.make_node("DequantizeLinear", inputs, [f"{name}_x"], axis=1)
    model.graph.node.append(node)
    return f"{name}_x"


def _rewire(model: onnx.ModelProto, replaced: Mapping[tuple[str, str], tuple[str, str]]) -> None:
    """Let the layers read the rounded tensors, drop weights nothing reads, and sort the nodes."""
    for node in model.graph.node:
        if node.op_type == "MatMul" and (pair := tuple(node.input)) in replaced:
            node.input[0], node.input[1] = replaced[pair]
    read = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in read]
    ordered = _sorted(list(model.graph.node), {t.name for t in kept}, model)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(ordered)


def _sorted(
    nodes: list[onnx.NodeProto], constant: set[str], model: onnx.ModelProto
) -> list[onnx.NodeProto]:
    """Nodes after those whose outputs they read, as ONNX asks."""
    ready = constant | {i.name for i in model.graph.input} | {""}
    makers = {output: node for node in nodes for output in node.output}
    out: list[onnx.NodeProto] = []
    placed: set[int] = set()
    for first in nodes:
        stack = [first]
        while stack:
            node = stack[-1]
            missing = [makers[i] for i in node.input if i not in ready and i in makers]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if id(node) not in placed:
                placed.add(id(node))
                out.append(node)
                ready.update(node.output)
    return out


def _constants(model: onnx.ModelProto, values: Mapping[str, Any]) -> None:
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()
    )
