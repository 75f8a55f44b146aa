"""The questions that the law example is measured on, and the passages that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune.corpus.shingling import shingles
from fieldtune.demo.law_articles import citations
from fieldtune.errors import InputError
from fieldtune.types import Passage, Qrels, Query
from fieldtune.workspace import read_jsonl

QUESTIONS = Path(__file__).with_name("law_questions.jsonl")
KINDS = ("colloquial", "case", "keyword", "formal")
"""A layperson's question, a short situation, words typed into a search box, a question in the law's own register."""

_COPY = 0.8
"""Share of an article's runs of three characters from which a text that is no longer in force counts as its copy."""


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    text: str
    kind: str
    articles: tuple[tuple[str, str], ...]
    """(law, article) of each right answer: the law's full name, with its mark where the text is not in force."""


def read_questions(path: Path = QUESTIONS) -> list[Question]:
    """Raises InputError naming the line of a question that is not of the form _id, text, kind, articles."""
    found: list[Question] = []
    for line, row in read_jsonl(path):
        try:
            found.append(_question(row))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not a question ({error})",
                'it needs "_id", "text", "kind" and "articles": [{"law": …, "article": …}]',
                path=path,
                line=line,
            ) from None
    return found


def label(questions: list[Question], passages: Mapping[str, Passage]) -> tuple[dict[str, Query], Qrels]:
    """Queries of the kind as style, and their qrels.

    Relevant are the articles named and every text that repeats one of them: the superseded text of the law that says
    the same, the amendment that brought the article. Raises InputError for an article that is not among the passages.
    """
    known = citations(passages)
    copies = _copies({pair for question in questions for pair in question.articles}, known, passages)
    queries: dict[str, Query] = {}
    qrels: Qrels = {}
    for question in questions:
        queries[question.id] = Query(question.id, question.text, question.kind)
        for law, article in question.articles:
            if (law, article) not in known:
                raise InputError(f"question {question.id}: there is no {law} {article}", path=QUESTIONS)
            for passage in (*known[law, article], *copies[law, article]):
                qrels.setdefault(question.id, {})[passage] = 1
    return queries, qrels


def _copies(
    named: set[tuple[str, str]], known: Mapping[tuple[str, str], list[str]], passages: Mapping[str, Passage]
) -> dict[tuple[str, str], list[str]]:
    """For each article the passages of superseded texts, and of laws that amend others, that hold its words."""
    old = {
        key: shingles(passage.text)
        for key, passage in passages.items()
        if not passage.metadata["in_force"] or "修正案" in passage.group or "修改" in passage.group
    }
    found: dict[tuple[str, str], list[str]] = {}
    for pair in sorted(named & known.keys()):
        own = [shingles(passages[key].text) for key in known[pair]]
        found[pair] = [
            key for key, text in old.items() if any(len(words & text) >= _COPY * len(words) for words in own)
        ]
    return found


def _question(row: Mapping[str, Any]) -> Question:
    kind, text = str(row["kind"]), str(row["text"])
    articles = tuple((str(one["law"]), str(one["article"])) for one in row["articles"])
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    if not text.strip() or not articles:
        raise ValueError("no text or no article")
    return Question(str(row["_id"]), text, kind, articles)
