from __future__ import annotations

import os
from pathlib import Path

import pytest

from fieldtune.config import make_config
from fieldtune.dataset.card import CardFacts, Shown, dataset_card
from fieldtune.types import Example, Result

GOLDEN = Path(__file__).parent / "golden" / "card.md"

FACTS = CardFacts(
    title="Leases | 2026",
    funnel=[
        Result("documents", {"documents": 12, "pages": 3_400}, {"cannot be read": 1}),
        Result(
            "queries", {"queries": 900}, {"repeated": 45}, ("Queries were written by 'large-model'.",),
            {"filters": [{
                "filter": "round trip (k = 50)", "in": 1_000, "dropped": 12, "kept examples": [],
                "dropped examples": [{"query": "who | pays?", "style": "", "passage": "", "why": "at rank none"}],
            }],
            "kinds": {
                "title": {
                    "passages that give it": 800, "yield": 0.8, "taken": 300, "queries": 290, "made": 290, "kept": 270,
                    "share": 0.3,
                },
                "llm-formal": {"made": 700, "kept": 630, "share": 0.7},
            }},
        ),
    ],
    dataset=Result(
        "dataset",
        {"train": 700, "dev": 90, "test": 110, "hard negatives": 2_600},
        {"negative candidate: scores too near the positive": 1_234},
        ("Queries were divided by document group.",),
    ),
    prompts={"before each query": "query: ", "before each passage": "", "generator": "Write queries.\n# Not a heading"},
    scores={
        "kind": "cross-encoder", "model": "big/reranker", "scale": "logit", "max_tokens": 512, "precision": None,
        "positives (lowest, median, highest)": [-1.5, 4.25, 9.0],
    },
    examples=[
        Shown(
            "human",
            Example("谁付？", ("押金 > 付\n租客付 <b>押金</b>。",), ("drawn", "bad\n---\n# x"), known=("drawn",)),
        ),
        Shown("keywords", Example("rent | due date", ("Rent is due on the 3rd. " * 30,))),
    ],
)  # fmt: skip
CONFIG = make_config({
    "card": {"data_license": "cc-by-4.0"},
    "negatives": {
        "candidates": "fused", "same_document": False, "style_limits": {"keywords": 1}, "check": "big/reranker",
    },
})  # fmt: skip


def test_the_card_says_what_is_in_the_data() -> None:
    card = dataset_card(FACTS, CONFIG)
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(card, "utf-8")
    assert card == GOLDEN.read_text("utf-8")


def test_the_front_matter_is_yaml_whatever_the_licence_is_called() -> None:
    yaml = pytest.importorskip("yaml")
    for licence in ("cc-by-4.0", "Ours: all rights reserved # really", "1.0", "no", '"quoted"'):
        card = dataset_card(FACTS, make_config({"card": {"data_license": licence}}))
        front = yaml.safe_load(card.split("---\n")[1])
        assert front["license"] == licence
        assert {entry["config_name"]: entry["data_files"] for entry in front["configs"]}["train"] == "train.jsonl"


def test_texts_of_documents_take_no_part_in_the_page() -> None:
    card = dataset_card(FACTS, CONFIG)
    lines = card.splitlines()
    assert "# x" not in lines
    assert "<b>" not in card
    headings = [line for line in lines if line.startswith("#")]
    assert headings == ["# Leases | 2026"] + [
        f"## {name}"
        for name in (
            "Files", "From documents to training rows", "Left out", "Kinds of made queries",
            "Filters on made queries", "Negatives", "Scores", "Prompts", "Examples",
        )
    ]  # fmt: skip


def test_without_licence_negatives_and_scores_the_card_says_so() -> None:
    facts = CardFacts("x", (), Result("dataset", {"train": 1}), {}, {"kind": "none"}, ())
    card = dataset_card(facts, make_config({"negatives": {"per_query": 0}}))
    for said in ("not stated", "None were mined", "The rows carry none", "Nothing.", "no training rows"):
        assert said in card
    assert "license:" not in card
