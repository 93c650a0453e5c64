"""AdamW with the parameter groups of BERT fine-tuning, and the learning-rate schedule."""

from __future__ import annotations

import torch
from torch import nn


def make_optimiser(
    network: nn.Module,
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
    epsilon: float,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); no decay on biases and norms, a rate for the head."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        is_head = name.startswith("head.")
        decays = parameter.ndim > 1
        groups.setdefault((is_head, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": head_learning_rate if is_head else learning_rate,
                "base_lr": head_learning_rate if is_head else learning_rate,
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (is_head, decays), parameters in sorted(groups.items())
        ],
        betas=(0.9, 0.999),
        eps=epsilon,
        fused=True,
    )


def schedule(step: int, *, steps: int, warmup: int) -> float:
    """The factor on the learning rates at `step` (from 0): linear warm-up, linear decay to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup))


def set_rates(optimiser: torch.optim.AdamW, factor: float) -> None:
    """Every group's learning rate becomes its base rate times `factor`."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
