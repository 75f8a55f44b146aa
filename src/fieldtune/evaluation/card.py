"""The model card: README.md in the model's folder, with the numbers of metrics.json and what a hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldtune import __version__
from fieldtune.config import Config
from fieldtune.evaluation.card_data import front_matter, hub_base, outcome_line
from fieldtune.evaluation.card_figures import elsewhere, measured, training_data, trusted
from fieldtune.model_folder import PLACE, saved_prompts, transformer_folder
from fieldtune.types import Result
from fieldtune.workspace import atomic_file, read_json

_HAN, _KANA, _HANGUL = "[\u4e00-\u9fff]", "[\u3040-\u30ff]", "[\uac00-\ud7a3]"
_ENGLISH = {"the", "of", "and", "in", "to", "with", "is", "for", "or", "by", "on", "that", "are", "what", "how"}

_WEIGHTS = {
    "full": "all", "lora": "LoRA, merged", "qlora": "LoRA over 4 bits, merged", "adapter": "bottleneck adapters",
    "query": "a layer for queries alone",
}  # fmt: skip
"""Which of them were trained, by training.method."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the card says beside the measurements."""

    title: str
    config: Config
    stages: Sequence[Result] = ()
    """The finished stages in order: where the training data came from and how training went."""
    languages: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)


def write_card(model: Path, metrics: Mapping[str, Any], about: ModelFacts) -> None:
    """Write `model/README.md` in the place of the base model's own; `metrics` is what metrics.json holds, {} for none.

    The file is no part of the model's fingerprint: nothing that was computed with the model is done again.
    """
    text = model_card(metrics, about, saved_prompts(model), _shape(model), _stated_license(model))
    with atomic_file(model / "README.md") as stream:
        stream.write(text)


def model_card(
    metrics: Mapping[str, Any],
    about: ModelFacts,
    prompts: tuple[str, str],
    shape: tuple[int, int],
    base_license: str = "",
) -> str:
    """The card's text. `prompts` are those for queries and passages, `shape` is (dimensions, longest input in tokens),
    0 for unknown; `base_license` is what the base model's own card states."""
    first, sentences = outcome_line(metrics)
    parts = [
        front_matter(metrics, about.title, about.config, about.languages),
        f"# {about.title}\n\n**{first}**\n",
        *([" ".join(sentences) + "\n"] if sentences else []),
        "\n".join(_what(about, shape)),
        _use(prompts),
        *measured(metrics),
        *trusted(metrics),
        *elsewhere(metrics.get("general")),
        "\n".join(["## Training data\n", *training_data(about.stages), ""]),
        "\n".join(["## How it was trained\n", *_how(about), ""]),
        "\n".join(["## Limits\n", *_limits(metrics, about, shape), ""]),
        "\n".join(["## License\n", _license(about.config, base_license), ""]),
    ]
    return "\n".join(parts)


