"""The training stage: a base model and a dataset in, a tuned Sentence Transformers folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.config import Config, second_models
from fieldtune.dataset import read_examples, training_rows
from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.errors import ModelError
from fieldtune.models import resolve_model
from fieldtune.training.adapting import finish, prepare, require_method, save_beside
from fieldtune.training.blend import blend, kept_weights
from fieldtune.training.decide import decide
from fieldtune.training.development import Development, dev_queries, development_sample
from fieldtune.training.loop import Hooks
from fieldtune.training.optimizer import freezes_embeddings
from fieldtune.training.pairs import make_pairs
from fieldtune.training.query_side import train_query_side
from fieldtune.training.recipe import Recipe
from fieldtune.training.reports import reporting, require_reporters
from fieldtune.training.rounds import train_in_rounds
from fieldtune.training.safety import Probe, require_change, save_checked, verdict
from fieldtune.types import Example, Result
from fieldtune.workspace import file_digest, write_jsonl


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
    require_reporters(config.training.report_to)
    require_method(config, encoder.device)
    pairs = make_pairs(read_examples(examples))
    recipe, notes = decide(config, pairs, encoder, examples, vectors)
    development = _development(config, data, encoder, vectors)
    key = _key(config, encoder, examples, recipe)
    probe = Probe.of(pairs)
    before = probe.vectors(encoder)
    if freezes_embeddings(encoder.model, config.training.freeze_embeddings):
        notes.append("The word vectors were left as they are (training.freeze_embeddings).")
    rounds = config.negatives.rounds

    def mine(tuned: Encoder, number: int, folder: Path) -> list[Example]:
        rows = training_rows(config, data, duplicates or {}, tuned, folder, examples.parent / "cache")
        mined_anew.append({"round": number, **rows.counts})
        return rows.examples

    mined_anew: list[dict[str, Any]] = []
    share = config.training.base_share
    base = kept_weights(encoder.model) if share else {}
    prepared = prepare(encoder, config.training, config.seed)
    with reporting(config.training.report_to, work, config) as report:
        hooks = Hooks(report=report)
        states = work / "training" / "state"
        if config.training.method == "query":
            state = train_query_side(encoder, prepared, pairs, recipe, development, vectors, hooks)
        else:
            state = train_in_rounds(encoder, pairs, recipe, development, states, key, rounds, mine, hooks)
    encoder = finish(encoder, prepared)
    notes += state.notes + prepared.notes
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
                f"{share:.0%} of the weights are the base model's (training.base_share): dev {development.label} "
                f"{best_score:.4f} instead of {state.best_score:.4f}."
            )
    after = probe.vectors(encoder)
    require_change(before, after)
    write_jsonl(work / "training" / "log.jsonl", state.log)
    cosine = save_checked(encoder, work / "model", probe, after, partial(save_beside, prepared))
    notes += without_dev(data) if development is None else []
    notes += verdict(state, development, before, after)
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "steps": state.step,
        "loss scale": recipe.scale,
        "best step": state.best_step,
        "trainable parameters": prepared.trainable,
    }
    if development is not None:
        counts |= {
            f"dev {development.label} before": round(state.base_score, 4),
            f"dev {development.label} after": round(best_score, 4),
        }
    details: dict[str, Any] = {
        "loss": recipe.loss,
        "dimensions": list(recipe.dimensions),
        "precision": encoder.precision,
        "device": encoder.device,
        "least cosine to the saved model": round(cosine, 6),
    }
    if mined_anew:
        details["mined anew"] = mined_anew
    return Result("training", counts, {}, tuple(notes), details)


def _key(config: Config, encoder: Encoder, examples: Path, recipe: Recipe) -> str:
    """Names everything that decides the weights: base, rows, settings, and the second model of the loss."""
    key = f"{encoder.fingerprint}-{file_digest(examples)}-{config.seed}-{recipe.loss}"
    key += f"-{config.training.model_dump_json(exclude={'checkpoint_seconds', 'report_to'})}"
    key += "".join(f"-{resolve_model(name).fingerprint}" for name in second_models(config.training))
    if config.negatives.rounds > 1:
        key += f"-{config.negatives.model_dump_json()}-{config.teacher.model_dump_json()}"
    return key


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
        measure=settings.dev_measure,
        dimension=settings.dev_dimension,
    )


def without_dev(data: RetrievalData) -> list[str]:
    """Why nothing was measured on the way."""
    if data.qrels.get("dev"):
        return [
            f"No dev query has a passage of grade {data.relevance_threshold} or more: the last weights were kept, "
            "unchecked. See qrels/dev.tsv, or relevance_threshold in meta.json."
        ]
    return ["There is no dev set: the last weights were kept, unchecked."]
