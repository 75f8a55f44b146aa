"""Documents to passages, a batch at a time so that the tokenizer sees thousands of texts at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fieldtune.config import Corpus
from fieldtune.corpus.atoms import Atom, Run, cut, runs
from fieldtune.corpus.pack import Piece, pack_section
from fieldtune.corpus.sections import Section, outline
from fieldtune.corpus.segments import cleaned_text, segments
from fieldtune.corpus.titles import titles
from fieldtune.types import Document, Passage

CountTokens = Callable[[Sequence[str]], list[int]]
_SMALLEST_BUDGET = 8
_ROUNDS = 8  # of packing anew where a passage came out longer than its atoms' counts promised


@dataclass(slots=True)
class _Plan:
    document: Document
    cleaned: str
    section: Section
    titles: list[str]
    parts: list[Run]
    title: str = ""
    budget: int = 0
    pieces: list[Piece] = field(default_factory=list)


@dataclass(slots=True)
class Cutter:
    """Cuts documents into passages and keeps the counts; ids are unique over everything it has cut."""

    config: Corpus
    count_tokens: CountTokens
    counts: Counter[str] = field(default_factory=Counter)
    _ids: Counter[str] = field(default_factory=Counter)

    def cut(self, documents: Sequence[Document]) -> Iterator[tuple[Document, list[tuple[Passage, int]]]]:
        """Yield each document with its passages and their tokens, title included; offsets as in `cleaned_text`."""
        plans = [self._plans(document) for document in documents]
        flat = [plan for group in plans for plan in group]
        self._measure(flat)
        tokens = self._pack(flat)
        for document, group in zip(documents, plans, strict=True):
            yield document, [(self._passage(plan, piece), next(tokens)) for plan in group for piece in plan.pieces]

    def _plans(self, document: Document) -> list[_Plan]:
        cleaned = cleaned_text(document)
        found = outline(document, cleaned, segments(document), self.config.heading_levels)
        self.counts["contents lines"] += found.contents_lines
        return [
            _Plan(document, cleaned, section, titles(document.title, section), runs(cleaned, section))
            for section in found.sections
        ]

    def _measure(self, plans: Sequence[_Plan]) -> None:
        """Choose titles that leave room for text, count all atoms, cut those that are too long."""
        variants = [(plan, title) for plan in plans for title in plan.titles]
        sizes = self.count_tokens([title + "\n" for _, title in variants])
        fitting: dict[int, int] = {}
        most = self.config.max_tokens // 2
        for (plan, title), size in zip(variants, sizes, strict=True):
            if id(plan) not in fitting or fitting[id(plan)] > most:
                plan.title, fitting[id(plan)] = title, size
        self.counts["titles shortened"] += sum(plan.title != plan.titles[0] for plan in plans)
        for plan in plans:
            if fitting[id(plan)] > most:
                plan.title = plan.title[: max(1, len(plan.title) * most // fitting[id(plan)])].rstrip()
                fitting[id(plan)] = most
            plan.budget = max(_SMALLEST_BUDGET, self.config.max_tokens - fitting[id(plan)])
        self._count_atoms([(plan.cleaned, run.atoms) for plan in plans for run in plan.parts])
        self._divide(plans)

    def _count_atoms(self, groups: Sequence[tuple[str, Sequence[Atom]]]) -> None:
        atoms = [(cleaned, atom) for cleaned, group in groups for atom in group]
        if not atoms:
            return
        # What the tokenizer adds to every text (its special tokens) is in the title's count already.
        extra, *sizes = self.count_tokens(["", *(cleaned[atom.start : atom.end] for cleaned, atom in atoms)])
        for (_, atom), size in zip(atoms, sizes, strict=True):
            atom.tokens = max(1, size - extra)

    def _divide(self, plans: Sequence[_Plan]) -> None:
        """Count the rows of tables that do not fit whole, and cut all atoms that are longer than their budget."""
        split = [
            (plan.cleaned, run.rows)
            for plan in plans
            for run in plan.parts
            if run.is_table and run.atoms[0].tokens > plan.budget and run.rows[0].tokens == 0
        ]
        self._count_atoms(split)
        for plan in plans:
            self._cut_long(plan)

    def _cut_long(self, plan: _Plan) -> None:
        for run in plan.parts:
            if run.is_table and run.atoms[0].tokens <= plan.budget:
                continue
            atoms = run.rows if run.is_table else run.atoms
            while any(atom.tokens > plan.budget and atom.end - atom.start > 1 for atom in atoms):
                done: list[Atom] = []
                for atom in atoms:
                    done += cut(plan.cleaned, atom, plan.budget) if atom.tokens > plan.budget else [atom]
                self._count_atoms([(plan.cleaned, [atom for atom in done if atom.tokens == 0])])
                atoms = done
            if run.is_table:
                run.rows = atoms
                if run.header and atoms[0].end != run.header[1]:
                    run.header = None  # the header itself had to be cut
            else:
                run.atoms = atoms

    def _pack(self, plans: Sequence[_Plan]) -> Iterator[int]:
        """Pack, count what came out, pack anew with less where that is too long; returns the tokens in order."""
        sizes: dict[int, list[int]] = {}
        waiting = list(plans)
        for _ in range(_ROUNDS):
            for plan in waiting:
                plan.pieces = pack_section(
                    plan.cleaned, plan.parts, plan.budget, self.config.overlap_tokens, self.config.min_tokens
                )
            counted = iter(self.count_tokens([_content(plan, piece) for plan in waiting for piece in plan.pieces]))
            again = []
            for plan in waiting:
                sizes[id(plan)] = [next(counted) for _ in plan.pieces]
                excess = max(sizes[id(plan)], default=0) - self.config.max_tokens
                if excess > 0 and plan.budget > _SMALLEST_BUDGET:
                    plan.budget = max(_SMALLEST_BUDGET, plan.budget - excess)
                    again.append(plan)
            if not again:
                break
            self._divide(again)
            waiting = again
        return iter([size for plan in plans for size in sizes[id(plan)]])

    def _passage(self, plan: _Plan, piece: Piece) -> Passage:
        document, section = plan.document, plan.section
        text = _text(plan, piece)
        metadata: dict[str, object] = {
            "kind": "table" if piece.is_table else "article" if section.is_article else "text"
        }
        if section.path:
            metadata["path"] = list(section.path)
        if section.citation:
            metadata["article"] = section.citation
        if document.metadata.get("date"):
            metadata["date"] = document.metadata["date"]
        if piece.header is not None:
            metadata["repeated_header"] = len(text) - (piece.end - piece.start)
        self.counts["tables"] += piece.is_table and piece.header is None
        self.counts["cut mid-sentence"] += piece.broken
        return Passage(
            id=self._id(document.source or document.id, plan.title, text),
            title=plan.title,
            text=text,
            group=str(document.metadata.get("group") or document.id),
            source=document.source,
            page=piece.page,
            start=piece.start,
            end=piece.end,
            metadata=metadata,
        )

    def _id(self, source: str, title: str, text: str) -> str:
        """A hash of file, title and text: no edit elsewhere changes it, and the same id means the same content.

        Where one file says the same under the same title more than once, the later ones get -2, -3 and so on.
        """
        content = "\0".join((source, title, text)).encode("utf-8", "surrogatepass")
        key = hashlib.sha256(content).hexdigest()[:16]
        self._ids[key] += 1
        return key if self._ids[key] == 1 else f"{key}-{self._ids[key]}"


def _text(plan: _Plan, piece: Piece) -> str:
    text = plan.cleaned[piece.start : piece.end]
    return text if piece.header is None else f"{plan.cleaned[slice(*piece.header)]}\n{text}"


def _content(plan: _Plan, piece: Piece) -> str:
    text = _text(plan, piece)
    return f"{plan.title}\n{text}" if plan.title else text
