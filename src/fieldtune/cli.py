"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fieldtune import __version__
from fieldtune.cli_adapter import adapter
from fieldtune.cli_dataset import dataset
from fieldtune.cli_evaluate import compare, evaluate
from fieldtune.cli_export import export
from fieldtune.cli_options import (
    BeirFolder,
    ConfigFile,
    FailUnless,
    MaxCost,
    MaxTokens,
    Preset,
    RunFolder,
    Set,
    require_verdict,
    wanted_verdicts,
)
from fieldtune.cli_serve import ask, serve
from fieldtune.cli_uses import classify, duplicates, outliers
from fieldtune.console import say, size, table
from fieldtune.launched import run_command

if TYPE_CHECKING:
    from fieldtune.config import Config

app = typer.Typer(
    name="fieldtune",
    help="A field's documents in; an embedding model that finds the right passage out, with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        say(f"fieldtune {__version__}")
        raise typer.Exit


@app.command()
def demo(
    field: Annotated[str, typer.Argument(help="medicine or law")] = "medicine",
    out: Annotated[Path | None, typer.Option(help="The run's folder.  [default: demo-run, demo-law]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="law: fewer laws and queries, under 15 minutes.")] = False,
    set_: Set = None,
) -> None:
    """An example from start to report: clinicians' terms for ICD-10-CM codes, or people's questions on Chinese law."""
    from fieldtune.config import make_config, merge, parse_overrides
    from fieldtune.demo import prepare_law, prepare_medicine
    from fieldtune.errors import ConfigError
    from fieldtune.summary import print_summary

    if field == "medicine":
        folder = out or Path("demo-run")
        prepared = prepare_medicine(folder)  # short as it is
    elif field == "law":
        folder = out or Path("demo-law")
        prepared = prepare_law(folder, quick=quick)
    else:
        raise ConfigError(f"there is no demo {field!r}", "there are: medicine, law")
    config = make_config(merge(prepared.model_dump(by_alias=True), parse_overrides(set_ or [])))
    _run(config, "", "")
    print_summary(folder)


@app.command()
def init(
    docs: Annotated[Path, typer.Argument(help="A folder, file or pattern with your documents.")],
    out: Annotated[Path, typer.Option(help="The config to write.")] = Path("fieldtune.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented config for your own folder."""
    from fieldtune.starter import write_starter

    say(write_starter(docs, out, force=force))


@app.command()
def plan(
    config: ConfigFile,
    ask: Annotated[bool, typer.Option("--ask", help="Make, pay for and keep the first 20 LLM requests.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Load the base model and time it on 64 passages, for better estimates.")
    ] = False,
    max_cost: MaxCost = 0,
    max_tokens: MaxTokens = 0,
    set_: Set = None,
) -> None:
    """What `run` would do: which stages are finished, which would run and why, how much there is to do, how long it
    takes, and what an LLM would cost."""
    from fieldtune.config import load_config
    from fieldtune.plan import COLUMNS, forecast, query_price

    resolved = load_config(config, _overrides(set_, max_cost, max_tokens))
    said = query_price(resolved, ask=ask)  # before the table: it may read documents and cut passages
    rows, about = forecast(resolved, measure=measure)
    table(COLUMNS, rows)
    for sentence in [*about, *said]:
        say(sentence)


@app.command()
def run(
    config: ConfigFile,
    from_: Annotated[str, typer.Option("--from", help="Run this stage and all to its right again.")] = "",
    until: Annotated[str, typer.Option(help="Stop after this stage.")] = "",
    max_cost: MaxCost = 0,
    max_tokens: MaxTokens = 0,
    fail_unless: FailUnless = None,
    set_: Set = None,
) -> None:
    """Documents to a tuned model, a report and an index; finished work is not repeated."""
    from fieldtune.config import load_config
    from fieldtune.summary import print_summary

    resolved = load_config(config, _overrides(set_, max_cost, max_tokens))
    # Figures that an earlier run left in the folder are not this one's.
    wanted = wanted_verdicts(fail_unless)
    if "evaluation" in _run(resolved, from_, until):
        outcome = print_summary(Path(resolved.out))
        require_verdict(outcome, wanted)
    elif wanted:
        require_verdict("not compared", wanted)


@app.command()
def train(
    data: BeirFolder,
    out: Annotated[Path, typer.Option(help="Becomes the model's folder; the run's files lie in OUT/run.")],
    model: Annotated[str, typer.Option(help="Hub id, folder or builtin:NAME.")] = "builtin:all-MiniLM-L6-v2",
    preset: Preset = "balanced",
    set_: Set = None,
) -> None:
    """Tune a model on a BEIR folder's train split; the best weights are chosen on dev, test is not looked at."""
    from fieldtune.config import make_config, merge, parse_overrides
    from fieldtune.standalone import train_on_beir

    settings = {"preset": preset, "model": {"base": model}}
    config = make_config(merge(settings, parse_overrides(set_ or [])), where="--set")
    for line in train_on_beir(config, data, out):
        say(line)


@app.command()
def tune(
    data: Annotated[Path, typer.Option("--data", help="A BEIR folder, or the TOML file of a config.")],
    out: Annotated[Path, typer.Option(help="The folder of the search: trials, the winner's config and model.")],
    model: Annotated[str, typer.Option(help="Hub id, folder or builtin:NAME.  [default: the config's]")] = "",
    trials: Annotated[int, typer.Option(min=0, help="Trainings at most; 0: as many as the time allows.")] = 0,
    minutes: Annotated[float, typer.Option(min=0, help="Time for trainings; 0: no limit.")] = 0,
    preset: Annotated[str, typer.Option(help="quick, balanced or best.  [default: the config's]")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting, and keep it fixed."),
    ] = None,
) -> None:
    """Search over settings of training within a budget, by dev alone; a killed search goes on where it was."""
    from fieldtune.config import merge, parse_overrides
    from fieldtune.tuning.command import tune_settings

    asked = {"preset": preset} if preset else {}
    overrides = merge(asked | ({"model": {"base": model}} if model else {}), parse_overrides(set_ or []))
    columns, rows, lines = tune_settings(data, out, overrides, trials=trials, minutes=minutes)
    table(columns, rows)
    say()
    for line in lines:
        say(line)


app.command()(evaluate)
app.command()(export)


@app.command()
def generate(config: ConfigFile, max_cost: MaxCost = 0, max_tokens: MaxTokens = 0, set_: Set = None) -> None:
    """Run until queries exist: read the documents, cut passages, make or read queries."""
    from fieldtune.config import load_config

    resolved = load_config(config, _overrides(set_, max_cost, max_tokens))
    _run(resolved, "", "queries")
    say(f"queries: {Path(resolved.out) / 'queries' / 'queries.jsonl'}")


@app.command()
def mine(
    data: BeirFolder,
    out: Annotated[Path, typer.Option(help="The JSON lines file to write (query, pos, neg, scores).")],
    model: Annotated[str, typer.Option(help="Hub id, folder or builtin:NAME.")] = "builtin:all-MiniLM-L6-v2",
    candidates: Annotated[str, typer.Option(help="Where they come from: model, bm25 or fused.")] = "",
    check: Annotated[str, typer.Option(help="A cross-encoder, or llm, that looks for answers among them.")] = "",
    teacher: Annotated[
        str, typer.Option(help="A cross-encoder, a larger embedding model, fused or llm: its scores are stored.")
    ] = "",
    set_: Set = None,
) -> None:
    """Mine hard negatives for a BEIR folder's train split from a model's own mistakes; check and score them."""
    from fieldtune.config import make_config, merge, parse_overrides
    from fieldtune.standalone import mine_beir

    settings = {
        "model": {"base": model},
        "negatives": {"check": check} | ({"candidates": candidates} if candidates else {}),
        "teacher": {"model": teacher},
    }
    config = make_config(merge(settings, parse_overrides(set_ or [])), where="--set")
    for line in mine_beir(config, data, out):
        say(line)


app.add_typer(dataset)
app.add_typer(adapter)


@app.command()
def index(
    run: RunFolder,
    docs: Annotated[
        list[str] | None,
        typer.Option("--docs", metavar="FOLDER", help="Index these documents; encode only what is new in them."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="DOCS", help="Add these documents to those that are indexed, or replace them."),
    ] = None,
    set_: Set = None,
) -> None:
    """Build a finished run's index again from its corpus and tuned model, or bring it up to date with documents."""
    from fieldtune.config import make_config, merge, parse_overrides
    from fieldtune.errors import ConfigError
    from fieldtune.pipeline import outlook
    from fieldtune.stages.record import recorded_config

    config = make_config(merge(recorded_config(run), parse_overrides(set_ or [])))
    if docs or add:
        from fieldtune.stages.reindex import reindex
        from fieldtune.summary import print_result

        if docs and add:
            raise ConfigError(
                "--docs and --add contradict each other", "--docs names all documents, --add more of them"
            )
        print_result(reindex(config, tuple(docs or add or ()), add=bool(add)))
        return
    waiting = [name for name, state, _ in outlook(config) if state != "done" and name != "index"]
    if waiting:
        raise ConfigError(
            f"{run}: the stage {waiting[0]} is not finished",
            "fieldtune run CONFIG goes on from there; fieldtune index RUN --docs FOLDER takes changed documents into "
            "the index alone",
        )
    _run(config, "index", "index")


@app.command()
def search(
    run: RunFolder,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many passages.")] = 5,
    mode: Annotated[
        str,
        typer.Option(
            help="dense, words, hybrid, or auto: the best of them on dev; with training.m3 also sparse, dense-sparse, "
            "multi (by token vectors), m3 (all three) and m3-words."
        ),
    ] = "auto",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help="Only these; COLUMN=FROM..TO for numbers and dates."),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Let the reranker of the index order the first ones.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for scripts.")] = False,
) -> None:
    """Ranked passages of a finished run, with document and page."""
    # Before NumPy is loaded: one short query on several cores mostly waits for the busiest of them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fieldtune.index import Index, parse_where
    from fieldtune.summary import print_hits

    opened = Index.open(run, once=True)
    limits = parse_where(where or [], opened.columns)
    print_hits(opened.search(query, k, mode=mode, where=limits, rerank=rerank), as_json=json)


app.command()(serve)
app.command()(ask)


app.command()(compare)
app.command()(classify)
app.command()(duplicates)
app.command()(outliers)


@app.command()
def push(
    run: RunFolder,
    to: Annotated[str, typer.Option(help="The repository on the hub: NAME/REPO.")],
    public: Annotated[bool, typer.Option("--public", help="Everyone may see it; private without this.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; needs no network.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also a model whose verdict says not to ship it.")] = False,
) -> None:
    """Send a run's model with its card to a hub; the token comes from HF_TOKEN alone."""
    from fieldtune.publish import plan_push, send

    planned = plan_push(run, to, public=public)
    table(("file", "size", "sha256"), [(file.name, size(file.size), file.sha256[:12]) for file in planned.files])
    for name, why in planned.left_out:
        say(f"left out: {name} ({why})")
    for sentence in planned.warnings:
        say(sentence, style="bold")
    say(f"{len(planned.files)} files, {size(planned.size)}, to {to} ({'public' if public else 'private'})")
    say("dry run: nothing was sent" if dry_run else f"sent: {send(planned, anyway=anyway)}")


@app.command()
def doctor() -> None:
    """What is there: processor features, GPU, hub, models, versions."""
    from fieldtune.doctor import examine, rows

    table(("what", "state"), rows(examine()))


def _overrides(pairs: list[str] | None, max_cost: float, max_tokens: int) -> dict[str, Any]:
    """What --set says, and the limits that have options of their own."""
    from fieldtune.config import merge, parse_overrides

    limits = {name: value for name, value in (("max_cost", max_cost), ("max_tokens", max_tokens)) if value}
    return merge(parse_overrides(pairs or []), {"llm": limits} if limits else {})


def _run(config: Config, first: str, last: str) -> list[str]:
    """Run the stages; returns their names."""
    from fieldtune.pipeline import run_pipeline

    return [result.stage for result in run_pipeline(config, first=first, last=last)]


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit with 0 when done, 2 when the user must change something, 1 for a bug, 3 when a condition
    that was asked for does not hold, 130 on Ctrl-C, 143 on SIGTERM."""
    words = sys.argv[1:] if arguments is None else arguments
    # Wherever it stands on the line: someone who just saw an error puts it at the end.
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    sys.exit(run_command(lambda: app(words, standalone_mode=False), debug=debug))
