"""`bert-cls export`: engine files into a model folder, each checked against the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bert_cls.commands.console import open_console
from bert_cls.quiet import quiet_hub


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    to: Annotated[
        str, typer.Option("--to", help="openvino, openvino-int8, onnx or onnx-int8.")
    ] = "openvino-int8",
) -> None:
    """Write a faster form of a model into its folder; refuses when answers change."""
    quiet_hub()
    from bert_cls.bundle import load
    from bert_cls.export import export as export_model

    console = open_console()

    def say(message: str) -> None:
        console.print(message, style="dim", highlight=False, markup=False)

    def tell(message: str) -> None:
        console.print(message, highlight=False, markup=False, soft_wrap=True)

    done = export_model(model, to, say)
    is_regression = load(model, check=False).task == "regression"
    for one in done:
        facts = one.facts
        agreement = (
            f"{facts['rows']} rows compared, largest difference "
            f"{_said(facts['largest_difference'])} standard deviations"
            if is_regression
            else f"{facts['rows'] - facts['flips']} of {facts['rows']} rows get the same labels, "
            f"largest score difference {_said(facts['largest_difference'])}"
        )
        tell(
            f"{one.name}: {agreement}, {_said(facts['bytes'] / 1e6)} MB, "
            f"{facts['times_torch']} times the speed of torch"
        )
        if "second_looks" in facts and not is_regression:
            tell(
                f"  int8 alone would change {facts['alone']['flips']} rows; rows within "
                f"{_said(facts['margin'])} of another label ({facts['second_looks']:.1%}) are "
                "computed again more exactly"
            )
        if kept := facts.get("float32_layers"):
            tell(f"  in float32 stay {', '.join(kept)}")
    fastest = max(done, key=lambda one: one.facts["times_torch"])
    if fastest is not done[-1]:
        tell(f"  {fastest.name} was faster here: bert-cls predict --engine {fastest.name}")


def _said(value: float) -> str:
    """Two significant digits, or all those before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
