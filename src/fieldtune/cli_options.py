"""Options and arguments that several commands have, and what --fail-unless does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldtune.console import note
from fieldtune.exits import NOT_GOOD_ENOUGH

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


def wanted_verdicts(fail_unless: list[str] | None) -> tuple[str, ...]:
    """The verdicts that were asked for, read before any work is done."""
    if not fail_unless:
        return ()
    from fieldtune.evaluation import parse_outcomes

    return parse_outcomes(fail_unless)


def require_verdict(outcome: str, wanted: tuple[str, ...]) -> None:
    """End with status 3 where the verdict is none of those."""
    if wanted and outcome not in wanted:
        note(f"the verdict is {outcome!r}, wanted: {' or '.join(wanted)}", style="bold red")
        raise typer.Exit(NOT_GOOD_ENOUGH)
