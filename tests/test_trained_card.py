"""The figures of `fieldtune evaluate --card` on the card of a model that `fieldtune train` made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from fieldtune.cli import main
from fieldtune.installing import changed_files
from fieldtune.models import resolve_model
from fieldtune.publish import plan_push

UNMEASURED = "Nothing yet: this model was not evaluated."


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


@pytest.fixture
def train(divided: Path, tiny_model: str, tmp_path: Path) -> list[str]:
    """The words of a short training, which lands in `tmp_path / "deeds"`."""
    words = ["train", "--data", str(divided), "--model", tiny_model, "--out", str(tmp_path / "deeds")]
    return [*words, "--set", "training.epochs=0.2", "--set", "training.batch_size=8"]


def test_measured_figures_stand_on_the_card_until_another_model_is_trained(
    divided: Path, train: list[str], tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = tmp_path / "deeds", tmp_path / "figures.json"
    card = out / "README.md"
    assert call(*train) == 0
    (hint,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("its card has no figures yet"))
    assert UNMEASURED in card.read_text("utf-8")
    assert plan_push(out, "me/deeds", public=False).warnings == ("The model was never measured.",)
    before = resolve_model(str(out)).fingerprint

    words = hint.split("fieldtune ", 1)[1].split()
    words[-3:-3] = ["--model", str(shutil.copytree(tiny_model, tmp_path / "secret" / "rival"))]
    assert call(*words, "--bm25", "--json", str(figures)) == 0
    assert f"The figures are on the model's card: {card}" in capsys.readouterr().out.replace("\n", "")
    found = json.loads(figures.read_text())
    assert list(found["systems"]) == ["base", "rival", "tuned", "BM25"]
    text = card.read_text("utf-8")
    assert UNMEASURED not in text
    assert found["verdict"]["headline"] in text
    assert "| measure | base | rival | tuned | BM25 |" in text
    assert str(tmp_path) not in text  # neither the models' folders nor the data's
    read = ModelCard(text).data
    assert read.model_name == "deeds"
    shown = {row.metric_type: row.metric_value for row in read.eval_results}
    assert shown["cosine_ndcg@10"] == found["systems"]["tuned"]["ndcg@10"]
    assert "- training queries:" in text and "| steps |" in text  # what training said of itself is still there
    assert "never measured" not in " ".join(plan_push(out, "me/deeds", public=False).warnings)
    assert (resolve_model(str(out)).fingerprint, changed_files(out)) == (before, [])

    assert call(*train) == 0  # all of it is done already: the figures are still this model's
    assert card.read_text("utf-8") == text
    assert "no figures yet" not in capsys.readouterr().out
    assert call(*train, "--set", "training.learning_rate=1e-2") == 0
    assert UNMEASURED in card.read_text("utf-8")
    assert plan_push(out, "me/deeds", public=False).warnings == ("The model was never measured.",)


def test_a_card_of_the_users_own_is_not_written_over(
    divided: Path, train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deeds"
    assert call(*train) == 0
    (out / "README.md").write_text("my own words")
    capsys.readouterr()
    assert call("evaluate", "--data", str(divided), "--model", str(out), "--card") == 2
    assert "changed since: README.md" in " ".join(capsys.readouterr().err.split())
    assert (out / "README.md").read_text() == "my own words"
    assert not (out / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("models", "says"),
    [
        (["--bm25"], "--card puts figures on a model's card"),
        (["--model", "MODEL"], "is not the folder of fieldtune train --out"),
        (["--model", "MODEL", "--model", "after=MODEL"], "tuned, not after"),
        (["--model", "before=MODEL", "--model", "MODEL"], "base, not before"),
    ],
)
def test_what_has_no_card_of_ours_is_said_before_any_work(
    models: list[str], says: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("MODEL", tiny_model) for word in models]
    assert call("evaluate", "--data", str(tmp_path / "absent"), *given, "--card") == 2
    assert says in " ".join(capsys.readouterr().err.split())
