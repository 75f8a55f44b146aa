from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import Evaluation as Settings
from fieldtune.errors import InputError
from fieldtune.evaluation import General, general_ability
from fieldtune.probes import Probe, Probed, probe, probes_of
from fieldtune.probes.measuring import Floats, few_shot
from fieldtune.probes.sets import (
    ClassificationProbe,
    RetrievalProbe,
    SimilarityProbe,
    builtin_probes,
    own_probe,
)
from fieldtune.types import Passage, Query

FAST = Settings(bootstrap=200)


def texts(count: int) -> ClassificationProbe:
    return ClassificationProbe("texts", tuple(map(str, range(count))), tuple(str(n % 4) for n in range(count)))


def compared(probes: list[Probe], base: list[Floats], tuned: list[Floats], config: Settings = FAST) -> General:
    return general_ability(probes, Probed(tuple(base), 0.0), Probed(tuple(tuned), 0.0), config, seed=1)


def test_what_ships_is_whole_and_unambiguous() -> None:
    probes = builtin_probes()
    assert [probe.language for probe in probes] == ["en"] * 3 + ["zh"] * 3
    for one in probes:
        if isinstance(one, RetrievalProbe):
            contents = [passage.content for passage in one.data.passages.values()]
            questions = [query.text for query in one.data.queries.values()]
            assert len(set(contents)) == len(contents)
            assert len(set(questions)) == len(questions) == len(one.data.positives("test"))
            assert all(questions)
            assert all(contents)
            assert len(questions) >= (1_000 if one.language == "en" else 200)
        elif isinstance(one, SimilarityProbe):
            assert set(one.grades) == {0, 1, 2, 3, 4, 5}
            assert len(set(zip(one.first, one.second, strict=True))) == len(one.first)
            assert all(a != b for a, b in zip(one.first, one.second, strict=True))
        else:
            assert len(set(one.texts)) == len(one.texts)
            assert min(Counter(one.classes).values()) >= 10


def test_few_shot_finds_what_is_apart_and_nothing_in_noise() -> None:
    rng = np.random.default_rng(0)
    classes = [str(n % 5) for n in range(200)]
    means = rng.standard_normal((5, 32))
    apart = np.stack([means[n % 5] for n in range(200)]) + 0.05 * rng.standard_normal((200, 32))
    assert few_shot(apart.astype(np.float32), classes).mean() == 1
    noise = few_shot(rng.standard_normal((200, 32)).astype(np.float32), classes)
    assert 0.1 < noise.mean() < 0.3
    assert (few_shot(apart.astype(np.float32), classes) == few_shot(apart.astype(np.float32), classes)).all()


@pytest.mark.parametrize(("shift", "state"), [(0.0, "kept"), (0.05, "kept"), (-0.005, "kept"), (-0.05, "lost")])
def test_a_clear_change_is_called_what_it_is(shift: float, state: str) -> None:
    rng = np.random.default_rng(3)
    base = rng.uniform(0.2, 0.8, 400)
    found = compared([texts(400)], [base], [base + shift + 0.01 * rng.standard_normal(400)])
    (change,) = found.probes
    assert found.overall is None
    assert (change.state, found.state, found.failed) == (state, state, state == "lost")
    assert change.interval[0] <= change.difference <= change.interval[1]
    assert change.difference == pytest.approx(shift, abs=0.003)


def test_a_fall_that_chance_explains_does_not_fail_and_is_not_called_kept() -> None:
    rng = np.random.default_rng(4)
    base = rng.integers(0, 2, 40).astype(float)
    tuned = base.copy()
    tuned[np.flatnonzero(base)[:2]] = 0  # two texts of forty: five points, and it could be any two
    tuned[np.flatnonzero(base == 0)[:1]] = 1
    found = compared([texts(40)], [base], [tuned])
    assert found.probes[0].difference == pytest.approx(-0.025)
    assert found.state == "unclear"
    assert not found.failed
    assert "cannot be ruled out" in found.sentence


def test_models_that_lost_nothing_are_rarely_called_lost_and_real_losses_are_seen() -> None:
    config = Settings(bootstrap=150)
    probes: list[Probe] = [texts(120), dataclasses.replace(texts(150), name="more texts")]

    def failures(fall: float) -> int:
        count = 0
        for seed in range(150):
            rng = np.random.default_rng(seed)
            base = [rng.uniform(0, 1, n) for n in (120, 150)]
            tuned = [values - fall + 0.15 * rng.standard_normal(len(values)) for values in base]
            count += compared(probes, base, tuned, config).failed
        return count

    assert failures(0.0) <= 0.05 * 150 + 3
    assert failures(0.06) >= 0.95 * 150


def test_the_smallest_detectable_fall_is_found_about_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 1, 300)
    detectable = compared([texts(300)], [base], [base + 0.2 * rng.standard_normal(300)]).probes[0].detectable
    hits = 0
    for seed in range(120):
        noise = 0.2 * np.random.default_rng(seed + 1).standard_normal(300)
        hits += compared([texts(300)], [base], [base - detectable + noise]).failed
    assert 0.68 < hits / 120 < 0.92


