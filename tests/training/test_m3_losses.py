"""Every loss on M3's scores against one written out in plain Python, gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldtune.config import M3
from fieldtune.encoding.m3 import Signals, multi_scores, sparse_scores
from fieldtune.training.losses.targets import Targets
from fieldtune.training.m3.losses import (
    allowed_passages,
    contrastive,
    kl_div,
    m3_kd_loss,
    self_distillation,
    teacher_weights,
)
from fieldtune.training.m3.objective import M3Objective

NAN = math.nan
# Four queries and six passages: the first knows passage 4 as another answer, the second has a group of two, the third a
# group of one, the fourth's positive is the first's too and one of its own has no score.
LABELS = [0, 2, 3, 0]
OWN = [[0, 1, 4], [2, 5, -1], [3, -1, -1], [0, 1, 5]]
GIVEN = [[3.0, 1.0, 2.5], [0.2, -4.0, NAN], [7.0, NAN, NAN], [1.0, NAN, 0.5]]
MASKED = {(0, 4), (2, 0)}


@pytest.fixture
def targets() -> Targets:
    masked = torch.zeros(4, 6, dtype=torch.bool)
    for place in MASKED:
        masked[place] = True
    return Targets(torch.tensor(LABELS), masked, torch.tensor(OWN), torch.tensor(GIVEN, dtype=torch.float64))


@pytest.fixture
def matrix() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(scale=4, size=(4, 6)))


def entropy(row: list[float], among: list[int], of: int) -> float:
    """-log softmax of one among several."""
    high = max(row[i] for i in among)
    return -(row[of] - high - math.log(math.fsum(math.exp(row[i] - high) for i in among)))


def among(query: int, *, in_batch: bool = True) -> list[int]:
    places = range(6) if in_batch else [place for place in OWN[query] if place >= 0]
    return sorted({place for place in places if (query, place) not in MASKED})


def slow_contrastive(rows: list[list[float]], *, in_batch: bool = True) -> float:
    return math.fsum(entropy(rows[q], among(q, in_batch=in_batch), LABELS[q]) for q in range(4)) / 4


def softmax(values: list[float]) -> list[float]:
    high = max(values)
    total = math.fsum(math.exp(value - high) for value in values)
    return [math.exp(value - high) / total for value in values]


def scored(query: int) -> list[tuple[int, float]]:
    return [(place, score) for place, score in zip(OWN[query], GIVEN[query], strict=True)
            if place >= 0 and not math.isnan(score)]  # fmt: skip


def slow_kl(rows: list[list[float]], temperature: float) -> float:
    total = 0.0
    for query in range(4):
        own = scored(query)
        teacher = softmax([score / temperature for _, score in own])
        places = [place for place, _ in own]
        total += math.fsum(w * entropy(rows[query], places, place) for w, place in zip(teacher, places, strict=True))
    return total / 4


def slow_m3_kd(rows: list[list[float]], temperature: float, *, in_batch: bool = True) -> float:
    total = 0.0
    for query in range(4):
        own = scored(query)
        teacher = softmax([score / temperature for _, score in own])
        visited: set[int] = set()
        for weight, (place, _) in zip(teacher, own, strict=True):
            total += weight * entropy(rows[query], sorted({*among(query, in_batch=in_batch), place} - visited), place)
            visited.add(place)
    return total / 4


def slow_self(rows: list[list[float]], ensemble: list[list[float]], *, in_batch: bool = True) -> float:
    total = 0.0
    for query in range(4):
        places = among(query, in_batch=in_batch)
        teacher = softmax([ensemble[query][place] for place in places])
        total += math.fsum(w * entropy(rows[query], places, place) for w, place in zip(teacher, places, strict=True))
    return total / 4


def test_contrastive(matrix: torch.Tensor, targets: Targets) -> None:
    for in_batch in (True, False):
        found = contrastive(matrix, targets.labels, allowed_passages(targets, in_batch=in_batch))
        assert found.item() == pytest.approx(slow_contrastive(matrix.tolist(), in_batch=in_batch), abs=1e-12)


def test_a_group_of_one_without_in_batch_negatives_adds_nothing(targets: Targets) -> None:
    scores = torch.tensor([[1.0, 2.0]], requires_grad=True)
    one = Targets(torch.tensor([0]), torch.zeros(1, 2, dtype=torch.bool), torch.tensor([[0]]), torch.tensor([[5.0]]))
    allowed = allowed_passages(one, in_batch=False)
    for loss in (
        contrastive(scores, one.labels, allowed),
        kl_div(scores, one, teacher_temperature=1.0),
        m3_kd_loss(scores, one, allowed, teacher_temperature=1.0),
        self_distillation(scores, scores, allowed),
    ):
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.item() == 0
        assert not gradient.any()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
def test_distillation_from_a_teacher(matrix: torch.Tensor, targets: Targets, temperature: float) -> None:
    rows = matrix.tolist()
    found = kl_div(matrix, targets, teacher_temperature=temperature)
    assert found.item() == pytest.approx(slow_kl(rows, temperature), abs=1e-12)
    for in_batch in (True, False):
        allowed = allowed_passages(targets, in_batch=in_batch)
        found = m3_kd_loss(matrix, targets, allowed, teacher_temperature=temperature)
        assert found.item() == pytest.approx(slow_m3_kd(rows, temperature, in_batch=in_batch), abs=1e-12)


def test_a_higher_teacher_temperature_makes_the_teacher_flatter(targets: Targets) -> None:
    sharp, flat = (teacher_weights(targets, temperature)[0] for temperature in (0.1, 50.0))
    assert sharp.max() > 0.99
    assert flat.max() < 0.35
    assert teacher_weights(targets, 1.0).sum(dim=1).tolist() == pytest.approx([1, 1, 1, 1])


def test_queries_without_scores_are_left_out_of_the_mean(matrix: torch.Tensor, targets: Targets) -> None:
    scores = targets.scores.clone()
    scores[2] = NAN
    fewer = replace(targets, scores=scores)
    allowed = allowed_passages(targets, in_batch=True)
    three = torch.tensor([0, 1, 3])
    alone = Targets(*(getattr(targets, name)[three] for name in ("labels", "masked", "own", "scores")))
    for loss, args in ((kl_div, ()), (m3_kd_loss, (allowed,))):
        found = loss(matrix, fewer, *args, teacher_temperature=1.0)  # type: ignore[operator]
        short = loss(matrix[three], alone, *(a[three] for a in args), teacher_temperature=1.0)  # type: ignore[operator]
        assert found.item() == pytest.approx(short.item(), abs=1e-12)
    none = replace(targets, scores=torch.full_like(targets.scores, NAN))
    assert kl_div(matrix, none, teacher_temperature=1.0).item() == 0
    assert m3_kd_loss(matrix, none, allowed, teacher_temperature=1.0).item() == 0


def test_a_positive_without_a_score_is_not_pushed_down_by_the_others() -> None:
    given = Targets(
        torch.tensor([0]), torch.zeros(1, 4, dtype=torch.bool), torch.tensor([[0, 1, 2]]),
        torch.tensor([[NAN, 2.0, 1.0]], dtype=torch.float64),
    )  # fmt: skip
    row = [2.0, 1.0, 0.5, -1.0]
    scores = torch.tensor([row], dtype=torch.float64, requires_grad=True)
    allowed = allowed_passages(given, in_batch=True)
    teacher = softmax([2.0, 1.0])
    expected = teacher[0] * entropy(row, [1, 2, 3], 1) + teacher[1] * entropy(row, [2, 3], 2)
    found = m3_kd_loss(scores, given, allowed, teacher_temperature=1.0)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(found, scores)
    assert gradient[0, 0] == 0


def test_self_distillation(matrix: torch.Tensor, targets: Targets) -> None:
    ensemble = torch.from_numpy(np.random.default_rng(2).normal(scale=3, size=(4, 6))).requires_grad_()
    student = matrix.clone().requires_grad_()
    found = self_distillation(student, ensemble, allowed_passages(targets, in_batch=True))
    assert found.item() == pytest.approx(slow_self(matrix.tolist(), ensemble.tolist()), abs=1e-12)
    found.backward()  # type: ignore[no-untyped-call]
    assert ensemble.grad is None  # the teacher is not pulled towards the student


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, a: contrastive(s, t.labels, a),
        lambda s, t, a: kl_div(s, t, teacher_temperature=0.7),
        lambda s, t, a: m3_kd_loss(s, t, a, teacher_temperature=0.7),
        lambda s, t, a: self_distillation(s, torch.ones_like(s) * torch.arange(6), a),
    ],
    ids=["contrastive", "kl_div", "m3_kd_loss", "self_distillation"],
)
def test_gradients_by_finite_differences(
    loss: Callable[..., torch.Tensor], matrix: torch.Tensor, targets: Targets
) -> None:
    for in_batch in (True, False):
        allowed = allowed_passages(targets, in_batch=in_batch)
        leaf = matrix.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda scores, a=allowed: loss(scores, targets, a), (leaf,))


def test_scores_in_sixteen_bits_do_not_overflow(targets: Targets) -> None:
    scores = torch.full((4, 6), 60_000.0, dtype=torch.float16, requires_grad=True)
    for in_batch in (True, False):
        allowed = allowed_passages(targets, in_batch=in_batch)
        for loss in (
            contrastive(scores, targets.labels, allowed),
            kl_div(scores, targets, teacher_temperature=0.01),
            m3_kd_loss(scores, targets, allowed, teacher_temperature=0.01),
            self_distillation(scores, scores, allowed),
        ):
            (gradient,) = torch.autograd.grad(loss, scores)
            assert torch.isfinite(loss)
            assert torch.isfinite(gradient).all()


def signals(seed: int, counts: list[int]) -> Signals:
    rng = np.random.default_rng(seed)

    def unit(rows: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(rows, 4))), dim=-1)

    weights = torch.from_numpy(rng.uniform(0.1, 1, sum(counts)))
    return Signals(unit(len(counts)), weights, unit(sum(counts)), torch.from_numpy(rng.integers(0, 5, sum(counts))),
                   torch.tensor(counts))  # fmt: skip


@pytest.mark.parametrize("taught", ["", "kl_div", "m3_kd_loss"])
@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("in_batch", [True, False])
def test_the_whole_loss(targets: Targets, taught: str, start: int, in_batch: bool) -> None:
    settings = M3(self_distillation_from=start, distillation=taught or "kl_div", in_batch=in_batch)  # type: ignore[arg-type]
    objective = M3Objective(settings, 5.0, (4, 2), (1.0, 3.0), bool(taught), 0.5, 0.25 if taught else 0.0)
    queries, passages = signals(1, [2, 3, 1, 4]), signals(2, [3, 1, 5, 2, 2, 4])

    def one(scores: torch.Tensor) -> float:
        rows = scores.tolist()
        if not taught:
            return slow_contrastive(rows, in_batch=in_batch)
        followed = slow_kl(rows, 0.5) if taught == "kl_div" else slow_m3_kd(rows, 0.5, in_batch=in_batch)
        return 0.75 * followed + 0.25 * slow_contrastive(rows, in_batch=in_batch)

    def cut(vectors: torch.Tensor) -> torch.Tensor:
        return vectors[:, :2] / vectors[:, :2].norm(dim=1, keepdim=True)

    dense = 5 * queries.dense @ passages.dense.T
    short = 5 * cut(queries.dense) @ cut(passages.dense).T
    sparse, multi = 5 * sparse_scores(queries, passages), 5 * multi_scores(queries, passages)
    ensemble = dense + 0.3 * sparse + multi
    plain = ((one(dense) + 3 * one(short)) / 4 + one(ensemble) + 0.1 * one(sparse) + one(multi)) / 4
    teacher = ensemble.tolist()
    own = [slow_self(part.tolist(), teacher, in_batch=in_batch) for part in (dense, sparse, multi)]
    both = (plain + (own[0] + 0.1 * own[1] + own[2]) / 3) / 2
    for step, expected in ((2, plain if start else both), (3, both)):
        assert objective.loss(queries, passages, targets, step).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_query_without_scores_has_the_contrastive_loss_to_itself(targets: Targets, share: float) -> None:
    scores = targets.scores.clone()
    scores[1] = NAN
    mixed = replace(targets, scores=scores)
    settings = M3(self_distillation=False, distillation="kl_div")
    queries, passages = signals(1, [2, 3, 1, 4]), signals(2, [3, 1, 5, 2, 2, 4])
    some = torch.tensor([0, 2, 3])

    def of(rows: torch.Tensor, taught: bool, share: float) -> float:
        part = replace(mixed, **{name: getattr(mixed, name)[rows] for name in ("labels", "masked", "own", "scores")})
        return (
            M3Objective(settings, 5.0, (4,), (), taught, 0.5, share).loss(queries.take(rows), passages, part, 0).item()
        )

    whole = M3Objective(settings, 5.0, (4,), (), True, 0.5, share).loss(queries, passages, mixed, 0).item()
    assert whole == pytest.approx((3 * of(some, True, share) + of(torch.tensor([1]), False, 0.0)) / 4, abs=1e-10)


def test_the_whole_loss_reaches_all_that_a_text_gives(targets: Targets) -> None:
    objective = M3Objective(M3(self_distillation=False), 5.0, (4, 2))
    queries, passages = signals(3, [2, 3, 1, 4]), signals(4, [3, 1, 5, 2, 2, 4])

    def loss(*leaves: torch.Tensor) -> torch.Tensor:
        left = Signals(*leaves[:3], queries.ids, queries.counts)
        return objective.loss(left, Signals(*leaves[3:], passages.ids, passages.counts), targets, 0)

    leaves = tuple(
        getattr(side, name).clone().requires_grad_()
        for side in (queries, passages) for name in ("dense", "weights", "vectors")
    )  # fmt: skip
    assert torch.autograd.gradcheck(loss, leaves)
