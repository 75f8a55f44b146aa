"""From a table of the user's to a table of findings: what the commands classify, duplicates and outliers do."""

from __future__ import annotations

import csv
import dataclasses
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import InputError
from fieldtune.models import resolve_model
from fieldtune.uses.classifier import load_classifier, predict, require_model, save_classifier
from fieldtune.uses.classify import Classified, classify
from fieldtune.uses.duplicates import Duplicates, duplicates, groups
from fieldtune.uses.outliers import Outliers, outliers
from fieldtune.uses.records import Records, read_records
from fieldtune.workspace import atomic_file, write_json, write_jsonl

Row = dict[str, str | int | float]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns; "" for none."""

    text: str = "text"
    label: str = ""
    group: str = ""
    id: str = ""

    def read(self, path: Path) -> Records:
        return read_records(path, text=self.text, label=self.label, group=self.group, id=self.id)


@dataclass(frozen=True, slots=True)
class Embedded:
    vectors: NDArray[np.float32]
    model: str
    fingerprint: str


def embed(model: str, texts: Sequence[str]) -> Embedded:
    """Unit vectors (n, dim) of the texts, with the passage prompt on all sides: what is compared is of one kind.

    `model` is a run's folder, a model's folder, a hub id or builtin:NAME. Raises ModelError.
    """
    from fieldtune.encoding import Encoder, cached_vectors

    found = resolve_model(model)
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        stored = cached_vectors(Encoder.load(model), texts, "passage", Path(folder), label="encoding texts")
        return Embedded(np.array(stored), model, found.fingerprint)


def train_file(
    path: Path, columns: Columns, model: str, out: Path, report: Path, predictions: Path | None = None, **options: Any
) -> tuple[Classified, Records]:
    """Train on a labelled table; writes the classifier to `out` and the report as JSON to `report`.

    `predictions` takes the cross-validated prediction of each row; `options` are those of `classify`.
    """
    records = columns.read(path)
    embedded = embed(model, records.texts)
    found = classify(
        records.texts,
        embedded.vectors,
        records.labels,
        [row.group for row in records.rows],
        model=model,
        fingerprint=embedded.fingerprint,
        **options,
    )
    save_classifier(out, found.classifier)
    write_json(report, report_of(found, records))
    if predictions is not None:
        write_table(predictions, (_predicted(records, found, at) for at in range(len(found.examples))))
    return found, records


def predict_file(path: Path, columns: Columns, classifier: Path, model: str, out: Path) -> tuple[int, int, Records]:
    """Label a table; returns how many rows got a label and how many did not, for being unsure.

    `model` is the one that the classifier was trained with, found by the name it was trained under where it is "".
    """
    trained = load_classifier(classifier)
    model = model or trained.model
    require_model(trained, model, resolve_model(model).fingerprint)  # before any work is done
    records = columns.read(path)
    found = predict(trained, embed(model, records.texts).vectors)
    rows: Iterable[Row] = (
        {
            "line": row.line,
            "id": row.id,
            "text": row.text,
            "label": "" if one.abstained else one.label,
            "best": one.label,
            "probability": round(one.probability, 4),
        }
        for row, one in zip(records.rows, found, strict=True)
    )
    write_table(out, rows)
    unsure = sum(one.abstained for one in found)
    return len(found) - unsure, unsure, records


def duplicates_file(
    path: Path, against: Path | None, columns: Columns, model: str, out: Path, **options: Any
) -> tuple[Duplicates, Records]:
    """Write the pairs of one table, or of it and another with the same columns, the most similar first."""
    records = columns.read(path)
    other = columns.read(against) if against else None
    vectors = embed(model, [*records.texts, *(other.texts if other else [])]).vectors
    count = len(records.rows)
    second = (other.texts, vectors[count:]) if other else None
    found = duplicates(records.texts, vectors[:count], second, **options)
    rows, group = (other or records).rows, groups(found.pairs, count) if other is None else None
    write_table(
        out,
        (
            {
                "similarity": round(pair.similarity, 4),
                "kind": pair.kind,
                "differs": pair.differs,
                **({"group": records.rows[group[pair.first]].id} if group else {}),
                **{f"{name}_a": value for name, value in _of(records, pair.first).items()},
                "line_b": rows[pair.second].line,
                "id_b": rows[pair.second].id,
                "text_b": rows[pair.second].text,
            }
            for pair in found.pairs
        ),
        columns=("similarity", "kind", "differs", "line_a", "id_a", "text_a", "line_b", "id_b", "text_b"),
    )
    return found, records


def outliers_file(path: Path, columns: Columns, model: str, out: Path, **options: Any) -> tuple[Outliers, Records]:
    """Write every record that could be judged, the oddest first; `odd` says which are beyond the threshold."""
    records = columns.read(path)
    kinds = [row.label for row in records.rows]
    found = outliers(records.texts, embed(model, records.texts).vectors, kinds, **options)
    write_table(
        out,
        (
            {
                **_of(records, one.row),
                "kind": one.kind,
                "odd": "yes" if one.odd else "",
                "far": round(one.far, 2),
                "misplaced": round(one.misplaced, 2) if math.isfinite(one.misplaced) else "",
                "looks_like": one.looks_like,
                "distance": round(one.distance, 4),
            }
            for one in found.records
        ),
    )
    return found, records


def report_of(found: Classified, records: Records) -> dict[str, Any]:
    """The whole report, JSON-able; NaN is null."""
    gain, interval = found.over_words
    report = {
        "model": found.classifier.model,
        "fingerprint": found.classifier.fingerprint,
        "labels": found.classifier.labels,
        "examples": len(found.examples),
        "units": found.units,
        "folds": found.folds,
        "abstain_below": found.classifier.abstain_below,
        "systems": {name: dataclasses.asdict(one) for name, one in found.systems.items()},
        "accuracy_over_bag_of_words": {"difference": gain, "interval": interval},
        "classes": [dataclasses.asdict(one) for one in found.classes],
        "confusions": [{"true": a, "predicted": b, "count": count} for a, b, count in found.confusions],
        "answered": [dataclasses.asdict(one) for one in found.answered],
        "dropped": {**records.dropped, **found.dropped},
        "broken_rows": records.broken,
        "notes": found.notes,
    }
    cleaned: dict[str, Any] = _without_nan(report)
    return cleaned


def write_table(path: Path, rows: Iterable[Mapping[str, str | int | float]], columns: Sequence[str] = ()) -> None:
    """JSON lines or a JSON list by the name's ending, else CSV with a byte order mark, which spreadsheets need.

    In CSV a text that a spreadsheet would run as a formula gets an apostrophe before it. Raises InputError for another
    ending. `columns` head a CSV without rows.
    """
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        write_jsonl(path, rows)
    elif suffix == ".json":
        write_json(path, list(rows))
    elif suffix == ".csv":
        found = list(rows)
        names = list(found[0]) if found else list(columns)
        with atomic_file(path) as stream:
            stream.write("\ufeff")
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(names)
            writer.writerows([_cell(row[name]) for name in names] for row in found)
    else:
        raise InputError("is neither .csv nor .jsonl nor .json", "give --out a name with one of these", path=path)


def require_table(path: Path) -> None:
    """Raise InputError, before any work, for a name that `write_table` will not write."""
    if path.suffix.lower() not in (".csv", ".json", ".jsonl", ".ndjson"):
        raise InputError("is neither .csv nor .jsonl nor .json", "give --out a name with one of these", path=path)


def _of(records: Records, row: int) -> Row:
    one = records.rows[row]
    return {"line": one.line, "id": one.id, "text": one.text}


def _predicted(records: Records, found: Classified, at: int) -> Row:
    row = found.examples[at]
    true = records.rows[row].label
    right = "" if found.predicted[at] == true else "wrong"
    return _of(records, row) | {
        "true": true, "predicted": found.predicted[at], "probability": round(found.probability[at], 4), "is": right,
    }  # fmt: skip


def _cell(value: str | int | float) -> str | int | float:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    return [_without_nan(inner) for inner in value] if isinstance(value, list | tuple) else value
