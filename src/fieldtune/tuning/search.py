"""The search: trials one after the other under a budget, the best one's config written."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fieldtune.beir import load_beir
from fieldtune.config import Config
from fieldtune.console import duration, note
from fieldtune.errors import ConfigError, InputError
from fieldtune.tuning.journal import Trial, base_score, budget_left, hopeless, read_journal, write_journal
from fieldtune.tuning.proposals import propose
from fieldtune.tuning.share import settle_share
from fieldtune.tuning.space import Setting, Settings, own_settings, search_space, with_settings
from fieldtune.tuning.trial import PLAIN, Inputs, run_trial
from fieldtune.tuning.winner import write_table, write_winner
from fieldtune.workspace import Workspace, digest

_READ = (
    "train.jsonl",
    "teacher.json",
    "corpus.jsonl",
    "queries.jsonl",
    "qrels/train.tsv",
    "qrels/dev.tsv",
    "meta.json",
)
_EXPLORE = 6  # trials that spread over the space where time alone is the budget; else half of them


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to."""

    trials: tuple[Trial, ...]
    best: Trial
    base: float | None
    """The base model's own dev measure, to four places."""
    space: tuple[Setting, ...]
    config: Path
    """The winner's TOML file."""
    model: Path
    """The winner's model."""
    notes: tuple[str, ...]


def search_settings(
    config: Config, out: Path, *, trials: int = 0, minutes: float = 0, fixed: Collection[str] = ()
) -> Found:
    """Try settings of training until `trials` are done or `minutes` of training spent; choose by dev.

    The stages up to the dataset run first, in `config.out`, unless they are finished. The settings named in `fixed`
    stay. `out` gets `trials.jsonl` (from which a killed search goes on), `trials.csv`, the winner's `fieldtune.toml`
    and its model. The test side is not looked at. Raises ConfigError without a budget or with nothing to search over,
    InputError without dev labels.
    """
    from fieldtune.corpus import load_duplicates
    from fieldtune.encoding import Encoder
    from fieldtune.encoding.token_files import forget_ids
    from fieldtune.pipeline import require_fit, run_pipeline

    if trials <= 0 and minutes <= 0:
        raise ConfigError("a search needs a budget", "give --trials N, --minutes M or both")
    guide = config.training.guide
    if guide and config.training.loss != "guided" and "training.loss" not in fixed:  # of the trials of that loss
        config = with_settings(config, {"training.guide": ""})
    require_fit(config)
    run = Path(config.out)
    with Workspace(out):
        run_pipeline(config, last="dataset")
        data = load_beir(run / "data")
        if not data.positives("dev"):
            raise InputError(
                "no dev query has a relevant passage: there is nothing to choose by",
                "add qrels/dev.tsv, or let split.dev put queries aside",
                path=run / "data",
            )
        inputs = Inputs(
            data=replace(data, qrels={side: rows for side, rows in data.qrels.items() if side != "test"}),
            examples=run / "data" / "train.jsonl",
            vectors=run / "vectors",
            duplicates=load_duplicates(run / "corpus" / "duplicates.jsonl"),
            pretrained=out / "pretrained",
        )
        encoder = Encoder.load(config.model.base, settings=config.model, precision=config.training.precision)
        space = search_space(config, encoder, inputs.examples, inputs.vectors, fixed, guide)
        if not space:
            raise ConfigError("nothing is left to search over", "fix fewer settings with --set")
        done = _all_trials(config, inputs, out, space, encoder.fingerprint, trials, minutes)
        forget_ids(inputs.pretrained)
        best = max((one for one in done if one.state == "done"), key=lambda one: (one.dev or 0.0, -one.number))
        model = _folder(out, best.number) / "model"
        own = own_settings(space)
        changed = {name: value for name, value in best.settings.items() if value != own[name]}
        share, said = settle_share(config, inputs, encoder, model, fixed)
        write_winner(out / "fieldtune.toml", with_settings(config, changed | share))
    count = len(data.positives("dev"))
    base = base_score(done)
    notes = (
        *_no_gain(best, base, run / "data" / "train.jsonl"),
        *said,
        *(f"trial {best.number}: {sentence}" for sentence in best.notes),
        f"Dev ({count:,} queries) chose the best of {len(done)} trials: its score there is too good by the luck of the "
        "choice, the more so the more trials and the fewer queries. The test side was not looked at; "
        f"fieldtune run {out / 'fieldtune.toml'} trains the winner and measures it there.",
    )
    return Found(tuple(done), best, base, tuple(space), out / "fieldtune.toml", model, notes)


