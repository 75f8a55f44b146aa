"""The sets that general ability is measured on: everyday knowledge that ships with fieldtune, and the user's own."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from fieldtune import config as settings
from fieldtune.beir import RetrievalData, load_beir
from fieldtune.errors import InputError
from fieldtune.types import Passage, Query

LANGUAGES = {"en": "English", "zh": "Chinese"}


@dataclass(frozen=True, slots=True)
class RetrievalProbe:
    """Queries on the passages of one corpus, measured by nDCG@10."""

    name: str
    data: RetrievalData
    split: str = "test"
    language: str = ""
    """"en" or "zh" for what ships with fieldtune, "" for the user's own."""


@dataclass(frozen=True, slots=True)
class SimilarityProbe:
    """Pairs of sentences with a grade, measured by Spearman's correlation of cosine and grade."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    grades: tuple[float, ...]
    language: str = ""


@dataclass(frozen=True, slots=True)
class ClassificationProbe:
    """Short texts of several classes, measured by the accuracy of the nearest mean of four labelled texts."""

    name: str
    texts: tuple[str, ...]
    classes: tuple[str, ...]
    language: str = ""


Probe = RetrievalProbe | SimilarityProbe | ClassificationProbe


def probes_of(config: settings.Evaluation) -> tuple[Probe, ...]:
    """What ships with fieldtune and the user's own sets; none where general ability is not to be measured.

    Raises InputError naming file and line for a set that cannot be used.
    """
    return all_probes(config) if config.general else ()


def all_probes(config: settings.Evaluation) -> tuple[Probe, ...]:
    """What ships with fieldtune and the user's own sets, whether or not general ability is measured at the end."""
    return (*builtin_probes(), *map(own_probe, config.general_data))


def builtin_probes() -> tuple[Probe, ...]:
    """Retrieval, similarity and classification in English and Chinese, written for fieldtune, about everyday life."""
    return tuple(
        probe
        for language in LANGUAGES
        for probe in (
            RetrievalProbe(f"retrieval ({LANGUAGES[language]})", _everyday(language), language=language),
            _graded(language),
            _classes(language),
        )
    )


def own_probe(path: str) -> Probe:
    """A set of the user's: a BEIR folder (its test split, else dev) or a CSV with sentence1, sentence2 and score.

    Raises InputError naming file and line.
    """
    place = Path(path)
    if place.is_dir():
        data = load_beir(place)
        split = next((split for split in ("test", "dev") if data.positives(split)), "")
        if not split:
            raise InputError("neither test nor dev has a relevant passage", "add qrels/test.tsv", path=place)
        return RetrievalProbe(place.resolve().name, data, split)
    return _own_pairs(place)


def _everyday(language: str) -> RetrievalData:
    passages: dict[str, Passage] = {}
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = {}
    sources = [_rows(f"retrieval.{language}")] + ([_countries()] if language == "en" else [])
    for group, (text, *questions) in (
        (f"{n}-{m}", row) for n, rows in enumerate(sources) for m, row in enumerate(rows)
    ):
        passages[group] = Passage(group, "", text, group=group)
        for number, question in enumerate(questions):
            queries[f"{group}-{number}"] = Query(f"{group}-{number}", question)
            qrels[f"{group}-{number}"] = {group: 1}
    return RetrievalData(passages, queries, {"test": qrels})


def _countries() -> Iterator[list[str]]:
    """Three passages a country that differ in what they say of it: only one answers each question."""
    for country, capital, currency, language, continent, known in _rows("countries.en"):
        yield [f"The capital of {country} is {capital}.", f"Where does the government of {country} sit?"]
        yield [f"The currency of {country} is the {currency}.", f"What do I pay with when I shop in {country}?"]
        yield [
            f"{country}, in {continent}, is known for {known}. People there speak {language}.",
            f"What is {country} famous for?",
            f"Where should I travel to see {known}?",
        ]


def _graded(language: str) -> SimilarityProbe:
    """Each sentence against five others of falling grade, and, with grade 0, against one about something else."""
    rows = list(_rows(f"similarity.{language}"))
    pairs = [
        (row[0], other, grade)
        for n, row in enumerate(rows)
        for other, grade in [*zip(row[1:], (5, 4, 3, 2, 1), strict=True), (rows[(n + 7) % len(rows)][0], 0)]
    ]
    first, second, grades = zip(*pairs, strict=True)
    return SimilarityProbe(f"similarity ({LANGUAGES[language]})", first, second, tuple(map(float, grades)), language)


def _classes(language: str) -> ClassificationProbe:
    classes, texts = zip(*_rows(f"classification.{language}"), strict=True)
    return ClassificationProbe(f"classification ({LANGUAGES[language]})", texts, classes, language)


def _rows(name: str) -> Iterator[list[str]]:
    text = files("fieldtune.probes").joinpath("data", f"{name}.tsv").read_text("utf-8")
    for line in text.splitlines()[1:]:
        yield line.split("\t")


def _own_pairs(path: Path) -> SimilarityProbe:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = [_own_pair(row, path, reader.line_num) for row in reader]
    except FileNotFoundError:
        hint = "evaluation.general_data takes BEIR folders and CSV files"
        raise InputError("no such file or folder", hint, path=path) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error})", "save the file as UTF-8", path=path) from None
    if len({grade for *_, grade in rows}) < 2:
        raise InputError("all pairs have the same score", "a correlation needs at least two different ones", path=path)
    first, second, grades = zip(*rows, strict=True)
    return SimilarityProbe(path.stem, first, second, grades)


def _own_pair(row: dict[str, str | None], path: Path, line: int) -> tuple[str, str, float]:
    missing = [name for name in ("sentence1", "sentence2", "score") if not (row.get(name) or "").strip()]
    if missing:
        raise InputError(f"no {missing[0]}", "each row needs sentence1, sentence2 and score", path=path, line=line)
    try:
        score = float(str(row["score"]))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"score {row['score']!r} is not a number", path=path, line=line)
    return str(row["sentence1"]), str(row["sentence2"]), score


def texts_of(probes: Sequence[Probe]) -> tuple[list[str], list[str]]:
    """Texts to encode as queries and as passages; the user's corpora are left out, being encoded by themselves."""
    queries: list[str] = []
    passages: list[str] = []
    for probe in probes:
        if isinstance(probe, SimilarityProbe):
            queries += [*probe.first, *probe.second]
        elif isinstance(probe, ClassificationProbe):
            queries += probe.texts
        elif probe.language:
            queries += [query.text for query in probe.data.queries.values()]
            passages += [passage.content for passage in probe.data.passages.values()]
    return list(dict.fromkeys(queries)), list(dict.fromkeys(passages))
