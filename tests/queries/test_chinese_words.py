"""Chinese phrases end where words end: word lists, and the statistics of the corpus where they say more."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.queries.han_phrases import HanPhrases
from fieldtune.queries.han_words import HanWords
from fieldtune.queries.keywords import Keywords

NOUNS = ["按劳分配", "会计账簿", "碳排放权", "信托财产", "抵押登记", "债务人"]
VERBS = ["贯彻", "决定", "废除", "核算", "查封", "移交"]


def corpus(seed: int = 1, size: int = 300) -> list[str]:
    """Sentences in which words of several characters meet in all combinations."""
    rng = random.Random(seed)
    return [f"{rng.choice(VERBS)}{rng.choice(NOUNS)}{rng.choice(VERBS)}{rng.choice(NOUNS)}。" for _ in range(size)]


def test_a_corpus_tells_its_words_without_a_dictionary() -> None:
    words = HanWords(corpus())
    assert words.cut("贯彻按劳分配移交会计账簿") == ["贯彻", "按劳分配", "移交", "会计账簿"]
    assert words.cut("查封债务人碳排放权") == ["查封", "债务人", "碳排放权"]
    assert HanWords(reversed(corpus())).cut("核算信托财产") == ["核算", "信托财产"]


@settings(deadline=None)
@given(st.text(alphabet="按劳分配贯彻会计账簿的和一", max_size=30))
def test_what_is_cut_joins_to_what_it_was(text: str) -> None:
    assert "".join(HanWords(corpus(), ("分配",)).cut(text)) == text if text else True


def test_no_word_begins_or_ends_with_what_is_named_an_edge() -> None:
    texts = [text.replace("。", "的。") for text in corpus()]
    assert HanWords(texts, edges=("的",)).cut("信托财产的") == ["信托财产", "的"]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("企业贯彻按劳分配原则。", "按劳分配原则"),
        ("中华人民共和国境内的所得税由税务机关征收。", "所得税"),
        ("造成第三者死亡或者伤残的。", "第三者死亡"),
        ("在共同犯罪中起次要作用的，是从犯。", "次要作用"),
    ],
)
def test_phrases_are_not_cut_inside_words(text: str, phrase: str) -> None:
    found = HanPhrases(corpus()).chunks(text)
    assert any(phrase in run for run in found), found
    assert not {"得税", "者死亡", "起次", "华人民共"} & set(found)


def test_a_run_too_long_for_a_phrase_gives_its_last_words() -> None:
    phrases = HanPhrases(corpus())
    assert phrases.chunks("贯彻按劳分配移交会计账簿") == ["移交会计账簿"]


def test_key_phrases_of_a_chinese_passage_are_whole_words() -> None:
    words = Keywords([*corpus(), "债务人应当按照约定移交信托财产，并在查封前核算碳排放权。"])
    found = words.phrases("债务人应当按照约定移交信托财产，并在查封前核算碳排放权。", 3)
    assert found and all(any(noun in phrase for noun in [*NOUNS, *VERBS]) for phrase in found)
    assert not any(phrase.startswith(("托", "产", "权", "排")) for phrase in found)
