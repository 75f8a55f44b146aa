"""Documents that came, changed or went since: only what is new in them is encoded, and the index changes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import read_corpus
from fieldtune.config import Config
from fieldtune.errors import ModelError
from fieldtune.models import resolve_model, token_counter
from fieldtune.stages.corpus import readable
from fieldtune.stages.index import dev_queries
from fieldtune.stages.run import Run
from fieldtune.stages.three import ThreeWays
from fieldtune.types import Passage, Result
from fieldtune.workspace import Workspace

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder
    from fieldtune.index import Given, Index

_MOST_SAID = 1_000


def reindex(config: Config, paths: Sequence[str], *, add: bool) -> Result:
    """Bring a run's index up to date with the documents of `paths`, and count what changed.

    They are all that is to be found from now on or, with `add`, stand beside what is indexed and take the place of
    documents of the same name. Vectors of passages whose content was indexed before are taken over. A file that cannot
    be read now keeps the passages it had. How search combines vectors and words stays as dev queries chose it.

    Raises InputError where there is no index yet or nothing can be read, ModelError when the run's model is not the
    index's, BusyError when another process works in the run's folder.
    """
    with Workspace(Path(config.out)) as workspace:
        return _reindex(Run(config, workspace), paths, add)


def _reindex(run: Run, paths: Sequence[str], add: bool) -> Result:
    from fieldtune.encoding import Encoder, agrees_closely
    from fieldtune.index import Base, Choice, Index, build_index

    old = Index.open(run.path("index"))
    model = run.path("model")
    if resolve_model(str(model)).fingerprint != old.meta["model_fingerprint"]:
        raise ModelError("the run's model is not the index's", "build it again: fieldtune index RUN")
    before = list(old.iterate())
    read, documents, cut = _read(run, paths)
    failed = {str(row["file"]) for row in documents.details["failed"]}
    passages, changes = _compared(before, read, failed, add)
    encoder = Encoder.load(str(model), trust=run.config.model.trust_remote_code)
    three = ThreeWays.of(run, model, encoder)
    if three is None:
        vectors, fresh = _vectors(run, before, old, passages, encoder)
        given = None
    else:
        vectors, given, fresh = _three_ways(run, before, old, passages, three)
    about = old.meta["base"]
    base = None
    if about and old.base is not None:
        base_encoder = Encoder.load(run.config.model.base, settings=run.config.model)
        base_vectors, _ = _vectors(run, before, old.base, passages, base_encoder)
        base = Base(base_vectors, old.base.model, about["fingerprint"], base_encoder.dimension)
    had = old.meta.get("m3") or {}
    chosen = Choice(
        str(old.meta["mode"]), float(old.meta["weight"]), dict(old.meta["dev"]), "",
        {name: had[name] for name in ("weights", "weights_from", "words_weight", "plain", "detail") if name in had},
    )  # fmt: skip
    choose_anew = bool(given) != bool(had)  # modes came or went
    result = build_index(
        run.config.index,
        passages,
        vectors,
        run.path("index"),
        model_fingerprint=str(old.meta["model_fingerprint"]),
        model=model,
        seed=run.config.seed,
        dev=dev_queries(run, passages, encoder, three if choose_anew else None),
        chosen=None if choose_anew else chosen,
        base=base,
        single=bool(old.meta["single"]),
        numpy=bool(old.meta["numpy"]) if "numpy" in old.meta else agrees_closely(model, encoder),
        model_dimension=encoder.dimension,
        given=given,
    )
    counts = changes.counts() | {"passages": len(passages), "encoded": fresh, "taken over": len(passages) - fresh}
    run.workspace.event("reindexed", counts=counts)
    kept = (f"{len(changes.kept)} files could not be read now and keep their passages",) if changes.kept else ()
    return Result(
        "index",
        counts,
        dict(documents.dropped) | dict(cut.dropped),
        (*kept, *documents.notes, *result.notes),
        dict(result.details) | {"failed": documents.details["failed"]} | changes.names(),
    )


def _read(run: Run, paths: Sequence[str]) -> tuple[list[Passage], Result, Result]:
    """The passages of the documents, cut as the run's own were."""
    from fieldtune.corpus import build_corpus
    from fieldtune.documents import load_documents, read_documents

    folder, config = run.path("index", "documents"), run.config
    settings = config.documents.model_copy(update={"paths": tuple(paths)})
    documents = read_documents(settings, folder / "documents.jsonl", run.path("documents", "cache"))
    cut = build_corpus(
        readable(config)[0], load_documents(folder / "documents.jsonl"), token_counter(config.model.base), folder
    )
    return list(read_corpus(folder / "corpus.jsonl").values()), documents, cut


