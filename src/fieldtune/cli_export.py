"""The command `fieldtune export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldtune.console import say


def export(
    model: Annotated[str, typer.Argument(help="Hub id, folder or builtin:NAME.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    backend: Annotated[Literal["openvino", "onnx"], typer.Option(help="What is to run it.")] = "openvino",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "int8"], typer.Option(help="auto: what this processor does in hardware.")
    ] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="A BEIR folder: calibrates int8, and nDCG@10 is compared on it.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which of its qrels.")] = "dev",
    max_loss: Annotated[float, typer.Option(min=0, help="Points of nDCG@10 that may be lost.")] = 0.3,
) -> None:
    """Write a model for OpenVINO or ONNX Runtime; kept only if it ranks as the model does."""
    from fieldtune.config import Encoding
    from fieldtune.exporting import export as write

    for line in write(model, backend, precision, out, data=data, split=split, settings=Encoding(max_loss=max_loss)):
        say(line)
