"""The training stage: a base model and a dataset in, a tuned Sentence Transformers folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.config import Config, second_models
from fieldtune.dataset import read_examples, training_rows
from fieldtune.encoding import Encoder, corpus_vectors, settings_for
from fieldtune.encoding.m3 import save_heads, token_size
from fieldtune.encoding.token_files import forget_ids
from fieldtune.errors import ModelError
from fieldtune.llm.answers import PLACE
from fieldtune.models import resolve_model
from fieldtune.probes import mark_chosen
from fieldtune.training.adapting import finish, left_out, prepare, save_beside
from fieldtune.training.anchor import anchored
from fieldtune.training.aside import key_of
from fieldtune.training.blend import kept_weights
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.decide import decide
from fieldtune.training.development import Development, dev_queries, development_sample, without_dev
from fieldtune.training.devices.orders import assign
from fieldtune.training.devices.requirements import require_devices, said_of_devices
from fieldtune.training.general import keep_share, pretrain_first, require_replayed, with_base_share, with_replay
from fieldtune.training.loop import Hooks, of_one
from fieldtune.training.losses.choice import scales
from fieldtune.training.m3.fitting import put_in, require_m3
from fieldtune.training.m3.hooks import with_m3
from fieldtune.training.methods import require_method, said_of_unused
from fieldtune.training.modes import set_up
from fieldtune.training.near import with_near
from fieldtune.training.optimizer import freezes_embeddings
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.query_side import train_query_side
from fieldtune.training.recipe import Recipe
from fieldtune.training.reports import Report, both, counted, kept_log, reporting, require_reporters
from fieldtune.training.rounds import train_in_rounds
from fieldtune.training.safety import Probe, require_change, require_learning, save_checked, verdict
from fieldtune.training.soup import train_seeds
from fieldtune.types import Example, Result


def tune(
    config: Config,
    data: RetrievalData,
    examples: Path,
    encoder: Encoder,
    work: Path,
    vectors: Path,
    duplicates: Mapping[str, Sequence[str]] | None = None,
    *,
    pretrained: Path | None = None,
    watch: Report | None = None,
) -> Result:
    """Train on `examples` (FlagEmbedding rows), choose the best weights on dev, save `work/model`.

    `encoder` is the base model and is changed; `work` is the run's folder, `vectors` its folder of encoded texts,
    `duplicates` maps a passage to its known copies, for mining anew between rounds (`negatives.rounds`). `pretrained`
    keeps the state of pre-training where several trainings share it; `watch` is told every row of the log and may raise
    to end the training. Also writes `work/training/log.jsonl`. Raises ModelError when the base cannot be trained or the
    result does not load as what was trained.
    """
    if encoder.tokens is None:
        raise ModelError(
            f"{encoder.name} is not a plain text encoder with a fast tokenizer",
            "set model.base to a Sentence Transformers model whose first module is a Transformer, with tokenizer.json "
            "and a pooling that includes the prompt, such as builtin:multilingual-e5-small; vectors of any other model "
            "can be tuned by fieldtune adapter train",
        )
    config, made_notes = with_base_share(config, data)
    require_reporters(config.training.report_to)
    require_method(config, encoder.device)
    require_devices(config)
    settings = config.training
    if settings.m3.train != "none":
        require_m3(config)
    rows = read_examples(examples)
    replay = with_replay(config, rows, data)

    def paired(some: list[Example]) -> tuple[Pairs, int]:
        made = make_pairs(some)
        return with_near(made, made.passages, config.negatives.near_duplicate, config.seed)

    pairs, masked = paired([*rows, *replay.examples])
    own = len({example.query for example in rows})
    recipe, notes = decide(config, pairs, encoder, examples, vectors, own)
    require_replayed(replay, pairs, recipe)
    development = development_of(config, data, encoder, vectors)
    key = _key(config, encoder, pairs, recipe, development)
    probe = Probe.of(pairs)
    before = probe.vectors(encoder)
    base = kept_weights(encoder.model) if settings.base_share else {}
    with (
        reporting(settings.report_to, work, config, key) as report,
        kept_log(work / "training" / "log.jsonl", settings.checkpoint_seconds) as log,
    ):
        first = None
        pretrained_steps = 0
        if settings.pretrain != "none":
            states = pretrained or work / "training" / "state" / "pretrain"

            def log_first(row: Mapping[str, Any]) -> None:  # its steps are counted apart
                log({"pretrain_step": row["step"], "pretrain_loss": row["pretrain_loss"]})

            first = pretrain_first(config, encoder, data, development, states, both(log_first, report))
            pretrained_steps = first.steps
            key += f"-{first.key}"
            recipe, notes = decide(config, pairs, encoder, examples, vectors, own)  # with the similarities of now
            notes.append(first.note)
        notes += [*replay.notes, *made_notes, *said_of_unused(config, recipe.loss)]
        if masked:
            notes.append(
                f"{masked:,} queries have near-duplicates of their positives among the passages of other rows; in the "
                "batch these are no negatives of theirs (negatives.near_duplicate)."
            )
        if settings.method != "query" and freezes_embeddings(encoder.model, settings.freeze_embeddings):
            notes.append("The word vectors were left as they are (training.freeze_embeddings).")
        rounds = config.negatives.rounds

        def mine(tuned: Encoder, number: int, folder: Path) -> list[Example]:
            rows = training_rows(config, data, duplicates or {}, tuned, folder, examples.parent / "cache", work / PLACE)
            mined_anew.append({"round": number, **rows.counts})
            return [*rows.examples, *replay.examples]

        mined_anew: list[dict[str, Any]] = []
        details: dict[str, Any] = {}
        prepared = prepare(encoder, settings, config.seed)
        m3 = put_in(encoder, settings) if settings.m3.train != "none" else None
        key += f"-{m3.digest}" if m3 else ""
        if settings.method != "query":
            assign(config)
            notes += said_of_devices()
        if settings.anchor:
            set_up(encoder.model, settings)  # frozen weights need no anchor
        penalty = anchored(encoder.model, settings.anchor) if settings.anchor else None
        told = counted(report, pretrained_steps)
        kept = both(log, told)
        hooks = Hooks(penalty=penalty, report=both(kept, watch), restored=kept)
        if m3 is not None:
            hooks = with_m3(hooks, m3, recipe)
        taken: list[int] = []

        def train_one(number: int, folder: Path, word: str) -> Progressed:
            seeded = replace(recipe, seed=recipe.seed + 1_000 * number, states=states)
            several = {"seed": number + 1} if settings.seeds > 1 else {}
            done = train_in_rounds(
                encoder,
                pairs,
                seeded,
                development,
                folder,
                f"{key}{word}",
                rounds,
                mine,
                of_one(hooks, sum(taken), first=not number, **several),
                paired=lambda some: paired(some)[0],
            )
            taken.append(done.step)
            return done

        states = work / "training" / "state"
        if settings.method == "query":
            state = train_query_side(encoder, prepared, pairs, recipe, development, vectors, hooks)
        elif settings.seeds > 1:
            soup = train_seeds(encoder, development, states, settings.seeds, train_one)
            state, details["soup"] = soup.state, list(soup.rows)
        else:
            state = train_one(0, states, "")
        require_learning(state, settings, recipe.loss)
        for folder in (states, states / "pretrain"):  # not the pre-training that others share
            forget_ids(folder)
        if m3 is not None:
            m3.take_out(encoder)
        in_bits = prepared.original is not None
        tuned = finish(encoder, prepared)
        notes += state.notes + prepared.notes
        if in_bits and development is not None:  # what was measured on the way is not what is saved
            whole = float(development.score(tuned).mean())
            notes.append(
                f"With the base in 4 bits, dev {development.label} was {state.base_score:.4f} before and "
                f"{state.best_score:.4f} after training; the merged model in full precision has {whole:.4f}."
            )
            state = replace(state, best_score=whole)
        if rounds > 1:
            notes.append(
                f"Training ran in {rounds} rounds; negatives were mined anew before each but the first, with the best "
                "weights so far."
            )
        best_score = state.best_score
        alone = state.base_score if first is None or first.dev is None else first.dev
        blended = keep_share(config, tuned, base, development, (best_score, alone))
        if blended is not None:
            for row in blended.rows():
                log(row)
            if report is not None:
                for row in blended.told(pretrained_steps + state.step):
                    report(row)
    if blended is not None:
        best_score = best_score if blended.chosen.dev is None else blended.chosen.dev
        notes += blended.notes
        details["base_share"] = {"chosen": blended.chosen.base_share, "curve": blended.rows()}
    after = probe.vectors(tuned)
    if m3 is None or settings.m3.train != "heads":
        require_change(before, after)
    share = 0.0 if blended is None else blended.chosen.base_share
    notes += left_out(prepared, share)

    def beside(folder: Path) -> None:
        save_beside(prepared, folder, share=share)
        if m3 is not None:
            save_heads(m3.heads, folder)

    cosine = save_checked(tuned, work / "model", probe, after, beside, trust=config.model.trust_remote_code)
    if blended is not None and settings.base_share == "auto":
        mark_chosen(work / "model", blended.chosen.base_share)
    if first is not None and first.dev is not None:
        notes.append(first.moved(state.base_score))
        state = replace(state, base_score=first.dev)
    notes += without_dev(data) if development is None else []
    notes += verdict(state, best_score, development, before, after)
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "steps": state.step,
        **({"loss scale": recipe.scale} if scales(recipe.loss, settings) else {}),
        "best step": state.best_step,
        "trainable parameters": state.trainable or prepared.trainable,
    }
    if development is not None:
        counts |= {
            f"dev {development.label} before": round(state.base_score, 4),
            f"dev {development.label} after": round(best_score, 4),
        }
    details |= {
        "loss": recipe.loss,
        "dimensions": list(recipe.dimensions),
        "precision": tuned.precision,
        "device": tuned.device,
        "least cosine to the saved model": round(cosine, 6),
    }
    if m3 is not None:
        notes.append(m3.note)
        details["m3"] = settings.m3.model_dump() | {"size": token_size(m3.heads)}
        losses = {int(row["step"]): row["dev_loss"] for row in state.log if "dev_loss" in row}
        if losses:
            after_all = losses.get(state.best_step, losses[max(losses)])
            counts |= {"dev loss before": losses[min(losses)], "dev loss after": after_all}
    if replay.broken:
        details["broken replay rows"] = replay.broken
    if mined_anew:
        details["mined anew"] = mined_anew
    return Result("training", counts, replay.dropped, tuple(notes), details)


# What does not decide the weights.
_IDLE = {"checkpoint_seconds", "report_to", "patience", "share_curve"}


def _key(config: Config, encoder: Encoder, pairs: Pairs, recipe: Recipe, development: Development | None) -> str:
    """Names everything that decides the weights: base, rows, the dev sample that
    the best are chosen on, settings, and the second model of the loss.

    `patience` decides where training ends, not how it goes up to there: a run may go on with another.
    """
    parts: dict[str, Any] = {
        "base model": encoder.fingerprint,
        "training data": pairs.digest(),
        "dev data": "" if development is None else development.digest(),
        "seed": config.seed,
        "loss": recipe.loss,
        "training": config.training.model_dump(mode="json", exclude=_IDLE),
        "near-duplicates": config.negatives.near_duplicate,
        "second models": [resolve_model(name).fingerprint for name in second_models(config.training)],
    }
    if config.negatives.rounds > 1:
        parts |= {"negatives": config.negatives.model_dump(mode="json")}
        parts |= {"teacher": config.teacher.model_dump(mode="json")}
    return key_of(parts)


def development_of(config: Config, data: RetrievalData, encoder: Encoder, vectors: Path) -> Development | None:
    """The dev sample that `training` asks for, `encoder` being the base model; None without dev labels."""
    settings = config.training
    chosen = dev_queries(data, settings.dev_queries, config.seed)
    if not chosen:
        return None
    whole = len(data.passages) <= settings.dev_passages
    queries = ranked = np.zeros((0, 0), np.float32)
    if not whole:
        queries = encoder.encode([data.queries[q].text for q in chosen], "query")
        passages = [passage.content for passage in data.passages.values()]
        ranked = corpus_vectors(encoder, passages, vectors, settings_for(config), dev=data).vectors
    return development_sample(
        data,
        queries,
        ranked,
        queries=settings.dev_queries,
        passages=settings.dev_passages,
        seed=config.seed,
        measure=settings.dev_measure,
        dimension=settings.dev_dimension,
    )
