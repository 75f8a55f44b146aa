from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from fieldtune.config import Config, make_config
from fieldtune.evaluation import Evaluation, General, ModelFacts, languages_of, write_card, write_metrics
from fieldtune.evaluation.ability import Change
from fieldtune.evaluation.card_data import outcome_line
from fieldtune.model_folder import PLACE
from fieldtune.models import resolve_model
from fieldtune.types import Result
from fieldtune.workspace import read_json

STAGES = (
    Result("documents", {"documents": 12, "pages": 1904}),
    Result("corpus", {"passages": 48}),
    Result("dataset", {"training queries": 61, "training pairs": 70, "hard negatives": 122, "test": 37}),
    Result(
        "training",
        {"steps": 9, "loss scale": 21.5},
        {},
        (),
        {"loss": "mnrl", "dimensions": [32, 16], "device": "cuda:0"},
    ),
)
KEPT = Change("retrieval (English)", "nDCG@10", 1032, 0.8247, 0.8218, -0.0029, (-0.0125, 0.0081), 0.014, "unclear")
LOST = Change("classification (English)", "accuracy", 144, 0.786, 0.741, -0.045, (-0.069, -0.025), 0.029, "lost")
SECRET = "/home/someone/clients/Miller v Smith"


@pytest.fixture
def metrics(evaluation: Evaluation, tmp_path: Path) -> dict[str, object]:
    general = General(0.01, 0.975, (KEPT,), None, ("The Chinese probes were left out.",))
    verdict = {"outcome": "better", "headline": "It finds more.", "sentences": ["By far."]}
    write_metrics(tmp_path / "metrics.json", evaluation, {"verdict": verdict, "general": general.as_json()})
    return read_json(tmp_path / "metrics.json")


