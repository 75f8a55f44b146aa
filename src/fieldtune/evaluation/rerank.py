"""A cross-encoder reads query and passage together and puts the first ranks of any system in its own order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData
from fieldtune.console import Progress
from fieldtune.encoding.tokens import encodable
from fieldtune.errors import ModelError
from fieldtune.evaluation.rankings import Ranking, reordered
from fieldtune.hub import hub_folder

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_BATCH = 32
_CHUNK = 1_024  # pairs between two signs of progress


class Reranker:
    """A cross-encoder and the pairs it has scored; a pair that several systems found is read once."""

    def __init__(self, model: CrossEncoder, name: str) -> None:
        self.model, self.name = model, name
        self._known: dict[tuple[str, str], float] = {}

    @classmethod
    def load(cls, name: str) -> Reranker:
        """Load a folder or hub id. Raises ModelError when it is not a cross-encoder with one score."""
        path = Path(name).expanduser()
        folder = path if path.exists() else hub_folder(name, "give the folder of a cross-encoder")
        if not (folder / "config.json").exists() and not (folder / "modules.json").exists():
            raise ModelError(f"{name} holds no model", "give a folder saved by CrossEncoder.save, or a hub id")
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(str(folder), local_files_only=True)
        except Exception as error:  # whatever a library raises on a folder that does not fit
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{name} cannot be loaded as a reranker: {reason}", "give a cross-encoder") from error
        if model.num_labels != 1:
            raise ModelError(f"{name} gives {model.num_labels} numbers per pair", "a reranker gives one score")
        return cls(model, name)

    def rerank(self, data: RetrievalData, rankings: Sequence[Ranking], depth: int) -> list[Ranking]:
        """Each ranking with its first `depth` ranks reordered; what they share is scored once.

        Raises ModelError for a score that is not a number, naming the pair.
        """
        pairs = dict.fromkeys(
            (query, ranking.ids[row])
            for ranking in rankings
            for query, rows in zip(ranking.queries, ranking.rows[:, :depth].tolist(), strict=True)
            for row in rows
            if row >= 0
        )
        self._score(data, [pair for pair in pairs if pair not in self._known])
        return [reordered(ranking, self._scores(ranking, depth)) for ranking in rankings]

    def _score(self, data: RetrievalData, pairs: list[tuple[str, str]]) -> None:
        texts = [(data.queries[query].text, data.passages[passage].content) for query, passage in pairs]
        with Progress(f"reranking with {self.name}", len(pairs), unit="pairs") as progress:
            scores = self.scores(texts, names=pairs, advance=progress.advance)
        self._known.update(zip(pairs, scores.tolist(), strict=True))

    def scores(
        self,
        texts: Sequence[tuple[str, str]],
        *,
        names: Sequence[tuple[str, str]] | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> NDArray[np.float64]:
        """The score of each pair of query and passage; `names` say in an error which pair it was.

        Raises ModelError for a score that is not a number.
        """
        import torch

        # Pairs of like length share a batch, so that little is padded; longest first shows at once if memory suffices.
        order = np.argsort([-len(query) - len(passage) for query, passage in texts], kind="stable").tolist()
        out = np.zeros(len(texts))
        for start in range(0, len(order), _CHUNK):
            part = order[start : start + _CHUNK]
            out[part] = np.asarray(
                self.model.predict(
                    [(encodable(texts[n][0]), encodable(texts[n][1])) for n in part],
                    batch_size=_BATCH,
                    show_progress_bar=False,
                    # Without the sigmoid that many models end in: in float32 it makes all sure answers equal.
                    activation_fn=torch.nn.Identity(),
                ),
                np.float64,
            ).ravel()
            for n in part:
                if not np.isfinite(out[n]):
                    query, passage = (names or texts)[n]
                    raise ModelError(
                        f"{self.name}: the score of query {query[:80]!r} and passage {passage[:80]!r} is not a number",
                        "the reranker's weights are damaged; fetch it again",
                    )
            if advance is not None:
                advance(len(part))
        return out

    def _scores(self, ranking: Ranking, depth: int) -> NDArray[np.float32]:
        rows = ranking.rows[:, :depth]
        out = np.zeros(rows.shape, np.float32)
        for n, query in enumerate(ranking.queries):
            out[n] = [self._known[query, ranking.ids[row]] if row >= 0 else 0 for row in rows[n].tolist()]
        return out
