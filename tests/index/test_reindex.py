"""An index brought up to date with changed documents equals one built anew, and encodes only what is new."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import write_corpus
from fieldtune.config import Config, make_config
from fieldtune.encoding import Encoder
from fieldtune.errors import ModelError
from fieldtune.index import Base, Index, build_index
from fieldtune.models import resolve_model
from fieldtune.stages.reindex import reindex
from fieldtune.types import Passage


@pytest.fixture
def setting(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Path, list[str]]:
    """A run with a model and three indexed documents, and what is encoded from now on."""
    out, docs = tmp_path / "run", tmp_path / "docs"
    Encoder.load(tiny_model).model.save(str(out / "model"))
    docs.mkdir()
    for name, topic in (("lease", "The tenant pays rent"), ("loan", "The bank lends money"), ("dose", "Take aspirin")):
        (docs / f"{name}.md").write_text(f"# {name}\n\n{topic} on day one.\n\n## More\n\n{topic} again, and twice.\n")
    config = make_config({"out": str(out), "model": {"base": tiny_model}, "corpus": {"min_tokens": 4}})
    (out / "data" / "qrels").mkdir(parents=True)
    write_corpus(out / "data" / "corpus.jsonl", [Passage("x", "", "x")])
    (out / "data" / "queries.jsonl").write_text('{"_id": "q", "text": "rent"}\n')
    (out / "data" / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\tx\t1\n")
    seed = [Passage("seed", "", "seed", "seed.md", "seed.md")]
    model, base = str(out / "model"), tiny_model
    build_index(
        config.index, seed, Encoder.load(model).encode(["seed"], "passage"), out / "index",
        model_fingerprint=resolve_model(model).fingerprint, model=model, seed=1,
        base=Base(Encoder.load(base).encode(["seed"], "passage"), base, resolve_model(base).fingerprint),
    )  # fmt: skip
    result = reindex(config, [str(docs)], add=False)
    assert (result.counts["new"], result.counts["deleted"]) == (3, 1)
    encoded: list[str] = []
    real = Encoder.stream

    def noticed(self, texts, side, **rest):
        given = list(texts)
        encoded.extend(given)
        return real(self, given, side, **rest)

    monkeypatch.setattr(Encoder, "stream", noticed)
    return config, docs, encoded


def contents(index: Index) -> dict[str, tuple[str, list[float]]]:
    vectors = index.stored_vectors()
    return {one.id: (one.content, np.round(vectors[row], 5).tolist()) for row, one in enumerate(index.iterate())}


def test_only_what_changed_is_encoded_and_the_result_is_that_of_a_rebuild(setting) -> None:
    config, docs, encoded = setting
    index = Index.open(config.out)
    before = contents(index)
    (docs / "loan.md").write_text((docs / "loan.md").read_text().replace("again, and twice", "never again"))
    (docs / "dose.md").unlink()
    (docs / "fee.md").write_text("# fee\n\nThe court sets the fee.\n")
    result = reindex(config, [str(docs)], add=False)
    names = ("new", "changed", "deleted", "unchanged")
    assert {name: result.counts[name] for name in names} == dict(zip(names, (1, 1, 1, 1), strict=True))
    assert result.details["changed"] == ["loan.md"]
    fresh = {text for text in encoded if "fee" in text or "never" in text}
    assert set(encoded) == fresh and len(fresh) == result.counts["encoded"] == 2
    after = contents(index) if index.refresh() else {}
    assert {key for key, (text, _) in before.items() if text.startswith("lease")} <= set(after)
    whole = Encoder.load(str(Path(config.out) / "model")).encode([text for text, _ in after.values()], "passage")
    np.testing.assert_allclose(np.array([vector for _, vector in after.values()]), whole, atol=2e-2)  # bf16
    assert index.base is not None and len(index.base.stored_vectors()) == len(after)
    assert index.search("court fee", 1, mode="words")[0].passage.source == "fee.md"
    encoded.clear()
    again = reindex(config, [str(docs)], add=False)
    assert encoded == [] and again.counts["unchanged"] == 3 and again.counts["encoded"] == 0


def test_documents_are_added_and_unreadable_ones_keep_their_passages(setting, tmp_path: Path) -> None:
    config, docs, _ = setting
    more = tmp_path / "more"
    more.mkdir()
    (more / "new.md").write_text("# new\n\nInterest is due monthly.\n")
    (more / "lease.md").write_text("# lease\n\nThe tenant pays nothing.\n")
    result = reindex(config, [str(more)], add=True)
    counts = {name: result.counts[name] for name in ("new", "changed", "deleted", "unchanged")}
    assert counts == {"new": 1, "changed": 1, "deleted": 0, "unchanged": 2}
    index = Index.open(config.out)
    assert {one.source for one in index.iterate()} == {"lease.md", "loan.md", "dose.md", "new.md"}
    assert [one.text for one in index.iterate() if one.source == "lease.md"] == ["The tenant pays nothing."]
    (docs / "loan.md").unlink()
    (docs / "loan.md").symlink_to(docs / "nowhere")
    result = reindex(config, [str(docs)], add=False)
    assert any("keep their passages" in note for note in result.notes) and result.details["kept"] == ["loan.md"]
    assert {one.source for one in Index.open(config.out).iterate()} == {"lease.md", "loan.md", "dose.md"}


def test_vectors_of_two_models_are_never_mixed(setting) -> None:
    config, docs, encoded = setting
    meta = Path(config.out) / "model" / "config_sentence_transformers.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"prompts": {"query": "q: ", "document": "d: "}}))
    with pytest.raises(ModelError, match="not the one"):
        reindex(config, [str(docs)], add=False)
    assert encoded == []
