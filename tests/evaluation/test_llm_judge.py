from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import make_config
from fieldtune.errors import ConfigError
from fieldtune.evaluation.llm_judge import agreement, human_pairs, llm_grades
from fieldtune.labelling import write_labelling
from fieldtune.llm import Prompt, Reply
from fieldtune.types import Passage, Query

DATA = RetrievalData(
    {f"p{n}": Passage(f"p{n}", f"title {n}", f"text {n}") for n in range(30)},
    {f"q{n}": Query(f"q{n}", f"question {n}?") for n in range(10)},
    {"test": {f"q{n}": {f"p{n}": 1, f"p{n + 10}": 0} for n in range(10)}},
)


class Model:
    """Says what it is told to; answers come in reverse order, as they may."""

    def __init__(self, say: dict[str, str]) -> None:
        self.say, self.seen = say, list[Prompt]()

    def ask(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Reply]]:
        self.seen += prompts
        for index in reversed(range(len(prompts))):
            told = prompts[index].messages[1][1]
            text = next((text for key, text in self.say.items() if key in told), '{"reason": "no", "grade": 0}')
            yield index, Reply("", "refused") if text == "refused" else Reply(text)


def test_the_model_sees_query_and_passage_and_nothing_else() -> None:
    model = Model({"text 1\n": '```json\n{"reason": "says it", "grade": 1}\n```'})
    graded = llm_grades(DATA, "test", [("q1", "p1"), ("q1", "p25")], model)
    assert graded.grades == {("q1", "p1"): (1, "says it"), ("q1", "p25"): (0, "no")}
    assert list(graded.grades) == [("q1", "p1"), ("q1", "p25")]
    told = model.seen[0].messages[1][1]
    mark = told.split("\n", 1)[0].split()[2]
    assert told.split("\n")[1:5] == ["question 1?", f"=== PASSAGE {mark} ===", "title 1", "text 1"]
    assert "p1" not in told and "q1" not in told


@pytest.mark.parametrize("text", ["refused", "no JSON", '{"grade": 2}', '{"grade": true}', '{"grade": "x"}', "{}"])
def test_an_unusable_answer_is_named_and_no_grade(text: str) -> None:
    graded = llm_grades(DATA, "test", [("q1", "p1"), ("q2", "p2")], Model({"text 1\n": text}))
    assert list(graded.failed) == [("q1", "p1")] and graded.failed["q1", "p1"]
    assert list(graded.grades) == [("q2", "p2")]


def test_the_scale_follows_the_labels() -> None:
    graded = RetrievalData(DATA.passages, DATA.queries, {"test": {"q0": {"p0": 3}}}, relevance_threshold=2)
    model = Model({"text 0\n": '{"reason": "", "grade": 3}'})
    assert llm_grades(graded, "test", [("q0", "p0")], model).grades == {("q0", "p0"): (3, "")}
    assert "3 answers it fully" in model.seen[0].messages[0][1]


def test_agreement_is_raw_and_beyond_chance() -> None:
    grades = {(f"q{n}", f"p{n}"): (int(n < 8), "") for n in range(10)}  # 8 of 10 relevant ones found
    grades |= {(f"q{n}", f"p{n + 10}"): (int(n < 1), "") for n in range(10)}  # 1 of 10 others taken for relevant
    grades |= {("q0", "p29"): (1, "")}  # nobody judged it
    found = agreement(DATA, "test", grades)
    assert (found.pairs, found.raw, found.found) == (20, pytest.approx(17 / 20), pytest.approx(0.8))
    assert found.kappa == pytest.approx((0.85 - 0.5) / 0.5)
    assert "85% of 20 human labels, Cohen's kappa 0.70 (good)" in found.sentence
    alike = agreement(DATA, "test", {("q0", "p0"): (1, "")})
    assert alike.raw == 1 and math.isnan(alike.kappa) and "not known" in alike.sentence
    assert "no human labels" in agreement(DATA, "test", {}).sentence


def test_pairs_to_compare_with_are_half_relevant_where_they_can() -> None:
    pairs = human_pairs(DATA, "test", 8, 1)
    assert len(set(pairs)) == 8 and pairs == human_pairs(DATA, "test", 8, 1) != human_pairs(DATA, "test", 8, 2)
    assert sum(DATA.qrels["test"][query][key] for query, key in pairs) == 4
    only = RetrievalData(DATA.passages, DATA.queries, {"test": {f"q{n}": {f"p{n}": 1} for n in range(10)}})
    assert len(human_pairs(only, "test", 8, 1)) == 8
    assert len(human_pairs(only, "test", 99, 1)) == 10


def test_without_an_endpoint_the_cure_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no LLM"):
        write_labelling(tmp_path / "x.csv", make_config({}), DATA, "test", [], llm_judge=True)


def test_proposals_are_written_to_the_labelling_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fieldtune.llm
    from fieldtune.evaluation import Ranking, System

    asked = []

    @contextlib.contextmanager
    def client(settings: object, cache: Path) -> Iterator[Model]:
        asked.append((settings, cache))
        yield Model({"text 25\n": json.dumps({"reason": "=cmd", "grade": 1})})

    monkeypatch.setattr(fieldtune.llm, "open_client", client)
    rows = tuple((f"p{n}", "p25") for n in range(10))
    systems = [System("one", Ranking.of(tuple(DATA.queries), rows, ((1.0, 0.5),) * 10, tuple(DATA.passages), depth=10))]
    config = make_config({"llm": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}})
    said = write_labelling(tmp_path / "x.csv", config, DATA, "test", systems, llm_judge=True)
    assert "agrees with 50% of 20 human labels" in said[0]
    text = (tmp_path / "x.csv").read_text("utf-8-sig")
    assert text.count(",1,LLM: =cmd") == 10
    assert asked[0][0].temperature == 0 and asked[0][1].parent == tmp_path
