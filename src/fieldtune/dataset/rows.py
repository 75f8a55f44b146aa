"""Training rows: what was mined, checked and scored, as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.dataset.candidates import candidates_from
from fieldtune.dataset.check import check_negatives
from fieldtune.dataset.embedder import is_embedder, open_embedder, require_embedder
from fieldtune.dataset.fused_teacher import NAME as FUSED
from fieldtune.dataset.fused_teacher import fused_scores, labels_first
from fieldtune.dataset.known import Known, known_rows
from fieldtune.dataset.mining import Mined, mine, nothing_mined
from fieldtune.dataset.sampling import sample_bands
from fieldtune.dataset.scorers import Pair, open_scorer
from fieldtune.dataset.scoring import score_pairs
from fieldtune.dataset.teacher import (
    BASE,
    GIVEN,
    GRADED,
    NONE,
    Taught,
    given_scores,
    teach,
    teach_cosines,
    without_teacher,
)
from fieldtune.encoding import Encoder, cached_vectors, corpus_vectors, settings_for
from fieldtune.llm.answers import ANSWERS
from fieldtune.types import Example, Passage, Query
from fieldtune.workspace import digest


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The rows, and the account of how they came about."""

    examples: list[Example]
    confirmed: dict[str, list[str]]
    """Query id -> passages that the check found to be answers; they are among the rows' positives."""
    scores: dict[str, Any]
    """What the rows' scores are; see teacher.py."""
    counts: dict[str, int | float]
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def training_rows(
    config: Config,
    data: RetrievalData,
    duplicates: Mapping[str, Sequence[str]],
    encoder: Encoder,
    vectors: Path,
    cache: Path,
    answers: Path | None = None,
) -> TrainingRows:
    """Mine, check and score the train side of `data` with the weights that `encoder` has now.

    Encoded texts are kept in `vectors`, the check's and the teacher's scores in `cache`, an LLM's answers in the file
    `answers` (else in `cache`). Raises ModelError or EndpointError when check or teacher cannot be used.
    """
    answers = answers or cache / ANSWERS
    known = known_rows(data, duplicates)
    settings = config.negatives
    fused = config.teacher.model == FUSED
    require_embedder(config)
    notes: list[str] = []
    counts: dict[str, int | float] = {}
    details: dict[str, Any] = {}
    mined = nothing_mined(known)
    sampled: list[list[int]] = [[] for _ in known.queries]
    confirmed: list[list[int]] = [[] for _ in known.queries]
    if settings.per_query or config.teacher.model:
        queries = cached_vectors(encoder, known.queries, "query", vectors, label="encoding training queries")
        made = corpus_vectors(encoder, known.texts, vectors, settings_for(config), label="encoding passages", dev=data)
        passages, details["passages encoded by"] = made.vectors, made.made_by
        notes.extend(made.notes)
        depth = max(settings.depth, max(config.teacher.ranks, default=0) if config.teacher.model else 0)
        ranked = candidates_from(settings.candidates, known.queries, known.texts, queries, passages, depth)
        if settings.per_query:
            spare = settings.per_query if settings.check else 0
            mined = mine(known, ranked, queries, passages, settings, spare=spare)
        if fused and settings.candidates != "fused":  # it ranks by both, so its bands are of both
            ranked = candidates_from("fused", known.queries, known.texts, queries, passages, depth)
    if settings.check and settings.per_query:
        scorer = open_scorer(settings.check, config.llm, answers)

        def score(pairs: Sequence[Pair]) -> list[float]:
            scored = score_pairs(scorer, pairs, cache, f"checking negatives with {scorer.name}")
            notes.extend(scored.notes)
            return scored.values

        checked = check_negatives(known, mined, settings, score)
        mined, confirmed = checked.mined, checked.confirmed
        counts["positives found by the check"] = sum(map(len, confirmed))
        details["positives found by the check"] = checked.examples
        if checked.unanswered:
            notes.append(f"{checked.unanswered:,} candidates got no score by the check; they stayed negatives.")
    if config.teacher.model:
        sampled = sample_bands(known, mined, ranked, config.teacher, config.seed)
    absent = sorted(set(settings.style_limits) - set(known.styles))
    notes += [f"negatives.style_limits names {style!r}; no training query is of that style." for style in absent]
    both: list[list[float]] = []
    if fused:
        own = [[*known.positives[n], *confirmed[n], *mined.negatives[n], *sampled[n]] for n in range(len(sampled))]
        share = config.teacher.word_share
        both = fused_scores(known, own, ranked, queries, passages, word_share=share)
    examples, kind = _examples(config, data, known, mined, confirmed, sampled, both)
    record = without_teacher(kind, examples, encoder.name)
    dropped = {f"negative candidate: {reason}": count for reason, count in mined.skipped.items()}
    if config.teacher.model and not fused:
        taught = _taught(config, examples, encoder.tokens.limit if encoder.tokens else 0, cache, answers)
        examples, record = taught.examples, taught.record
        dropped |= taught.dropped
        notes += taught.notes
    counts = {
        "training queries": len(examples),
        "training pairs": sum(len(example.pos) for example in examples),
        "hard negatives": sum(map(len, mined.negatives)),
        "labelled among them": sum(mined.labelled),
        "queries without a hard negative": sum(not rows for rows in mined.negatives),
        "scored for the teacher alone": sum(map(len, sampled)),
        **counts,
    }
    found = {
        known.query_ids[query]: [known.passage_ids[row] for row in rows] for query, rows in enumerate(confirmed) if rows
    }
    return TrainingRows(examples, found, record, counts, dropped, notes, details)


