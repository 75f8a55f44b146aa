"""What the columns of a labels file mean, and what their scores say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

QUERY = ("query", "question", "anchor", "sentence1", "sentence_1", "text1", "query_text", "问题", "查询", "提问")
POSITIVE = (
    "pos", "positive", "positives", "passage", "context", "document", "doc", "sentence2", "sentence_2", "text2",
    "passage_text", "text", "answer", "response", "段落", "正文", "文档", "上下文", "法条", "答案",
)  # fmt: skip
NEGATIVE = ("neg", "negative", "negatives", "hard_negative", "hard_negatives", "负例")
SCORE = ("score", "label", "similarity", "similarity_score", "relevance", "grade", "relevant", "分数", "标签", "相关性")
QUERY_ID = ("query_id", "qid", "question_id")
PASSAGE_ID = ("passage_id", "corpus_id", "doc_id", "docid", "pid", "document_id")
TITLE = ("title", "passage_title", "标题")

_YES = ("true", "yes", "relevant", "positive", "entailment", "1", "是", "相关")
_NO = ("false", "no", "irrelevant", "not_relevant", "negative", "neutral", "contradiction", "0", "否", "不相关")
_NUMBERED = re.compile(r"(?:hard_)?neg(?:ative)?s?_?\d+")
_SCALES = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 100.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled passage of a row: its text or its id."""

    text: str
    id: str
    title: str
    score: float | None
    """As written; None is a positive. A labelled negative has a score of minus infinity."""
    teacher: float | None = None
    """What a stronger scorer gave it (pos_scores, neg_scores); says nothing about its relevance."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    query: str
    query_id: str
    judged: tuple[Judged, ...]
    prompt: str = ""


def parse_row(row: Mapping[str, Any]) -> LabelRow:
    """The query and its passages. Raises ValueError saying what is wrong with the row."""
    query = _text(_first(row, QUERY))
    if not query:
        raise ValueError(f"no query (columns may be named {', '.join(QUERY[:4])})")
    title = _text(_first(row, TITLE))
    written = _first(row, SCORE)
    listed = written if isinstance(written, list | tuple) else ()  # a score for each passage: a teacher's
    score = None if listed else _score(written)
    ids = [Judged("", text, title, score) for text in _texts(_first(row, PASSAGE_ID))]
    found = ids or [Judged(text, "", title, score) for text in _texts(_first(row, POSITIVE))]
    if not found:
        raise ValueError(f"no passage (columns may be named {', '.join(POSITIVE[:6])}, or passage_id)")
    names = [name for name in row if name in NEGATIVE or _NUMBERED.fullmatch(name)]
    negatives = [Judged(text, "", "", float("-inf")) for name in names for text in _texts(row[name])]
    scored = _scored(found, row.get("pos_scores")) + _scored(negatives, row.get("neg_scores"))
    if listed:
        scored = _scored([*found, *negatives], listed)
    # Our own training rows name passages that were scored without being judged.
    aside = row.get("known")
    if isinstance(aside, list) and aside:
        scored = [passage for passage in scored if passage.score != float("-inf") or passage.text not in aside]
    prompt = row.get("prompt")
    return LabelRow(query, _text(_first(row, QUERY_ID)), tuple(scored), prompt if isinstance(prompt, str) else "")


def _scored(judged: list[Judged], scores: Any) -> list[Judged]:
    """The passages with a teacher's scores. Raises ValueError where there is not one score for each."""
    if scores in (None, "", [], ()):
        return judged
    if not isinstance(scores, list | tuple) or len(scores) != len(judged):
        raise ValueError(f"{len(judged)} passages, but not as many scores")
    return [replace(passage, teacher=_score(score)) for passage, score in zip(judged, scores, strict=True)]


def scale_of(scores: Iterable[float]) -> float:
    """The scale a file's scores are on: the smallest of 1, 2, 3, 4, 5, 10, 100 that its largest score fits.

    Cosines from -1 to 1 and labels 0/1 are on 1, graded judgements 0 to 3 on 3, STS scores 0.0 to 5.0 on 5.
    """
    largest = max((score for score in scores if score != float("-inf")), default=1.0)
    return next((scale for scale in _SCALES if largest <= scale), largest)


def is_relevant(score: float | None, scale: float) -> bool:
    """A passage is relevant from half of the scale on; one without a score is a positive."""
    return score is None or score >= 0.5 * scale


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    for name in names:
        if row.get(name) not in (None, "", []):
            return row[name]
    return None


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(_text, values) if text]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # an id
    raise ValueError(f"expected text, found {type(value).__name__}")


def _score(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        word = value.strip().lower().replace(" ", "_")
        if word in _YES or word in _NO:
            return float(word in _YES)
        try:
            value = float(word)
        except ValueError:
            raise ValueError(f"score {value!r} is not a number") from None
    if not isinstance(value, int | float) or value != value:
        raise ValueError(f"score {value!r} is not a number")
    return float(value)
