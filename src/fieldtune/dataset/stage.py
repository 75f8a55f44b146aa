"""The dataset stage: queries divided into train, dev and test, hard negatives mined for train, rows scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fieldtune.beir import RetrievalData, write_beir
from fieldtune.config import Config
from fieldtune.dataset.card import CardFacts, Shown, dataset_card
from fieldtune.dataset.doubts import doubts
from fieldtune.dataset.examples import write_examples
from fieldtune.dataset.funnel import asked_of_models
from fieldtune.dataset.known import HUMAN
from fieldtune.dataset.rows import TrainingRows, training_rows
from fieldtune.dataset.split import audit_split, clear_of_test, split_queries
from fieldtune.encoding import Encoder
from fieldtune.errors import InputError
from fieldtune.types import Qrels, Result
from fieldtune.workspace import atomic_file, write_json

_LITTLE = "give more labelled queries, or lower split.dev and split.test"
_SHOWN = 6
"""Training rows on the card, one of each style first."""


def build_dataset(
    config: Config,
    data: RetrievalData,
    duplicates: Mapping[str, Sequence[str]],
    encoder: Encoder,
    output: Path,
    vectors: Path,
    before: Sequence[Result] = (),
    cache: Path | None = None,
    answers: Path | None = None,
) -> Result:
    """Split, mine, score, and write the data's folder.

    Writes `output/{corpus,queries}.jsonl`, `output/qrels/`, `output/train.jsonl`, `output/teacher.json` (what the rows'
    scores are) and `output/README.md` (the dataset card, which also tells what the stages `before` said). `data` holds
    either one unsplit set of qrels named "all" or given splits; `encoder` is the base model; `vectors` the folder where
    encoded texts are kept, `cache` (else `output/cache`) the one for scores of check and teacher, `answers` (else in
    that folder) the file for those of an LLM. Positives that the
    check found are added to the qrels of train alone. Raises InputError when nothing is left to train on.
    """
    split, divided = divide(config, data, duplicates)
    if not split.positives("train"):
        raise InputError("no training query is left after the split", _LITTLE)
    rows = training_rows(config, split, duplicates, encoder, vectors, cache or output / "cache", answers)
    split = _with_positives(split, rows.confirmed)
    write_beir(output, split)
    write_examples(output / "train.jsonl", rows.examples)
    write_json(output / "teacher.json", rows.scores)
    result = Result(
        "dataset",
        dict(divided.counts) | rows.counts,
        dict(divided.dropped) | rows.dropped,
        (*divided.notes, *rows.notes, *doubts(config, split, rows)),
        dict(divided.details) | rows.details | {"scores": rows.scores},
    )
    with atomic_file(output / "README.md") as stream:
        stream.write(dataset_card(_facts(config, split, rows, encoder, before, result, output), config))
    return result


def _with_positives(data: RetrievalData, confirmed: Mapping[str, Sequence[str]]) -> RetrievalData:
    train = dict(data.qrels["train"])
    for query, passages in confirmed.items():
        train[query] = train[query] | dict.fromkeys(passages, data.relevance_threshold)
    return replace(data, qrels=dict(data.qrels) | {"train": train})


def _facts(
    config: Config,
    data: RetrievalData,
    rows: TrainingRows,
    encoder: Encoder,
    before: Sequence[Result],
    result: Result,
    output: Path,
) -> CardFacts:
    styles = [data.queries[query].style or HUMAN for query in data.positives("train")]
    first = {style: place for place, style in reversed(list(enumerate(styles)))}
    places = [*first.values(), *(place for place in range(len(styles)) if place not in first.values())][:_SHOWN]
    return CardFacts(
        title=config.card.title or output.resolve().parent.name,
        funnel=before,
        dataset=result,
        prompts={f"before each {side}": text for side, text in encoder.prompts.items()} | asked_of_models(before),
        scores=rows.scores,
        examples=[Shown(styles[place], rows.examples[place]) for place in sorted(places)],
    )


def divide(
    config: Config, data: RetrievalData, duplicates: Mapping[str, Sequence[str]]
) -> tuple[RetrievalData, Result]:
    """The data with qrels for train, dev and test, and what was moved or dropped on the way.

    A given split is kept (`split.keep_given`) and audited; a missing dev side is cut from train, never from test.
    Where `queries.test` is the test set, training queries that know of it are left out.
    """
    given = data.qrels
    if "all" in given or not (config.split.keep_given or config.queries.test):
        merged: Qrels = {}
        for rows in given.values():
            for query, grades in rows.items():
                merged.setdefault(query, {}).update(grades)
        sides, result = split_queries(
            data.passages,
            data.queries,
            merged,
            config.split,
            config.seed,
            duplicates,
            relevance_threshold=data.relevance_threshold,
        )
        return _with(data, sides), result
    sides = dict(given)
    if "train" not in sides:
        raise InputError(
            f"the labels have no train split (found: {', '.join(sorted(sides))})",
            "add qrels/train.tsv, or set split.keep_given=false to divide the queries anew",
        )
    notes: list[str] = []
    counts: dict[str, int | float] = {}
    dropped: dict[str, int] = {}
    if config.queries.test:
        sides, dropped = clear_of_test(
            data.passages,
            data.queries,
            sides,
            config.split,
            config.seed,
            duplicates,
            relevance_threshold=data.relevance_threshold,
        )
        if dropped:
            notes.append(
                f"{sum(dropped.values()):,} training queries were left out: they are about a passage that the test set"
                " asks for, or near-copies of a test query."
            )
    if "dev" not in sides:
        without_test = config.split.model_copy(update={"test": 0.0})
        cut, made = split_queries(
            data.passages,
            data.queries,
            sides["train"],
            without_test,
            config.seed,
            duplicates,
            relevance_threshold=data.relevance_threshold,
        )
        sides |= cut
        if "dev" in cut:
            notes.append("There are no dev queries; a part of the training queries was taken for dev.")
        notes += made.notes
        dropped |= dict(made.dropped)
    audit = audit_split(
        data.passages,
        data.queries,
        sides,
        config.split,
        config.seed,
        duplicates,
        relevance_threshold=data.relevance_threshold,
    )
    counts |= {side: len(rows) for side, rows in sides.items()} | dict(audit.counts)
    return _with(data, sides), Result(
        "dataset",
        counts,
        dropped,
        (*(() if config.queries.test else ("The given split was kept.",)), *notes, *audit.notes),
        audit.details,
    )


def _with(data: RetrievalData, sides: Mapping[str, Qrels]) -> RetrievalData:
    """The data with these qrels, and only the queries that occur in them."""
    used = {query for rows in sides.values() for query in rows}
    queries = {key: query for key, query in data.queries.items() if key in used}
    return RetrievalData(data.passages, queries, dict(sides), data.relevance_threshold, data.evaluation)
