"""The dataset stage: queries divided into train, dev and test, hard negatives mined for train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fieldtune.beir import RetrievalData, write_beir
from fieldtune.config import Config
from fieldtune.dataset.examples import write_examples
from fieldtune.dataset.mining import Mined, mine
from fieldtune.dataset.split import audit_split, clear_of_test, split_queries
from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.errors import InputError
from fieldtune.types import Example, Passage, Qrels, Query, Result
from fieldtune.workspace import digest

_LITTLE = "give more labelled queries, or lower split.dev and split.test"


def build_dataset(
    config: Config,
    data: RetrievalData,
    duplicates: Mapping[str, Sequence[str]],
    encoder: Encoder,
    output: Path,
    vectors: Path,
) -> Result:
    """Split, mine, and write `output/{corpus,queries}.jsonl`, `output/qrels/` and `output/train.jsonl`.

    `data` holds either one unsplit set of qrels named "all" or given splits; `encoder` is the base model; `vectors` the
    folder where encoded texts are kept. Raises InputError when nothing is left to train on.
    """
    split, divided = divide(config, data, duplicates)
    if not split.positives("train"):
        raise InputError("no training query is left after the split", _LITTLE)
    write_beir(output, split)
    examples, mined = _examples(config, split, duplicates, encoder, vectors)
    write_examples(output / "train.jsonl", examples)
    negatives = sum(len(example.neg) for example in examples)
    counts: dict[str, int | float] = dict(divided.counts) | {
        "training queries": len(examples),
        "training pairs": sum(len(example.pos) for example in examples),
        "hard negatives": negatives,
        "queries without a hard negative": sum(not example.neg for example in examples),
    }
    dropped = dict(divided.dropped) | {
        f"negative candidate: {reason}": count for reason, count in mined.skipped.items()
    }
    return Result("dataset", counts, dropped, divided.notes, divided.details)


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
        sides |= {"train": cut["train"], "dev": cut["dev"]}
        notes += ["There is no dev split; it was cut from train.", *made.notes]
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


def _examples(
    config: Config, data: RetrievalData, duplicates: Mapping[str, Sequence[str]], encoder: Encoder, vectors: Path
) -> tuple[list[Example], Mined]:
    ids = list(data.passages)
    place = {key: row for row, key in enumerate(ids)}
    texts = [passage.content for passage in data.passages.values()]
    positives = data.positives("train")
    queries = [data.queries[query].text for query in positives]
    rows = [[place[passage] for passage in found] for found in positives.values()]
    judged: list[list[int]] = [
        [place[passage] for passage, grade in data.qrels["train"][query].items() if grade == 0] for query in positives
    ]
    partly: list[list[int]] = [
        [place[p] for p, grade in data.qrels["train"][query].items() if 0 < grade < data.relevance_threshold]
        for query in positives
    ]
    if config.negatives.per_query:
        mined = mine(
            cached_vectors(encoder, queries, "query", vectors, label="encoding training queries (base model)"),
            cached_vectors(encoder, texts, "passage", vectors, label="encoding passages (base model)"),
            rows,
            judged,
            texts,
            _twins(duplicates, place),
            _held(data, duplicates, place),
            config.negatives,
            partly,
        )
    else:
        mined = Mined([[] for _ in rows], [[] for _ in rows], [[] for _ in rows], [[] for _ in rows])
    examples = []
    for number, (key, own) in enumerate(zip(positives, rows, strict=True)):
        shown = [_without_crop(data.queries[key], data.passages[ids[row]], config.seed) for row in own]
        whole = [texts[row] for row, text in zip(own, shown, strict=True) if text != texts[row]]
        examples.append(
            Example(
                query=queries[number],
                pos=tuple(shown),
                neg=tuple(texts[row] for row in mined.negatives[number]),
                pos_scores=tuple(mined.positive_scores[number]),
                neg_scores=tuple(mined.scores[number]),
                known=(*whole, *(texts[row] for row in (*mined.alike[number], *partly[number]))),
            )
        )
    return examples, mined


_CUT = 0.9  # share of cropped sentences taken out of their passage (inverse cloze task, arXiv:1906.00300)


def _without_crop(query: Query, passage: Passage, seed: int) -> str:
    """The passage as training shows it: mostly without the very sentence that was made the query, for copying a
    sentence teaches nothing, but sometimes with it, for equal words do count."""
    crop = query.metadata.get("crop")
    if not crop or crop["passage"] != passage.id or int(digest([seed, query.id]), 16) % 100 >= 100 * _CUT:
        return passage.content
    start, end = crop["span"]
    rest = f"{passage.text[:start].rstrip()} {passage.text[end:].lstrip()}".strip()
    return replace(passage, text=rest).content


def _twins(duplicates: Mapping[str, Sequence[str]], place: Mapping[str, int]) -> dict[int, frozenset[int]]:
    """Corpus row -> rows of its near-duplicates that stayed in the corpus."""
    out: dict[int, frozenset[int]] = {}
    for kept, others in duplicates.items():
        family = [place[key] for key in (kept, *others) if key in place]
        for row in family:
            out[row] = out.get(row, frozenset()) | frozenset(family) - {row}
    return out


def _held(data: RetrievalData, duplicates: Mapping[str, Sequence[str]], place: Mapping[str, int]) -> frozenset[int]:
    """Rows of dev and test positives and of their near-duplicates: never training negatives."""
    twins = _twins(duplicates, place)
    rows = {
        place[p] for side in data.qrels if side != "train" for found in data.positives(side).values() for p in found
    }
    return frozenset(rows.union(*(twins.get(row, frozenset()) for row in rows)))
