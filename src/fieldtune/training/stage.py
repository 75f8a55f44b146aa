"""The training stage: a base model and a dataset in, a tuned Sentence Transformers folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.dataset import read_examples, training_rows
from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.errors import ModelError
from fieldtune.llm.answers import PLACE
from fieldtune.training.blend import blend, kept_weights
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import Development, dev_queries, development_sample
from fieldtune.training.loop import Recipe, freezes_embeddings
from fieldtune.training.losses import matryoshka_dimensions
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.rounds import train_in_rounds
from fieldtune.training.scale import fitting_scale
from fieldtune.types import Example, Result
from fieldtune.workspace import atomic_folder, file_digest, write_jsonl

_SAME = 0.9999  # least cosine between the trained model's vectors and those of the saved folder


def tune(
    config: Config,
    data: RetrievalData,
    examples: Path,
    encoder: Encoder,
    work: Path,
    vectors: Path,
    duplicates: Mapping[str, Sequence[str]] | None = None,
) -> Result:
    """Train on `examples` (FlagEmbedding rows), choose the best weights on dev, save `work/model`.

    `encoder` is the base model and is changed; `work` is the run's folder, `vectors` its folder of encoded texts,
    `duplicates` maps a passage to its known copies, for mining anew between rounds (`negatives.rounds`). Also writes
    `work/training/log.jsonl`. Raises ModelError when the base cannot be trained or the result does not load as what was
    trained.
    """
    if encoder.tokens is None:
        raise ModelError(
            f"{encoder.name} is not a plain text encoder with a fast tokenizer",
            "fieldtune trains models whose first module is a Transformer",
        )
    pairs = make_pairs(read_examples(examples))
    development = _development(config, data, encoder, vectors)
    recipe, notes = _recipe(config, pairs, encoder)
    key = f"{encoder.fingerprint}-{file_digest(examples)}-{config.seed}-{config.training.model_dump_json()}"
    probe = [*pairs.queries[:16], *pairs.passages[:16]]
    before = encoder.encode(probe, "passage")
    if freezes_embeddings(encoder.model, config.training.freeze_embeddings):
        notes.append("The word vectors were left as they are (training.freeze_embeddings).")
    rounds = config.negatives.rounds
    if rounds > 1:
        key += f"-{config.negatives.model_dump_json()}-{config.teacher.model_dump_json()}"

    def mine(tuned: Encoder, number: int, folder: Path) -> list[Example]:
        rows = training_rows(config, data, duplicates or {}, tuned, folder, examples.parent / "cache", work / PLACE)
        mined_anew.append({"round": number, **rows.counts})
        return rows.examples

    mined_anew: list[dict[str, Any]] = []
    share = config.training.base_share
    base = kept_weights(encoder.model) if share else {}
    state = train_in_rounds(encoder, pairs, recipe, development, work / "training" / "state", key, rounds, mine)
    if rounds > 1:
        notes.append(
            f"Training ran in {rounds} rounds; negatives were mined anew before each but the first, with the best "
            "weights so far."
        )
    best_score = state.best_score
    if share:
        blend(encoder.model, base, share)
        if development is not None:
            best_score = float(development.score(encoder).mean())
            notes.append(
                f"{share:.0%} of the weights are the base model's (training.base_share): dev nDCG@10 {best_score:.4f} "
                f"instead of {state.best_score:.4f}."
            )
    after = encoder.encode(probe, "passage")
    write_jsonl(work / "training" / "log.jsonl", state.log)
    _save(encoder, work / "model", probe, after)
    notes += _verdict(state, development, float(np.abs(before - after).max()), after)
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "steps": state.step,
        "loss scale": recipe.scale,
        "best step": state.best_step,
    }
    if development is not None:
        counts |= {
            "dev nDCG@10 before": round(state.base_score, 4),
            "dev nDCG@10 after": round(best_score, 4),
        }
    details: dict[str, Any] = {
        "dimensions": list(recipe.dimensions),
        "precision": encoder.precision,
        "device": encoder.device,
    }
    if mined_anew:
        details["mined anew"] = mined_anew
    return Result("training", counts, {}, tuple(notes), details)


def _development(config: Config, data: RetrievalData, encoder: Encoder, vectors: Path) -> Development | None:
    settings = config.training
    chosen = dev_queries(data, settings.dev_queries, config.seed)
    if not chosen:
        return None
    whole = len(data.passages) <= settings.dev_passages
    passages = [passage.content for passage in data.passages.values()]
    return development_sample(
        data,
        np.zeros((0, 0), np.float32) if whole else encoder.encode([data.queries[q].text for q in chosen], "query"),
        np.zeros((0, 0), np.float32) if whole else cached_vectors(encoder, passages, "passage", vectors),
        queries=settings.dev_queries,
        passages=settings.dev_passages,
        seed=config.seed,
    )


def _recipe(config: Config, pairs: Pairs, encoder: Encoder) -> tuple[Recipe, list[str]]:
    settings, notes = config.training, []
    if settings.scale == "auto":
        rng = np.random.default_rng(config.seed)

        def some(texts: list[str]) -> list[str]:
            return [texts[i] for i in rng.permutation(len(texts))[:500]]

        queries = encoder.encode(some(pairs.queries), "query")
        scale, spread = fitting_scale(queries, encoder.encode(some(pairs.passages), "passage"), config.seed)
        notes.append(
            f"Loss scale {scale:.0f}, chosen from the base model: its cosines between unrelated texts spread by "
            f"{spread:.3f}."
        )
    else:
        scale = settings.scale
    full = encoder.dimension
    dimensions = matryoshka_dimensions(full) if settings.matryoshka == "auto" else (settings.matryoshka or (full,))
    if max(dimensions) > full:
        raise ModelError(
            f"training.matryoshka asks for {max(dimensions)} dimensions, {encoder.name} has {full}",
            f"use sizes up to {full}",
        )
    if full not in dimensions:
        dimensions = (full, *dimensions)
    return Recipe(settings, scale, dimensions, config.seed), notes


def _save(encoder: Encoder, folder: Path, probe: list[str], vectors: Any) -> None:
    """Save atomically, and only after the saved folder, loaded afresh, gives the trained model's vectors."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    with atomic_folder(folder) as temporary, torch.inference_mode():
        encoder.model.save(str(temporary))
        saved = Encoder.load(str(temporary), precision=encoder.precision).encode(probe, "passage")
        cosine = float(np.einsum("ij,ij->i", saved, vectors).min())
        if cosine < _SAME:
            raise ModelError(
                f"the saved model gives other vectors than the trained one (cosine {cosine:.5f})",
                "this is a bug in saving or in the model's own code; the model was not kept",
            )


def _verdict(state: Progressed, development: Development | None, moved: float, vectors: Any) -> list[str]:
    notes = []
    if development is None:
        notes.append("There is no dev set: the last weights were kept, unchecked.")
    elif state.best_score <= state.base_score:
        notes.append(
            f"No gain on dev: nDCG@10 {state.base_score:.4f} before, {state.best_score:.4f} at the best step. Look at "
            "the data first; then try a lower training.learning_rate or more queries."
        )
    if moved == 0:
        notes.append("Training changed nothing: the vectors are those of the base model.")
    if len(vectors) > 2 and float(np.abs(vectors - vectors.mean(axis=0)).max()) < 1e-3:
        notes.append("The model has collapsed: all vectors are alike. Lower training.learning_rate.")
    return notes
