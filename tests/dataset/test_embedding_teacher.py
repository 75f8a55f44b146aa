"""A larger embedding model as a teacher: its cosines, each text encoded once, followed by training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.beir import load_beir
from fieldtune.config import Config, make_config
from fieldtune.dataset import build_dataset, read_examples
from fieldtune.dataset.embedder import cosines, is_embedder, open_embedder, require_embedder
from fieldtune.dataset.teacher import teach_cosines
from fieldtune.encoding import Encoder, vectors
from fieldtune.errors import ConfigError, ModelError
from fieldtune.models import resolve_model
from fieldtune.pipeline import require_fit
from fieldtune.stages.dataset import depends
from fieldtune.training import tune
from fieldtune.training.decide import decide
from fieldtune.training.losses.choice import choose, shape_of
from fieldtune.training.pairs import make_pairs
from fieldtune.training.scale import fitting_scale
from fieldtune.types import Example
from fieldtune.workspace import read_json


@pytest.fixture(scope="module")
def larger(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An embedding model of another size, with a prompt on either side."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("larger")
    torch.manual_seed(7)
    config = BertConfig.from_pretrained(tiny_model, hidden_size=48, num_attention_heads=4, initializer_range=0.3)
    BertModel(config).save_pretrained(folder / "encoder")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder / "encoder")
    parts = [Transformer(str(folder / "encoder"), max_seq_length=32), Pooling(48, "mean"), Normalize()]
    prompts = {"query": "what ", "document": "article "}
    SentenceTransformer(modules=parts, prompts=prompts, device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def config_for(base: str, teacher: str, training: dict[str, Any] | None = None, **settings: Any) -> Config:
    given = {"model": teacher, "ranks": [5, 20], **settings}
    own = {"epochs": 4, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 1, "precision": "fp32"}
    return make_config({
        "seed": 5, "model": {"base": base}, "teacher": given, "negatives": {"per_query": 2, "depth": 20},
        "training": own | (training or {}),
    })  # fmt: skip


def counted(monkeypatch: pytest.MonkeyPatch, model: str, stop_after: int = 10**9) -> list[str]:
    """Texts in the order in which that model encodes them; dies once there are so many."""
    seen: list[str] = []
    real = Encoder.stream

    def stream(self: Encoder, texts: Iterable[str], side: Any, **named: Any) -> Iterator[Any]:
        if self.name != model:
            yield from real(self, texts, side, **named)
            return
        for text in texts:
            if len(seen) >= stop_after:
                raise KeyboardInterrupt
            seen.append(f"{side}: {text}")
            yield from real(self, [text], side, **named)

    monkeypatch.setattr(Encoder, "stream", stream)
    return seen


PAIRS = [(f"what ends lease {n % 4}", f"rent covers deposit {n} {'notice ' * n}") for n in range(20)]


def test_scores_are_the_cosines_of_its_vectors_with_its_prompts(larger: str, tmp_path: Path) -> None:
    config = config_for("builtin:all-MiniLM-L6-v2", larger)
    encoder = open_embedder(config.teacher)
    found = cosines(encoder, [*PAIRS, PAIRS[3]], tmp_path, 5)
    plain = Encoder.load(larger, precision="fp32")
    assert plain.prompts == {"query": "what ", "passage": "article "}
    asked = plain.encode([query for query, _ in PAIRS], "query")
    there = plain.encode([text for _, text in PAIRS], "passage")
    expected = (asked * there).sum(axis=1)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found.values, [*expected, expected[3]], atol=1e-5)
    assert (found.distinct, found.texts, found.cut) == (20, 24, 0)
    _, spread = fitting_scale(plain.encode([f"what ends lease {n}" for n in range(4)], "query"), there, 5)
    assert found.spread == pytest.approx(spread, abs=1e-5)


def test_each_text_is_encoded_once_also_by_a_run_that_was_killed_and_for_other_pairs(
    larger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = open_embedder(config_for("b", larger).teacher)
    with monkeypatch.context() as patch:
        whole = counted(patch, larger)
        calm = cosines(encoder, PAIRS, tmp_path / "calm", 5)
    assert len(whole) == 24
    with monkeypatch.context() as patch:
        seen = counted(patch, larger, stop_after=11)
        with pytest.raises(KeyboardInterrupt):
            cosines(encoder, PAIRS, tmp_path / "cut", 5)
    with monkeypatch.context() as patch:
        rest = counted(patch, larger)
        again = cosines(encoder, PAIRS, tmp_path / "cut", 5)
        assert again.values == calm.values and again.spread == calm.spread
        assert [*seen, *rest] == whole
        rest.clear()
        more = cosines(encoder, [("a new lease", PAIRS[3][1]), *PAIRS[5:9], ("rent", "tenant 3")], tmp_path / "cut", 5)
    assert rest == ["query: a new lease", "query: rent", "passage: tenant 3"]
    assert more.values[1:5] == pytest.approx(calm.values[5:9], abs=2e-6)
    asked, there = encoder.encode(["a new lease"], "query"), encoder.encode([PAIRS[3][1]], "passage")
    assert more.values[0] == pytest.approx(float(asked[0] @ there[0]), abs=1e-5)


def test_a_shorter_limit_cuts_and_is_said(larger: str, tmp_path: Path) -> None:
    settings = config_for("b", larger, max_tokens=8).teacher
    encoder = open_embedder(settings)
    rows = [Example(query, (text,)) for query, text in PAIRS]
    taught = teach_cosines(rows, encoder, 32, tmp_path, 5)
    longer = sum(len(text.split()) + 3 > 8 for _, text in PAIRS)  # with the prompt and two special tokens
    assert f"{longer} of 24 texts are longer than the 8 tokens" in " ".join(taught.notes)
    assert "reads 8 tokens of a passage, fewer than the 32" in " ".join(taught.notes)
    assert taught.record["max_tokens"] == 8 and taught.record["texts cut"] == longer
    free = cosines(open_embedder(config_for("b", larger).teacher), PAIRS, tmp_path, 5)
    assert taught.examples[19].pos_scores != (free.values[19],)  # nor is its vector taken for the other's
    assert taught.examples[0].pos_scores == pytest.approx((free.values[0],), abs=1e-5)


def test_a_folder_says_which_kind_of_teacher_it_holds(tiny_model: str, tiny_reranker: str, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    CrossEncoder(tiny_reranker).save_pretrained(str(tmp_path / "newer"))  # with modules.json, as an embedding model
    Path(tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(tiny_model)
    kinds = {
        tiny_model: True, str(tmp_path / "run"): True, "builtin:all-MiniLM-L6-v2": True,
        tiny_reranker: False, str(tmp_path / "newer"): False, str(Path(tiny_model).parent / "encoder"): False,
        "llm": False, "fused": False, "": False, "./nowhere": False,
    }  # fmt: skip
    assert {name: is_embedder(name) for name in kinds} == kinds


def test_what_is_no_teacher_is_refused_before_any_work(
    tiny_model: str, larger: str, tiny_beir: Path, tmp_path: Path
) -> None:
    own = config_for(tiny_model, tiny_model)
    with pytest.raises(ConfigError, match="is the base model itself") as caught:
        require_fit(own)
    assert "larger embedding model" in caught.value.hint
    with pytest.raises(ConfigError, match="is the base model itself"):
        build_dataset(own, load_beir(tiny_beir), {}, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()
    with pytest.raises(ConfigError, match=r"teacher\.max_tokens asks for 65 tokens, .* at most 64"):
        require_fit(config_for(tiny_model, larger, max_tokens=65))
    with pytest.raises(ConfigError, match=r"teacher\.activation=sigmoid is for a cross-encoder"):
        require_fit(config_for(tiny_model, larger, activation="sigmoid"))
    require_embedder(config_for(tiny_model, larger, max_tokens=64))
    plain = str(Path(larger).parent / "encoder")  # a transformer alone, which says nothing of a vector
    with pytest.raises(ModelError, match="no cross-encoder") as caught_too:
        data = load_beir(tiny_beir)
        build_dataset(config_for(tiny_model, plain), data, {}, Encoder.load(tiny_model), tmp_path / "d", tmp_path / "v")
    assert "if Sentence Transformers saved it" in caught_too.value.hint


def test_a_model_without_tokens_has_no_limit_to_set(tiny_model: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "rent": 1, "lease": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(tmp_path / "s"))
    with pytest.raises(ConfigError, match="texts of any length"):
        require_embedder(config_for(tiny_model, str(tmp_path / "s"), max_tokens=16))
    config = config_for(tiny_model, str(tmp_path / "s"))
    require_embedder(config)
    found = cosines(open_embedder(config.teacher), [("rent", "rent"), ("rent", "lease")], tmp_path / "v", 5)
    assert found.values[0] == pytest.approx(1, abs=1e-5) and found.values[1] < 0.999


def test_the_dataset_depends_on_the_teachers_weights(tiny_model: str, larger: str) -> None:
    assert resolve_model(larger).fingerprint in depends(config_for(tiny_model, larger))


@pytest.mark.parametrize("loss", ["auto", "margin_mse"])
def test_training_follows_it_end_to_end(
    tiny_model: str, larger: str, tiny_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    config = config_for(tiny_model, larger, {"loss": loss, "contrastive_share": 0.0, "epochs": 12})
    encoder = Encoder.load(tiny_model, precision="fp32")
    build_dataset(config, load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    record = read_json(tmp_path / "data" / "teacher.json")
    assert (record["kind"], record["model"], record["scale"]) == ("embedder", larger, "-1 to 1")
    examples = tmp_path / "data" / "train.jsonl"
    rows = read_examples(examples)
    assert all(len(row.neg_scores) == len(row.neg) > 2 and len(row.pos_scores) == len(row.pos) for row in rows)
    first = examples.read_bytes()
    seen = counted(monkeypatch, larger)
    build_dataset(config, load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    assert seen == [] and examples.read_bytes() == first  # all of it was there

    pairs = make_pairs(rows)
    assert choose("auto", shape_of(pairs, record["kind"])) == "kl"
    recipe, notes = decide(config, pairs, encoder, examples, tmp_path / "vectors")
    teacher = Encoder.load(larger, precision="fp32")
    scale, spread = fitting_scale(
        teacher.encode([row.query for row in rows], "query"), teacher.encode(pairs.passages, "passage"), 5
    )
    assert record["spread of unrelated texts"] == pytest.approx(spread, rel=0.1)
    assert recipe.teacher_temperature == pytest.approx(1 / scale, rel=0.1)
    assert f"Teacher temperature {recipe.teacher_temperature:.3g}, chosen from the teacher" in " ".join(notes)

    def agreement(model: Encoder) -> float:
        """How like its scores are, within a query, to the teacher's."""
        found = []
        for row in rows:
            texts, scores = [*row.pos, *row.neg], [*row.pos_scores, *row.neg_scores]
            ours = model.encode(texts, "passage") @ model.encode([row.query], "query")[0]
            found.append(np.corrcoef(ours, scores)[0, 1])
        return float(np.mean(found))

    before = agreement(encoder)
    tune(config, load_beir(tmp_path / "data"), examples, encoder, tmp_path / "run", tmp_path / "vectors")
    assert agreement(Encoder.load(str(tmp_path / "run"), precision="fp32")) > before + 0.1


def test_its_vectors_are_read_from_the_runs_folder(larger: str, tmp_path: Path) -> None:
    encoder = open_embedder(config_for("b", larger).teacher)
    cosines(encoder, PAIRS, tmp_path, 5)
    queries = list(dict.fromkeys(query for query, _ in PAIRS))
    assert vectors.is_cached(encoder, queries, "query", tmp_path)