def languages_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Hub codes of the languages that texts are surely written in: zh, ja, ko by script, en by its commonest words."""
    text = " ".join(text for _, text in zip(range(2_000), texts, strict=False))
    letters = max(len(re.findall(r"[^\W\d_]", text)), 1)
    han, kana, hangul = (len(re.findall(script, text)) / letters for script in (_HAN, _KANA, _HANGUL))
    words = re.findall("[a-z]+", text.lower())
    found = {
        "en": len(words) > 20 and sum(word in _ENGLISH for word in words) / len(words) > 0.08,
        "ja": kana > 0.05,
        "ko": hangul > 0.2,
        "zh": han > 0.2 and kana <= 0.05,
    }
    return tuple(code for code, sure in found.items() if sure)


def _what(about: ModelFacts, shape: tuple[int, int]) -> list[str]:
    base = hub_base(about.config) or "a local model"
    size = f" of {shape[0]} dimensions" if shape[0] else ""
    return [
        f"A [Sentence Transformers](https://sbert.net) model that turns queries and passages into vectors{size}, so "
        f"that the passages that answer a query lie next to it. It was tuned by fieldtune {__version__} from {base}.",
        "",
    ]


def _use(prompts: tuple[str, str]) -> str:
    named = [
        f"{side} get `{prompt}` put before them"
        for side, prompt in zip(("queries", "passages"), prompts, strict=True)
        if prompt
    ]
    said = (
        f"Prompts are part of the model: {' and '.join(named)} by the two methods."
        if named
        else "No prompts are needed."
    )
    return f"""## How to use it

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("{PLACE}")
queries = model.encode_query(["the question"], normalize_embeddings=True)
passages = model.encode_document(["a passage", "another"], normalize_embeddings=True)
print(model.similarity(queries, passages))
```

{said} A passage that has a title was trained as title, line break, text.
"""


def _how(about: ModelFacts) -> list[str]:
    config = about.config
    settings = config.training
    trained = next((result for result in about.stages if result.stage == "training"), None)
    source = config.queries.source
    made = {"structure": "made from the documents' own structure", "llm": "written by a language model"}
    details = trained.details if trained else {}
    counts = trained.counts if trained else {}
    rows = {
        "queries": made.get(source, "given with the documents"),
        "preset": config.preset,
        "weights": _WEIGHTS[settings.method],
        "loss": details.get("loss", settings.loss),
        "loss scale": counts.get("loss scale", "") if trained else settings.scale,
        "dimensions trained": ", ".join(map(str, details.get("dimensions", ()))),
        "epochs": settings.epochs,
        "steps": counts.get("steps", ""),
        "batch size": settings.batch_size,
        "hard negatives per query and step": settings.hard_negatives,
        "learning rate": settings.learning_rate,
        "warm-up": settings.warmup,
        "weight decay": settings.weight_decay,
        "precision": details.get("precision", settings.precision),
        "device": str(details.get("device", "")).split(":")[0],
        "seed": config.seed,
        "packages": ", ".join(f"{name} {version}" for name, version in dict(about.packages).items()),
    }
    return [
        "| setting | value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows.items() if value != ""),
    ]


def _limits(metrics: Mapping[str, Any], about: ModelFacts, shape: tuple[int, int]) -> list[str]:
    general = metrics.get("general") or {}
    lines = ["It was tuned for one field; the figures hold for queries and passages like those of the test set."]
    if shape[1]:
        lines.append(f"Texts longer than {shape[1]:,} tokens are cut there.")
    if not about.languages:
        lines.append("Its language is not stated.")
    if metrics.get("split") == "dev":
        lines.append("The figures are of the dev split, by which the checkpoint was chosen: they are too good.")
    return [f"- {line}" for line in [*lines, *metrics.get("notes", ()), *general.get("notes", ())]]


def _license(config: Config, base_license: str) -> str:
    stated = f" The base model's card states {base_license}." if base_license else ""
    if config.card.license:
        return f"{config.card.license}.{stated}"
    return f"Unknown: the maker of this model has stated none.{stated}"


def _shape(model: Path) -> tuple[int, int]:
    """Dimensions and longest input, as far as the folder says."""
    pooling = next(iter(sorted(model.glob("*_Pooling/config.json"))), None)
    found = read_json(pooling) if pooling else {}
    size = found.get("embedding_dimension") or found.get("word_embedding_dimension") or 0
    limits = transformer_folder(model) / "tokenizer_config.json"
    length = read_json(limits).get("model_max_length") if limits.exists() else 0
    # A tokenizer without a limit says so with a number of thirty digits.
    return int(size), length if isinstance(length, int) and length < 1_000_000 else 0


def _stated_license(model: Path) -> str:
    """The license line of the base model's card, which saving a model copies beside it, or of our card about it."""
    path = model / "README.md"
    text = path.read_text("utf-8", errors="replace") if path.exists() else ""
    ours = re.search(r"^.*The base model's card states (\S+)\.$", text, re.MULTILINE)
    if ours or f"tuned by fieldtune {__version__}" in text:
        return ours[1] if ours else ""
    found = re.match(r"---\n.*?^license:\s*([\w.-]+)\s*$.*?^---$", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""
