from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.config import make_config
from fieldtune.dataset import read_examples, write_examples
from fieldtune.errors import InputError
from fieldtune.training.batches import batches_of_step, make_batch, plan
from fieldtune.training.losses import Targets, at_dimensions, matryoshka_dimensions
from fieldtune.training.losses.in_batch import mnrl
from fieldtune.training.near import with_near
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.scale import fitting_scale
from fieldtune.types import Example

EXAMPLES = [
    Example("q1", ("a", "b"), ("x", "y"), known=("a2",)),
    Example("q2", ("b",), ("x", "c")),
    Example("q3", ("c",), ()),
    Example("q1", ("d",), ("a", "z")),  # the same query again: what it knows is shared
]


def test_examples_survive_the_file(tmp_path: Path) -> None:
    rows = [Example("q", ("a",), ("b",), (0.9,), (0.1,), "find", ("c",)), Example("q2", ("a",))]
    write_examples(tmp_path / "train.jsonl", rows)
    assert read_examples(tmp_path / "train.jsonl") == rows


@pytest.mark.parametrize(
    "row", ['{"pos": ["a"]}', '{"query": "q", "pos": []}', '{"query": "q", "pos": "a"}', "[]", "{"]
)
def test_bad_rows_are_named_with_their_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"query": "q", "pos": ["a"]}\n' + row + "\n")
    with pytest.raises(InputError, match=r"train\.jsonl:2: "):
        read_examples(path)


def test_pairs_know_all_positives_of_a_query_and_no_negative_among_them() -> None:
    pairs = make_pairs(EXAMPLES)
    assert pairs.queries == ["q1", "q2", "q3"]
    assert {(pairs.queries[q], pairs.passages[p]) for q, p in zip(pairs.query, pairs.positive, strict=True)} == {
        ("q1", "a"), ("q1", "b"), ("q1", "d"), ("q2", "b"), ("q3", "c"),
    }  # fmt: skip
    assert {pairs.passages[row] for row in pairs.known[0]} == {"a", "b", "d", "a2"}
    assert [pairs.passages[row] for row in pairs.negatives[0]] == ["x", "y", "z"]


WORDS = "the tenant owes the deposit within thirty days after the lease has been signed by both parties in writing"


def test_near_duplicates_of_positives_are_no_negatives_in_the_batch_of_any_query_but_one_who_judged_them() -> None:
    copies = [f"{WORDS} under article {n}" for n in range(4)]
    rows = [
        Example("q0", (copies[0],)),
        Example("q1", (copies[1],), (copies[2],)),  # a person has judged: near, and wrong
        Example("q2", ("another thing altogether",), (copies[3],)),
        Example("q3", (WORDS.upper() + "!",), ("something else, never near",)),
    ]
    made = make_pairs(rows)
    batch = make_batch(made, np.arange(4), 1, 0, 0)
    assert not batch.masked.any()
    pairs, queries = with_near(made, made.passages, 0.8, 1)
    assert queries == 3
    batch = make_batch(pairs, np.arange(4), 1, 0, 0)
    near = {WORDS.upper() + "!", *copies}
    wanted = [near - {copies[0]}, near - {copies[1], copies[2]}, set(), near - {WORDS.upper() + "!"}]
    for n, row in enumerate(batch.masked):
        assert {pairs.passages[batch.passages[column]] for column in np.flatnonzero(row)} == wanted[n]
    # At 1 equal texts alone are alike, and those are one passage.
    assert with_near(made, made.passages, 1.0, 1) == (made, 0)
    # Another seed of the sketches, other hashes of strings: the same.
    assert [[part.tolist() for part in parts] for parts in with_near(made, made.passages, 0.8, 2)[0].alike] == [
        [part.tolist() for part in parts] for parts in pairs.alike
    ]


def test_many_forms_of_one_text_share_what_is_known_of_them() -> None:
    made = make_pairs([Example(f"q{n}", (f"{WORDS}{' ' * n}.",)) for n in range(3_000)])
    pairs, queries = with_near(made, made.passages, 0.8, 1)
    assert queries == 3_000
    assert len({id(part) for parts in pairs.alike for part in parts}) == 1
    assert all(len(parts[0]) == 3_000 for parts in pairs.alike)


def test_a_batch_masks_known_positives_and_holds_each_passage_once() -> None:
    pairs = make_pairs(EXAMPLES)
    batch = make_batch(pairs, np.arange(len(pairs)), 2, seed=0, step=0)
    assert len(set(batch.passages.tolist())) == len(batch.passages)
    for row, (query, label) in enumerate(zip(batch.queries, batch.labels, strict=True)):
        assert batch.passages[label] == pairs.positive[row]
        masked = {int(passage) for passage in batch.passages[batch.masked[row]]}
        expected = (set(pairs.known[query]) & set(batch.passages.tolist())) - {int(pairs.positive[row])}
        assert masked == expected


