"""ICD-10-CM: what clinicians write must find the code whose title never says it that way."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from fieldtune.beir import RetrievalData, write_beir, write_qrels
from fieldtune.config import Config, make_config
from fieldtune.errors import MissingExtraError
from fieldtune.types import Passage, Qrels, Query

_RANGE = re.compile(r"\s*\([A-Z0-9]{3}(-[A-Z0-9]{3})?\)$")  # "(E08-E13)" at the end of a block's title
_WORD = re.compile(r"\w+")
_NOTES = (("includes", "Includes"), ("excludes1", "Not coded here"), ("code_first", "Code first"))


def prepare_medicine(folder: Path) -> Config:
    """Write the code book as passages and its inclusion terms as labelled queries; return the config of the run.

    `folder/source` becomes a BEIR folder: one passage per code, grouped by three-character category; one query per
    inclusion term, not divided yet. Inclusion terms are synonyms for a code, written by clinicians; they do not stand
    in the passages. Raises MissingExtraError without the package simple-icd-10-cm.
    """
    if importlib.util.find_spec("simple_icd_10_cm") is None:
        raise MissingExtraError("simple-icd-10-cm", "builtin")
    source = folder / "source"
    codes = list(_codes())
    passages = {code: _passage(code) for code in codes}
    queries, qrels = _labels(codes)
    write_beir(source, RetrievalData(passages, queries, {"all": qrels}))
    write_qrels(source / "qrels" / "all.tsv", qrels)
    return make_config(
        {
            "preset": "quick",
            "out": str(folder),
            "documents": {"paths": [str(source / "corpus.jsonl")]},
            "queries": {"from": str(source)},
            # Codes differ in a word ("left", "right"): near-duplicates of each other, and every one of them meant.
            "corpus": {"near_duplicate": 1.0},
            "evaluation": {"near_copy_passage": 1.0},
            # A fifth of the base model costs a tenth of the gain on dev and halves what is lost elsewhere.
            "training": {"batch_size": 48, "dev_passages": 2_000, "base_share": 0.2},
            "model": {"base": "builtin:all-MiniLM-L6-v2", "max_tokens": 64},
            "card": {"title": "all-MiniLM-L6-v2 tuned on ICD-10-CM", "license": "apache-2.0"},
        },
        where="demo",
    )


def _codes() -> Iterator[str]:
    """Every category and subcategory; codes lengthened by an encounter letter ("initial encounter") are left out."""
    import simple_icd_10_cm as icd

    for code in icd.get_all_codes(True):
        if not (icd.is_chapter(code) or icd.is_block(code) or icd.is_extended_subcategory(code)):
            yield code


def _passage(code: str) -> Passage:
    import simple_icd_10_cm as icd

    title = icd.get_description(code)
    path = [_RANGE.sub("", icd.get_description(above)) for above in reversed(icd.get_ancestors(code))]
    # Block and category, where they say more than the title; what lies below them is nearly word for word in it.
    said = set(_WORD.findall(title.lower()))
    lines = [" > ".join(step for step in path[1:3] if not said.issuperset(_WORD.findall(step.lower())))]
    for field, name in _NOTES:
        value = getattr(icd, f"get_{field}")(code)
        text = "; ".join(value) if isinstance(value, list) else " ".join(value.split())
        if text:
            lines.append(f"{name}: {text}")
    # The code itself is the passage's id: no clinician writes it, and its digits would cost a sixth of all tokens.
    return Passage(code, title, "\n".join(lines).strip() or title, group=code[:3], source="ICD-10-CM")


def _labels(codes: list[str]) -> tuple[dict[str, Query], Qrels]:
    """One query per distinct term, relevant for every code that lists it."""
    import simple_icd_10_cm as icd

    numbers: dict[str, str] = {}
    qrels: Qrels = {}
    for code in codes:
        for term in icd.get_inclusion_term(code):
            text = " ".join(term.split())
            qrels.setdefault(numbers.setdefault(text, f"term-{len(numbers) + 1:05d}"), {})[code] = 1
    return {key: Query(key, text) for text, key in numbers.items()}, qrels
