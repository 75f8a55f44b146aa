"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting.")]
Preset = Annotated[str, typer.Option(help="quick, balanced or best.")]
BeirFolder = Annotated[Path, typer.Option("--data", help="A BEIR folder: corpus.jsonl, queries.jsonl, qrels/.")]
ConfigFile = Annotated[Path, typer.Argument(help="The TOML file that `fieldtune init` writes.")]
MaxCost = Annotated[float, typer.Option("--max-cost", min=0, help="Stop asking the LLM before this is spent.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=0, help="Stop asking the LLM before this many tokens.")]
FailUnless = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-unless", metavar="VERDICT", help="Exit with 3 for any other verdict: ship, no-measurable-difference ..."
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a finished run.")]
