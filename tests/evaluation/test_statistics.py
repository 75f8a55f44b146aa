from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fieldtune.evaluation.statistics import Clusters, cluster, intervals, sign_flip, singles


def test_queries_cluster_by_group_and_groups_join_by_a_query() -> None:
    groups = {"a1": "A", "a2": "A", "b1": "B", "c1": "C", "x": "", "y": ""}
    found = cluster([["a1"], ["c1"], ["a2", "b1"], ["b1"], ["x"], ["y", "x"]], groups)
    assert found.labels.tolist() == [0, 1, 0, 0, 2, 2]
    assert found.count == 3
    assert found.effective == pytest.approx(36 / (9 + 1 + 4))


def test_a_group_and_a_passage_of_the_same_name_stay_apart() -> None:
    assert cluster([["A"], ["p"]], {"A": "", "p": "A"}).count == 2


def test_without_groups_a_shared_positive_joins_through_a_chain() -> None:
    assert cluster([["1"], ["1", "2"], ["2"], ["3"]], {}).labels.tolist() == [0, 0, 0, 1]


def test_an_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    values = np.random.default_rng(0).random((200, 2))
    first = intervals(values, singles(200), resamples=500, seed=3)
    assert (first[:, 0] < values.mean(axis=0)).all()
    assert (values.mean(axis=0) < first[:, 1]).all()
    np.testing.assert_array_equal(first, intervals(values, singles(200), resamples=500, seed=3))
    assert not np.array_equal(first, intervals(values, singles(200), resamples=500, seed=4))


def test_whole_clusters_make_the_interval_wider() -> None:
    values = np.repeat(np.random.default_rng(0).random(20), 10)[:, None]
    grouped = cluster([[f"p{n // 10}"] for n in range(200)], {})
    wide, narrow = (np.ptp(intervals(values, c, resamples=500, seed=1)) for c in (grouped, singles(200)))
    assert wide > 2.5 * narrow


def test_one_cluster_has_no_interval() -> None:
    assert np.isnan(intervals(np.ones((3, 1)), cluster([["a"]] * 3, {}), resamples=100, seed=0)).all()


def test_few_clusters_are_enumerated_exactly() -> None:
    differences = np.array([[0.5], [0.25], [-0.125], [0.5]])
    sums = [abs(sum(s * d for s, d in zip(signs, differences[:, 0], strict=True)))
            for signs in itertools.product((1, -1), repeat=4)]  # fmt: skip
    expected = np.mean([total >= 1.125 for total in sums])
    assert sign_flip(differences, singles(4), permutations=100, seed=0)[0] == expected


def test_no_difference_at_all_gives_p_of_one() -> None:
    for count in (5, 50):
        assert sign_flip(np.zeros((count, 1)), singles(count), permutations=200, seed=0)[0] == 1


def test_a_clear_difference_gives_the_smallest_p_there_is() -> None:
    assert sign_flip(np.ones((50, 1)), singles(50), permutations=999, seed=0)[0] == 0.001


def test_sampled_p_agrees_with_the_normal_approximation() -> None:
    from scipy import stats

    differences = np.random.default_rng(4).normal(0.12, 1, (300, 1))
    z = differences.sum() / np.sqrt((differences**2).sum())
    found = sign_flip(differences, singles(300), permutations=20_000, seed=0)[0]
    assert found == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.01)


def simulated(
    generator: np.random.Generator, count: int, mean: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], Clusters]:
    """Hits of two equally good systems, in clusters of unequal size that succeed and fail together."""
    labels = np.repeat(np.arange(count), 1 + generator.geometric(0.2, count))
    hits = [generator.random(len(labels)) < generator.beta(4 * mean, 4 - 4 * mean, count)[labels] for _ in "ab"]
    a, b = (hit.astype(np.float64)[:, None] for hit in hits)
    return a, b, cluster([[str(label)] for label in labels], {})


def test_intervals_cover_and_tests_err_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(11)
    covered = naive = wrong = 0
    rounds = 400
    for seed in range(rounds):
        a, b, clusters = simulated(generator, 25, 0.6)
        (low, high), (thin_low, thin_high) = (
            intervals(a, unit, resamples=300, seed=seed, share=True)[0] for unit in (clusters, singles(len(a)))
        )
        covered += low <= 0.6 <= high
        naive += thin_low <= 0.6 <= thin_high
        wrong += sign_flip(a - b, clusters, permutations=400, seed=seed)[0] <= 0.05
    assert 0.92 <= covered / rounds <= 0.98
    assert naive / rounds < 0.88  # what clustering is for
    assert 0.02 <= wrong / rounds <= 0.08
