"""An export that the user named: which model it is of, and whether its vectors are that model's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.encoding.checking import check_vectors, require_close, require_same
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.exported import load_export, require_export
from fieldtune.encoding.fast import FastEncoder

if TYPE_CHECKING:
    from fieldtune.config import Encoding

log = logging.getLogger(__name__)


def export_of(encoder: Encoder, settings: Encoding) -> tuple[dict[str, Any] | None, str]:
    """The record of `settings.export`, or why it is not taken: it is of another model.

    Raises InputError or ModelError for an export that cannot be taken for any model.
    """
    record = require_export(settings.export, settings.max_loss)
    if record["source"] == encoder.source:
        return record, ""
    said = (
        f"{encoder.name} was not encoded with {Path(settings.export)}, which was made from {record['model']} with its "
        f"prompts and length: fieldtune export {encoder.name} --out DIR makes one of it."
    )
    log.warning(said)
    return None, said


def sound_export(encoder: Encoder, record: dict[str, Any], settings: Encoding, texts: Sequence[str]) -> FastEncoder:
    """The export of this model, its vectors of the texts compared with the model's own.

    Raises InputError for files that have changed, ModelError for vectors that are not the model's, MissingExtraError
    where its backend is not installed.
    """
    place = Path(settings.export)
    fast = load_export(place)
    if record["precision"] == "int8":  # what it loses was measured when it was written
        require_close(check_vectors(encoder, fast, texts), "int8", settings.max_loss, str(place))
    else:
        require_same(encoder, fast, texts, str(place), "export it again, or leave encoding.export empty")
    return fast
