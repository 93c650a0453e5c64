"""Integrated gradients: what each token's embedding adds to a label's margin.

The plain product of gradient and embedding sees only the slope at the text itself, where a sure
model is flat: on models whose decisive word is known it often gave that word the wrong sign. So the
slope is averaged over STEPS points of the way from a text of unknown tokens to the text
(Sundararajan et al. 2017), and multiplied with the whole way.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bert_cls.data.example import Example
from bert_cls.decision import Rule
from bert_cls.decision.rule import LINE
from bert_cls.engines.engine import Engine
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import EngineError
from bert_cls.explain import Span, unknown_id
from bert_cls.text import PaddedBatch, TextEncoder, Tokens, batches_by_length

STEPS = 16
_TOKENS_AT_ONCE = 4096
_LEAST_GAP = 1e-6
"""A power has no slope, or an infinite one, at 0."""


def gradient_spans(
    engine: Engine,
    text: TextEncoder,
    examples: Sequence[Example],
    tokens: Tokens,
    targets: Sequence[Sequence[int]],
    *,
    rule: Rule,
    pad_id: int,
) -> list[tuple[list[Span], NDArray[np.float64]]]:
    """The tokens of each row as spans, and their weights float64 [spans, targets of the row].

    EngineError for an engine that keeps no gradients.
    """
    if not isinstance(engine, TorchEngine):
        raise EngineError(
            f"the method gradient needs the torch engine. This one is {engine.name}.",
            hint="use the method occlusion, which works through every engine.",
        )
    if len(tokens.pieces) > len(tokens):
        raise EngineError(
            "the method gradient reads one window a text, and a text here has several.",
            hint="use the method occlusion, which reads texts as the model does.",
        )
    known = unknown_id(text)
    unknown = pad_id if known is None else known
    fixed = _fixed(text, pad_id)
    by_token: dict[int, NDArray[np.float64]] = {}
    for rows in batches_by_length(tokens.lengths, _TOKENS_AT_ONCE):
        batch = tokens.padded(rows, pad_id)
        path = _Path(engine, batch, unknown=unknown, fixed=fixed)
        wanted = [targets[row] for row in rows]
        stacked = np.stack([path.products(picks, rule) for picks in _picks(wanted)], axis=-1)
        lengths = tokens.lengths[rows].tolist()
        found = [
            stacked[i, :length, : len(labels)]
            for i, (length, labels) in enumerate(zip(lengths, wanted, strict=True))
        ]
        by_token |= dict(zip(rows.tolist(), found, strict=True))
    out = []
    for row, example in enumerate(examples):
        places = text.places(example.text_a, example.text_b)
        kept = [(i, place) for i, place in enumerate(places) if place and place[2] > place[1]]
        spans = [Span(part, start, end, 0.0) for _, (part, start, end) in kept]
        out.append((spans, by_token[row][[i for i, _ in kept]]))
    return out


def _fixed(text: TextEncoder, pad_id: int) -> list[int]:
    """The ids of special tokens: they stay what they are."""
    t = text.template
    parts = (t.before, t.after, t.pair_before, t.pair_between, t.pair_after)
    return sorted({pad_id, *(number for part in parts for number in part)})


def _picks(wanted: list[Sequence[int]]) -> list[list[int]]:
    """One target a row at a time; rows with fewer of them repeat their last."""
    most = max(map(len, wanted))
    return [[labels[min(place, len(labels) - 1)] for labels in wanted] for place in range(most)]


class _Path:
    """The way from unknown tokens to a batch of texts, through the network's embeddings."""

    def __init__(
        self, engine: TorchEngine, batch: PaddedBatch, *, unknown: int, fixed: list[int]
    ) -> None:
        self.network = cast(Any, engine.network)  # torch types its modules loosely
        self.ids, self.types, self.mask = (
            torch.from_numpy(part).to(engine.device)
            for part in (batch.ids, batch.types, batch.mask)
        )
        embeddings = cast(Any, self.network.encoder.get_input_embeddings())
        with torch.no_grad():
            special = torch.isin(self.ids, torch.tensor(fixed, device=engine.device))
            away = torch.where(special, self.ids, torch.full_like(self.ids, unknown))
            self.start, self.end = embeddings(away), embeddings(self.ids)

    def products(self, picks: list[int], rule: Rule) -> NDArray[np.float64]:
        """Mean slope of the picked margins times the way, float64 [rows, tokens]."""
        total = torch.zeros_like(self.start)
        for step in range(STEPS):
            total += self._slope((step + 0.5) / STEPS, picks, rule)
        product = ((self.end - self.start) * total / STEPS).sum(dim=-1)
        array: NDArray[np.float64] = product.double().cpu().numpy()
        return array

    def _slope(self, share: float, picks: list[int], rule: Rule) -> Tensor:
        point = (self.start + share * (self.end - self.start)).requires_grad_()
        embeddings = self.network.encoder.get_input_embeddings()
        mine = get_ident()  # other threads use the same network meanwhile, with texts of theirs
        hook = embeddings.register_forward_hook(lambda *_: point if get_ident() == mine else None)
        try:
            with torch.enable_grad():
                margins = _margins(self.network(self.ids, self.types, self.mask), rule)
                picked = margins[torch.arange(len(picks)), torch.tensor(picks)].sum()
                (slope,) = torch.autograd.grad(picked, point)
        finally:
            hook.remove()
        found: Tensor = slope
        return found


def _margins(logits: Tensor, rule: Rule) -> Tensor:
    """What `rule.margins` gives, [rows, labels], as a graph that gradients go through."""
    if rule.task == "regression":
        return logits
    if rule.slopes:
        x = logits * logits.new_tensor(rule.slopes) + logits.new_tensor(rule.offsets)
    elif rule.power != 1:
        behind = (logits.amax(dim=1, keepdim=True) - logits) / rule.temperature
        x = -(behind.clamp(min=_LEAST_GAP) ** rule.power) - LINE * behind
    else:
        x = logits / rule.temperature + rule.bias
    if rule.activation == "sigmoid":
        return torch.cat([-x, x], dim=1) if rule.task == "binary" else x
    own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return x - x[:, None, :].masked_fill(own, float("-inf")).logsumexp(dim=-1)
