from __future__ import annotations

import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.beir import RetrievalData
from fieldtune.config import Config, make_config, merge, parse_overrides
from fieldtune.evaluation import Evaluation, Proof, System, changed, overrides
from fieldtune.evaluation.ability import Change, General
from fieldtune.evaluation.calibration import Calibration, calibrations
from fieldtune.evaluation.checks import checks
from fieldtune.evaluation.forest import bar, scale
from fieldtune.evaluation.highlight import excerpt, highlighted, script, sought, spans
from fieldtune.evaluation.origin import cost_rows, toml
from fieldtune.types import Result
from fieldtune.workspace import Cost, Workspace

UNUSUAL = {
    "out": 'a "quoted"\\path\n中文 \x7f', "queries": {"from": "llm", "styles": {"case": 0}},
    "negatives": {"style_limits": {"keywords": 1, "two words": 0}}, "training": {"learning_rate": 3e-6},
    "evaluation": {"cutoffs": [1, 5], "hybrid": True, "general_data": ["a b", "c=d"]},
}  # fmt: skip


def test_settings_as_toml_lead_to_the_same_settings() -> None:
    config = make_config(UNUSUAL)
    settings = config.model_dump(by_alias=True)
    assert make_config(tomllib.loads(toml(settings))) == config
    assert make_config(tomllib.loads(toml(changed(settings)))) == config


def test_only_what_differs_is_called_changed() -> None:
    assert changed(Config().model_dump(by_alias=True)) == {}
    found = changed(make_config(UNUSUAL).model_dump(by_alias=True))
    assert found["training"] == {"learning_rate": 3e-6}
    assert set(found) == set(UNUSUAL)


