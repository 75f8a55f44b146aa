"""Hard negatives from the base model's own mistakes, with what looks like an unlabelled answer left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Negatives
from fieldtune.console import Progress
from fieldtune.corpus.near import jaccard, shingles
from fieldtune.encoding import top_k

KNOWN = "known positive"
NEAR = "near-duplicate of a positive"
HELD = "positive of a dev or test query"
JUDGED = "judged, but not as irrelevant"
ENOUGH = "labelled as irrelevant, beyond negatives.per_query"
CLOSE = "scores too near the positive"
FIRST = "among the first, left out as asked"


@dataclass(frozen=True, slots=True)
class Mined:
    """What mining found for each query, as rows of the corpus."""

    negatives: list[list[int]]
    """Best first; labelled negatives (grade 0) lead, the hardest of them first."""
    scores: list[list[float]]
    """Cosine of each negative with the query, by the base model."""
    positive_scores: list[list[float]]
    alike: list[list[int]]
    """Near-duplicates of the query's positives among the candidates: never to be used against it."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason -> candidates skipped."""


def mine(
    query_vectors: NDArray[np.float32],
    passage_vectors: NDArray[np.float32],
    positives: Sequence[Sequence[int]],
    labelled_negatives: Sequence[Sequence[int]],
    texts: Sequence[str],
    twins: Mapping[int, AbstractSet[int]],
    held: AbstractSet[int],
    config: Negatives,
    partly: Sequence[Sequence[int]] = (),
    block: int = 1_024,
) -> Mined:
    """Mine up to `config.per_query` negatives for each query from the base model's top `config.depth` passages.

    `query_vectors` (n, dim) and `passage_vectors` (m, dim) are unit vectors of the base model; `positives` and
    `labelled_negatives` hold corpus rows per query; `texts` the m passages; `twins` rows known to be near-duplicates of
    a row; `held` rows that are positives of dev or test; `partly` rows per query whose grade lies between
    irrelevant and relevant. A candidate is skipped whose score lies more than `max_share_of_positive` of the way from
    the score of unrelated texts to that of the query's best positive (after TopK-PercPos of NV-Retriever,
    arXiv:2407.15831, which counts from zero).
    """
    out = Mined([], [], [], [])
    skipped: Counter[str] = Counter()
    # Found again and again as candidates of neighbouring queries.
    seen: dict[int, frozenset[int]] = {}

    def shingled(row: int) -> frozenset[int]:
        if row not in seen:
            seen[row] = shingles(texts[row])
        return seen[row]

    # The mean cosine of all queries with all passages. Some models (E5) score unrelated texts at 0.75: there, 95% of
    # the positive's bare score would rule out nearly everything.
    chance = float(np.mean(query_vectors, axis=0) @ np.mean(passage_vectors, axis=0)) if len(positives) else 0.0

    with Progress("mining hard negatives", len(positives), unit="queries") as progress:
        for begin in range(0, len(positives), block):
            part = np.asarray(query_vectors[begin : begin + block], np.float32)
            scores, rows = top_k(part, passage_vectors, config.depth)
            for i, vector in enumerate(part):
                own = positives[begin + i]
                own_scores = (passage_vectors[list(own)] @ vector).tolist()
                limit = chance + config.max_share_of_positive * (max(own_scores) - chance)
                labelled = [row for row in labelled_negatives[begin + i] if row not in own]
                wrong = [row for row in labelled if row not in held]
                skipped[HELD] += len(labelled) - len(wrong)
                skipped[ENOUGH] += max(0, len(wrong) - config.per_query)
                hardest: list[int] = (
                    np.argsort(-(passage_vectors[wrong] @ vector), kind="stable").tolist() if wrong else []
                )
                found = [(wrong[n], float(passage_vectors[wrong[n]] @ vector)) for n in hardest[: config.per_query]]
                alike = sorted(set().union(*(twins.get(row, frozenset()) for row in own)) - set(own))
                half = partly[begin + i] if partly else ()
                passed = 0
                for score, row in zip(scores[i].tolist(), rows[i].tolist(), strict=True):
                    if len(found) >= config.per_query:
                        break
                    if row in own:
                        skipped[KNOWN] += 1
                    elif row in wrong:
                        continue  # already taken as labelled
                    elif row in alike or _near(row, own, shingled, config.near_duplicate):
                        skipped[NEAR] += 1
                        if row not in alike:
                            alike.append(row)
                    elif row in half:
                        skipped[JUDGED] += 1
                    elif row in held:
                        skipped[HELD] += 1
                    elif passed < config.skip_first:
                        passed += 1
                        skipped[FIRST] += 1
                    elif score > limit:
                        skipped[CLOSE] += 1
                    else:
                        found.append((row, score))
                out.negatives.append([row for row, _ in found])
                out.scores.append([round(score, 5) for _, score in found])
                out.positive_scores.append([round(score, 5) for score in own_scores])
                out.alike.append(alike)
            if len(seen) > 200_000:
                seen.clear()
            progress.advance(len(part))
    out.skipped.update(sorted((reason, count) for reason, count in skipped.items() if count))
    return out


def _near(row: int, own: Sequence[int], shingled: Callable[[int], frozenset[int]], threshold: float) -> bool:
    return any(jaccard(shingled(row), shingled(positive)) >= threshold for positive in own)
