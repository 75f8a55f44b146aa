"""The corpus stage: documents in, corpus.jsonl and duplicates.jsonl out."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

import numpy as np

from fieldtune.config import Corpus
from fieldtune.console import Progress
from fieldtune.corpus.duplicates import Duplicate, Origin, Seen, compared, write_duplicates
from fieldtune.corpus.passages import CountTokens, Cutter
from fieldtune.corpus.segments import cleaned_text
from fieldtune.corpus.spool import Spool
from fieldtune.errors import InputError
from fieldtune.types import Document, Passage, Result
from fieldtune.workspace import atomic_file

_BATCH_CHARACTERS = 1_000_000


@dataclass(slots=True)
class _Collected:
    """Of each passage its id and some numbers; what it says lies in the spool."""

    spool: Spool
    seen: Seen = field(default_factory=Seen)
    ids: dict[str, None] = field(default_factory=dict)
    tokens: array[int] = field(default_factory=lambda: array("L"))
    ready: array[int] = field(default_factory=lambda: array("B"))
    articles: array[int] = field(default_factory=lambda: array("q"))
    """A number for the article that a passage is of; 0 for none."""
    dropped: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    documents: int = 0


def build_corpus(config: Corpus, documents: Iterable[Document], count_tokens: CountTokens, output: Path) -> Result:
    """Cut documents into passages and write `output/corpus.jsonl` (BEIR) and `output/duplicates.jsonl`.

    `count_tokens` gives the tokens of each text, special tokens included if the model sees them; it is called with
    thousands of texts at once. Documents are read once and let go, and passages wait in a file: under
    a kilobyte of each stays in memory. Documents with `metadata["ready"]` become one
    passage each under their own id and are kept even when duplicate, for labels may point at them.
    Raises InputError where no passage comes out.
    """
    cutter = Cutter(config, count_tokens)
    with Spool(output) as spool:
        found = _collect(cutter, documents, spool)
        if not found.ids:
            raise InputError(
                "no passage could be made from the documents",
                "check that they hold text (a scanned PDF needs OCR first) and see the record of the documents stage",
            )
        duplicates = _duplicates(found, config.near_duplicate)
        ready = np.frombuffer(found.ready, np.bool_)
        stays = np.ones(len(ready), np.bool_)
        stays[[one.other for one in duplicates if not ready[one.other]]] = False
        write_duplicates(output / "duplicates.jsonl", list(found.ids), duplicates)
        with atomic_file(output / "corpus.jsonl", "wb") as stream:
            stream.writelines(compress(spool.lines(), stays))
    kinds = Counter(one.kind for one in duplicates)
    for kind, name in (("exact", "exact duplicates"), ("near", "near duplicates")):
        found.dropped[name] += sum(1 for one in duplicates if one.kind == kind and not stays[one.other])
    found.dropped["headings of a table of contents"] += cutter.counts["contents lines"]
    sizes = np.frombuffer(found.tokens, np.dtype("L"))[stays]
    too_long = int(np.count_nonzero(sizes > config.max_tokens))
    articles = np.frombuffer(found.articles, np.int64)[stays]
    counts: dict[str, int | float] = {
        "documents": found.documents,
        "passages": len(sizes),
        "articles": len(np.unique(articles[articles != 0])),
        "tables": cutter.counts["tables"],
        "ready passages": int(np.count_nonzero(ready & stays)),
        "tokens mean": round(float(sizes.mean()), 1),
        "tokens max": int(sizes.max()),
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
        notes=tuple(_notes(config, found, too_long, len(duplicates) - int(np.count_nonzero(~stays)))),
        details={"empty documents": found.empty[:1_000], "passage ids given twice": found.clashes[:1_000]},
    )


def _duplicates(found: _Collected, threshold: float) -> list[Duplicate]:
    def text_of(place: int) -> str:
        row = found.spool[place]
        return compared(row["title"], row["text"], bool(found.ready[place]))

    return found.seen.duplicates(text_of, threshold)


def _collect(cutter: Cutter, documents: Iterable[Document], spool: Spool) -> _Collected:
    found = _Collected(spool)
    with Progress("corpus", unit="documents") as progress:
        for batch in _batches(documents):
            cut = cutter.cut([one for one in batch if not one.metadata.get("ready")])
            whole = [_ready(one) for one in batch if one.metadata.get("ready")]
            sizes = iter(cutter.count_tokens([passage.content for passage in whole]) if whole else [])
            given = iter(whole)
            for document in batch:
                ready = bool(document.metadata.get("ready"))
                rows = [(next(given), next(sizes))] if ready else next(cut)[1]
                for passage, size in _usable(document, rows, found):
                    spool.add(passage)
                    found.seen.add(passage, Origin(found.documents, document.title, ready))
                    found.tokens.append(size)
                    found.ready.append(ready)
                    found.articles.append(hash((passage.group, passage.title)) if _is_article(passage) else 0)
                found.documents += 1
            progress.advance(len(batch), f"{len(found.ids):,} passages")
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


def _usable(document: Document, rows: list[tuple[Passage, int]], found: _Collected) -> list[tuple[Passage, int]]:
    rows = [row for row in rows if row[0].text.strip()]
    if not rows:
        found.dropped["documents without text"] += 1
        found.empty.append(document.source or document.id)
    out = []
    for passage, size in rows:
        if passage.id in found.ids:
            found.dropped["passage ids given twice"] += 1
            found.clashes.append(f"{passage.source}: {passage.id}")
        elif any(mark in passage.id for mark in "\t\n\r"):
            found.dropped["passage ids with a tab or line break"] += 1
            found.clashes.append(f"{passage.source}: {passage.id!r}")
        else:
            found.ids[passage.id] = None
            out.append((passage, size))
    return out


def _is_article(passage: Passage) -> bool:
    return passage.metadata.get("kind") == "article"


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
