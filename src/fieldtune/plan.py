"""What a run would do and take, told before it does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from fieldtune.beir import read_corpus
from fieldtune.config import Config
from fieldtune.console import duration, size
from fieldtune.pipeline import NAMES, outlook, require_fit, run_pipeline
from fieldtune.stages.inputs import given_corpus
from fieldtune.timing import Estimate, Speed, estimate, measured_speed, rough_speed
from fieldtune.workload import Workload, work_of
from fieldtune.workspace import Workspace, read_jsonl

COLUMNS = ("stage", "state", "how much", "time")
_MADE_UP = " ".join(["In the event of a breach the other party may terminate this agreement in writing."] * 12)


def forecast(config: Config, *, measure: bool = False) -> tuple[list[tuple[str, ...]], list[str]]:
    """A row of `COLUMNS` per stage, and what there is to say about the times.

    Reads the contents of files and changes nothing. With `measure` the base model is loaded and timed on 64 passages.
    Raises ConfigError or ModelError for settings that ask for more than the base model has.
    """
    require_fit(config)
    workspace = Workspace(Path(config.out))
    earlier = {result.stage: (result, seconds) for result, seconds in workspace.results(NAMES)}
    states = outlook(config)
    finished = {name: earlier[name][0] for name, state, _ in states if state == "done"}
    work = work_of(config, finished)
    speed = measured_speed(config, list(_some_texts(config, workspace))) if measure else rough_speed(config)
    rows: list[tuple[str, ...]] = []
    waiting: list[tuple[str, Estimate | None]] = []
    for name, state, why in states:
        if state == "done":
            rows.append((name, state, why, f"took {duration(earlier[name][1])}"))
            continue
        took = estimate(name, work, config, speed, earlier)
        waiting.append((name, took))
        rows.append((name, f"{state}: {why}", _amount(name, work), _said(took)))
    return rows, _about(waiting, speed, config) if waiting else ["Everything is done; run would change nothing."]


def _amount(stage: str, work: Workload) -> str:
    return {
        "documents": f"{work.files:,} files, {size(work.bytes)}",
        "corpus": f"{work.passages} passages",
        "queries": f"{work.queries} queries",
        "dataset": f"{work.pairs} training pairs",
        "training": f"{work.pairs} pairs, {work.steps} steps",
        "evaluation": f"{work.passages} passages, tuned model",
        "index": f"{work.passages} passages",
    }[stage]


def _said(took: Estimate | None) -> str:
    return "not known" if took is None else f"~{duration(_coarse(took.seconds))} ({took.basis})"


def _coarse(seconds: float) -> float:
    """To a digit or so: an estimate claims no more."""
    return float(f"{max(1.0, seconds):.1g}") if seconds < 60 else 60 * float(f"{seconds / 60:.2g}")


def _about(waiting: list[tuple[str, Estimate | None]], speed: Speed, config: Config) -> list[str]:
    total = sum(took.seconds for _, took in waiting if took is not None)
    unknown = [name for name, took in waiting if took is None]
    bases = {took.basis for _, took in waiting if took is not None}
    said = f"All that would run: about {duration(_coarse(total))}"
    lines = [said + (f", without {', '.join(unknown)}." if unknown else ".")]
    if "as before" in bases:
        lines.append("as before: this run's earlier time for the stage, scaled by how much there is to do now.")
    if "measured" in bases:
        lines.append(f"measured: {speed.tokens:,.0f} tokens/s through {config.model.base} ({speed.about}).")
    if "rough" in bases:
        basis = f"{speed.tokens:,.0f} tokens/s through {config.model.base} on {speed.about}; --measure times the model"
        lines.append(
            "rough: right to a factor of three or so, from the sizes alone"
            + (f" ({_two_digits(basis, speed)})." if speed.basis == "rough" else ".")
        )
    return lines


def _two_digits(text: str, speed: Speed) -> str:
    return text.replace(f"{speed.tokens:,.0f}", f"some {float(f'{speed.tokens:.2g}'):,.0f}")


def _some_texts(config: Config, workspace: Workspace) -> Iterable[str]:
    """Passages to time the model on: the run's, else those given, else made-up ones of a usual length."""
    given = given_corpus(config)
    for path in (workspace.path("corpus", "corpus.jsonl"), given):
        if path is not None and path.exists():
            rows = islice(read_jsonl(path), 10_000)
            return [f"{row.get('title', '')}\n{row.get('text', '')}" for _, row in rows]
    return [f"{number}. {_MADE_UP}" for number in range(64)]


def query_price(config: Config, *, ask: bool = False) -> list[str]:
    """What the LLM of a run would take for queries and grades, in sentences; none where no LLM is asked.

    Reads documents and cuts passages first if that is not done: it costs nothing, and the run goes on from there. With
    `ask`, 20 requests are really made (see `price_queries`). Raises what those stages and asking raise.
    """
    from fieldtune.dataset.pricing import asks_for_grades, asks_for_queries, price_grades
    from fieldtune.queries.pricing import cost_sentences, price_queries, queries_at_most

    wanted = {"queries": asks_for_queries(config), "dataset": asks_for_grades(config)}
    if not any(wanted.values()):
        return []
    done = {name for name, state, _ in outlook(config) if state == "done"}
    if all(name in done for name, asks in wanted.items() if asks):
        return ["The LLM's answers are there; nothing is left to pay for."]
    run_pipeline(config, last="corpus")
    with Workspace(Path(config.out)) as workspace:
        passages = read_corpus(workspace.path("corpus", "corpus.jsonl"))
        there = "queries" in done
        writes = config.queries.source == "llm" and not there
        price = price_queries(config, passages, workspace.root, ask=ask) if writes else None
        most, made = queries_at_most(config, passages, workspace.root, price, there=there)
        parts = price_grades(config, passages, most, made=made, judged=there)
        if price is not None:
            return price.sentences(config, parts)
        return [*(part.sentence for part in parts), *cost_sentences(config.llm, parts)]