def test_overrides_are_words_that_a_shell_and_the_command_line_read_back() -> None:
    config = make_config(UNUSUAL | {"negatives": {}})
    words = shlex.split(" ".join(overrides(changed(config.model_dump(by_alias=True)))))
    assert words[::2] == ["--set"] * (len(words) // 2)
    assert make_config(merge({}, parse_overrides(words[1::2]))) == config


def test_costs_say_what_was_an_earlier_stages_memory() -> None:
    rows = cost_rows([Cost("corpus", 1.5, 2.0, True), Cost("training", 120.0, 2.0), Cost("index", 60.0)])
    assert [(row.seconds, row.memory) for row in rows] == [
        ("1.5 s", "2.00 GB"), ("2 min 00 s", "at most 2.00 GB"), ("1 min 00 s", ""), ("3 min 02 s", "2.00 GB"),
    ]  # fmt: skip
    assert sum(row.share for row in rows[:-1]) == pytest.approx(1)
    assert cost_rows([]) == []


def test_a_run_remembers_what_its_stages_took(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        cost = Cost("corpus", 1.25, 0.5, True)
        workspace.record("print", Result("corpus", {"passages": 1}), cost)
        assert workspace.costs(["documents", "corpus"]) == [cost]
        assert workspace.finished("corpus", "print") == Result("corpus", {"passages": 1})


@given(st.text(alphabet="ab <>&\"'中文的法律tenants.,\n", max_size=80), st.text(max_size=30))
def test_marking_changes_nothing_but_the_marks(text: str, query: str) -> None:
    from markupsafe import escape

    shown = highlighted(text, sought(query + "tenant 法律"))
    assert shown.replace("<mark>", "").replace("</mark>", "") == escape(text)


def test_marks_find_other_forms_of_a_word_and_leave_words_that_say_nothing() -> None:
    text = "What the Tenant’s landlord owes under § 12(b): 5,363 francs. 经济补偿的标准"
    wanted = sought("What do tenants owe under §12? 5363 经济补偿是什么")
    marked = [text[start:end] for start, end in spans(text, wanted)]
    assert marked == ["Tenant’s", "owes", "under", "§", "12", "5,363", "经济补偿"]


def test_an_excerpt_is_where_the_words_are() -> None:
    text = "Nothing here. " * 60 + "The deposit of the tenant is paid back. " + "More of nothing. " * 60
    found = excerpt(text, sought("when is the deposit paid back to a tenant"))
    assert "deposit of the tenant is paid back" in found
    assert found.startswith("… ") and found.endswith(" …") and len(found) < 380
    assert excerpt("short", frozenset()) == "short"
    chinese = "无关的内容。" * 60 + "押金应当退还。" + "其他规定。" * 60
    assert "押金" in excerpt(chinese, sought("押金")) and len(excerpt(chinese, sought("押金"))) < 200


def test_texts_are_named_by_their_script() -> None:
    assert [script(text) for text in ("tenant", "押金 tenant", "契約の解除", "계약 해지", "12 §")] == [
        "", "zh", "ja", "ko", "",
    ]  # fmt: skip


def test_calibration_takes_the_best_right_and_the_best_wrong_score(
    collection: RetrievalData, systems: list[System]
) -> None:
    base = calibrations(collection, "test", systems, ("tuned", "base", "BM25"))
    assert [one.system for one in base] == ["tuned", "base"]  # BM25's scores are no similarities
    run, right = systems[1].run, collection.positives("test")
    expected = [
        next(score for key, score in zip(keys, scores, strict=True) if key in right[query])
        for query, keys, scores in zip(run.queries, run.passages, run.scores, strict=True)
    ]
    assert base[0].right == pytest.approx(expected)
    wrong = [
        next(score for key, score in zip(keys, scores, strict=True) if key not in right[query])
        for query, keys, scores in zip(run.queries, run.passages, run.scores, strict=True)
    ]
    assert base[0].wrong == pytest.approx(wrong)


def test_separation_is_the_share_of_pairs_in_order() -> None:
    one = Calibration("m", np.array([0.9, 0.5, 0.4]), np.array([0.5, 0.1]), 2)
    assert one.separation == pytest.approx(((2) + (1.5) + (1)) / 6)
    assert "2 queries have no right passage" in one.sentence


def test_a_scale_has_round_ticks_around_all_it_shows() -> None:
    found = scale([0.61, float("nan")], [(0.55, 0.68), (float("nan"), float("nan"))])
    assert found.low <= 0.55 and found.high >= 0.68
    assert len(found.ticks) <= 7 and all(abs(tick * 40 - round(tick * 40)) < 1e-9 for tick in found.ticks)
    assert scale([0.5], [(0.5, 0.5)]).low < 0.5 < scale([0.5], [(0.5, 0.5)]).high
    differences = scale([0.02], [(0.01, 0.03)], zero=True, limit=-0.01)
    assert differences.low <= -0.01 and 'class="zero"' in bar(differences, 0.02, (0.01, 0.03), "gain")
    beyond = bar(differences, 0.02, (-1.0, 0.03), "same")
    assert "◂" in beyond and "▸" not in beyond


def test_checks_name_what_speaks_against_the_figures(evaluation: Evaluation, proof: Proof) -> None:
    found = {check.title: check for check in checks(evaluation, proof)}
    assert found["Test kept apart from training"].state == "care"  # nothing to compare with
    assert found["Size of the test"].state in ("good", "care")
    assert found["Keyword search"].state == "note"
    assert found["General ability"].said == "Not measured."
    lost = Change("pairs", "Spearman", 900, 0.8, 0.7, -0.1, (-0.12, -0.08), 0.01, "lost")
    failed = checks(evaluation, replace(proof, general=General(0.01, 0.95, (lost,), None)))
    assert next(check for check in failed if check.title == "General ability").state == "bad"
    small = checks(replace(evaluation, smallest_p=0.5), proof)
    assert next(check for check in small if check.title == "Size of the test").state == "bad"
    apart = checks(evaluation, replace(proof, judged={"base": 0.9, "tuned": 0.5, "BM25": 0.7}))
    assert next(check for check in apart if check.title == "Labels").state == "care"
