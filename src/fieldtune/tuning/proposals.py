"""Which settings to try next, decided by the seed and the trials so far alone: a resumed search goes the same way.

A dozen trials are too few for a model of the settings: the usual ones (TPE, Gaussian processes) draw their first ten at
random. So the first half of the search spreads evenly over the values, the second walks from the best trial to its
neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from fieldtune.tuning.journal import Trial
from fieldtune.tuning.space import Setting, Settings, own_settings, whole

_TRIES = 200
_TWO = 0.4  # how often two settings change at once


def propose(space: Sequence[Setting], trials: Sequence[Trial], explore: int, seed: int) -> Settings | None:
    """The next settings with what goes with them, the config's own first; None when nothing new is left.

    `explore` trials spread over the space (a Latin hypercube, value by value); those after them change one or two
    settings of the best by one step.
    """
    number, seen = len(trials), {_key(trial.settings) for trial in trials}
    if not trials:
        return own_settings(space)
    best = max((trial for trial in trials if trial.state == "done"), key=lambda trial: trial.dev or 0.0, default=None)
    rng = np.random.default_rng((seed, 31, number))
    for attempt in range(_TRIES):
        if number < explore or best is None or attempt > _TRIES // 2:
            chosen = _spread(space, number - 1 + attempt, seed)
        else:
            chosen = _neighbour(space, best.settings, rng)
        made = whole(space, chosen)
        if _key(made) not in seen:
            return made
    return None


def _spread(space: Sequence[Setting], place: int, seed: int) -> Settings:
    """Every value of a setting comes once before any comes twice, in an order of its own."""
    made = {}
    for number, setting in enumerate(space):
        turn, rest = divmod(place, len(setting.values))
        order = np.random.default_rng((seed, 32, number, turn)).permutation(len(setting.values))
        made[setting.name] = setting.values[order[rest]]
    return made


def _neighbour(space: Sequence[Setting], best: Settings, rng: np.random.Generator) -> Settings:
    made = {setting.name: best[setting.name] for setting in space}
    count = min(len(space), 2 if rng.random() < _TWO else 1)
    for number in rng.permutation(len(space))[:count]:
        setting = space[number]
        place = setting.values.index(best[setting.name])
        if setting.ordered:
            steps = [other for other in (place - 1, place + 1) if 0 <= other < len(setting.values)]
        else:
            steps = [other for other in range(len(setting.values)) if other != place]
        made[setting.name] = setting.values[steps[rng.integers(len(steps))]]
    return made


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)
