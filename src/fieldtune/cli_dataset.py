"""The commands under `fieldtune dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldtune.console import say

dataset = typer.Typer(name="dataset", help="Training data to and from the formats of others.", no_args_is_help=True)


@dataset.command("export")
def export_data(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or a folder that holds train.jsonl.")],
    out: Annotated[Path, typer.Option(help="The folder or, for flagembedding and csv, the file to write.")],
    to: Annotated[
        str, typer.Option(help="beir, flagembedding, pairs, scored-pairs, triplets, tuples (Parquet) or csv.")
    ] = "pairs",
    negatives: Annotated[int, typer.Option(min=0, help="Negatives of each tuple; 0 takes the median.")] = 0,
) -> None:
    """Write a run's training data in a format that others read."""
    from fieldtune.dataset.export import export_dataset
    from fieldtune.standalone import described

    for line in described(export_dataset(run, to, out, negatives=negatives)):
        say(line)
    say(f"{to}: {out}")


@dataset.command("import")
def import_data(
    labels: Annotated[Path, typer.Argument(help="CSV, JSON lines, Parquet, or a folder of them or of `datasets`.")],
    out: Annotated[Path, typer.Option(help="The BEIR folder to write.")],
) -> None:
    """Make a BEIR folder of pairs, triplets, tuples or FlagEmbedding rows; their passages become the corpus."""
    from fieldtune.dataset.importing import import_dataset
    from fieldtune.standalone import described

    for line in described(import_dataset(labels, out)):
        say(line)
    say(f"BEIR folder: {out}")
