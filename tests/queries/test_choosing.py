"""Which passages an LLM is asked about, and which pairs."""

from __future__ import annotations

import numpy as np
import pytest

from fieldtune.queries.boilerplate import boilerplate
from fieldtune.queries.choosing import choose_passages
from fieldtune.queries.clusters import cluster, topic_count
from fieldtune.queries.comparisons import find_pairs
from fieldtune.types import Passage

WORDS = [
    "amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "ledge",
    "marsh", "north", "ocean", "plain", "quarry",
]  # fmt: skip


def field(sizes: tuple[int, ...], documents: int = 4) -> tuple[dict[str, Passage], np.ndarray]:
    """Passages on some topics of given sizes, each topic a direction of its own with a little noise."""
    rng = np.random.default_rng(0)
    passages, rows = {}, []
    for topic, size in enumerate(sizes):
        for number in range(size):
            key = f"t{topic}-{number}"
            text = " ".join(rng.choice(WORDS, 12)) + f" topic{topic} item {number}"
            passages[key] = Passage(key, f"T{topic} > {number}", text, f"d{number % documents}")
            rows.append(np.eye(8)[topic] + rng.normal(0, 0.08, 8))
    vectors = np.array(rows, np.float32)
    return passages, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_choice_reaches_all_topics_and_documents_and_is_explained():
    passages, vectors = field((200, 40, 8))
    choice = choose_passages(passages, 40, 1, lambda: vectors)
    of_topic = [sum(key.startswith(f"t{topic}-") for key in choice.keys) for topic in range(3)]
    assert len(choice.keys) == 40 and of_topic[2] >= 2  # one of its eight passages would be its share
    assert of_topic[0] > of_topic[1] > of_topic[2]
    assert {passages[key].group for key in choice.keys} == {"d0", "d1", "d2", "d3"}
    assert sum(topic["asked"] for topic in choice.topics) == 40
    assert sum(topic["passages"] for topic in choice.topics) == 248 and choice.topics[0]["about"]
    assert "40 of 248 passages" in choice.notes[0] and "topics" in choice.notes[0] and "documents" in choice.notes[0]


def test_a_smaller_number_takes_the_first_of_a_larger_and_the_seed_decides():
    passages, vectors = field((60, 60, 60))
    large = choose_passages(passages, 90, 1, lambda: vectors).keys
    assert choose_passages(passages, 30, 1, lambda: vectors).keys == large[:30]
    assert choose_passages(passages, 90, 1, lambda: vectors.copy()).keys == large
    assert choose_passages(passages, 90, 2, lambda: vectors).keys != large


def test_where_all_are_wanted_no_vectors_are_made():
    passages, _ = field((10, 10))

    def never() -> np.ndarray:
        raise AssertionError("vectors were made")

    choice = choose_passages(passages, 50, 1, never)
    assert sorted(choice.keys) == sorted(passages) and choice.topics == ()
    assert len(choose_passages(passages, 5, 1, None).keys) == 5


def test_boilerplate_and_copies_are_passed_over_with_the_reason():
    house = "This report is for information only and is no offer to sell. Past results say nothing of future ones. "
    passages = {f"h{n}": Passage(f"h{n}", "", house + f"Page {n}.", f"d{n}") for n in range(6)}
    passages |= {
        "toc": Passage("toc", "", "Contents\nRent ........ 3\nDeposit ........ 7\nNotice ........ 9\nPets ........ 12"),
        "short": Passage("short", "", "See overleaf."),
        "figures": Passage("figures", "", " ".join(f"{n}.{n} | ----" for n in range(40)) + " a b c d e f g h"),
        "table": Passage(
            "table", "", "| Year | Revenue | Margin |\n| 2021 | 1,204.5 | 12% |\n| 2022 | 1,377.9 | 14% |"
        ),
        "law": Passage("law", "", "承租人应当按照约定的期限支付租金。"),
        "one": Passage(
            "one", "", "The tenant pays the rent on the first day of each month by bank transfer to the agent."
        ),
        "two": Passage(
            "two", "", "The tenant pays the rent on the first day of each month by bank transfer to the agent!"
        ),
    }
    reasons = boilerplate(passages)
    assert {reasons[f"h{n}"] for n in range(6)} == {"wording that stands in many passages"}
    assert reasons["toc"] == "table of contents" and reasons["short"] == "hardly any text"
    assert reasons["figures"] == "mostly figures and signs"
    assert not {"table", "law", "one", "two"} & set(reasons)
    choice = choose_passages(passages, 100, 1)
    assert sorted(choice.keys) == ["law", "one", "table"]
    assert choice.dropped["passage not asked about: near-duplicate of another passage"] == 1
    assert sum(choice.dropped.values()) == len(passages) - 3


def test_a_corpus_of_one_text_leaves_one_passage():
    passages = {
        f"p{n}": Passage(f"p{n}", "", "A tenant may end the lease with three months of notice in writing.")
        for n in range(3)
    }
    assert choose_passages(passages, 10, 1).keys == ("p0",)


def test_clusters_find_what_was_put_in():
    _, vectors = field((50, 50, 50))
    labels, centres = cluster(vectors, 3, seed=1)
    assert len({frozenset(labels[begin : begin + 50].tolist()) for begin in (0, 50, 100)}) == 3
    assert all(len(set(labels[begin : begin + 50].tolist())) == 1 for begin in (0, 50, 100))
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    again, _ = cluster(vectors, 3, seed=1)
    assert np.array_equal(labels, again)
    same, _ = cluster(np.ones((5, 4), np.float32) / 2, 3, seed=1)
    assert len(same) == 5
    assert [topic_count(n) for n in (0, 2, 200, 20_000, 10**7)] == [1, 1, 10, 100, 256]


def test_pairs_are_neighbours_that_differ():
    passages, vectors = field((12, 12, 12), documents=3)
    pairs = find_pairs(passages, vectors, list(passages), list(passages), 10)
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 10
    assert all(a.split("-")[0] == b.split("-")[0] and a != b for a, b in pairs)
    assert all(passages[a].group != passages[b].group for a, b in pairs)
    used = [key for pair in pairs for key in pair]
    assert max(used.count(key) for key in used) <= 2


def test_pieces_of_one_section_copies_and_strangers_make_no_pair():
    text = "The tenant pays the rent on the first day of each month by bank transfer to the agent named below."
    passages = {
        "a": Passage("a", "Lease > Rent", text, "d"),
        "b": Passage("b", "Lease > Rent", "Late payment bears interest at five percent.", "d"),
        "c": Passage("c", "Other", text + " Thanks.", "e"),
        "z": Passage("z", "Far", "Asthma is treated with inhalers.", "f"),
    }
    near = np.array([[1, 0.1, 0], [1, 0.12, 0], [1, 0.11, 0], [0, 0, 1]], np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    assert find_pairs(passages, near, ["a"], list(passages), 5) == []
    assert find_pairs(passages, near, ["b"], list(passages), 5) == [("b", "c")]
    with pytest.raises(KeyError):
        find_pairs(passages, near, ["nobody"], list(passages), 5)
