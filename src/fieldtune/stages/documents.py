"""The user's files to documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldtune.config import Config
from fieldtune.errors import ConfigError
from fieldtune.stages.inputs import digest_or_cause, given_corpus
from fieldtune.stages.run import Run
from fieldtune.types import Result


def run(run: Run) -> Result:
    from fieldtune.documents import read_documents

    if not run.config.documents.paths:
        given = given_corpus(run.config)
        if given is None:
            raise ConfigError("documents.paths is empty", "give the folder that holds your documents")
        note = f"No documents were given; the passages of {given} are used as they are."
        return Result("documents", {"documents": 0}, notes=(note,))
    return read_documents(
        run.config.documents, run.path("documents", "documents.jsonl"), run.path("documents", "cache")
    )


def depends(config: Config) -> Any:
    """The settings, and name and content of every file that would be read."""
    from fieldtune.documents.find import find_files

    if not config.documents.paths:
        given = given_corpus(config)
        return None if given is None or not given.exists() else digest_or_cause(given)
    found = find_files(config.documents.paths, (Path(config.out),))
    content = [(source, digest_or_cause(path)) for path, source in found.files]
    return [config.documents.model_dump(exclude={"workers"}), content]
