"""`bert-cls export`: engine files into a model folder, each checked against the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bert_cls.commands.console import open_console, quiet_hub


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    to: Annotated[
        str, typer.Option("--to", help="openvino, openvino-int8, onnx or onnx-int8.")
    ] = "openvino-int8",
) -> None:
    """Write a faster form of a model into its folder; refuses when answers change."""
    quiet_hub()
    from bert_cls.export import export as export_model

    console = open_console()

    def say(message: str) -> None:
        console.print(message, style="dim", highlight=False, markup=False)

    for done in export_model(model, to, say):
        facts = done.facts
        console.print(
            f"{done.name}: {facts['rows'] - facts['flips']} of {facts['rows']} rows get the same "
            f"labels, largest score difference {facts['largest_difference']:.2g}, "
            f"{facts['bytes'] / 1e6:.0f} MB, {facts['times_torch']} times the speed of torch",
            highlight=False,
            soft_wrap=True,
        )
        if "second_looks" in facts:
            console.print(
                f"  int8 alone would change {facts['alone']['flips']} rows; rows within "
                f"{facts['margin']:.3f} of another label ({facts['second_looks']:.1%}) are "
                "computed again more exactly",
                highlight=False,
                soft_wrap=True,
            )
            if facts["float32_layers"]:
                console.print(f"  {len(facts['float32_layers'])} layers stay in float32")