def test_a_correlation_that_breaks_is_lost_and_a_collapsed_model_counts_as_zero() -> None:
    rng = np.random.default_rng(5)
    grades = tuple(float(n % 6) for n in range(240))
    pairs = SimilarityProbe("pairs", tuple(str(n // 6) for n in range(240)), tuple(map(str, range(240))), grades)
    cosines = np.array(grades) / 5 + 0.1 * rng.standard_normal(240)
    found = compared([pairs], [cosines], [np.full(240, 0.9)])
    assert found.probes[0].base > 0.9
    assert found.probes[0].tuned == 0
    assert found.failed
    stretched = compared([pairs], [cosines], [0.5 + cosines / 10])  # the same order of pairs is the same ability
    assert stretched.probes[0].difference == 0
    assert stretched.state == "kept"


def test_queries_of_one_group_count_as_one_observation() -> None:
    passages = {f"p{n}": Passage(f"p{n}", "", f"text {n}", group=f"g{n // 20}") for n in range(200)}
    queries = {f"q{n}": Query(f"q{n}", f"query {n}") for n in range(200)}
    qrels = {f"q{n}": {f"p{n}": 1} for n in range(200)}
    one = RetrievalProbe("own", RetrievalData(passages, queries, {"test": qrels}))
    base = np.full(200, 0.5)
    tuned = base - 0.2 * (np.arange(200) // 20 % 3 == 0)
    grouped = compared([one], [base], [tuned]).probes[0]
    alone = compared([texts(200)], [base], [tuned]).probes[0]
    assert grouped.difference == pytest.approx(alone.difference)
    assert np.ptp(grouped.interval) > 2 * np.ptp(alone.interval)


def test_a_language_that_the_base_model_lacks_is_left_out_and_named() -> None:
    probes = [one for one in builtin_probes() if one.language == "zh"]
    sizes = [len(one.data.positives("test")) if isinstance(one, RetrievalProbe) else 180 for one in probes]
    sizes[2] = 100
    good, bad = ([np.full(size, value) for size in sizes] for value in (0.9, 0.2))
    by_vocabulary = general_ability(probes, Probed(tuple(good), 0.6), Probed(tuple(bad), 0.6), FAST, 1)
    assert by_vocabulary.state == "not measured"
    assert "lacks 60% of their tokens" in by_vocabulary.notes[0]
    by_score = compared(list(probes), bad, bad)
    assert by_score.state == "not measured"
    assert "nDCG@10 there is 0.20" in by_score.notes[0]
    known = compared(list(probes), good, bad)
    assert not known.notes
    assert {change.name for change in known.probes} == {one.name for one in probes}
    assert known.failed


def test_one_observation_gives_no_interval_and_json_without_nan() -> None:
    found = compared([texts(1)], [np.ones(1)], [np.zeros(1)])
    assert math.isnan(found.probes[0].interval[0])
    assert not found.failed
    assert "NaN" not in json.dumps(found.as_json())
    assert found.as_json()["probes"][0]["ci"] == [None, None]


def test_own_sets_are_read(tmp_path: Path, tiny_beir: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text('\ufeffsentence1,sentence2,score\n"a, b",c,0.5\nd,e,4\n', "utf-8")
    pairs = own_probe(str(path))
    assert isinstance(pairs, SimilarityProbe)
    assert (pairs.name, pairs.first, pairs.grades) == ("pairs", ("a, b", "d"), (0.5, 4.0))
    (tiny_beir / "qrels" / "all.tsv").rename(tiny_beir / "qrels" / "dev.tsv")
    own = own_probe(str(tiny_beir))
    assert isinstance(own, RetrievalProbe)
    assert (own.split, len(own.data.positives("dev")), own.language) == ("dev", 120, "")
    assert len(probes_of(Settings(general_data=(str(path),)))) == len(builtin_probes()) + 1
    assert probes_of(Settings(general=False)) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sentence1,sentence2\na,b\n", ":2: no score"),
        ("sentence1,sentence2,score\na,b,1\nc,,2\n", ":3: no sentence2"),
        ("sentence1,sentence2,score\na,b,high\n", ":2: score 'high' is not a number"),
        ("sentence1,sentence2,score\na,b,nan\n", ":2: score 'nan' is not a number"),
        ("sentence1,sentence2,score\na,b,1\nc,d,1\n", "the same score"),
    ],
)
def test_what_is_wrong_with_an_own_set_is_named_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"pairs\.csv") as caught:
        own_probe(str(path))
    assert says in caught.value.message
    with pytest.raises(InputError, match="no such file"):
        own_probe(str(tmp_path / "absent.csv"))


@pytest.mark.e2e
def test_the_real_model_does_well_a_copy_is_the_same_and_a_damaged_one_fails(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from torch import Generator, randn

    from fieldtune.encoding import Encoder
    from fieldtune.models import resolve_model

    probes = [one for one in builtin_probes() if one.language == "en"]
    base = Encoder.load("builtin:all-MiniLM-L6-v2")
    scored = probe(base, probes, tmp_path, label="base")
    folder = tmp_path / "copy"
    shutil.copytree(resolve_model("builtin:all-MiniLM-L6-v2").folder, folder)
    again, copied = (probe(one, probes[1:], tmp_path, label="again") for one in (base, Encoder.load(str(folder))))
    same = general_ability(probes[1:], again, copied, FAST, 13)
    assert [change.difference for change in same.changes] == [0, 0, 0]
    assert same.state == "kept"
    retrieval, similarity, classification = general_ability(probes, scored, scored, FAST, 13).probes
    assert retrieval.base > 0.7  # chance is under 0.01
    assert similarity.base > 0.7
    assert classification.base > 0.7  # chance is 1/12

    weights = load_file(folder / "model.safetensors")
    rng = Generator().manual_seed(0)
    for name, weight in weights.items():
        if weight.dim() == 2 and weight.is_floating_point():
            weights[name] = weight + 0.35 * weight.std() * randn(weight.shape, generator=rng)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    damaged = general_ability(
        probes, scored, probe(Encoder.load(str(folder)), probes, tmp_path, label="damaged"), FAST, 13
    )
    assert damaged.failed
    assert damaged.overall is not None
    assert damaged.overall.state == "lost"
    assert "fell by" in damaged.sentence
