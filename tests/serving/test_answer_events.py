"""What of an LLM's text is passed on while it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from fieldtune.serving import answering
from fieldtune.serving.answering import Asked, events
from fieldtune.serving.metrics import Metrics
from fieldtune.types import Hit, Passage

PASSAGE = Passage("a", "Lease", "Notice must be given in three months. No smoking.")


@pytest.mark.parametrize(
    ("script", "shown", "said"),
    [
        (["\n", "Notice ", "must be given [1]."], ["Notice ", "must be given [1]."], "Notice must be given [1]."),
        (["**NOT", "_FOU", "ND**"], [], "Not found in these documents."),
        (["NOT FOUND."], [], "Not found in these documents."),
        (["NO", "T", "ice must be given [1]."], ["NOTice must be given [1]."], "NOTice must be given [1]."),
        (["No", " smoking [1]."], ["No", " smoking [1]."], "No smoking [1]."),
        (["NOT"], ["NOT"], "NOT"),
    ],
)
def test_the_sign_for_no_answer_is_not_shown_and_all_else_is(
    monkeypatch: pytest.MonkeyPatch, script: list[str], shown: list[str], said: str
) -> None:
    async def pieces(*_: Any) -> AsyncIterator[str]:
        for piece in script:
            yield piece

    monkeypatch.setattr(answering, "pieces", pieces)
    service: Any = SimpleNamespace(
        llm="one", metrics=Metrics(), answering=0, settings=SimpleNamespace(answers_at_once=1)
    )
    asked = Asked("When must notice be given?", [Hit(PASSAGE, 1.0, 1, {})], True, [])

    async def read() -> list[tuple[str, dict[str, Any]]]:
        return [one async for one in events(service, asked)]

    got = asyncio.run(read())
    assert [name for name, _ in got] == ["passages", *["delta"] * len(shown), "final"]
    assert [data["text"] for name, data in got if name == "delta"] == shown
    assert got[-1][1]["answer"] == said
