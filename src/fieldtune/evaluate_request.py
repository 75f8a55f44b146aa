"""What `evaluate` is asked to measure and to write, and whether that can be done."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fieldtune.config import Config
from fieldtune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured, and how."""

    data: Path
    """A BEIR folder."""
    split: str
    models: tuple[str, ...] = ()
    """Each `MODEL` or `NAME=MODEL`; the first is what the others are compared with."""
    bm25: bool = False
    precision: str = "fp32"
    general: bool = False
    """Also what the last model lost on everyday texts against the first."""
    train_data: Path | None = None
    """Rows that the models learnt from; without it, those that a run left beside its model."""
    judgements: tuple[Path, ...] = ()
    """Files of added grades."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the results go; None for what is not wanted."""

    json: Path | None = None
    per_query: Path | None = None
    report: Path | None = None
    unjudged: Path | None = None
    """A file for labelling."""
    llm_judge: bool = False
    """Whether a language model proposes grades in it."""
    runs: Path | None = None
    """A TREC run file, or one per system."""
    card: bool = False
    """Whether the figures go on the card of the last model, which `train` made; names are then base and tuned."""


def require_sense(config: Config, asked: Asked, files: Files) -> None:
    """Raise ConfigError, before any work, for what cannot be measured or written, or for settings that nothing uses."""
    encodes = bool(asked.models) and not config.evaluation.m3  # whose three kinds are made by the model as it is
    _require_used(config, general=asked.general, llm_judge=files.llm_judge, encodes=encodes)
    if asked.precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"--precision {asked.precision} is unknown", "auto, fp32 or bf16")
    if not asked.models and not asked.bm25:
        raise ConfigError("there is nothing to evaluate", "give --model M, --bm25 or both")
    if asked.general and len(asked.models) < 2:
        raise ConfigError("--general compares two models", "give --model BEFORE --model AFTER")
    if files.llm_judge and not files.unjudged:
        raise ConfigError("--llm-judge writes into a labelling file", "give one: --unjudged FILE")
    if files.llm_judge and not (config.llm.local or (config.llm.base_url and config.llm.model)):
        raise ConfigError(
            "--llm-judge needs an LLM", "--set llm.base_url=... --set llm.model=..., or --set llm.local=..."
        )
    derived = config.evaluation.dimensions or config.evaluation.precisions or config.evaluation.without_prompts
    if derived and not asked.models:
        raise ConfigError("dimensions, precisions and prompts are those of a model", "give --model M")
    _require_writable((files.json, files.per_query, files.report, files.unjudged, files.runs))


def _require_used(config: Config, *, general: bool, llm_judge: bool, encodes: bool) -> None:
    """Refuse settings that would be passed over without a word."""
    used = {"seed", "evaluation"} | ({"llm"} if llm_judge else set()) | ({"encoding"} if encodes else set())
    unused = [f"{name}" for name in config.model_fields_set if name not in used]
    given = config.evaluation.model_fields_set
    instead = {"bm25": "--bm25", "general": "--general"}
    unused += [f"evaluation.{name}" for name in instead if name in given]
    unused += [f"evaluation.{name}" for name in ("general_data", "max_general_loss") if name in given and not general]
    if unused:
        name = sorted(unused)[0]
        hint = instead.get(
            name.removeprefix("evaluation."), "--general uses it" if "general" in name else "leave it out"
        )
        raise ConfigError(f"evaluate does not use the setting {name}", hint)


def _require_writable(paths: Iterable[Path | None]) -> None:
    """Say before any work that a result could not be written."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{path} is a folder", "give the name of a file")
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ConfigError(f"{path} cannot be written: {parent} takes no new files", "choose another place")
