"""The commands under `fieldtune adapter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldtune.cli_options import BeirFolder, Set
from fieldtune.console import say, table

adapter = typer.Typer(name="adapter", help="Adapters: merged into their base, or on vectors.", no_args_is_help=True)

VectorFolder = Annotated[
    Path, typer.Option(help="A folder with queries.npy, passages.npy and queries.ids.txt, passages.ids.txt.")
]


@adapter.command("merge")
def merge_into_base(
    base: Annotated[str, typer.Option(help="The model that the adapter was trained on.")],
    adapter: Annotated[Path, typer.Option(help="The adapter's folder, or that of a tuned model or run.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
) -> None:
    """Write a base model with an adapter in it, as a folder that Sentence Transformers loads."""
    from fieldtune.adapters import merge_adapter

    for line in merge_adapter(base, adapter, out):
        say(line)


@adapter.command("train")
def train_on_vectors(
    data: BeirFolder,
    vectors: VectorFolder,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    set_: Set = None,
) -> None:
    """Train a layer on query vectors of any model, a closed one too; what is indexed stays as it is."""
    from fieldtune.adapters import train_query_adapter
    from fieldtune.config import make_config, merge, parse_overrides
    from fieldtune.errors import ConfigError

    wanted = parse_overrides(set_ or [])
    given = merge({"training": {"method": "query"}}, wanted)
    if given["training"]["method"] != "query":
        raise ConfigError(
            f"training.method={given['training']['method']} trains a model's weights, and here are vectors alone",
            "leave it out: what is trained here is a layer on the queries' vectors; fieldtune train trains a model",
        )
    for line in train_query_adapter(make_config(given, where="--set"), data, vectors, out):
        say(line)


@adapter.command("evaluate")
def evaluate_on_vectors(
    data: BeirFolder,
    vectors: VectorFolder,
    adapter: Annotated[Path, typer.Option(help="The adapter's folder.")],
    split: Annotated[str, typer.Option(help="Which qrels.")] = "test",
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    set_: Set = None,
) -> None:
    """Measure vectors with and without a query adapter, side by side."""
    from fieldtune.adapters import evaluate_query_adapter
    from fieldtune.config import make_config, parse_overrides

    config = make_config(parse_overrides(set_ or []), where="--set")
    columns, rows, notes = evaluate_query_adapter(config, data, vectors, adapter, split, json)
    table(columns, rows)
    for sentence in notes:
        say(sentence)
