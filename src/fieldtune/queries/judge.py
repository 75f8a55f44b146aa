"""An LLM as a judge of made queries: a grade from 0 to 3 for each query with the passages that are to answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fieldtune.console import Progress
from fieldtune.llm.grading import LONGEST, Client, Rubric, grades, is_cut
from fieldtune.queries.styles import needs_all
from fieldtune.types import Passage, Qrels, Query

RUBRIC = Rubric(
    "You judge whether a search query is good training data for a search engine over professional documents.",
    """3: the passages answer the query, and somebody of the field could have typed it.
2: they answer a good part of it, or all of it with something left to infer.
1: the same topic, but the answer is not in them, or the query makes no sense without seeing them.
0: another topic, or not a query at all.""",
    3,
)


@dataclass(slots=True)
class Judged:
    """What the judge said; queries that it did not answer for are not in `low`."""

    low: dict[str, dict[str, str]] = field(default_factory=dict)
    """Query id -> passage -> grade and reason, below the wanted grade."""
    graded: int = 0
    unanswered: int = 0
    """Grades without a usable answer; the labels stay."""
    unasked: int = 0
    """Grades that the spending limit left no room for; the labels stay."""
    cut: int = 0
    """Grades for which a passage was shown only to its beginning."""

    def sentence(self, model: str) -> str:
        """What there is to say to the user."""
        said = f"{model!r} gave {self.graded:,} grades to queries with their passages"
        if self.unanswered:
            said += f"; for {self.unanswered:,} it gave no usable answer, and these stayed"
        if self.unasked:
            said += f"; {self.unasked:,} were not graded, for the spending limit was reached, and these stayed"
        if self.cut:
            said += f"; of passages longer than {LONGEST:,} characters ({self.cut:,} grades) it saw the beginning"
        return f"{said}."


def judge(
    client: Client, queries: Mapping[str, Query], qrels: Qrels, passages: Mapping[str, Passage], least: int
) -> Judged:
    """Grade each query against each of its passages; a comparison once, with all of them before the judge's eyes, for
    none of them alone answers it.

    Answers are kept by the client, so that none is paid twice. Raises EndpointError when the endpoint cannot be used.
    """
    asked = [(key, shown) for key, query in queries.items() for shown in _shown(query, qrels[key])]
    items = [(queries[key].text, [passages[passage].content for passage in shown]) for key, shown in asked]
    judged = Judged(cut=sum(any(map(is_cut, texts)) for _, texts in items))
    with Progress("judging queries", len(asked), unit="pairs") as progress:
        for index, grade in grades(client, RUBRIC, items):
            progress.advance()
            if grade.value is None:
                judged.unanswered += grade.asked
                judged.unasked += not grade.asked
                continue
            judged.graded += 1
            if grade.value < least:
                key, shown = asked[index]
                low = judged.low.setdefault(key, {})
                low.update(dict.fromkeys(shown, f"graded {grade.value}: {grade.reason[:120]}"))
    return judged


def _shown(query: Query, answers: Iterable[str]) -> list[tuple[str, ...]]:
    return [tuple(answers)] if needs_all(query.style) else [(passage,) for passage in answers]
