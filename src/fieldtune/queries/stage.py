"""The queries stage: one of four sources, one form of output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fieldtune.config import Config
from fieldtune.errors import InputError
from fieldtune.llm.endpoint import remote_endpoint
from fieldtune.queries.filtering import filter_made
from fieldtune.queries.from_file import is_generated, read_generated
from fieldtune.queries.generate import generate_queries
from fieldtune.queries.held_out import with_test
from fieldtune.queries.labels import read_labels
from fieldtune.queries.made import write_made
from fieldtune.queries.structure import structure_queries
from fieldtune.queries.vectors import passage_vectors
from fieldtune.types import Passage, Result


def gather_queries(
    config: Config, passages: Mapping[str, Passage], output: Path, cache: Path, vectors: Path | None = None
) -> Result:
    """Write `output/queries.jsonl`, `output/qrels/` and `output/meta.json`.

    `config.queries.source` decides: "structure" makes queries from the documents alone, "llm" asks an endpoint and
    keeps its answers in the folder `cache`, anything else is the path of labels or of a file of generated queries.
    Queries that were made are filtered, those of labels are not; `vectors` is the folder of encoded texts, for what
    needs the base model's: without it passages are chosen without topics and no query makes the round trip. The qrels
    are train, dev and test where labels come divided or `queries.test` is the test set, else one file "all". Labelled
    negatives are kept with grade 0. Raises InputError when there is no usable query, EndpointError when the endpoint
    fails, ConfigError when one is wanted and none is set.
    """
    settings = config.queries
    if not passages:
        raise InputError("the corpus is empty", "check documents.paths")
    given = is_generated(settings)
    if settings.judge and not config.llm.local and (given or settings.source in ("structure", "llm")):
        remote_endpoint(config.llm)  # one that is not set is told before any work
    if settings.source == "structure":
        made = structure_queries(settings, passages, config.seed)
    elif settings.source == "llm":
        made = generate_queries(
            settings, config.llm, passages, config.seed, cache, passage_vectors(config, passages, vectors)
        )
    elif given:
        made = read_generated(Path(settings.source), passages)
    else:
        made = read_labels(Path(settings.source), passages, settings.fuzzy_match)
    if made.made_by != "labels":
        made = filter_made(made, config, passages, cache, vectors)
    if settings.test:
        made = with_test(made, read_labels(Path(settings.test), passages, settings.fuzzy_match))
    write_made(output, made)
    return Result("queries", made.counts, made.dropped, made.notes, made.details)
