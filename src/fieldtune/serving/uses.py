"""POST /v1/classify, /v1/duplicates and /v1/outliers: what the vectors are good for besides search."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Response

from fieldtune.errors import InputError
from fieldtune.serving.engine import Engine, Vectors
from fieldtune.serving.problems import ApiError
from fieldtune.serving.query_text import clean_text
from fieldtune.serving.routes import Served, as_json, problems
from fieldtune.serving.service import Service
from fieldtune.serving.uses_shapes import (
    MOST_CELLS,
    MOST_PAIRS,
    ClassifyAnswer,
    ClassifyBody,
    ClassReport,
    DuplicatesAnswer,
    DuplicatesBody,
    Odd,
    OutliersAnswer,
    OutliersBody,
    Predicted,
    Twin,
)
from fieldtune.uses import classify as learn
from fieldtune.uses import duplicates as twins
from fieldtune.uses import outliers as odd_ones
from fieldtune.uses import predict

Result = TypeVar("Result")
router = APIRouter(tags=["uses of the vectors"])


@router.post("/v1/classify", response_model=ClassifyAnswer, responses=problems())
async def classify(body: ClassifyBody, service: Served) -> Response:
    """Learn classes from a few labelled texts each, say what that is worth, and put other texts into them."""
    classes = len({one.label for one in body.examples})
    if len(body.examples) * classes > MOST_CELLS:
        raise ApiError(
            400, f"examples: {len(body.examples):,} of {classes:,} classes; examples times classes may be "
            f"{MOST_CELLS:,}: send fewer, or use `fieldtune classify`", param="examples", code="invalid_request",
        )  # fmt: skip
    engine = service.volume.engine
    texts, known = await _vectors(service, engine, [one.text for one in body.examples], "examples")
    new, asked = await _vectors(service, engine, body.texts, "texts")
    fingerprint = str(service.volume.index.meta["model_fingerprint"])
    labels, groups = [one.label for one in body.examples], [one.group for one in body.examples]

    found = await _done(service, "examples", partial(
        learn, texts, known, labels, groups if any(groups) else None, model=service.name, fingerprint=fingerprint,
        abstain_below=body.abstain_below, drop_rare=body.drop_rare,
    ))  # fmt: skip
    given = await _done(service, "texts", partial(predict, found.classifier, asked)) if new else []

    def answer() -> ClassifyAnswer:
        ours, words = found.systems["vectors"], found.systems["bag of words"]
        low, high = ours.accuracy_interval
        return ClassifyAnswer(
            predictions=[
                Predicted(label=None if one.abstained else one.label, best=one.label, probability=one.probability)
                for one in given
            ],
            labels=list(found.classifier.labels), accuracy=ours.accuracy,
            accuracy_interval=(low, high) if math.isfinite(low) and math.isfinite(high) else None,
            macro_f1=ours.macro_f1, words_accuracy=words.accuracy,
            classes=[
                ClassReport(
                    label=one.label, examples=one.examples, precision=one.precision, recall=one.recall, f1=one.f1
                )
                for one in found.classes
            ],
            folds=found.folds, dropped=dict(found.dropped), notes=list(found.notes), model=service.name,
        )  # fmt: skip

    return as_json(await asyncio.to_thread(answer))


@router.post("/v1/duplicates", response_model=DuplicatesAnswer, responses=problems())
async def duplicates(body: DuplicatesBody, service: Served) -> Response:
    """Pairs of texts that say the same, above a similarity that chance neighbours in these texts do not reach."""
    engine = service.volume.engine
    texts, vectors = await _vectors(service, engine, body.texts, "texts")
    others = await _vectors(service, engine, body.against, "against") if body.against is not None else None

    call = partial(twins, texts, vectors, others, threshold=body.threshold, false_rate=body.false_rate, most=MOST_PAIRS)
    found = await _done(service, "texts", call)

    def answer() -> DuplicatesAnswer:
        pairs = [
            Twin(first=one.first, second=one.second, similarity=one.similarity, kind=one.kind, differs=one.differs)
            for one in found.pairs
        ]
        return DuplicatesAnswer(pairs=pairs, threshold=found.used, model=service.name)

    return as_json(await asyncio.to_thread(answer))


@router.post("/v1/outliers", response_model=OutliersAnswer, responses=problems())
async def outliers(body: OutliersBody, service: Served) -> Response:
    """Texts that lie far from their kind, or nearer to another."""
    if body.kinds is not None and len(body.kinds) != len(body.texts):
        raise ApiError(
            400, f"kinds: {len(body.kinds)} kinds for {len(body.texts)} texts", param="kinds", code="invalid_request"
        )
    texts, vectors = await _vectors(service, service.volume.engine, body.texts, "texts")
    kinds = body.kinds if body.kinds is not None else [""] * len(texts)

    found = await _done(service, "texts", partial(odd_ones, texts, vectors, kinds, false_alarms=body.false_alarms))

    def answer() -> OutliersAnswer:
        odd = [
            Odd(
                index=one.row, kind=one.kind, far=one.far, looks_like=one.looks_like,
                misplaced=one.misplaced if math.isfinite(one.misplaced) else None,
            )
            for one in found.odd
        ]  # fmt: skip
        return OutliersAnswer(
            outliers=odd, judged=len(found.records), too_small=found.too_small, threshold=found.threshold,
            model=service.name,
        )  # fmt: skip

    return as_json(await asyncio.to_thread(answer))


async def _vectors(service: Service, engine: Engine, given: Sequence[str], field: str) -> tuple[list[str], Vectors]:
    texts = [clean_text(text, service.settings.max_text, f"{field}[{row}]") for row, text in enumerate(given)]
    return texts, (await service.vectors(texts, "passage", engine))[0]


async def _done(service: Service, field: str, call: Callable[[], Result]) -> Result:
    """What the call gives, in a process of its own. Raises ApiError: 400 for texts that it cannot use."""
    try:
        return await service.uses.run(call)
    except InputError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ApiError(400, f"{field}: {error.message}{hint}", param=field, code="invalid_request") from None
