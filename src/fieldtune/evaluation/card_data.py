"""The parts of a model card that machines read: YAML front matter with results, and the verdict in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldtune.builtin import BUILTINS
from fieldtune.config import Config
from fieldtune.measures import label

_TAGS = ["sentence-transformers", "sentence-similarity", "feature-extraction", "retrieval", "fieldtune"]
_OUTCOMES = {
    "ship": "Verdict: ship.",
    "no measurable difference": "Verdict: no measurable difference.",
    "worse": "Verdict: worse. Do not ship.",
    "not trustworthy": "Verdict: NOT TRUSTWORTHY. Do not ship.",
    "not compared": "Verdict: none, for there was nothing to compare with.",
}


def outcome_line(metrics: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The verdict in bold and the sentences behind it, from what metrics.json holds."""
    verdict = metrics.get("verdict")
    if not verdict:
        return "Verdict: not measured. Do not ship.", []
    general = metrics.get("general") or {}
    outcome = str(verdict["outcome"])
    line = _OUTCOMES.get(outcome, f"Verdict: {outcome}.")
    if general.get("failed") and "Do not ship" not in line:
        line = "Verdict: worse elsewhere. Do not ship."
    sentences = [verdict["headline"], *verdict.get("sentences", ())]
    if general.get("probes") and general["sentence"] not in sentences:
        sentences.append(general["sentence"])
    return line, sentences


def hub_base(config: Config) -> str:
    """The base model's hub id; "" for a folder whose id nobody has stated."""
    base = config.model.base
    if config.card.base_model:
        return config.card.base_model
    if base.startswith("builtin:"):
        model = BUILTINS.get(base.removeprefix("builtin:"))
        return model.hub if model else ""
    return "" if Path(base).expanduser().exists() or base.startswith(("/", ".", "~")) else base


def front_matter(metrics: Mapping[str, Any], title: str, config: Config, languages: tuple[str, ...]) -> str:
    """The YAML block, `model-index` included, between its two lines of dashes."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        language=list(languages) or None,
        license=config.card.license or "unknown",
        library_name="sentence-transformers",
        tags=_TAGS,
        base_model=hub_base(config) or None,
        pipeline_tag="sentence-similarity",
        model_name=title,
        eval_results=_results(metrics, title) or None,
    )
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---\n"


def _results(metrics: Mapping[str, Any], title: str) -> list[Any]:
    """The tuned model's figures, under the names that Sentence Transformers gives them."""
    from huggingface_hub import EvalResult

    tuned: Mapping[str, Any] = (metrics.get("systems") or {}).get("tuned") or {}
    split = metrics.get("split", "")
    found = [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type="fieldtune",
            dataset_name=f"{title} ({split})",
            dataset_split=split,
            metric_type=f"cosine_{name}",
            metric_name=label(name),
            metric_value=value,
        )
        for name, value in tuned.items()
        if "@" in name and value is not None
    ]
    types = {"Spearman": ("semantic-similarity", "spearman_cosine"), "accuracy": ("text-classification", "accuracy")}
    for row in (metrics.get("general") or {}).get("probes", ()):
        task, metric = types.get(row["measure"], ("information-retrieval", "cosine_ndcg@10"))
        found.append(
            EvalResult(
                task_type=task,
                task_name=task.replace("-", " ").title(),
                dataset_type="fieldtune-general",
                dataset_name=f"everyday texts: {row['name']}",
                metric_type=metric,
                metric_name=row["measure"],
                metric_value=row["tuned"],
            )
        )
    return found
