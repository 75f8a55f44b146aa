"""The split never leaks, is the same every time, and accounts for every query."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.config import SplitConfig
from fieldtune.dataset.leaks import query_terms, similar_sets
from fieldtune.dataset.split import _top_heading, audit_split, split_queries
from fieldtune.errors import InputError
from fieldtune.types import Passage, Qrels, Query

CONFIG = SplitConfig()


def words(seed: object, count: int) -> str:
    source = random.Random(f"{seed}")
    return " ".join("".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count))


def make(groups: dict[str, int], queries_each: int = 1) -> tuple[dict[str, Passage], dict[str, Query], Qrels]:
    """Documents with so many passages each, and unrelated queries on every passage."""
    passages, queries, qrels = {}, {}, {}
    for group, count in groups.items():
        for number in range(count):
            key = f"{group}-{number}"
            title = f"{group} > Part {number // 5} > Section {number}"
            passages[key] = Passage(key, title, words(key, 30), group)
            for turn in range(queries_each):
                query = f"q-{key}-{turn}"
                queries[query] = Query(query, words(query, 8))
                qrels[query] = {key: 1}
    return passages, queries, qrels


def leaks(passages, queries, split, threshold: int = 1) -> dict[str, int]:
    found = audit_split(passages, queries, split, CONFIG, 13, relevance_threshold=threshold).counts
    return {
        name: int(found[name]) for name in ("shared positives", "near-duplicate positives", "near-duplicate queries")
    }


NONE = {"shared positives": 0, "near-duplicate positives": 0, "near-duplicate queries": 0}


def test_documents_stay_whole_and_sizes_near_the_shares():
    passages, queries, qrels = make({f"doc{n}": 4 + n % 5 for n in range(60)})
    split, result = split_queries(passages, queries, qrels, CONFIG, 13)
    where = {passages[p].group: set() for p in passages}
    for side, rows in split.items():
        for row in rows.values():
            where[passages[next(iter(row))].group].add(side)
    assert all(len(sides) == 1 for sides in where.values())
    total = len(qrels)
    assert sum(map(len, split.values())) == total
    assert abs(len(split["train"]) / total - 0.7) < 0.05
    assert abs(len(split["test"]) / total - 0.2) < 0.04
    assert result.details["way"] == "by document group"
    assert result.dropped == {}
    assert leaks(passages, queries, split) == NONE


def test_the_order_of_the_input_changes_nothing_and_the_seed_does():
    passages, queries, qrels = make({f"doc{n}": 5 for n in range(40)})
    split, _ = split_queries(passages, queries, qrels, CONFIG, 13)
    backwards = {key: qrels[key] for key in reversed(qrels)}
    again, _ = split_queries(dict(reversed(passages.items())), dict(reversed(queries.items())), backwards, CONFIG, 13)
    assert {side: set(rows) for side, rows in split.items()} == {side: set(rows) for side, rows in again.items()}
    other, _ = split_queries(passages, queries, qrels, CONFIG, 14)
    assert set(other["test"]) != set(split["test"])


def test_near_duplicates_tie_documents_together():
    passages, queries, qrels = make({f"doc{n}": 2 for n in range(40)})
    twin = words("twin", 60)
    for group in ("doc3", "doc17", "doc31"):
        key = f"{group}-0"
        passages[key] = Passage(key, "", twin + f" {group}", group)
    queries["q-doc5-0-0"] = Query("q-doc5-0-0", "What is the notice period for ending the lease of business rooms?")
    queries["q-doc9-0-0"] = Query("q-doc9-0-0", "what is the Notice Period for ending the lease of business rooms")
    split, result = split_queries(passages, queries, qrels, CONFIG, 13)
    side = {query: name for name, rows in split.items() for query in rows}
    assert side["q-doc3-0-0"] == side["q-doc17-1-0"] == side["q-doc31-0-0"]
    assert side["q-doc5-1-0"] == side["q-doc9-1-0"]
    assert result.details["joined"] == 3
    assert leaks(passages, queries, split) == NONE


def test_known_copies_are_kept_together():
    passages, queries, qrels = make({f"doc{n}": 1 for n in range(30)})
    for seed in range(5):
        split, _ = split_queries(passages, queries, qrels, CONFIG, seed, {"doc1-0": ["doc2-0", "elsewhere"]})
        side = {query: name for name, rows in split.items() for query in rows}
        assert side["q-doc1-0-0"] == side["q-doc2-0-0"]


def test_one_question_over_all_documents_does_not_glue_them():
    passages, queries, qrels = make({f"filing{n}": 6 for n in range(30)})
    for n in range(30):
        key = f"generic-{n}"
        queries[key] = Query(key, "How large was the total revenue of the company in the fiscal year?")
        qrels[key] = {f"filing{n}-0": 1}
    split, result = split_queries(passages, queries, qrels, CONFIG, 13)
    assert "near-duplicate of a query on another side" in result.dropped
    assert sum(map(len, split.values())) + len(result.details["dropped_queries"]) == len(qrels)
    assert len(split["test"]) > 20
    assert leaks(passages, queries, split) == NONE


def test_one_big_document_is_split_inside_by_heading():
    passages, queries, qrels = make({"code": 200})
    split, result = split_queries(passages, queries, qrels, CONFIG, 13)
    assert "heading" in result.details["way"]
    parts: dict[str, set[str]] = {}
    for side, rows in split.items():
        for row in rows.values():
            parts.setdefault(passages[next(iter(row))].title.split(" > ")[1], set()).add(side)
    assert all(len(sides) == 1 for sides in parts.values())
    assert min(len(rows) for rows in split.values()) >= 10


@pytest.mark.parametrize(
    ("title", "heading"),
    [
        ("ACME 2022 10-K > Item 7 > Liquidity", "Item 7"),
        ("中华人民共和国民法典 第五十条（第一编 总则 > 第二章 自然人）", "第一编 总则"),
        ("Banking Act Section 12 (Part II Supervision)", "Part II Supervision"),
        ("Hearing loss", "Hearing loss"),
    ],
)
def test_the_top_heading_is_read_from_paths_and_citations(title, heading):
    assert _top_heading(title) == heading


def test_a_query_about_everything_is_dropped_when_it_glues_all_passages():
    passages, queries, qrels = make({"code": 20})
    for number in range(20):
        key = f"pair-{number}"
        queries[key] = Query(key, words(key, 8))
        qrels[key] = {f"code-{number}": 1, f"code-{(number + 1) % 20}": 1}
    split, result = split_queries(passages, queries, qrels, CONFIG, 13)
    assert result.dropped["its passages fell on two sides"] >= 2
    assert all(split.values())
    assert leaks(passages, queries, split) == NONE


def test_without_groups_shared_positives_decide():
    passages = {f"p{n}": Passage(f"p{n}", "", words(n, 30)) for n in range(60)}
    queries = {f"q{n}": Query(f"q{n}", words(f"q{n}", 8)) for n in range(60)}
    qrels = {f"q{n}": {f"p{n}": 1, f"p{n ^ 1}": 1} for n in range(60)}
    split, _ = split_queries(passages, queries, qrels, CONFIG, 13)
    side = {query: name for name, rows in split.items() for query in rows}
    assert all(side[f"q{n}"] == side[f"q{n ^ 1}"] for n in range(60))
    assert len(side) == 60


def test_grades_below_the_threshold_travel_but_do_not_tie():
    passages, queries, qrels = make({f"doc{n}": 1 for n in range(40)})
    for row in qrels.values():
        row["doc0-0"] = max(row.get("doc0-0", 0), 0)
    qrels["only-bad"] = {"doc1-0": 0}
    queries["only-bad"] = Query("only-bad", "nothing fits")
    split, result = split_queries(passages, queries, qrels, CONFIG, 13)
    assert sum(map(len, split.values())) == 40
    assert split["test"] and all("doc0-0" in row for row in split["test"].values())
    assert result.dropped == {"no relevant passage in the corpus": 1}


@pytest.mark.parametrize("groups", [{"a": 4, "b": 3, "c": 3}, {"a": 10}, {"a": 9, "b": 1}])
def test_ten_queries_are_enough(groups):
    passages, queries, qrels = make(groups)
    split, _ = split_queries(passages, queries, qrels, CONFIG, 13)
    assert all(split[side] for side in ("train", "dev", "test"))
    assert leaks(passages, queries, split) == NONE


def test_a_single_passage_cannot_be_split():
    passages, queries, qrels = make({"a": 1}, queries_each=10)
    with pytest.raises(InputError, match="10 labelled queries on 1 passages") as caught:
        split_queries(passages, queries, qrels, CONFIG, 13)
    assert "split.test = 0" in caught.value.hint
    split, _ = split_queries(passages, queries, qrels, SplitConfig(dev=0, test=0), 13)
    assert list(split) == ["train"] and len(split["train"]) == 10


def test_the_audit_counts_each_kind_of_leak():
    passages, queries, qrels = make({f"doc{n}": 1 for n in range(6)})
    long = words("long", 60)
    passages["doc2-0"] = Passage("doc2-0", "", long, "doc2")
    passages["doc3-0"] = Passage("doc3-0", "", long + " x", "doc3")
    queries["q-doc5-0-0"] = Query("q-doc5-0-0", queries["q-doc4-0-0"].text.upper())
    queries["again"] = Query("again", words("again", 8))
    split = {
        "train": {key: qrels[key] for key in ("q-doc0-0-0", "q-doc2-0-0", "q-doc4-0-0")},
        "test": {key: qrels[key] for key in ("q-doc1-0-0", "q-doc3-0-0", "q-doc5-0-0")} | {"again": {"doc0-0": 1}},
    }
    assert leaks(passages, queries, split) == {
        "shared positives": 1,
        "near-duplicate positives": 2,
        "near-duplicate queries": 2,
    }


@st.composite
def collections(draw):
    """Small collections dense in trouble: shared passages, copies, repeated questions, several positives."""
    size = draw(st.integers(3, 30))
    texts = [words(n, 25) for n in range(draw(st.integers(2, size)))]
    passages = {}
    for n in range(size):
        text = draw(st.sampled_from(texts)) + draw(st.sampled_from(["", " tail", " other end"]))
        group = draw(st.sampled_from(["", "a", "b", "c", "d", "e", "f"]))
        passages[f"p{n}"] = Passage(f"p{n}", f"{group} > {draw(st.sampled_from('xyz'))}", text, group)
    asked = [words(f"q{n}", 12) for n in range(draw(st.integers(2, 30)))]
    queries, qrels = {}, {}
    for n in range(draw(st.integers(3, 40))):
        queries[f"q{n}"] = Query(f"q{n}", draw(st.sampled_from(asked)))
        found = draw(st.lists(st.sampled_from(sorted(passages)), min_size=1, max_size=3, unique=True))
        qrels[f"q{n}"] = {passage: draw(st.integers(0, 2)) for passage in found}
    return passages, queries, qrels


@settings(max_examples=120, deadline=None)
@given(collections(), st.integers(0, 3))
def test_no_leak_ever_and_every_query_accounted_for(collection, seed):
    passages, queries, qrels = collection
    try:
        split, result = split_queries(passages, queries, qrels, CONFIG, seed)
    except InputError:
        return
    assert leaks(passages, queries, split) == NONE
    kept = Counter(query for rows in split.values() for query in rows)
    assert set(kept.values()) == {1}
    assert len(kept) + sum(result.dropped.values()) == len(qrels)
    assert all(row == qrels[query] for rows in split.values() for query, row in rows.items())
    shuffled = {key: qrels[key] for key in sorted(qrels, key=lambda key: hash((key, seed)))}
    again, _ = split_queries(passages, queries, shuffled, CONFIG, seed)
    assert {side: set(rows) for side, rows in again.items()} == {side: set(rows) for side, rows in split.items()}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.frozensets(st.sampled_from("abcdefgh"), min_size=1), max_size=15),
    st.sampled_from([0.3, 0.5, 0.6, 0.75, 0.9, 1.0]),
)
def test_the_join_finds_exactly_the_similar_sets(sets, threshold):
    pairs = similar_sets(sets, threshold)
    for a, b in pairs:
        assert a < b and len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= threshold - 1e-9
    linked = {(min(sets[a], sets[b], key=sorted), max(sets[a], sets[b], key=sorted)) for a, b in pairs}
    for a, one in enumerate(sets):
        for other in sets[a + 1 :]:
            if one != other and len(one & other) / len(one | other) >= threshold:
                assert (min(one, other, key=sorted), max(one, other, key=sorted)) in linked
            if one == other:
                assert (one, one) in linked


def test_chinese_queries_are_compared_by_character_pairs():
    assert query_terms("什么是不可抗力") == {"什么", "么是", "是不", "不可", "可抗", "抗力"}
    assert query_terms("？！") != query_terms("。")
