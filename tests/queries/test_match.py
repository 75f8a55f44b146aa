"""Labelled texts are found where they lie in the corpus, and only there."""

from __future__ import annotations

import random
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.queries.match import PassageFinder, fold, grams
from fieldtune.types import Passage

VOCABULARY = ["".join(random.Random(n).choices("abcdefghijklmnoprstuvw", k=3 + n % 7)) for n in range(3_000)]


def prose(seed: object, count: int) -> str:
    source = random.Random(f"{seed}")
    return " ".join(source.choices(VOCABULARY, k=count)) + "."


def corpus(texts: dict[str, str]) -> dict[str, Passage]:
    return {key: Passage(key, "", text) for key, text in texts.items()}


TEXTS = {f"p{n}": prose(n, 60) for n in range(50)}
FINDER = PassageFinder(corpus(TEXTS), 0.85)


def test_case_width_signs_and_spacing_do_not_count():
    match = FINDER.find(TEXTS["p7"].upper().replace(" ", " \n ").replace(".", "．"))
    assert (match.passages, match.how, match.similarity) == (("p7",), "exact", 1.0)


def test_a_part_is_found_in_the_passage_that_holds_it():
    words = TEXTS["p8"].split()
    match = FINDER.find(" ".join(words[10:35]))
    assert (match.passages, match.how) == (("p8",), "part")


def test_slips_of_the_pen_are_forgiven():
    words = TEXTS["p9"].split()
    words[20], words[40] = "zzzzz", "qqq"
    match = FINDER.find(" ".join(words))
    assert match.passages == ("p9",)
    assert 0.85 <= match.similarity < 1


def test_a_text_over_a_border_is_found_in_both_passages():
    across = " ".join(TEXTS["p10"].split()[30:] + TEXTS["p11"].split()[:30])
    match = FINDER.find(across)
    assert (set(match.passages), match.how) == ({"p10", "p11"}, "spans")


def test_a_text_that_contains_a_passage_is_found_in_it():
    around = f"{prose('before', 25)} {TEXTS['p12']} {prose('after', 25)}"
    match = FINDER.find(around)
    assert (match.passages, match.how) == (("p12",), "contains")


def test_a_text_that_is_mostly_something_else_is_not_found():
    assert FINDER.find(f"{prose('long', 200)} {TEXTS['p12']}").how == "missing"


def test_what_is_missing_names_the_nearest():
    words = TEXTS["p13"].split()
    match = FINDER.find(" ".join(words[:20]) + " " + prose("else", 40))
    assert (match.passages, match.how, match.best) == ((), "missing", "p13")
    assert 0.2 < match.similarity < 0.6


def test_an_unrelated_text_is_not_found():
    assert FINDER.find(prose("unrelated", 60)).passages == ()
    assert FINDER.find("…").how == "missing"


def test_chinese_is_found_by_few_characters():
    texts = {
        "a": "承租人应当按照约定的期限支付租金。对支付租金的期限没有约定的，应当在租赁期限届满时支付。",
        "b": "承租人经出租人同意，可以将租赁物转租给第三人。承租人转租的，租赁合同继续有效。",
        "c": "因不可抗力不能履行民事义务的，不承担民事责任。法律另有规定的，依照其规定。",
    }
    finder = PassageFinder(corpus(texts), 0.85)
    assert finder.find("可以将租赁物转租给第三人，承租人转租的").passages == ("b",)
    assert finder.find("合伙企业的利润分配、亏损分担，按照合伙协议的约定办理。").passages == ()


def test_the_title_decides_between_equal_texts():
    passages = {f"p{n}": Passage(f"p{n}", f"Act {n}", "This Act enters into force on 1 May.") for n in range(9)}
    finder = PassageFinder(passages, 0.85)
    assert finder.find("This Act enters into force on 1 May.").how == "ambiguous"
    assert finder.find("This Act enters into force on 1 May.", "Act 4").passages == ("p4",)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 49), st.integers(0, 30), st.integers(15, 30))
def test_any_longer_part_leads_to_its_passage(number, start, length):
    part = " ".join(TEXTS[f"p{number}"].split()[start : start + length])
    assert f"p{number}" in FINDER.find(part).passages


@given(st.text(max_size=40))
def test_grams_are_sorted_sets_for_any_text(text):
    found = grams(fold(text))
    assert len(found) >= 1
    assert (np.diff(found.astype(object)) > 0).all()


def test_looking_up_stays_far_from_comparing_all_pairs():
    texts = {f"p{n}": prose(n, 50) for n in range(1_000)}
    start = time.perf_counter()
    finder = PassageFinder(corpus(texts), 0.85)
    parts = [" ".join(text.split()[5:40]) for text in texts.values()]
    assert [finder.find(part).passages for part in parts] == [(key,) for key in texts]
    assert time.perf_counter() - start < 15
