"""Atoms to passages of a section: packed up to a token budget, kept together where they belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fieldtune.corpus.atoms import Atom, Run, announces_table


@dataclass(frozen=True, slots=True)
class Piece:
    """One passage to be: `cleaned[start:end]`, after the repeated table header if there is one."""

    start: int
    end: int
    page: int | None
    tokens: int
    """About, from its atoms; without the title."""
    is_table: bool = False
    header: tuple[int, int] | None = None
    broken: bool = False


def pack_section(cleaned: str, parts: Sequence[Run], budget: int, overlap: int, min_tokens: int) -> list[Piece]:
    """The pieces of one section in order; every atom lies in at least one of them.

    No piece is longer than `budget` tokens as far as its atoms' counts add up, except where one atom is.
    """
    out: list[Piece] = []
    for position, run in enumerate(parts):
        before = parts[position - 1] if position else None
        if run.is_table:
            pieces = _pack_table(cleaned, run, budget, before)
            if out and pieces and out[-1].start >= pieces[0].start:
                out.pop()  # nothing but the caption that the table's passage now begins with
            out += pieces
        else:
            out += [
                _piece(run.atoms[first:last]) for first, last in pack(run.atoms, budget, overlap if run.overlaps else 0)
            ]
    return _join_short(out, budget, min_tokens)


def pack(atoms: Sequence[Atom], budget: int, overlap: int) -> list[tuple[int, int]]:
    """Index ranges of atoms, greedily filled.

    A group of atoms that would fit into a passage but not into the rest of this one starts the next. A passage's last
    sentences, up to `overlap` tokens, are repeated at the start of the next.
    """
    sizes: dict[int, int] = {}
    for atom in atoms:
        for group in atom.groups:
            sizes[group] = sizes.get(group, 0) + atom.tokens
    out: list[tuple[int, int]] = []
    start = size = 0
    for index, atom in enumerate(atoms):
        known = atoms[index - 1].groups if index else ()
        fresh = [sizes[group] for group in atom.groups if group not in known]
        need = max([atom.tokens, *(total for total in fresh if total <= budget)])
        if index > start and size + need > budget:
            end = index
            while end > start and atoms[end - 1].joined:
                end -= 1
            if end > start:
                out.append((start, end))
                carried = sum(one.tokens for one in atoms[end:index])
                start = end
                repeated = 0
                while (
                    start - 1 > out[-1][0]
                    and repeated + atoms[start - 1].tokens <= overlap
                    and repeated + atoms[start - 1].tokens + carried + need <= budget
                    and not atoms[start - 1].broken
                ):
                    start -= 1
                    repeated += atoms[start].tokens
                size = carried + repeated
            if index > start and size + atom.tokens > budget:  # what was held back does not fit either
                out.append((start, index))
                start, size = index, 0
        size += atom.tokens
    if start < len(atoms):
        out.append((start, len(atoms)))
    return out


def _piece(atoms: Sequence[Atom]) -> Piece:
    tokens = sum(atom.tokens for atom in atoms)
    return Piece(atoms[0].start, atoms[-1].end, atoms[0].page, tokens, broken=atoms[0].broken)


def _pack_table(cleaned: str, run: Run, budget: int, before: Run | None) -> list[Piece]:
    caption = before.atoms[-1] if before is not None and not before.is_table else None
    if caption is not None and (caption.broken or not announces_table(cleaned[caption.start : caption.end])):
        caption = None
    lead = [replace(caption, joined=True, groups=())] if caption is not None else []
    whole = run.atoms[0]
    if not run.rows or whole.tokens <= budget:
        fits = bool(lead) and lead[0].tokens + whole.tokens <= budget
        return [replace(_piece([*lead, whole] if fits else [whole]), is_table=True)]
    header = run.header
    repeated = run.rows[0].tokens if header else 0
    if 3 * repeated > budget:  # a header this long would crowd out the rows
        header, repeated = None, 0
    room = budget - repeated
    rows = run.rows if lead and lead[0].tokens + repeated > room // 2 else [*lead, *run.rows]
    out = []
    for first, last in pack(rows, room, 0):
        piece = _piece(rows[first:last])
        again = header if header is not None and piece.start >= header[1] else None
        out.append(replace(piece, is_table=True, header=again, tokens=piece.tokens + (repeated if again else 0)))
    return out


def _join_short(pieces: Sequence[Piece], budget: int, min_tokens: int) -> list[Piece]:
    out: list[Piece] = []
    for piece in pieces:
        if out and min(out[-1].tokens, piece.tokens) < min_tokens and piece.header is None:
            joined = _joined(out[-1], piece)
            if joined.tokens <= budget:
                out[-1] = joined
                continue
        out.append(piece)
    return out


def _joined(a: Piece, b: Piece) -> Piece:
    return replace(a, end=max(a.end, b.end), tokens=a.tokens + b.tokens, is_table=a.is_table or b.is_table)
