from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fieldtune.evaluation.bootstrap import of_differences, of_shares, resample
from fieldtune.evaluation.statistics import (
    Clusters,
    Floats,
    cluster,
    detectable,
    holm,
    resamples_of,
    sign_flip,
    singles,
    smallest_p,
)

RECORDED = (0.049705139378145614, 0.053946053946053944)


def intervals(values: Floats, clusters: Clusters, *, resamples: int, seed: int, share: bool = False) -> Floats:
    found = resample(values, clusters, resamples=resamples, seed=seed)
    return of_shares(found, clusters) if share else of_differences(found, clusters)


def standard_errors(values: Floats, clusters: Clusters, *, resamples: int, seed: int) -> Floats:
    return resample(values, clusters, resamples=resamples, seed=seed).errors


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


def test_shares_stay_between_0_and_1_and_hold_the_mean_even_when_all_values_are_equal() -> None:
    values = np.column_stack([np.ones(30), np.zeros(30), np.r_[np.ones(29), 0.0]])
    found = intervals(values, singles(30), resamples=200, seed=1, share=True)
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert found[0, 1] == 1
    assert 0.8 < found[0, 0] < 0.95  # 30 of 30 do not prove 100%
    assert found[1].tolist() == pytest.approx([0, 1 - found[0, 0]])
    assert found[2, 0] < 29 / 30 < found[2, 1]


def test_the_error_of_a_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(2).normal(size=(400, 1))
    found = standard_errors(values, singles(400), resamples=5_000, seed=0)[0]
    assert found == pytest.approx(values.std(ddof=1) / 20, rel=0.04)
    assert standard_errors(np.full((9, 1), 0.1), singles(9), resamples=100, seed=0)[0] == 0


def test_random_draws_are_the_same_on_every_machine() -> None:
    """Written down once: the stream of PCG64 and what is made of it."""
    values = (np.arange(40) * 7 % 11 / 10)[:, None]
    assert standard_errors(values, singles(40), resamples=100, seed=13)[0] == pytest.approx(RECORDED[0], abs=1e-9)
    flips = sign_flip(values - 0.4, singles(40), permutations=1_000, seed=13)[0]
    assert flips == pytest.approx(RECORDED[1], abs=1e-9)


def test_holm_multiplies_by_how_many_are_left_and_never_falls() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert holm(np.array([0.02])).tolist() == [0.02]
    assert holm(np.array([])).tolist() == []


def test_a_difference_called_detectable_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(8)
    clusters = singles(60)
    least = detectable(np.array([1 / np.sqrt(60)]), clusters)[0]
    draws = generator.normal(least, 1, (60, 400))
    assert (sign_flip(draws, clusters, permutations=400, seed=1) < 0.05).mean() == pytest.approx(0.8, abs=0.05)


def test_so_few_clusters_that_nothing_can_be_detected() -> None:
    assert smallest_p(singles(3)) == 0.25
    assert sign_flip(np.ones((3, 1)), singles(3), permutations=100, seed=0)[0] == 0.25
    assert np.isnan(detectable(np.array([0.1]), singles(5))).all()
    assert detectable(np.array([0.1, 0.0]), singles(6))[0] > 0.2
    assert np.isnan(detectable(np.array([0.1, 0.0]), singles(6))[1])


def simulated(
    generator: np.random.Generator, count: int, mean: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], Clusters]:
    """Hits of two equally good systems, in clusters of unequal size that succeed and fail together."""
    labels = np.repeat(np.arange(count), 1 + generator.geometric(0.2, count))
    hits = [generator.random(len(labels)) < generator.beta(4 * mean, 4 - 4 * mean, count)[labels] for _ in "ab"]
    a, b = (hit.astype(np.float64)[:, None] for hit in hits)
    return a, b, cluster([[str(label)] for label in labels], {})