@pytest.fixture
def model(tiny_model: str, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- x\n---\n# The base model\n")
    return folder


def about(**card: object) -> ModelFacts:
    settings = {"documents": {"paths": [SECRET]}, "queries": {"from": SECRET}, "out": SECRET, "card": card}
    return ModelFacts("Deeds", make_config(settings), STAGES, ("en",), {"torch": "2"})


def card(model: Path, metrics: dict[str, object], said: ModelFacts) -> str:
    write_card(model, metrics, said)
    return (model / "README.md").read_text("utf-8")


def test_says_what_was_found(model: Path, metrics: dict[str, object], golden: Callable[[str, str], None]) -> None:
    golden("card.md", card(model, metrics, about()))


def test_a_hub_reads_the_same_numbers_as_metrics_json(model: Path, metrics: dict[str, object]) -> None:
    read = ModelCard(card(model, metrics, about(license="cc-by-4.0", base_model="maker/base"))).data
    assert (read.license, read.base_model, read.language) == ("cc-by-4.0", "maker/base", ["en"])
    assert (read.library_name, read.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert read.model_name == "Deeds"
    tuned = metrics["systems"]["tuned"]  # type: ignore[index]
    own = {row.metric_type.removeprefix("cosine_"): row for row in read.eval_results if row.dataset_type == "fieldtune"}
    assert {name: row.metric_value for name, row in own.items()} == {n: v for n, v in tuned.items() if "@" in n}
    assert own["ndcg@10"].dataset_split == "test"
    assert [row.metric_value for row in read.eval_results if row.dataset_type == "fieldtune-general"] == [0.8218]


def test_no_license_is_made_up_and_no_path_of_the_user_is_told(model: Path, metrics: dict[str, object]) -> None:
    text = card(model, metrics, about())
    assert ModelCard(text).data.license == "unknown"
    assert "Unknown: the maker of this model has stated none. The base model's card states apache-2.0." in text
    assert card(model, metrics, about()) == text  # our own card is not taken for the base model's
    assert SECRET not in text
    assert "Miller" not in text
    assert str(model) not in text


def test_replaces_the_base_models_card_and_leaves_the_model_what_it_is(model: Path, metrics: dict[str, object]) -> None:
    before = resolve_model(str(model)).fingerprint
    text = card(model, metrics, about())
    assert "The base model\n" not in text
    assert resolve_model(str(model)).fingerprint == before
    assert not list(model.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("outcome", "lost", "says"),
    [
        ("ship", False, "**Verdict: ship.**"),
        ("ship", False, "**Verdict: ship.**"),
        ("no measurable difference", False, "**Verdict: no measurable difference.**"),
        ("worse", False, "**Verdict: worse. Do not ship.**"),
        ("not trustworthy", True, "**Verdict: NOT TRUSTWORTHY. Do not ship.**"),
        ("better", True, "**Verdict: worse elsewhere. Do not ship.**"),
    ],
)
def test_the_verdict_stands_first(outcome: str, lost: bool, says: str, model: Path, metrics: dict[str, object]) -> None:
    general = General(0.01, 0.975, (LOST if lost else KEPT,), None)
    verdict = {"outcome": outcome, "headline": "Found.", "sentences": []}
    text = card(model, metrics | {"verdict": verdict, "general": general.as_json()}, about())
    body = text.split("---\n", 2)[2].strip().splitlines()
    assert body[:3] == ["# Deeds", "", says]
    assert ("fell by 4.5 points [−6.9, −2.5]" in body[4]) == lost


def test_a_model_that_was_not_measured_says_so(model: Path) -> None:
    text = card(model, {}, ModelFacts("Deeds", Config()))
    assert "**Verdict: not measured. Do not ship.**" in text
    assert "Nothing yet: this model was not evaluated." in text
    assert ModelCard(text).data.eval_results is None
    assert outcome_line({})[1] == []


def test_prompts_and_length_are_told_and_the_code_runs(model: Path, metrics: dict[str, object]) -> None:
    text = card(model, metrics, about())
    assert "queries get `query: ` put before them" in text
    assert "Texts longer than 32 tokens are cut there." in text
    code = text.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) == 5
    exec(code.replace(PLACE, str(model)), {})  # what a reader would paste


def test_the_loss_and_the_weights_that_were_trained_are_named(model: Path, metrics: dict[str, object]) -> None:
    text = card(model, metrics, about())
    assert "| loss | mnrl |" in text and "| weights | all |" in text
    stages = [*STAGES[:-1], replace(STAGES[-1], details={"loss": "kl"})]
    config = make_config({"training": {"method": "lora", "loss": "auto"}})
    text = card(model, metrics, replace(about(), stages=tuple(stages), config=config))
    assert "| loss | kl |" in text and "| weights | LoRA, merged |" in text


def test_a_loss_without_a_scale_is_shown_without_one(model: Path, metrics: dict[str, object]) -> None:
    assert "| loss scale | 21.5 |" in card(model, metrics, about())
    plain = [replace(one, counts={"steps": 9}) if one.stage == "training" else one for one in STAGES]
    assert "loss scale" not in card(model, metrics, replace(about(), stages=tuple(plain)))


def test_dev_figures_are_called_too_good(model: Path, metrics: dict[str, object]) -> None:
    assert "they are too good" in card(model, metrics | {"split": "dev"}, about())
    assert "they are too good" not in card(model, metrics, about())


ENGLISH = "The tenant pays the rent to the owner of the house, for that is what they agreed on in the lease. "
CHINESE = "承租人应当按照约定的期限支付租金。"


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (ENGLISH * 2, ("en",)),
        (CHINESE, ("zh",)),
        (ENGLISH * 2 + CHINESE * 5, ("en", "zh")),
        ("Infectious colitis NOS", ()),
        ("これは日本語の文です。借主は家賃を支払います。", ("ja",)),
        ("", ()),
    ],
)
def test_languages_are_told_only_where_they_are_sure(text: str, codes: tuple[str, ...]) -> None:
    assert languages_of([text]) == codes


def test_what_speaks_against_the_figures_is_on_the_card(model: Path, metrics: dict[str, object]) -> None:
    verdict = {"outcome": "ship", "headline": "More.", "sentences": [], "warnings": ["Keyword search is better."]}
    audited = {"sentence": "Leakage audit: some overlap, within the limits."}
    text = card(model, metrics | {"verdict": verdict, "leakage": audited, "judged@10": {"tuned": 0.25}}, about())
    assert "## How far to trust it\n\n- Keyword search is better.\n- Leakage audit: some overlap" in text
    assert "- Judged among the first ten: tuned 25%." in text
    assert "How far to trust it" not in card(model, metrics, about())
