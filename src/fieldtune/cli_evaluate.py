"""The commands that measure: `evaluate` models side by side, `compare` two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldtune.cli_options import BeirFolder, FailUnless, Set, require_verdict, wanted_verdicts
from fieldtune.console import say, table
from fieldtune.exits import NOT_GOOD_ENOUGH


def evaluate(
    data: BeirFolder,
    model: Annotated[list[str] | None, typer.Option(help="Hub id, folder or builtin:NAME; may be repeated.")] = None,
    split: Annotated[str, typer.Option(help="Which qrels.")] = "test",
    bm25: Annotated[bool, typer.Option("--bm25", help="BM25 beside the models.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    per_query: Annotated[Path | None, typer.Option(help="Write a row per query and system to this CSV file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or auto or bf16 for speed.")] = "fp32",
    measure: Annotated[
        list[str] | None, typer.Option(help="nDCG@10, Recall@100, R-precision …: the columns to show; may be repeated.")
    ] = None,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Each model together with BM25.")] = False,
    rerank: Annotated[str, typer.Option(metavar="MODEL", help="A cross-encoder that reorders the first ranks.")] = "",
    dimensions: Annotated[str, typer.Option(help="auto, or sizes such as 256,128: shorter vectors.")] = "",
    precisions: Annotated[str, typer.Option(help="int8, binary or both, with a comma: smaller vectors.")] = "",
    without_prompts: Annotated[
        bool, typer.Option("--without-prompts", help="Each model also without its prompts: a common mistake.")
    ] = False,
    train_data: Annotated[
        Path | None, typer.Option(help="Training rows (query, pos, neg) of a model, to be checked for leaks.")
    ] = None,
    judgements: Annotated[list[Path] | None, typer.Option(help="A filled-in labelling file; may be repeated.")] = None,
    unjudged: Annotated[
        Path | None, typer.Option(help="Write unjudged passages to this CSV file for labelling.")
    ] = None,
    llm_judge: Annotated[
        bool, typer.Option("--llm-judge", help="Let the LLM of the settings propose grades in --unjudged.")
    ] = False,
    general: Annotated[
        bool, typer.Option("--general", help="Also what the last model lost on everyday texts.")
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="Write the rankings to this TREC run file; several systems, a file each.")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Put the figures on the last model's card; it is the OUT of fieldtune train.")
    ] = False,
    fail_unless: FailUnless = None,
    set_: Set = None,
) -> None:
    """Measure models side by side on a BEIR folder; the first model is what the others are compared with."""
    from fieldtune.config import evaluation_words, make_config, merge, parse_overrides
    from fieldtune.evaluate_request import Asked, Files
    from fieldtune.evaluating import evaluate_models
    from fieldtune.measures import canonical

    show = [canonical(name) for name in measure or []]
    settings = evaluation_words(
        measures=show, hybrid=hybrid, rerank=rerank, dimensions=dimensions, precisions=precisions,
        without_prompts=without_prompts,
    )  # fmt: skip
    config = make_config(merge(settings, parse_overrides(set_ or [])), where="the command line")
    wanted = wanted_verdicts(fail_unless)
    asked = Asked(
        data=data, split=split, models=tuple(model or ()), bm25=bm25, precision=precision, general=general,
        train_data=train_data, judgements=tuple(judgements or ()),
    )  # fmt: skip
    files = Files(
        json=json, per_query=per_query, report=report, unjudged=unjudged, llm_judge=llm_judge, runs=run, card=card
    )
    columns, rows, said, outcome = evaluate_models(config, asked, files, show)
    say(said[0], style="bold")
    for sentence in said[1:]:
        say(sentence)
    say()
    table(columns, rows)
    require_verdict(outcome, wanted)


def compare(
    run_a: Annotated[Path, typer.Argument(help="The earlier run.")],
    run_b: Annotated[Path, typer.Argument(help="The later run.")],
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    fail_if_worse: Annotated[bool, typer.Option("--fail-if-worse", help="Exit with 3 when B is worse.")] = False,
) -> None:
    """Two runs on the same test set, query by query, with paired tests; refused where the test sets differ."""
    from fieldtune.standalone import compare_folders

    found, columns, rows = compare_folders(run_a, run_b, json)
    say(found.sentence, style="bold")
    for sentence in found.notes:
        say(sentence)
    say()
    table(columns, rows)
    if fail_if_worse and found.outcome == "worse":
        raise typer.Exit(NOT_GOOD_ENOUGH)