def _no_gain(best: Trial, base: float | None, rows: Path) -> tuple[str, ...]:
    """What to say and try where the best trial is no better than the base model."""
    if base is None or best.dev is None or round(best.dev, 4) > base:
        return ()
    return (
        f"No trial is better on dev than the base model as it is ({base:.4f}; the best trial has {best.dev:.4f}): keep "
        "the base model. The config is written, but what it trains is no gain. Look at the training rows first "
        f"({rows}); then give more queries, mine more negatives (negatives.per_query), or search again with another "
        "training.method or --model.",
    )


def _all_trials(
    config: Config,
    inputs: Inputs,
    out: Path,
    space: Sequence[Setting],
    base: str,
    count: int,
    minutes: float,
) -> list[Trial]:
    """Those in the journal, and new ones until the budget is spent."""
    key = _key(config, inputs, space, base)
    path = out / "trials.jsonl"
    done = read_journal(path, key)
    explore = max(3, count // 2) if count else _EXPLORE

    def stop(scores: Sequence[float]) -> bool:
        return hopeless(scores, done, config.training.evaluations)

    while budget_left(done, count, minutes):
        settings = propose(space, done, explore, config.seed)
        if settings is None:
            note("every combination of settings has been tried")
            break
        number = len(done) + 1
        note(f"trial {number}: {described(settings, space)}", style="bold")
        trial = run_trial(config, inputs, _folder(out, number), number, settings, stop, key)
        note(f"trial {number}: {trial.state}, {_score(trial)} ({duration(trial.seconds)}) {trial.why}".rstrip())
        done.append(trial)
        write_journal(path, key, done)
        write_table(out / "trials.csv", done, list(own_settings(space)))
        _keep_the_best(out, done)
    return done


def described(settings: Settings, space: Sequence[Setting]) -> str:
    """What differs from the config's own settings."""
    own = own_settings(space)
    changed = [f"{name.removeprefix('training.')}={value}" for name, value in settings.items() if value != own[name]]
    return ", ".join(changed) or "the settings as they are"


def _key(config: Config, inputs: Inputs, space: Sequence[Setting], base: str) -> str:
    """Names everything that decides what the trials come to: the base model, the data as the stages before made it,
    and the settings that training looks at, which are those that its stage depends on."""
    from fieldtune.stages.inputs import contents, format_of_vectors, settings_of
    from fieldtune.stages.training import depends

    plain = with_settings(config, PLAIN)
    data = inputs.examples.parent
    read = [data / name for name in _READ] + [data.parent / "corpus" / "duplicates.jsonl"]
    return digest([
        base,
        contents([str(path) for path in read]),
        depends(plain),
        settings_of(config, "model", "negatives", "teacher"),
        format_of_vectors(config),
        [(setting.name, setting.values, list(setting.along.items())) for setting in space],
    ])  # fmt: skip


def _score(trial: Trial) -> str:
    return "no dev score" if trial.dev is None else f"dev {trial.dev:.4f}"


def _folder(out: Path, number: int) -> Path:
    return out / "trials" / f"{number:03d}"


def _keep_the_best(out: Path, trials: Sequence[Trial]) -> None:
    """Models are large: only the best trial's stays, without what was kept to resume."""
    best = max((one for one in trials if one.state == "done"), key=lambda one: (one.dev or 0.0, -one.number))
    for one in trials:
        if one.number != best.number:
            shutil.rmtree(_folder(out, one.number), ignore_errors=True)
    shutil.rmtree(_folder(out, best.number) / "training" / "state", ignore_errors=True)