@given(st.integers(2, 90), st.integers(2, 16), st.floats(0.2, 3), st.integers(0, 99))
def test_each_epoch_takes_every_pair_once(count: int, size: int, epochs: float, seed: int) -> None:
    pairs = make_pairs([Example(f"q{i}", (f"p{i}",)) for i in range(count)])
    lengths = np.arange(count) % 7
    steps = plan(pairs, lengths, size, epochs, seed)
    taken = np.bincount(np.concatenate(steps), minlength=count)
    assert math.floor(epochs) <= taken.min() and taken.max() <= math.ceil(epochs)
    assert all(min(size // 2, count) <= len(step) <= 1.25 * size for step in steps)
    again = plan(pairs, lengths, size, epochs, seed)
    assert all(np.array_equal(a, b) for a, b in zip(steps, again, strict=True))


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (200, 256, [200]),
        (320, 256, [320]),
        (321, 256, [160, 161]),  # one batch would be too large
        (383, 256, [191, 192]),
        (384, 256, [128, 256]),
        (1_500, 1_024, [750, 750]),
        (640, 256, [256, 256, 128]),
        (639, 256, [319, 320]),
        (10 * 64 + 3, 64, [64] * 7 + [65] * 3),
        (0, 64, []),
    ],
)
def test_pairs_that_are_left_over_are_seen_too(count: int, size: int, sizes: list[int]) -> None:
    rows = np.arange(count)
    steps = plan(Pairs([], [], rows, rows, [], [], []), np.zeros(count, int), size, 1, 3)
    assert sorted(len(step) for step in steps) == sorted(sizes)


@given(st.integers(2, 400), st.integers(2, 32), st.integers(0, 99))
def test_no_pair_is_left_out_for_its_length_nor_meets_the_same_ones_again(count: int, size: int, seed: int) -> None:
    pairs = make_pairs([Example(f"q{i}", (f"p{i}",)) for i in range(count)])
    epochs = 12
    steps = plan(pairs, np.arange(count), size, epochs, seed)
    assert set(np.bincount(np.concatenate(steps), minlength=count)) == {epochs}
    if count >= 8 * size:
        first, second = (
            {frozenset(step.tolist()) for step in steps[k : k + len(steps) // epochs]}
            for k in (0, len(steps) // epochs)
        )
        assert len(first & second) <= len(first) // 2


@pytest.mark.parametrize(
    ("count", "sizes"), [(12, [4, 4, 4]), (14, [5, 5, 4]), (15, [5, 5, 5]), (6, [3, 3]), (5, [3, 2]), (3, [3])]
)
def test_the_batches_of_a_step_are_of_like_size(count: int, sizes: list[int]) -> None:
    pairs = make_pairs([Example(f"q{i}", (f"p{i}",), (f"n{i}",)) for i in range(count)])
    settings = make_config({"training": {"batch_size": 4, "accumulate": 3}}).training
    rows = np.random.default_rng(0).permutation(count)
    batches = batches_of_step(pairs, rows, settings, 3, 1)
    assert [len(batch) for batch in batches] == sizes
    assert np.concatenate([batch.queries for batch in batches]).tolist() == pairs.query[rows].tolist()
    assert all(batch.own.shape == (len(batch), 2) and (batch.own >= 0).all() for batch in batches)


def reference_loss(
    q: np.ndarray, p: np.ndarray, labels: np.ndarray, masked: np.ndarray, scale: float, size: int
) -> float:
    """The slow way, in float64, one query at a time."""
    total = 0.0
    for i in range(len(q)):
        left = q[i, :size] / np.linalg.norm(q[i, :size])
        scores = [
            scale * float(left @ (p[j, :size] / np.linalg.norm(p[j, :size]))) for j in range(len(p)) if not masked[i, j]
        ]
        own = scale * float(left @ (p[labels[i], :size] / np.linalg.norm(p[labels[i], :size])))
        total += math.log(sum(math.exp(score) for score in scores)) - own
    return total / len(q)


def in_batch(
    queries: torch.Tensor,
    passages: torch.Tensor,
    labels: torch.Tensor,
    masked: torch.Tensor,
    scale: float,
    sizes: tuple[int, ...],
) -> torch.Tensor:
    targets = Targets(labels, masked, labels[:, None], torch.full((len(labels), 1), torch.nan))
    return at_dimensions(partial(mnrl, scale=scale), queries, passages, targets, dimensions=sizes)


def test_the_loss_is_the_mean_over_dimensions_of_masked_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(5, 8)), rng.normal(size=(9, 8))
    labels, masked = np.arange(5), rng.random((5, 9)) < 0.2
    masked[np.arange(5), labels] = False
    tensors = [torch.from_numpy(array) for array in (q, p, labels, masked)]
    loss = in_batch(*tensors, scale=7.0, sizes=(8, 4))
    expected = np.mean([reference_loss(q, p, labels, masked, 7.0, size) for size in (8, 4)])
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_a_masked_passage_gets_no_gradient_from_the_query_that_knows_it() -> None:
    q = torch.eye(2, 4)
    p = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masked = torch.tensor([[False, False, True], [False, False, True]])
    in_batch(q, p, torch.tensor([0, 1]), masked, scale=5.0, sizes=(4,)).backward()
    assert p.grad is not None
    assert p.grad[2].abs().max() == 0
    assert p.grad[0].abs().max() > 0


def test_dimensions_halve_down_to_the_smallest() -> None:
    assert matryoshka_dimensions(384) == (384, 192, 96)
    assert matryoshka_dimensions(1024) == (1024, 512, 256, 128, 64)
    assert matryoshka_dimensions(32) == (32,)


def test_the_scale_grows_as_similarities_crowd_together() -> None:
    rng = np.random.default_rng(0)

    def unit(shift: float) -> np.ndarray:
        rows = rng.normal(size=(400, 64)) + shift
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    wide, _ = fitting_scale(unit(0), unit(0), 0)
    narrow, spread = fitting_scale(unit(2), unit(2), 0)
    assert 10 <= wide < narrow <= 100
    assert spread > 0


def test_blending_moves_each_weight_by_its_share(tiny_model: str) -> None:
    import torch

    from fieldtune.encoding import Encoder
    from fieldtune.training.blend import blend, kept_weights

    model = Encoder.load(tiny_model).model
    base = kept_weights(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    blend(model, base, 0.25)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, base[name] + 0.75)
