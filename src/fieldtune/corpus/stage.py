"""The corpus stage: documents in, corpus.jsonl and duplicates.jsonl out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fieldtune.beir import write_corpus
from fieldtune.config import Corpus
from fieldtune.console import Progress
from fieldtune.corpus.duplicates import Origin, find_duplicates, write_duplicates
from fieldtune.corpus.passages import CountTokens, Cutter
from fieldtune.corpus.segments import cleaned_text
from fieldtune.errors import InputError
from fieldtune.types import Document, Passage, Result

_BATCH_CHARACTERS = 1_000_000


@dataclass(slots=True)
class _Collected:
    passages: list[Passage] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    documents: int = 0


def build_corpus(config: Corpus, documents: Iterable[Document], count_tokens: CountTokens, output: Path) -> Result:
    """Cut documents into passages and write `output/corpus.jsonl` (BEIR) and `output/duplicates.jsonl`.

    `count_tokens` gives the tokens of each text, special tokens included if the model sees them; it is called with
    thousands of texts at once. Documents are read once and let go. Documents with `metadata["ready"]` become one
    passage each under their own id and are kept even when duplicate, for labels may point at them.
    Raises InputError where no passage comes out.
    """
    cutter = Cutter(config, count_tokens)
    found = _collect(cutter, documents)
    if not found.passages:
        raise InputError(
            "no passage could be made from the documents",
            "check that they hold text (a scanned PDF needs OCR first) and see the record of the documents stage",
        )
    duplicates = find_duplicates(found.passages, found.origins, config.near_duplicate)
    removed = {one.other for one in duplicates if not found.origins[one.other].ready}
    kept = [index for index in range(len(found.passages)) if index not in removed]
    write_duplicates(output / "duplicates.jsonl", found.passages, duplicates)
    write_corpus(output / "corpus.jsonl", (found.passages[index] for index in kept))
    kinds = Counter(one.kind for one in duplicates)
    for kind, name in (("exact", "exact duplicates"), ("near", "near duplicates")):
        found.dropped[name] += sum(1 for one in duplicates if one.kind == kind and one.other in removed)
    found.dropped["headings of a table of contents"] += cutter.counts["contents lines"]
    sizes = [found.tokens[index] for index in kept]
    too_long = sum(size > config.max_tokens for size in sizes)
    counts: dict[str, int | float] = {
        "documents": found.documents,
        "passages": len(kept),
        "articles": len(
            {_article(found.passages[index]) for index in kept if _kind(found.passages[index]) == "article"}
        ),
        "tables": cutter.counts["tables"],
        "ready passages": sum(found.origins[index].ready for index in kept),
        "tokens mean": round(sum(sizes) / len(sizes), 1),
        "tokens max": max(sizes),
        "passages over the token limit": too_long,
        "exact duplicates": kinds["exact"],
        "near duplicates": kinds["near"],
        "pieces cut mid-sentence": cutter.counts["cut mid-sentence"],
        "titles shortened": cutter.counts["titles shortened"],
    }
    return Result(
        stage="corpus",
        counts=counts,
        dropped={reason: count for reason, count in found.dropped.items() if count},
        notes=tuple(_notes(config, found, too_long, len(duplicates) - len(removed))),
        details={"empty documents": found.empty[:1_000], "passage ids given twice": found.clashes[:1_000]},
    )


def _collect(cutter: Cutter, documents: Iterable[Document]) -> _Collected:
    found = _Collected()
    ids: set[str] = set()
    with Progress("corpus", unit="documents") as progress:
        for batch in _batches(documents):
            cut = cutter.cut([one for one in batch if not one.metadata.get("ready")])
            whole = [_ready(one) for one in batch if one.metadata.get("ready")]
            sizes = iter(cutter.count_tokens([passage.content for passage in whole]) if whole else [])
            given = iter(whole)
            for document in batch:
                ready = bool(document.metadata.get("ready"))
                rows = [(next(given), next(sizes))] if ready else next(cut)[1]
                for passage, size in _usable(document, rows, ids, found):
                    found.passages.append(passage)
                    found.tokens.append(size)
                    found.origins.append(Origin(found.documents, document.title, ready))
                found.documents += 1
            progress.advance(len(batch), f"{len(found.passages):,} passages")
    return found


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += 200 + sum(len(block.text) for block in document.blocks)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ready(document: Document) -> Passage:
    text = cleaned_text(document).strip()
    metadata = dict(document.metadata)
    key = str(metadata.pop("passage_id", "") or document.id)
    title = str(metadata.pop("title", "") or document.title)
    group = str(metadata.pop("group", "") or document.id)
    page = document.blocks[0].page if document.blocks else None
    for name in ("ready", "source", "page", "start", "end"):
        metadata.pop(name, None)
    return Passage(key, title, text, group, document.source, page, metadata=metadata)


def _usable(
    document: Document, rows: list[tuple[Passage, int]], ids: set[str], found: _Collected
) -> list[tuple[Passage, int]]:
    rows = [row for row in rows if row[0].text.strip()]
    if not rows:
        found.dropped["documents without text"] += 1
        found.empty.append(document.source or document.id)
    out = []
    for passage, size in rows:
        if passage.id in ids:
            found.dropped["passage ids given twice"] += 1
            found.clashes.append(f"{passage.source}: {passage.id}")
        elif any(mark in passage.id for mark in "\t\n\r"):
            found.dropped["passage ids with a tab or line break"] += 1
            found.clashes.append(f"{passage.source}: {passage.id!r}")
        else:
            ids.add(passage.id)
            out.append((passage, size))
    return out


def _kind(passage: Passage) -> str:
    return str(passage.metadata.get("kind", ""))


def _article(passage: Passage) -> tuple[str, str]:
    return passage.group, passage.title


def _notes(config: Corpus, found: _Collected, too_long: int, duplicates_kept: int) -> Iterator[str]:
    if found.clashes:
        yield f"{len(found.clashes)} ready passages were left out because their id was taken or malformed."
    if duplicates_kept:
        yield (
            f"{duplicates_kept} ready passages repeat another; they stay, since labels may point at them, and are "
            "recorded in duplicates.jsonl."
        )
    if too_long:
        yield f"{too_long} passages have more than {config.max_tokens} tokens; the model may not see their end."
    if found.empty:
        yield f"{len(found.empty)} documents held no text and gave no passage."
