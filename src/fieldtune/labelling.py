"""Labels that were missing: files of grades read in, and the file for labelling written out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.beir import RetrievalData
from fieldtune.config import Config

if TYPE_CHECKING:
    from fieldtune.evaluation import System

_COMPARED = 100  # pairs with a human label that a language model is held against
CACHE = ".fieldtune-llm.jsonl"
"""Answers of the language model, beside the file for labelling: none is paid for twice."""


def labelled(data: RetrievalData, split: str, files: Sequence[Path]) -> tuple[RetrievalData, list[str]]:
    """The data with the grades of these files added to a split, and what is to be said of the data and of them."""
    from fieldtune.evaluation import add_judgements, read_judgements

    notes = list(data.notes)
    for path in files:
        judgements = read_judgements(path, data, split)
        data = add_judgements(data, split, judgements)
        notes += judgements.notes
    return data, notes


def write_labelling(
    path: Path, config: Config, data: RetrievalData, split: str, systems: Sequence[System], *, llm_judge: bool = False
) -> list[str]:
    """Write the highest-ranked unjudged passages for people to grade; returns sentences about it.

    With `llm_judge` a language model fills in its grades and reasons as a proposal, and the sentences say how far it
    agrees with the human labels there are. Nothing counts before someone hands the file in as judgements.
    """
    from fieldtune.evaluation import agreement, human_pairs, llm_grades, unjudged, write_unjudged

    pairs = unjudged(data, split, systems, config.evaluation.unjudged, config.seed)
    if not llm_judge:
        write_unjudged(path, data, pairs)
        return [f"{len(pairs):,} unjudged passages for labelling: {path}"]
    from fieldtune.llm import open_client

    known = human_pairs(data, split, _COMPARED, config.seed)
    with open_client(config.llm.model_copy(update={"temperature": 0.0}), path.with_name(CACHE)) as client:
        graded = llm_grades(data, split, [*known, *pairs], client)
    suggested = {pair: (grade, f"LLM: {reason}") for pair, (grade, reason) in graded.grades.items()}
    write_unjudged(path, data, pairs, suggested)
    notes = [agreement(data, split, graded.grades).sentence]
    if graded.failed:
        notes.append(
            f"LLM judge: no usable answer for {len(graded.failed):,} pairs: {next(iter(graded.failed.values()))}"
        )
    if graded.cut:
        notes.append(f"LLM judge: of {graded.cut:,} long passages it saw the beginning alone.")
    return [*notes, f"{len(pairs):,} unjudged passages with the LLM's proposals, to be checked: {path}"]
