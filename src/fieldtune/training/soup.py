"""The mean of several trainings that differ in their seed alone, where it is better on dev than the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.encoding import Encoder
from fieldtune.training.blend import kept_weights, set_weights
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import Development

if TYPE_CHECKING:
    import torch

TrainOne = Callable[[int, Path, str], Progressed]
"""(what to add to the seed, folder for its state, a word for its key) -> the account; leaves the weights in the
encoder."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One seed, or the mean of several."""

    soup: str
    seeds: tuple[int, ...]
    """Counted from 0."""
    dev: float


@dataclass(frozen=True, slots=True)
class Soup:
    """What became of several seeds."""

    state: Progressed
    """Of all trainings, with steps counted through; `best_score` is that of the weights taken."""
    rows: tuple[dict[str, Any], ...]
    """A row per candidate: its name, the seeds in it, the dev measure."""


def train_seeds(encoder: Encoder, development: Development | None, work: Path, count: int, train_one: TrainOne) -> Soup:
    """Train `count` times from the weights of now and leave the best of single, uniform and greedy soup on dev.

    A greedy soup takes the seeds from the best on, each if dev does not fall (Model soups, arXiv:2203.05482, recipe 1);
    without a dev set the uniform soup is taken. Each seed keeps its state below `work`: a killed run repeats no
    finished seed.
    """
    model = encoder.model
    start = kept_weights(model)
    states, weights = [], []
    for number in range(count):
        set_weights(model, start, start)
        states.append(train_one(number, work / f"seed-{number + 1}", f"-seed-{number + 1}"))
        weights.append(_changed(model, start))
    together = _together(states)
    if development is None:
        _set_mean(model, start, weights)
        note = f"The result is the mean of {count} seeds' weights; there is no dev set to check it."
        return Soup(replace(together, notes=[*together.notes, note]), ())

    def measured(members: Sequence[int]) -> float:
        _set_mean(model, start, [weights[n] for n in members])
        return float(development.score(encoder).mean())

    order = sorted(range(count), key=lambda n: (-states[n].best_score, n))
    greedy, best = order[:1], states[order[0]].best_score
    for n in order[1:]:
        tried = measured([*greedy, n])
        if tried >= best:
            greedy, best = [*greedy, n], tried
    every = list(range(count))
    candidates = [Candidate("single", (n,), states[n].best_score) for n in every]
    candidates += [
        Candidate("greedy", tuple(sorted(greedy)), best),
        Candidate("uniform", tuple(every), measured(every)),
    ]
    # Of equals the one with more seeds in it: what dev cannot tell apart, averaging makes steadier.
    taken = max(candidates, key=lambda one: (one.dev, len(one.seeds)))
    _set_mean(model, start, [weights[n] for n in taken.seeds])
    single = ", ".join(f"{state.best_score:.4f}" for state in states)
    size = len(taken.seeds)
    what = f"seed {taken.seeds[0] + 1} alone" if size == 1 else f"the {taken.soup} soup of {size} seeds"
    note = f"Of {count} seeds (dev {development.label} {single}) {what} was taken: {taken.dev:.4f}."
    rows = tuple({"soup": one.soup, "seeds": [n + 1 for n in one.seeds], "dev": one.dev} for one in candidates)
    return Soup(replace(together, best_score=taken.dev, notes=[*together.notes, note]), rows)


def _changed(model: Any, start: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that training moved; frozen word vectors need not be kept once per seed."""
    import torch

    return {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if not torch.equal(weight.detach(), start[name].to(weight.device))
    }


def _set_mean(model: Any, start: Mapping[str, torch.Tensor], members: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Give the model the mean of the members' weights; one that a member did not move counts with its start."""
    names = {name for member in members for name in member}
    mean = dict(start)
    for name in names:
        total = start[name].double() * 0
        for member in members:
            total += member.get(name, start[name]).double()
        mean[name] = (total / len(members)).to(start[name].dtype)
    set_weights(model, start, mean)


def _together(states: Sequence[Progressed]) -> Progressed:
    """One account of all trainings; the base model's own score stands once."""
    best = max(range(len(states)), key=lambda n: (states[n].best_score, -n))
    before, log = 0, []
    for number, state in enumerate(states):
        log += [
            row | {"step": row["step"] + before, "seed": number + 1} for row in state.log if row["step"] or not number
        ]
        before += state.step
    return Progressed(
        step=before,
        best_step=sum(state.step for state in states[:best]) + states[best].best_step,
        best_score=states[best].best_score,
        base_score=states[0].base_score,
        seconds=sum(state.seconds for state in states),
        idle=sum(state.idle for state in states),
        trainable=max(state.trainable for state in states),
        collapsed_at=next((state.collapsed_at for state in states if state.collapsed_at), 0),
        log=log,
        notes=list(dict.fromkeys(note for state in states for note in state.notes)),
    )