def _taught(config: Config, examples: Sequence[Example], passage_limit: int, cache: Path, answers: Path) -> Taught:
    settings = config.teacher
    if is_embedder(settings.model):
        return teach_cosines(examples, open_embedder(settings), passage_limit, cache / "teacher vectors", config.seed)
    scorer = open_scorer(
        settings.model,
        config.llm,
        answers,
        activation=settings.activation,
        max_tokens=settings.max_tokens,
        precision=settings.precision,
    )
    return teach(examples, scorer, passage_limit, cache)


def _examples(
    config: Config,
    data: RetrievalData,
    known: Known,
    mined: Mined,
    confirmed: Sequence[Sequence[int]],
    sampled: Sequence[Sequence[int]],
    both: Sequence[Sequence[float]],
) -> tuple[list[Example], str]:
    """The rows with the scores there are without a second model, and what kind those are: one file holds one kind.

    `both` is what the teacher "fused" gave the positives, negatives and drawn passages of each query, or empty.
    """
    asked = [data.queries[key] for key in known.query_ids]
    wanted = ("scores", "grades") if config.training.loss in GRADED else ("scores",)
    key = next((name for name in wanted if any(name in query.metadata for query in asked)), "")
    given = bool(key) and not config.teacher.model
    positives = [[*known.positives[n], *confirmed[n]] for n in range(len(asked))]
    forms = [
        [_without_crop(query, data.passages[known.passage_ids[row]], config.seed) for row in own]
        for query, own in zip(asked, positives, strict=True)
    ]
    # A passage that several queries were cropped from is shown in several forms, each an answer to all of them.
    cut: dict[int, dict[str, None]] = {}
    for own, shown in zip(positives, forms, strict=True):
        for row, text in zip(own, shown, strict=True):
            if text != known.texts[row]:
                cut.setdefault(row, {})[text] = None
    examples = []
    for number, query in enumerate(asked):
        own, shown = positives[number], forms[number]
        negatives, drawn = mined.negatives[number], sampled[number]
        whole = [text for row in own if row in cut for text in (known.texts[row], *cut[row]) if text not in shown]
        pos_scores: Sequence[float] = () if confirmed[number] else mined.positive_scores[number]
        neg_scores: Sequence[float] = mined.scores[number] if pos_scores else ()
        if given:
            # Negatives beyond negatives.per_query too: they were scored to be learned from.
            wrong = [row for row in known.irrelevant[number] if row not in known.held]
            names = [[known.passage_ids[row] for row in rows] for rows in (own, wrong)]
            scores = given_scores(query.metadata.get(key), *names)
            pos_scores, neg_scores = (scores[: len(own)], scores[len(own) :]) if scores else ((), ())
            negatives = wrong if scores else negatives
        if both:
            neg_scores = both[number][len(own) :]
            pos_scores = labels_first(both[number][: len(own)], neg_scores)
        # Drawn for the teacher alone: scored, but never counted as wrong, for some will be answers.
        alike = [*mined.alike[number], *(twin for row in own for twin in sorted(known.twins.get(row, ())))]
        judged = {*own, *known.irrelevant[number]}  # what a person has judged is what it was judged
        aside = dict.fromkeys((*(row for row in alike if row not in judged), *known.partly[number], *drawn))
        examples.append(
            Example(
                query=query.text,
                pos=tuple(shown),
                neg=tuple(known.texts[row] for row in (*negatives, *drawn)),
                pos_scores=tuple(pos_scores),
                neg_scores=tuple(neg_scores),
                prompt=str(query.metadata.get("prompt") or ""),
                known=(*whole, *(known.texts[row] for row in aside)),
            )
        )
    if both:
        return examples, FUSED
    scored = any(example.pos_scores for example in examples)
    return examples, (GIVEN if given else BASE) if scored else NONE


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
