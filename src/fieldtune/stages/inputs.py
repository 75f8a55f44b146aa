"""What decides a stage's result, apart from the stages before it: settings, and the content of outside files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldtune.beir import corpus_file
from fieldtune.config import Config
from fieldtune.workspace import file_digest


def settings_of(config: Config, *sections: str, without: tuple[str, ...] = ()) -> list[Any]:
    """The named sections without settings that change how fast a stage is and not what comes out."""
    return [config.seed, *(getattr(config, name).model_dump(exclude=set(without)) for name in sections)]


def format_of_vectors(config: Config) -> list[str]:
    """The number format that passages are to be encoded in, where it is asked for by name.

    Backends differ in speed, and in the last bits alone; so do the formats that `auto` chooses among.
    """
    encoding = config.encoding
    named: list[str] = [] if encoding.precision == "auto" else [encoding.precision]
    if encoding.precision == "int8" or encoding.export:  # what may be lost decides whether it is taken
        named.append(f"{encoding.max_loss:g}")
    # int8 is calibrated, and so no format alone; which model an export is of, its record says.
    record = Path(encoding.export) / "fieldtune-export.json"
    return [*named, digest_or_cause(record)] if encoding.export else named


def content(labels: str) -> list[Any]:
    """Name and content of a labels file or of each file that is read in a folder of them."""
    source = Path(labels)
    files = [source] if source.is_file() else []
    if source.is_dir():  # what is read of it, and nothing that a run or an editor may leave beside that
        inside = [*source.glob("*"), *source.glob("qrels/*.tsv")]
        files = sorted(path for path in inside if path.is_file() and not path.name.startswith("."))
    return [(path.relative_to(source.parent).as_posix(), digest_or_cause(path)) for path in files]


def contents(names: Sequence[str]) -> list[tuple[str, str]]:
    """Name and content of each file, and of all files in each folder."""
    places = [Path(name) for name in names]
    files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    return [(path.name, digest_or_cause(path)) for path in files if not path.is_dir()]


def digest_or_cause(path: Path) -> str:
    """A file that cannot be read is reported by the documents stage; here it only must not look like another."""
    try:
        return file_digest(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def given_corpus(config: Config) -> Path | None:
    """The file of passages that stands in for documents: queries.corpus, or the corpus of the labels' BEIR folder."""
    if config.queries.corpus:
        corpus = Path(config.queries.corpus)
        return corpus_file(corpus) if corpus.is_dir() else corpus
    source = Path(config.queries.source)
    return corpus_file(source) if source.is_dir() and (source / "queries.jsonl").exists() else None
