"""The commands that use the vectors for more than search: classify, duplicates, outliers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldtune.console import say, table

if TYPE_CHECKING:
    from fieldtune.uses.records import Records

Table = Annotated[Path, typer.Argument(help="CSV, TSV, JSON lines, JSON or Parquet, one text a row.")]
ModelName = Annotated[str, typer.Option("--model", help="A run's folder, a model's, a hub id or builtin:NAME.")]
Out = Annotated[Path, typer.Option("--out", help="The .csv, .jsonl or .json to write.")]
TextColumn = Annotated[str, typer.Option("--text", help="The column of the texts.")]
GroupColumn = Annotated[str, typer.Option("--group", help="A column whose equal values stay in one fold.")]
IdColumn = Annotated[str, typer.Option("--id", help="The column of the ids.  [default: _id or id, else the line]")]
Seed = Annotated[int, typer.Option("--seed", help="Of every random choice.")]
_DEFAULT_MODEL = "builtin:all-MiniLM-L6-v2"
_SHOWN = 10


def classify(
    texts: Table,
    out: Annotated[Path, typer.Option(help="The classifier (.npz) to write; with --predict the table.")],
    predict: Annotated[
        Path | None, typer.Option("--predict", metavar="CLASSIFIER", help="Label the texts with this classifier.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="As elsewhere.  [default: builtin:all-MiniLM-L6-v2, or the classifier's own]")
    ] = "",
    text: TextColumn = "text",
    label: Annotated[str, typer.Option("--label", help="The column of the classes.")] = "label",
    group: GroupColumn = "",
    id_: IdColumn = "",
    abstain_below: Annotated[
        float, typer.Option(min=0, max=1, help="Give no label that is less probable; kept in the classifier.")
    ] = 0,
    accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Abstain as often as this accuracy of the answers needs.")
    ] = None,
    min_examples: Annotated[int, typer.Option(min=2, help="Examples that each class must have.")] = 3,
    drop_rare: Annotated[bool, typer.Option("--drop-rare", help="Leave out classes that have fewer.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Also write the cross-validated prediction of each row (.csv, .jsonl).")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Learn classes from a few labelled texts each and report what that is worth; or label texts with --predict."""
    from fieldtune.errors import ConfigError
    from fieldtune.uses.files import Columns, predict_file, require_table, train_file

    if predict is not None:
        require_table(out)
        sure, unsure, records = predict_file(texts, Columns(text, id=id_), predict, model, out)
        _dropped(records)
        say(f"{sure:,} texts labelled, {unsure:,} left open as too unsure: {out}")
        return
    if out.suffix != ".npz":
        raise ConfigError(f"--out {out} is not a .npz", "name the classifier, such as clauses.npz")
    for path in [predictions] if predictions else []:
        require_table(path)
    found, records = train_file(
        texts, Columns(text, label, group, id_), model or _DEFAULT_MODEL, out, out.with_suffix(".json"), predictions,
        abstain_below=abstain_below, accuracy=accuracy, fewest=min_examples, drop_rare=drop_rare, seed=seed,
    )  # fmt: skip
    columns = ("", "accuracy", "95% interval", "macro-F1", "95% interval")
    table(columns, [
        (name, f"{one.accuracy:.3f}", _interval(one.accuracy_interval),
         f"{one.macro_f1:.3f}", _interval(one.macro_f1_interval))
        for name, one in found.systems.items()
    ], title=f"{len(found.examples):,} examples, {found.folds}-fold cross-validation")  # fmt: skip
    gain, (low, high) = found.over_words
    clear = "better than" if low > 0 else "worse than" if high < 0 else "not measurably different from"
    say(f"Vectors are {clear} a bag of words: {gain:+.3f} accuracy [{low:+.3f}, {high:+.3f}].")
    say()
    table(("class", "examples", "precision", "recall", "F1"), [
        (_short(one.label, 48), f"{one.examples:,}", f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}")
        for one in found.classes
    ])  # fmt: skip
    say()
    table(("answer only from", "answered", "right"), [
        (f"{one.below:.2f}", f"{one.share:.0%}", f"{one.accuracy:.0%}") for one in found.answered if one.share
    ])  # fmt: skip
    for sentence in found.notes:
        say(sentence)
    for reason, count in found.dropped.items():
        say(f"left out: {count:,} × {reason}")
    _dropped(records)
    say(f"classifier: {out}; report: {out.with_suffix('.json')}")


