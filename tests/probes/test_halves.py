from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import RetrievalData
from fieldtune.encoding import Encoder
from fieldtune.probes import for_verdict, halves, known, mark_chosen, probe, score
from fieldtune.probes.halves import in_half
from fieldtune.probes.sets import ClassificationProbe, Probe, RetrievalProbe, SimilarityProbe, builtin_probes
from fieldtune.types import Passage, Query


def items(one: Probe) -> set[str]:
    """What must not stand in both halves."""
    if isinstance(one, RetrievalProbe):
        return set(one.data.positives(one.split)) | {name for row in one.data.qrels[one.split].values() for name in row}
    return set(one.first) if isinstance(one, SimilarityProbe) else set(one.texts)


def test_the_halves_of_what_ships_share_no_item_and_lose_none() -> None:
    probes = builtin_probes()
    choosing, verdict = halves(probes, "choosing"), halves(probes, "verdict")
    assert [one.name for one in choosing] == [one.name for one in verdict] == [one.name for one in probes]
    for whole, left, right in zip(probes, choosing, verdict, strict=True):
        assert items(left) | items(right) == items(whole)
        assert not items(left) & items(right)
        assert 0.4 < len(items(left)) / len(items(whole)) < 0.6
        if isinstance(left, RetrievalProbe) and isinstance(whole, RetrievalProbe):
            assert left.data.passages == whole.data.passages  # the same haystack for half of the needles
            assert set(left.data.queries) == set(left.data.positives("test"))
        if isinstance(left, SimilarityProbe):
            assert set(left.grades) == {0, 1, 2, 3, 4, 5}
        if isinstance(left, ClassificationProbe):
            assert min(Counter(left.classes).values()) >= 5


def test_a_half_is_the_same_in_another_process_and_whatever_the_order() -> None:
    keys = [f"text {n}" for n in range(50)]
    mine = {key for key, inside in zip(keys, in_half(keys, "choosing"), strict=True) if inside}
    assert len(mine) == 25
    assert mine == {key for key, inside in zip(keys[::-1], in_half(keys[::-1], "choosing"), strict=True) if inside}
    code = (
        "from fieldtune.probes.halves import in_half\n"
        "keys = [f'text {n}' for n in range(50)]\n"
        "print(*(n for n, inside in enumerate(in_half(keys, 'choosing')) if inside))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {keys[int(n)] for n in done.stdout.split()} == mine


def test_a_set_too_small_to_be_divided_is_for_the_verdict_alone() -> None:
    one = RetrievalProbe(
        "own", RetrievalData({"p": Passage("p", "", "x")}, {"q": Query("q", "y")}, {"test": {"q": {"p": 1}}})
    )
    few = ClassificationProbe("few", tuple("abcdefgh"), tuple("xxxxyyyy"))
    same = SimilarityProbe("same", ("a", "a"), ("b", "c"), (1.0, 2.0))
    assert halves([one, few, same], "choosing") == ()
    assert halves([one, few, same], "verdict") == (one, few, same)


def test_a_model_that_was_chosen_by_one_half_is_judged_by_the_other(tmp_path: Path) -> None:
    probes = builtin_probes()
    assert for_verdict(probes, tmp_path) == probes
    mark_chosen(tmp_path, 0.3)
    assert for_verdict(probes, tmp_path) == halves(probes, "verdict")


def test_what_is_encoded_anew_equals_what_is_kept_and_judged_only_ranks_its_own(
    tiny_model: str, tmp_path: Path
) -> None:
    passages = {f"p{n}": Passage(f"p{n}", "", f"rent {n}") for n in range(20)}
    queries = {f"q{n}": Query(f"q{n}", f"what rent {n}") for n in range(10)}
    qrels = {f"q{n}": {f"p{n}": 2, f"p{n + 1}": 0} for n in range(10)}
    whole = RetrievalProbe("own", RetrievalData(passages, queries, {"test": qrels}))
    judged = RetrievalProbe("judged", RetrievalData(passages, queries, {"test": qrels}, 1, "judged-only"))
    encoder = Encoder.load(tiny_model, precision="fp32")
    kept = probe(encoder, [whole, judged], tmp_path, label="a")
    fresh = probe(encoder, [whole, judged], None, label="b")
    for left, right in zip(kept.values, fresh.values, strict=True):
        assert left == pytest.approx(right, abs=1e-6)
    assert fresh.values[1].min() >= 0.63 - 1e-3  # the right one of two is at least second
    assert fresh.values[0].mean() < fresh.values[1].mean()
    assert score(whole, fresh.values[0]) == pytest.approx(float(np.mean(fresh.values[0])))
    assert known([whole, judged], fresh) == ([0, 1], [])