def test_systems_that_differ_by_document_alone_are_seldom_called_different() -> None:
    generator = np.random.default_rng(5)
    rounds, wrong, naive, covered = 300, 0, 0, 0
    for seed in range(rounds):
        labels = np.repeat(np.arange(15), 1 + generator.geometric(0.2, 15))
        change = (generator.normal(0, 0.2, 15)[labels] + generator.normal(0, 0.2, len(labels)))[:, None]
        found = cluster([[str(label)] for label in labels], {})
        low, high = intervals(change, found, resamples=300, seed=seed)[0]
        covered += low <= 0 <= high
        wrong += sign_flip(change, found, permutations=300, seed=seed)[0] <= 0.05
        naive += sign_flip(change, singles(len(labels)), permutations=300, seed=seed)[0] <= 0.05
    assert 0.92 <= covered / rounds <= 0.98
    assert wrong / rounds <= 0.08
    assert naive / rounds > 0.15


def test_bootstrap_draws_are_the_same_with_each_numpy() -> None:
    assert [one.tolist() for one in resamples_of(singles(5), 3, 7)] == [
        [0, 0, 0, 3, 2], [1, 2, 0, 0, 2], [1, 0, 1, 1, 2],
    ]  # fmt: skip


def test_intervals_cover_and_tests_err_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(11)
    covered = naive = near = wrong = 0
    rounds = 400
    for seed in range(rounds):
        a, b, clusters = simulated(generator, 25, 0.6)
        (low, high), (thin_low, thin_high) = (
            intervals(a, unit, resamples=300, seed=seed, share=True)[0] for unit in (clusters, singles(len(a)))
        )
        covered += low <= 0.6 <= high
        naive += thin_low <= 0.6 <= thin_high
        near += np.prod(intervals(a - b, clusters, resamples=300, seed=seed)[0]) <= 0
        wrong += sign_flip(a - b, clusters, permutations=400, seed=seed)[0] <= 0.05
    assert 0.93 <= covered / rounds <= 0.97
    assert 0.93 <= near / rounds <= 0.98
    assert naive / rounds < 0.88  # what clustering is for
    assert 0.02 <= wrong / rounds <= 0.08


def test_a_skewed_mean_is_covered_where_the_even_interval_fails_it() -> None:
    generator = np.random.default_rng(3)
    rounds, covered, even = 300, 0, 0
    for seed in range(rounds):
        gains = (generator.exponential(0.1, 50) * (generator.random(50) < 0.3))[:, None]
        found = resample(gains, singles(50), resamples=400, seed=seed)
        low, high = of_differences(found, singles(50))[0]
        covered += low <= 0.03 <= high
        even += abs(found.means[0] - 0.03) <= 2.01 * found.errors[0]
    assert 0.93 <= covered / rounds <= 0.985
    assert even / rounds <= 0.92


def test_a_few_queries_that_differ_do_not_send_an_end_to_infinity() -> None:
    values = np.r_[np.ones(3), np.zeros(47)][:, None]
    low, high = of_differences(resample(values, singles(50), resamples=1_000, seed=1), singles(50))[0]
    assert low < 0 < 0.12 < high < 0.5  # one resample in twenty holds none of the three


def test_differences_that_never_vary_prove_no_more_than_so_many_documents_can() -> None:
    values = np.column_stack([np.full(30, 0.25), np.zeros(30)])
    found = of_differences(resample(values, singles(30), resamples=200, seed=1), singles(30))
    missed = 1 - 0.025 ** (1 / 30)  # this share of documents is overlooked in one of forty test sets
    assert found[1].tolist() == pytest.approx([-missed, missed])
    assert found[0].tolist() == pytest.approx([0.25 - 1.25 * missed, 0.25 + 0.75 * missed])


def test_no_difference_leaves_what_measures_can_differ_by() -> None:
    wild = np.array([[1.0], [-1.0], [1.0]])
    assert np.abs(of_differences(resample(wild, singles(3), resamples=200, seed=1), singles(3))).max() == 1


def test_the_interval_turns_with_the_sign() -> None:
    values = np.random.default_rng(1).exponential(0.1, (40, 1))
    ends = [
        of_differences(resample(sign * values, singles(40), resamples=999, seed=2), singles(40)) for sign in (1, -1)
    ]
    np.testing.assert_allclose(ends[0][0], -ends[1][0][::-1], atol=1e-12)
    assert ends[0][0, 1] - values.mean() > values.mean() - ends[0][0, 0]  # the long side is where the long tail is
