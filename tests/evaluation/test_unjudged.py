from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.beir import RetrievalData
from fieldtune.config import Evaluation as Settings
from fieldtune.errors import InputError
from fieldtune.evaluation import Ranking, System, evaluate
from fieldtune.evaluation.unjudged import (
    COLUMNS,
    add_judgements,
    judged_share,
    read_judgements,
    unjudged,
    write_unjudged,
)
from fieldtune.types import Passage, Query

FORMULAS = ['=HYPERLINK("https://evil.example")', "+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "＝1+1", "'quoted"]


def system(name: str, *rows: str) -> System:
    """Each row is what a query found, as letters."""
    queries = [f"q{n}" for n in range(len(rows))]
    return System(name, Ranking.of(queries, rows, [(1.0,) * len(row) for row in rows], "abcdefghxyz", depth=10))


@pytest.fixture
def data() -> RetrievalData:
    passages = {name: Passage(name, f"Title {name}", f'text {name},\nline "two"') for name in "abcdefgh"}
    queries = {f"q{n}": Query(f"q{n}", f"question {n}?") for n in range(2)}
    return RetrievalData(passages, queries, {"test": {"q0": {"a": 1, "b": 0}, "q1": {"c": 1}}})


def test_judged_share_counts_grade_0_and_short_lists(data: RetrievalData) -> None:
    found = judged_share(data, "test", [system("one", "abx", "c"), system("two", "defgh", "")])
    assert found == {"one": 3 / 4, "two": 0.0}


def test_the_highest_ranked_come_first_and_the_order_tells_nothing(data: RetrievalData) -> None:
    systems = [system("one", "adeb", "cf"), system("two", "gdah", "hc")]
    every = unjudged(data, "test", systems, 100, seed=1)
    assert set(every) == {("q0", "d"), ("q0", "e"), ("q0", "g"), ("q0", "h"), ("q1", "f"), ("q1", "h")}
    assert [query for query, _ in every] == ["q0"] * 4 + ["q1"] * 2
    assert every == unjudged(data, "test", systems[::-1], 100, seed=1)
    orders = {tuple(unjudged(data, "test", systems, 100, seed)) for seed in range(20)}
    assert len({order[0] for order in orders}) == 4  # any of them may come first
    assert set(unjudged(data, "test", systems, 2, seed=1)) == {("q0", "g"), ("q1", "h")}
    assert unjudged(data, "test", systems, 0, seed=1) == []


def test_a_file_goes_out_blind_and_comes_back_as_judgements(data: RetrievalData, tmp_path: Path) -> None:
    path = tmp_path / "label.csv"
    systems = [system("system-one", "ad", "cf"), system("system-two", "gd", "hc")]
    write_unjudged(path, data, unjudged(data, "test", systems, 100, 1))
    text = path.read_text("utf-8-sig")
    assert "system" not in text and "rank" not in text.splitlines()[0]
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 4
    for row in rows:
        row["grade"] = {"d": "1", "g": "0", "h": "1.0", "f": " "}[row["corpus-id"]]
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    judgements = read_judgements(path, data, "test")
    assert judgements.grades == {"q0": {"d": 1, "g": 0}, "q1": {"h": 1}}
    assert judgements.empty == 1
    assert "3 judgements added, 1 rows without a grade" in judgements.notes[0]
    added = add_judgements(data, "test", judgements)
    assert added.qrels["test"] == {"q0": {"a": 1, "b": 0, "d": 1, "g": 0}, "q1": {"c": 1, "h": 1}}
    assert data.qrels["test"]["q0"] == {"a": 1, "b": 0}
    before, after = (evaluate(one, "test", systems, Settings(), 1) for one in (data, added))
    assert before.system("system-two").mean["hit@10"] == 0.5
    assert after.system("system-two").mean["accuracy@1"] == 0.5
    assert before.system("system-two").mean["accuracy@1"] == 0
    assert judged_share(added, "test", systems)["system-one"] == 3 / 4
    with pytest.raises(InputError, match="holds grades"):
        write_unjudged(path, data, [])


@pytest.mark.parametrize(("encoding", "delimiter"), [("utf-8", ","), ("utf-8-sig", ";"), ("utf-16", "\t")])
def test_what_spreadsheets_save_is_read(data: RetrievalData, tmp_path: Path, encoding: str, delimiter: str) -> None:
    path = tmp_path / "label.csv"
    rows = [COLUMNS, ("q0", 'a; "b", c\nd', "d", "", "x\ty", "2", ""), ("q1", "", "f", "", "", "0", "")]
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    assert read_judgements(path, data, "test").grades == {"q0": {"d": 2}, "q1": {"f": 0}}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("q0,,d,,,yes,", "grade 'yes' is not a whole number from 0 to 3"),
        ("q0,,d,,,-1,", "grade '-1' is not"),
        ("q0,,d,,,0.5,", "grade '0.5' is not"),
        ("q0,,d,,,11,", "grade '11' is not"),
        ("nobody,,d,,,1,", "query 'nobody' does not exist"),
        ("q0,,zz,,,1,", "passage 'zz' does not exist"),
        ("q0,,e,,,0,", "grade 0 contradicts the 1 of an earlier line"),
    ],
)
def test_faulty_rows_are_named_by_line(data: RetrievalData, tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "label.csv"
    path.write_text(f'{",".join(COLUMNS)}\nq0,"two\nlines",e,,,1,\n{row}\nq0,,f,,,oops,\n')
    with pytest.raises(InputError) as caught:
        read_judgements(path, data, "test")
    assert f"label.csv:4: line 4: {says}" in caught.value.message
    assert "line 5: grade 'oops'" in caught.value.message


def test_grades_against_the_qrels_are_named_and_not_taken(data: RetrievalData, tmp_path: Path) -> None:
    path = tmp_path / "label.csv"
    path.write_text("query-id,corpus-id,grade\nq0,a,0\nq0,d,1\nq0,d,1\n")
    judgements = read_judgements(path, data, "test")
    assert "1 rows grade otherwise than the qrels, which were kept (line 2)" in judgements.notes[2]
    assert judgements.repeated == 1
    assert add_judgements(data, "test", judgements).qrels["test"]["q0"] == {"a": 1, "b": 0, "d": 1}


def test_no_cell_is_run_as_a_formula(tmp_path: Path) -> None:
    passages = {f"p{n}": Passage(f"p{n}", text, text) for n, text in enumerate(FORMULAS)}
    queries = {f"q{n}": Query(f"q{n}", text) for n, text in enumerate(FORMULAS)}
    data = RetrievalData(passages, queries, {"test": {}})
    path = tmp_path / "label.csv"
    write_unjudged(path, data, [(f"q{n}", f"p{n}") for n in range(len(FORMULAS))])
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    assert len(rows) == len(FORMULAS)
    for row in rows:
        for cell in (row[1], row[3], row[4]):
            assert cell.startswith("'")


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda name: not set(name) & set("\t\n\r\x00")), unique=True))
def test_every_id_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    names = [name for name in [*names, "007", "1e5", "-3", "MAR-1", "=a", "'=a", "=b", "true"] if name.isprintable()]
    names = list(dict.fromkeys(names))
    data = RetrievalData(
        {name: Passage(name, "", "t") for name in names}, {name: Query(name, "q") for name in names}, {"test": {}}
    )
    data.qrels["test"].update({name: {} for name in names})
    path = tmp_path_factory.mktemp("ids") / "label.csv"
    pairs = [(name, name) for name in names]
    write_unjudged(path, data, pairs, dict.fromkeys(pairs, (1, "")))
    assert read_judgements(path, data, "test").grades == {name: {name: 1} for name in names}
    first = [line.partition(",")[0].strip('"') for line in path.read_text("utf-8-sig").splitlines()[1:]]
    assert not [cell for cell in first if cell[:1] in set("=+-@0123456789")]
