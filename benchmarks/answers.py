"""Whether engines answer alike: against torch, and in other company and padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from bert_cls.bundle import Bundle
from bert_cls.decision import margins
from bert_cls.engines import Engine, open_engine, run
from bert_cls.export.check import CLOSE, other_labels
from bert_cls.text import PaddedBatch, Tokens
from bert_cls.tokens import subset

OURS = "ours: openvino-int8, close calls looked at again"


def flips_of(bundle: Bundle, tokens: Tokens) -> dict[str, dict[str, Any]]:
    """Rows whose labels differ from torch's in float32 where those are no closer than CLOSE."""
    rule = bundle.rule

    def answers(name: str, looks: bool = True) -> Any:
        engine = open_engine(bundle, name)
        out = run(
            engine,
            tokens,
            pad_id=bundle.pad_id,
            outputs=bundle.outputs,
            rule=rule if looks else None,
        )
        return engine, out

    _, wanted = answers("torch")
    clear = margins(rule, wanted) > CLOSE
    exact = rule.scores(wanted)
    found = {}
    for label, name, looks in (
        ("torch bf16", "torch-bfloat16", True),
        ("openvino bf16", "openvino-bfloat16", True),
        ("openvino-int8 alone", "openvino-int8", False),
        ("onnx-int8 alone", "onnx-int8", False),
        (OURS, "openvino-int8", True),
    ):
        if name == "onnx-int8" and name not in bundle.details["engines"]:
            continue
        engine, given = answers(name, looks)
        scores = rule.scores(given)
        found[label] = {
            "rows": int(clear.sum()),
            "flips": int((other_labels(rule, exact, scores) & clear).sum()),
            "largest_score_difference": float(np.abs(scores - exact).max()),
        }
        if label == OURS:
            found[label]["second_looks"] = float(
                engine.unsure(answers(name, False)[1], rule).mean()
            )
    return found


def invariance_of(bundle: Bundle, tokens: Tokens) -> dict[str, dict[str, Any]]:
    """Each text alone, in 20 random batches and in two padding lengths: what changes."""
    generator = np.random.default_rng(0)
    rule = bundle.rule
    found = {}
    for name, repeats in (("openvino", 2), ("openvino-int8", 20)):
        engine = open_engine(bundle, name)

        def answer(rows: Any, width: int = 0, engine: Engine = engine) -> Any:
            batch = tokens.padded(rows, bundle.pad_id)
            extra = ((0, 0), (0, max(0, width - batch.ids.shape[1])))
            out = engine.logits(
                PaddedBatch(
                    np.pad(batch.ids, extra, constant_values=bundle.pad_id),
                    np.pad(batch.types, extra),
                    np.pad(batch.mask, extra),
                )
            )
            return np.array(out)

        alone = np.concatenate([answer(np.array([row])) for row in range(len(tokens))])
        exact = rule.scores(alone)
        difference, flips = 0.0, 0
        others = []
        for _ in range(repeats):
            order = generator.permutation(len(tokens))
            parts = np.array_split(order, max(1, len(order) // 16))
            out = np.zeros_like(alone)
            for part in parts:
                out[part] = answer(part)
            others.append(out)
        few = np.arange(min(100, len(tokens)))
        for width in (128, 256):
            out = alone.copy()
            out[few] = np.concatenate([answer(few[[i]], width) for i in few])
            others.append(out)
        for out in others:
            scores = rule.scores(out)
            difference = max(difference, float(np.abs(scores - exact).max()))
            flips += int(other_labels(rule, exact, scores).sum())
        found[name] = {"flips": flips, "largest_score_difference": difference}
        found[f"{name}, all at once"] = _all_at_once(bundle, engine, tokens)
    return found


def _all_at_once(bundle: Bundle, engine: Engine, tokens: Tokens) -> dict[str, Any]:
    """As `predict` answers a file against one call a text, close calls looked at again in both."""
    rule = bundle.rule

    def answers(some: Tokens) -> Any:
        logits = run(engine, some, pad_id=bundle.pad_id, outputs=bundle.outputs, rule=rule)
        return rule.scores(logits)

    together = answers(tokens)
    alone = np.concatenate([answers(subset(tokens, np.array([i]))) for i in range(len(tokens))])
    differences = np.abs(together - alone).max(axis=1)
    return {
        "flips": int(other_labels(rule, alone, together).sum()),
        "largest_score_difference": float(differences.max()),
        "rows_over_0.001": int((differences > 1e-3).sum()),
    }