def duplicates(
    texts: Table,
    out: Out,
    against: Annotated[
        Path | None, typer.Option(help="Pairs with the texts of this table, not within the one.")
    ] = None,
    model: ModelName = _DEFAULT_MODEL,
    text: TextColumn = "text",
    id_: IdColumn = "",
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Take pairs from this cosine on.  [default: from the data]")
    ] = None,
    false_rate: Annotated[float, typer.Option(help="Share of chance neighbours to put up with.")] = 0.01,
    seed: Seed = 0,
) -> None:
    """Pairs of texts that say the same, above a similarity that chance neighbours in these data do not reach."""
    from fieldtune.uses.files import Columns, duplicates_file, require_table

    require_table(out)
    found, records = duplicates_file(
        texts, against, Columns(text, id=id_), model, out, threshold=threshold, false_rate=false_rate, seed=seed
    )
    chosen = found.threshold
    if found.used is None:
        say("No similarity stands out from what the crowding of these texts gives by chance: only equal ones listed.")
    elif threshold is None:
        say(
            f"threshold: cosine {found.used:.3f}, from the data: of {chosen.sampled:,} texts {chosen.found:,} have a "
            f"neighbour that near, where chance gives {chosen.expected_false:.1f}"
        )
    near = [pair for pair in found.pairs if pair.kind == "near"]
    marked = sum(bool(pair.differs) for pair in near)
    say(f"{len(found.pairs) - len(near):,} equal, {len(near):,} near-equal pairs: {out}")
    if marked:
        say(f"{marked:,} of the near-equal differ in a number, a date or a negation: see the column `differs`")
    _dropped(records)


def outliers(
    texts: Table,
    out: Out,
    model: ModelName = _DEFAULT_MODEL,
    text: TextColumn = "text",
    kind: Annotated[str, typer.Option("--kind", help="The column of the kinds; without it all are one.")] = "",
    id_: IdColumn = "",
    false_alarms: Annotated[float, typer.Option(help="Share of ordinary records to be shown all the same.")] = 0.01,
    seed: Seed = 0,
) -> None:
    """Records far from their kind, or nearer to another, the oddest first, beyond a stated threshold."""
    from fieldtune.uses.files import Columns, outliers_file, require_table

    require_table(out)
    found, records = outliers_file(texts, Columns(text, kind, id=id_), model, out, false_alarms=false_alarms, seed=seed)
    odd = found.odd
    say(
        f"{len(odd):,} of {len(found.records):,} records are odd: more than {found.threshold:.2f} robust standard "
        f"deviations beyond their kind's median ({found.false_alarms:.1%} of ordinary ones would be): {out}"
    )
    rows = [
        (str(records.rows[one.row].line), f"{one.score:.1f}", _short(one.kind, 20), _short(one.looks_like, 20),
         _short(records.rows[one.row].text, 60))
        for one in odd[:_SHOWN]
    ]  # fmt: skip
    if rows:
        table(("line", "score", "kind", "looks like", "text"), rows)
    for name, count in found.too_small.items():
        say(f"not judged: {count:,} records of {name!r}, a kind with too few different texts")
    _dropped(records)


def _dropped(records: Records) -> None:
    for reason, count in records.dropped.items():
        say(f"dropped: {count:,} × {reason}")
    for line in records.broken[:3]:
        say(f"  {_short(line, 160)}")


def _interval(pair: tuple[float, float]) -> str:
    return "[{:.3f}, {:.3f}]".format(*pair)


def _short(text: str, most: int) -> str:
    """On one line, without what would steer a terminal."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"
