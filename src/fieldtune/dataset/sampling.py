"""Passages for a teacher to score: drawn from bands of ranks, so that the whole range of scores is seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fieldtune.config import Teacher
from fieldtune.console import Progress
from fieldtune.dataset.candidates import Candidates
from fieldtune.dataset.known import Known
from fieldtune.dataset.mining import Mined
from fieldtune.workspace import digest

_TRIES = 4
"""Draws per wanted passage from the rest of the corpus, of which some fall on passages that are ranked or excluded."""


def sample_bands(
    known: Known, mined: Mined, candidates: Candidates, settings: Teacher, seed: int, *, block: int = 1_024
) -> list[list[int]]:
    """Per query: `per_band` rows from each band of ranks and from the rest of the corpus, in order of rank.

    Left out are positives and what is alike them, hard negatives (scored anyway), and passages held for dev and test.
    The draw depends on the seed and the query alone.
    """
    out: list[list[int]] = []
    edges = (0, *settings.ranks)
    with Progress("drawing passages for the teacher", len(known.queries), unit="queries") as progress:
        for begin in range(0, len(known.queries), block):
            end = min(begin + block, len(known.queries))
            for query, ranked in enumerate(candidates(begin, end).rows, begin):
                rng = np.random.default_rng(int(digest([seed, known.query_ids[query]]), 16))
                out_of = {
                    *known.positives[query], *known.partly[query], *known.irrelevant[query],
                    *mined.alike[query], *mined.negatives[query],
                }  # fmt: skip
                rows = [row for row in ranked.tolist() if row >= 0]
                drawn: list[int] = []
                for low, high in pairwise(edges):
                    band = [row for row in rows[low:high] if row not in out_of and row not in known.held]
                    places = np.sort(rng.permutation(len(band))[: settings.per_band])
                    drawn += [band[place] for place in places]
                out_of.update(rows)
                drawn += _rest(len(known.texts), out_of, known, settings.per_band, rng)
                out.append(drawn)
            progress.advance(end - begin)
    return out


def _rest(count: int, out_of: set[int], known: Known, wanted: int, rng: np.random.Generator) -> Sequence[int]:
    """Rows beyond the last band, drawn without listing the corpus anew for every query."""
    tried = rng.integers(count, size=_TRIES * wanted).tolist()
    fresh = dict.fromkeys(row for row in tried if row not in out_of and row not in known.held)
    return list(fresh)[:wanted]
