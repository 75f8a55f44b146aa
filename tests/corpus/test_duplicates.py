from __future__ import annotations

from pathlib import Path

import pytest
from corpus_cases import build, doc, h, p, texts

from fieldtune.corpus import load_duplicates
from fieldtune.errors import InputError

LONG = (
    "The Company has established policies for the protection of customer data and reviews them with the board every"
    " quarter so that every risk is known to those who must answer for it and can be dealt with in good time by them"
)
ARTICLE = (
    "第三条 国家保护消费者的合法权益不受侵害，"
    "经营者应当依法提供商品和服务，并且应当保证其提供的商品或者服务符合保障人身、财产安全的要求。"
)


def test_the_same_prose_in_two_documents_is_kept_once(tmp_path: Path) -> None:
    one = doc(p(LONG + "."), h("Own", 1), p("Only here is this said."), name="a.txt", title="Doc one")
    two = doc(h("Other", 1), p(LONG.upper().replace(" ", "\n") + "."), name="b.txt", title="Doc two")
    result, found, duplicates = build(tmp_path, one, two)
    assert texts(found) == [LONG + ".", "Only here is this said."]
    assert [(row["kind"], row["kept"], len(row["duplicates"])) for row in duplicates] == [("exact", found[0]["_id"], 1)]
    assert result.counts["exact duplicates"] == result.dropped["exact duplicates"] == 1
    assert load_duplicates(tmp_path / "duplicates.jsonl") == {found[0]["_id"]: duplicates[0]["duplicates"]}


def test_a_small_change_of_wording_is_a_near_duplicate(tmp_path: Path) -> None:
    changed = LONG.replace("known", "clear")
    result, found, duplicates = build(
        tmp_path, doc(h("Alpha", 1), p(LONG), h("Beta", 1), p(changed)), near_duplicate=0.8
    )
    assert texts(found) == [LONG]
    assert duplicates[0]["kind"] == "near"
    assert result.counts["near duplicates"] == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("in cash of $5,363 at the end", "in cash of $4,869 at the end"),
        ("at the end of 2021", "at the end of 2022"),
        ("in the month of January", "in the month of February"),
        ("and it may be so", "and it shall be so"),
        ("and it is allowed", "and it is not allowed"),
        ("under Section 12(b)", "under Section 12(c)"),
        ("of Series A shares", "of Series B shares"),
        ("for stage II disease", "for stage III disease"),
        ("in Form 12a", "in Form 12b"),
    ],
)
def test_figures_dates_and_negations_count(tmp_path: Path, before: str, after: str) -> None:
    _, found, duplicates = build(
        tmp_path,
        doc(h("A", 1), p(f"{LONG} {before} {LONG}"), h("B", 1), p(f"{LONG} {after} {LONG}")),
        near_duplicate=0.5,
    )
    assert len(found) == 2
    assert duplicates == []


def test_the_difference_in_wording_alone_would_have_been_found(tmp_path: Path) -> None:
    _, found, _ = build(
        tmp_path,
        doc(h("A", 1), p(f"{LONG} in a word {LONG}"), h("B", 1), p(f"{LONG} in a phrase {LONG}")),
        near_duplicate=0.5,
    )
    assert len(found) == 1


def test_a_national_law_and_a_local_rule_worded_alike_both_stay(tmp_path: Path) -> None:
    law = doc(p("第一条 为了保护消费者，制定本法。"), p(ARTICLE), name="a.txt", title="国家法")
    rule = doc(p("第一条 为了实施国家法，结合本市实际情况，制定本条例。"), p(ARTICLE), name="b.txt", title="某市条例")
    _, found, duplicates = build(tmp_path, law, rule)
    assert len(found) == 4
    assert duplicates == []


def test_a_copied_file_is_kept_once_even_where_articles_are_short(tmp_path: Path) -> None:
    blocks = [p("第一条 为了保护消费者，制定本法。"), p(ARTICLE), p("第四条 本法自公布之日起施行。")]
    result, found, _ = build(
        tmp_path, doc(*blocks, name="law.txt", title="law"), doc(*blocks, name="x/law2.txt", title="law2")
    )
    assert len(found) == 3
    assert result.counts["exact duplicates"] == 3


def test_filings_of_two_years_both_stay(tmp_path: Path) -> None:
    filings = [doc(h("Risk", 1), p(LONG), name=f"{year}.pdf", title=f"ACME {year} 10-K") for year in (2021, 2022)]
    _, found, duplicates = build(tmp_path, *filings)
    assert len(found) == 2
    assert duplicates == []


def test_short_answers_keep_the_heading_they_answer(tmp_path: Path) -> None:
    _, found, _ = build(tmp_path, doc(h("Item 3", 1), p("Not applicable."), h("Item 4", 1), p("Not applicable.")))
    assert len(found) == 2


def test_ready_passages_are_recorded_but_never_removed(tmp_path: Path) -> None:
    ready = [doc(p(LONG), title="T", name=f"r{n}", ready=True, passage_id=f"p{n}") for n in range(3)]
    result, found, duplicates = build(tmp_path, *ready)
    assert [row["_id"] for row in found] == ["p0", "p1", "p2"]
    assert duplicates == [{"kept": "p0", "duplicates": ["p1", "p2"], "kind": "exact"}]
    assert "exact duplicates" not in result.dropped
    assert any("2 ready passages repeat another" in note for note in result.notes)


def test_a_malformed_duplicates_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "duplicates.jsonl"
    path.write_text('{"kept": "a", "duplicates": ["b"], "kind": "near"}\n{"kept": 3}\n')
    with pytest.raises(InputError, match=r"duplicates\.jsonl:2"):
        load_duplicates(path)
