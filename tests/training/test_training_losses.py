"""Every loss beside sentence-transformers' own, on the same model and batch: value and gradients of all weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as theirs
from sentence_transformers.util import pairwise_cos_sim

from fieldtune.config import Training
from fieldtune.encoding import Encoder
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training import step
from fieldtune.training.batches import Batch, draw, lay_out, make_batch
from fieldtune.training.fixed import FixedVectors
from fieldtune.training.forward import embed_part
from fieldtune.training.losses import Targets, make_objective, to_targets
from fieldtune.training.losses.choice import draws_scored, terms, untaught, unused
from fieldtune.training.losses.distillation import kl
from fieldtune.training.losses.in_batch import gte, guided, mnrl, symmetric
from fieldtune.training.losses.objective import one_loss
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.step import add_gradient
from fieldtune.types import Example

COUNT, NEGATIVES = 6, 2
TOPICS = ["lease", "fever", "bond", "audit", "tenant", "cough"]


def rows() -> list[Example]:
    return [
        Example(
            f"what {TOPICS[n]} {n}",
            (f"article {n} {TOPICS[n]} covers rent {n}",),
            tuple(f"article {n + 10 * k} {TOPICS[n - k]} excludes equity {n}" for k in range(1, NEGATIVES + 1)),
            (0.9 - n / 20,),
            tuple(0.1 * k + n / 50 for k in range(1, NEGATIVES + 1)),
        )
        for n in range(COUNT)
    ]


def recipe(loss: str, dimensions: tuple[int, ...] = (32,), **settings: Any) -> Recipe:
    settings = {"hard_negatives": NEGATIVES, "contrastive_share": 0.0} | settings
    if loss == "vectors":
        settings["vector_teacher"] = "t"
    made = Training(loss=loss, **settings)
    return Recipe(made, 7.0, dimensions, 0, loss=loss, student_temperature=1.0, teacher_temperature=1.0)


def ours(
    encoder: Encoder, made: Recipe, batch: Batch, pairs: Pairs, fixed: FixedVectors | None = None, *,
    cached: bool = False, module: Callable[[torch.nn.Module], None] | None = None,
) -> tuple[float, dict[str, torch.Tensor]]:  # fmt: skip
    assert encoder.tokens is not None
    objective = make_objective(made, fixed, encoder.dimension, encoder.model.device)
    if module is not None and objective.module is not None:
        module(objective.module)
    encoder.model.zero_grad()
    stores = encoder.tokens.store(pairs.queries, "query: "), encoder.tokens.store(pairs.passages)
    value = add_gradient(encoder, batch, *stores, objective, cached=cached)
    return value, gradients(encoder.model)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def reference(
    model: SentenceTransformer, loss: torch.nn.Module, columns: list[list[str]], labels: torch.Tensor | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    model.eval()
    features = [model.preprocess(column) for column in columns]
    value = loss(features, labels)
    value.backward()
    return value.item(), gradients(model)


def same(
    one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]], factor: float = 1.0
) -> None:
    assert one[0] * factor == pytest.approx(other[0], abs=1e-5, rel=1e-5)
    assert one[0] != 0
    assert one[1].keys() == other[1].keys()
    largest = max(float(grad.abs().max()) for grad in other[1].values())
    assert largest > 1e-4  # not alike because both are nothing
    for name, grad in one[1].items():
        torch.testing.assert_close(grad * factor, other[1][name], atol=1e-5, rtol=1e-4, msg=name)


def columns_of(examples: list[Example], negatives: int) -> list[list[str]]:
    return [
        [f"query: {row.query}" for row in examples],
        [row.pos[0] for row in examples],
        *([row.neg[k] for row in examples] for k in range(negatives)),
    ]


def whole(pairs: Pairs, loss: str = "", count: int = NEGATIVES) -> Batch:
    """All pairs, with every negative in the order of the rows."""
    own = draw(pairs, np.arange(len(pairs)), count, 0, 0, scored=count * draws_scored(loss, True))
    return lay_out(pairs, np.arange(len(pairs)), np.concatenate([own[:, :1], np.sort(own[:, 1:])], axis=1))


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model, precision="fp32")


def in_batch(name: str, model: SentenceTransformer) -> torch.nn.Module:
    towers: Any = {
        "mnrl": {},
        "symmetric": {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
        "gte": {"directions": ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")},
    }
    return theirs.MultipleNegativesRankingLoss(model, scale=7.0, **towers[name])


@pytest.mark.parametrize("name", ["mnrl", "symmetric", "gte"])
@pytest.mark.parametrize("cached", [False, True])
def test_in_batch_losses(encoder: Encoder, name: str, cached: bool) -> None:
    pairs = make_pairs(rows())
    found = ours(encoder, recipe(name), whole(pairs), pairs, cached=cached)
    same(found, reference(encoder.model, in_batch(name, encoder.model), columns_of(rows(), NEGATIVES)))


@pytest.mark.parametrize("name", ["mnrl", "gte"])
def test_in_batch_losses_inside_matryoshka_with_weights(encoder: Encoder, name: str) -> None:
    pairs = make_pairs(rows())
    made = replace(recipe(name, (32, 8)), weights=(1.0, 0.25))
    loss = theirs.MatryoshkaLoss(encoder.model, in_batch(name, encoder.model), [32, 8], [1.0, 0.25])
    expected = reference(encoder.model, loss, columns_of(rows(), NEGATIVES))
    same(ours(encoder, made, whole(pairs), pairs), expected, factor=1.25)  # ours is a mean, theirs a sum


def test_dot_products(encoder: Encoder) -> None:
    pairs = make_pairs(rows())
    bare = SentenceTransformer(modules=list(encoder.model)[:-1], device="cpu")  # without the Normalize at the end
    long = Encoder(bare, precision="fp32")

    def dots(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b.T

    loss = theirs.MultipleNegativesRankingLoss(bare, scale=0.1, similarity_fct=dots)
    made = replace(recipe("mnrl", similarity="dot"), scale=0.1)
    same(ours(long, made, whole(pairs), pairs), reference(bare, loss, columns_of(rows(), NEGATIVES)))


def test_the_guided_loss(encoder: Encoder, tiny_model: str) -> None:
    guide = Encoder.load(tiny_model, precision="fp32")
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in guide.model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    pairs = make_pairs(rows())
    fixed = FixedVectors(guide.encode(pairs.queries, "query"), guide.encode(pairs.passages, "passage"))
    margin = 0.02
    loss = theirs.GISTEmbedLoss(encoder.model, guide.model, temperature=1 / 7, margin=margin)
    expected = reference(encoder.model, loss, columns_of(rows(), 1))
    made = recipe("guided", guide_margin=margin, hard_negatives=1)
    own = np.stack([pairs.positive, [found[0] for found in pairs.negatives]], axis=1)
    batch = lay_out(pairs, np.arange(COUNT), own)
    found = ours(encoder, made, batch, pairs, fixed)
    same(found, expected)
    plain = reference(encoder.model, theirs.GISTEmbedLoss(encoder.model, guide.model, 1 / 7, margin=-9.0),
                      columns_of(rows(), 1))  # fmt: skip
    assert found[0] < plain[0] - 1e-3  # the guide did leave something out


def test_triplets(encoder: Encoder) -> None:
    pairs = make_pairs(rows())
    metric = theirs.TripletDistanceMetric.COSINE
    losses = theirs.TripletLoss(encoder.model, distance_metric=metric, triplet_margin=0.4)
    triplets = [(f"query: {row.query}", row.pos[0], negative) for row in rows() for negative in row.neg]
    expected = reference(encoder.model, losses, [list(column) for column in zip(*triplets, strict=True)])
    same(ours(encoder, recipe("triplet", margin=0.4), whole(pairs), pairs), expected)


@pytest.mark.parametrize("name", ["contrastive", "online_contrastive"])
def test_contrastive_losses(encoder: Encoder, name: str) -> None:
    pairs = make_pairs(rows())
    judged = [(f"query: {row.query}", text, float(text in row.pos)) for row in rows() for text in (*row.pos, *row.neg)]
    left, right, labels = zip(*judged, strict=True)
    kind = {"contrastive": theirs.ContrastiveLoss, "online_contrastive": theirs.OnlineContrastiveLoss}[name]
    loss = kind(encoder.model, margin=0.8)
    expected = reference(encoder.model, loss, [list(left), list(right)], torch.tensor(labels))
    same(ours(encoder, recipe(name, margin=0.8), whole(pairs), pairs), expected)


@pytest.mark.parametrize("name", ["cosine", "cosent"])
@pytest.mark.parametrize("uses_scores", [True, False])
def test_losses_on_scores(encoder: Encoder, name: str, uses_scores: bool) -> None:
    pairs = make_pairs(rows())
    judged = [
        (f"query: {row.query}", text, score if uses_scores else float(text in row.pos))
        for row in rows()
        for text, score in zip((*row.pos, *row.neg), (*row.pos_scores, *row.neg_scores), strict=True)
    ]
    left, right, labels = zip(*judged, strict=True)
    loss: torch.nn.Module = theirs.CosineSimilarityLoss(encoder.model)
    if name == "cosent":
        loss = theirs.CoSENTLoss(encoder.model, scale=7.0)
    expected = reference(encoder.model, loss, [list(left), list(right)], torch.tensor(labels))
    made = replace(recipe(name), uses_scores=uses_scores)
    same(ours(encoder, made, whole(pairs, name), pairs), expected)


def test_scores_are_brought_to_the_scale_of_cosines(encoder: Encoder) -> None:
    pairs = make_pairs(rows())
    five = make_pairs([
        replace(row, pos_scores=tuple(5 * s for s in row.pos_scores), neg_scores=tuple(5 * s for s in row.neg_scores))
        for row in rows()
    ])  # fmt: skip
    made = replace(recipe("cosine"), uses_scores=True)
    one = ours(encoder, made, whole(pairs, "cosine"), pairs)
    same(ours(encoder, replace(made, score_scale=5.0), whole(five, "cosine"), five), one)


def test_margin_mse(encoder: Encoder) -> None:
    pairs = make_pairs(rows())
    labels = torch.tensor([[row.pos_scores[0], *row.neg_scores] for row in rows()])
    expected = reference(
        encoder.model, theirs.MarginMSELoss(encoder.model), columns_of(rows(), NEGATIVES), labels
    )  # the model normalises: its dot products are cosines
    same(ours(encoder, recipe("margin_mse"), whole(pairs, "margin_mse"), pairs), expected)


@pytest.mark.parametrize(("student", "teacher"), [(1.0, 1.0), (0.1, 0.3)])
def test_listwise_distillation(encoder: Encoder, student: float, teacher: float) -> None:
    pairs = make_pairs(rows())
    labels = torch.tensor([[row.pos_scores[0], *row.neg_scores] for row in rows()])
    loss = theirs.DistillKLDivLoss(
        encoder.model, pairwise_cos_sim, student_temperature=student, teacher_temperature=teacher
    )
    expected = reference(encoder.model, loss, columns_of(rows(), NEGATIVES), labels)
    made = replace(recipe("kl"), student_temperature=student, teacher_temperature=teacher)
    same(ours(encoder, made, whole(pairs, "kl"), pairs), expected, factor=student**2)


@pytest.mark.parametrize("name", ["kl", "margin_mse"])
def test_a_share_of_the_in_batch_loss_is_added(encoder: Encoder, name: str) -> None:
    pairs = make_pairs(rows())
    batch = whole(pairs, name)
    alone, in_batch = (ours(encoder, recipe(loss), batch, pairs)[0] for loss in (name, "mnrl"))
    mixed = ours(encoder, recipe(name, contrastive_share=0.3), batch, pairs)[0]
    assert mixed == pytest.approx(0.7 * alone + 0.3 * in_batch, abs=1e-5)


@pytest.mark.parametrize("name", ["kl", "margin_mse"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_queries_without_scores_have_the_in_batch_loss_to_themselves(encoder: Encoder, name: str, share: float) -> None:
    """As general rows that are replayed, with hard negatives of their own where they have some."""
    some = [row if n < 4 else replace(row, pos_scores=(), neg_scores=()) for n, row in enumerate(rows())]
    pairs = make_pairs(some)
    own = draw(pairs, np.arange(COUNT), 1, 0, 0, scored=NEGATIVES)
    assert [(row >= 0).sum() for row in own] == [1 + NEGATIVES] * 4 + [2] * (COUNT - 4)
    assert all(own[n, 1] in pairs.negatives[n] for n in range(4, COUNT))
    batch = lay_out(pairs, np.arange(COUNT), own)
    made = recipe(name, contrastive_share=share)
    found = ours(encoder, made, batch, pairs)
    vectors = [torch.from_numpy(encoder.encode(texts, side)) for texts, side in (
        (pairs.queries, "query"), ([pairs.passages[row] for row in batch.passages], "passage"))]  # fmt: skip
    targets = to_targets(batch, torch.device("cpu"))
    logits = (7.0 * vectors[0] @ vectors[1].T).masked_fill(targets.masked, float("-inf"))
    each = torch.nn.functional.cross_entropy(logits, targets.labels, reduction="none")
    taught = one_loss(made)(*vectors, targets)
    expected = (4 * (1 - share) * taught + share * each[:4].sum() + each[4:].sum()) / COUNT
    assert found[0] == pytest.approx(float(expected), abs=1e-4)
    assert terms(name, batch) == COUNT


def test_what_a_loss_cannot_use_is_counted() -> None:
    plain = [replace(row, pos_scores=(), neg_scores=()) for row in rows()]
    bare = [replace(row, query=f"general {n}", neg=()) for n, row in enumerate(plain[:2])]
    pairs = make_pairs([*rows(), *bare])
    general = frozenset({COUNT, COUNT + 1})
    assert untaught(pairs) == 2
    assert unused("triplet", pairs, True) == (general, "hard negatives")
    assert unused("cosent", pairs, True) == unused("cosine", pairs, True) == (general, "scores")
    for loss in ("cosent", "mnrl", "kl", "margin_mse", "contrastive", "vectors"):
        assert not unused(loss, pairs, False)[0]


@pytest.mark.parametrize("projection", ["pca", "learned"])
def test_vectors_of_a_teacher(encoder: Encoder, projection: str) -> None:
    pairs = make_pairs(rows())
    batch = whole(pairs)
    size = 32 if projection == "pca" else 48
    rng = np.random.default_rng(2)
    queries, passages = (rng.normal(size=(len(texts), size)).astype(np.float32)
                         for texts in (pairs.queries, pairs.passages))  # fmt: skip
    weight = torch.from_numpy(rng.normal(size=(size, 32)).astype(np.float32))
    loss = theirs.EmbedDistillLoss(encoder.model, projection_dim=size if projection == "learned" else None)

    def given(module: torch.nn.Module) -> None:
        with torch.no_grad():
            module.weight.copy_(weight)  # type: ignore[operator]
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()  # type: ignore[operator]

    if loss.projection is not None:
        given(loss.projection)
    # One column each, for theirs wants columns of one length.
    values, total = [], {}
    for texts, labels in (([f"query: {text}" for text in pairs.queries], queries), (pairs.passages, passages)):
        value, grads = reference(encoder.model, loss, [texts], torch.from_numpy(labels))
        values.append(value)
        total = {name: total.get(name, 0) + grad / 2 for name, grad in grads.items()}
    made = recipe("vectors", projection=projection)
    found = ours(encoder, made, batch, pairs, FixedVectors(queries, passages), module=given)
    same(found, (float(np.mean(values)), total))


def test_the_cached_gradient_is_the_direct_one_with_dropout_too(encoder: Encoder) -> None:
    pairs = make_pairs(rows())
    batch = whole(pairs)
    encoder.model.train()
    one = {}
    for cached in (False, True):
        torch.manual_seed(5)
        one[cached] = ours(encoder, recipe("gte", (32, 8)), batch, pairs, cached=cached)
    torch.manual_seed(6)
    other = ours(encoder, recipe("gte", (32, 8)), batch, pairs)
    encoder.model.eval()
    same(one[True], one[False])
    assert other[0] != pytest.approx(one[False][0], abs=1e-6)  # dropout did act


def test_in_16_bits_the_cache_takes_the_loss_of_the_very_vectors_that_learn(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Encoder.load(tiny_model, precision="bf16")
    half.model.eval()
    passes: dict[bool, dict[bytes, torch.Tensor]] = {False: {}, True: {}}

    def seen(of: Encoder, store: TokenStore, some: np.ndarray) -> torch.Tensor:
        vectors = embed_part(of, store, some)
        texts = (store.padded(some[[place]], 0)[0].numpy().tobytes() for place in range(len(some)))
        passes[torch.is_grad_enabled()] |= dict(zip(texts, vectors.detach(), strict=True))
        return vectors

    monkeypatch.setattr(step, "embed_part", seen)
    pairs = make_pairs(rows())
    ours(half, recipe("mnrl"), whole(pairs), pairs, cached=True)
    assert len(passes[False]) > COUNT and passes[False].keys() == passes[True].keys()
    assert all(torch.equal(vector, passes[True][text]) for text, vector in passes[False].items())


@pytest.mark.parametrize("name", ["triplet", "contrastive", "cosine", "margin_mse", "kl"])
def test_parts_of_a_batch_add_up_to_it_where_a_loss_is_a_mean_over_queries(encoder: Encoder, name: str) -> None:
    some = [replace(row, neg=row.neg[: 1 + n % 2], neg_scores=row.neg_scores[: 1 + n % 2])
            for n, row in enumerate(rows())]  # fmt: skip
    pairs = make_pairs(some)
    made = replace(recipe(name), uses_scores=True)
    own = draw(pairs, np.arange(COUNT), NEGATIVES, 0, 0, scored=NEGATIVES * draws_scored(name, True))
    at_once = ours(encoder, made, lay_out(pairs, np.arange(COUNT), own), pairs)
    parts = [lay_out(pairs, np.arange(COUNT)[place], own[place]) for place in (slice(0, 4), slice(4, 6))]
    weights = np.array([terms(name, part) for part in parts], float)
    weights /= weights.sum()
    total: dict[str, Any] = {}
    value = 0.0
    for part, weight in zip(parts, weights, strict=True):
        found, grads = ours(encoder, made, part, pairs)
        value += weight * found
        total = {key: total.get(key, 0) + weight * grad for key, grad in grads.items()}
    same((value, total), at_once)


def test_queries_that_share_an_answer_do_not_repel_each_other() -> None:
    """Two queries with one positive, one of which knows a third passage: nothing in the batch is wrong for them."""
    pairs = make_pairs(
        [Example("q1", ("a",), known=("b",)), Example("q2", ("a",), known=("b",)), Example("q2", ("b",))]
    )
    targets = to_targets(make_batch(pairs, np.arange(3), 0, 0, 0), torch.device("cpu"), (torch.eye(3), torch.eye(2, 3)))
    torch.manual_seed(0)
    passages = torch.nn.functional.normalize(torch.randn(2, 8), dim=-1)
    for loss, nothing in ((mnrl, 0.0), (symmetric, 0.0), (guided, 0.0), (gte, np.log(2))):  # gte counts the pair twice
        queries = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1).requires_grad_()
        value = loss(queries, passages, targets, scale=5.0)
        value.backward()
        assert value.item() == pytest.approx(nothing, abs=1e-6)
        assert queries.grad is not None and queries.grad.abs().max() < 1e-6
    other = make_pairs([Example("q1", ("a",)), Example("q2", ("a",)), Example("q3", ("b",))])
    targets = to_targets(make_batch(other, np.arange(3), 0, 0, 0), torch.device("cpu"))
    assert targets.alike().tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert symmetric(torch.eye(3, 8), passages, targets, scale=5.0) > 0.1


def test_distillation_looks_at_scored_passages_alone() -> None:
    own = torch.tensor([[0, 1, -1], [1, 2, 0], [2, -1, -1]])
    scores = torch.tensor([[3.0, 1.0, torch.nan], [2.0, torch.nan, 0.5], [1.0, torch.nan, torch.nan]])
    targets = Targets(own[:, 0], torch.zeros(3, 3, dtype=torch.bool), own, scores)
    queries = torch.eye(3, 4).requires_grad_()
    passages = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    value = kl(queries, passages, targets, student_temperature=0.5, teacher_temperature=2.0)
    value.backward()
    expected = []
    for row, (places, said) in enumerate([([0, 1], [3.0, 1.0]), ([1, 0], [2.0, 0.5])]):
        student = torch.log_softmax((passages[places] @ queries[row].detach()) / 0.5, 0)
        teacher = torch.softmax(torch.tensor(said) / 2.0, 0)
        expected.append(float((teacher * (teacher.log() - student)).sum()))
    assert value.item() == pytest.approx(np.mean(expected), abs=1e-6)
    assert queries.grad is not None and queries.grad.isfinite().all()
    assert queries.grad[2].abs().max() == 0  # one scored passage says nothing


def test_mnrl_counts_a_shared_positive_once() -> None:
    pairs = make_pairs([Example("q1", ("a",)), Example("q2", ("a",)), Example("q3", ("b",))])
    targets = to_targets(make_batch(pairs, np.arange(3), 0, 0, 0), torch.device("cpu"))
    queries, passages = torch.eye(3, 4), torch.eye(2, 4)
    expected = [np.log(1 + np.exp(-1)), np.log(1 + np.exp(1)), np.log(2)]  # a: (1, 0); q2: (0, 1); q3: (0, 0)
    assert mnrl(queries, passages, targets, scale=1.0).item() == pytest.approx(np.mean(expected), abs=1e-6)