@dataclass(frozen=True, slots=True)
class Changes:
    """Documents by what became of them."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: tuple[str, ...]
    kept: tuple[str, ...]

    def counts(self) -> dict[str, int | float]:
        return {name: len(getattr(self, name)) for name in ("new", "changed", "deleted", "unchanged")}

    def names(self) -> dict[str, list[str]]:
        return {name: list(getattr(self, name)[:_MOST_SAID]) for name in ("new", "changed", "deleted", "kept")}


def _compared(
    before: Sequence[Passage], read: Sequence[Passage], failed: set[str], add: bool
) -> tuple[list[Passage], Changes]:
    """What is to be indexed, and how its documents differ from what is."""
    old, new = _by_document(before), _by_document(read)
    kept = {name for name in old if name not in new and (add or name in failed)}
    ids = {passage.id for passage in read}
    left = [passage for passage in before if passage.source in kept and passage.id not in ids]
    same = {name for name, found in new.items() if name in old and _content(old[name]) == _content(found)}
    changes = Changes(
        tuple(sorted(set(new) - set(old))),
        tuple(sorted(name for name in new if name in old and name not in same)),
        tuple(sorted(set(old) - set(new) - kept)),
        tuple(sorted(same | kept)),
        tuple(sorted(kept & failed)),
    )
    return [*left, *read], changes


def _by_document(passages: Sequence[Passage]) -> dict[str, list[Passage]]:
    out: dict[str, list[Passage]] = {}
    for passage in passages:
        out.setdefault(passage.source, []).append(passage)
    return out


def _content(passages: Sequence[Passage]) -> list[Passage]:
    """What counts as the same document: all but offsets, which the words of a header or footer may move."""
    return [replace(passage, start=None, end=None) for passage in passages]


def _vectors(
    run: Run, before: Sequence[Passage], index: Index, passages: Sequence[Passage], encoder: Encoder
) -> tuple[NDArray[np.float32], int]:
    """A vector for each passage, and how many texts had to be encoded for that."""
    from fieldtune.encoding import corpus_vectors, settings_for, shortened

    known = {passage.content: row for row, passage in enumerate(before)}
    stored = index.stored_vectors()
    if stored.shape[1] != _width(run, encoder):  # another cut than the settings ask for now
        known = {}
    missing = list(dict.fromkeys(one.content for one in passages if one.content not in known))
    settings = settings_for(run.config, checked=False)
    fresh = corpus_vectors(encoder, missing, run.path("vectors"), settings, label="encoding new passages").vectors
    place = {text: row for row, text in enumerate(missing)}
    width = _width(run, encoder)
    out = np.empty((len(passages), width), np.float32)
    for row, passage in enumerate(passages):
        if passage.content in known:
            out[row] = stored[known[passage.content]]
        else:
            out[row] = shortened(fresh[place[passage.content]][None], width)[0]
    return out, sum(passage.content in place for passage in passages)


def _three_ways(
    run: Run, before: Sequence[Passage], index: Index, passages: Sequence[Passage], three: ThreeWays
) -> tuple[NDArray[np.float32], Given, int]:
    """Dense vectors, and sparse and token vectors, of each passage; new texts go through the model once for all."""
    from fieldtune.encoding import shortened

    width = _width(run, three.encoder)
    stored = index.stored_vectors()
    usable = three.fits(dict(index.meta)) and stored.shape[1] == width
    known = {passage.content: row for row, passage in enumerate(before)} if usable else {}
    missing = list(dict.fromkeys(one.content for one in passages if one.content not in known))
    fresh = three.passages(missing, "encoding new passages three ways")
    place = {text: row for row, text in enumerate(missing)}
    out, rows = np.empty((len(passages), width), np.float32), []
    for row, passage in enumerate(passages):
        if passage.content in known:
            rows.append(known[passage.content])
            out[row] = stored[rows[-1]]
        else:
            rows.append((len(before) if known else 0) + place[passage.content])
            out[row] = shortened(fresh.vectors.dense[fresh.rows[place[passage.content]]][None], width)[0]
    given = three.taken_over(index, rows, fresh) if known else three.given(replace(fresh, rows=fresh.rows[rows]))
    return out, given, sum(passage.content in place for passage in passages)


def _width(run: Run, encoder: Encoder) -> int:
    """Of the vectors that an index keeps."""
    settings = run.config.index
    cut = 0 < settings.dimensions < encoder.dimension and settings.vectors == "float32"
    return settings.dimensions if cut else encoder.dimension
