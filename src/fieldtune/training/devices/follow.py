"""What the processes after the first do: whatever the first tells them, until it is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fieldtune.encoding import Encoder
from fieldtune.training.adapting import prepare
from fieldtune.training.batches import plan
from fieldtune.training.devices.orders import Collect, Done, End, Fit, Job, Step
from fieldtune.training.devices.world import World, together
from fieldtune.training.loop import Hooks, _step
from fieldtune.training.m3.fitting import Fitted, put_in
from fieldtune.training.m3.hooks import with_m3
from fieldtune.training.optimizer import set_rate
from fieldtune.training.session import open_session


def follow(world: World) -> int:
    """Take part in every training of the first process' command; returns its exit status.

    Raises ModelError when the first process is gone, and what the training itself raises.
    """
    ready: tuple[Encoder, Fitted | None] | None = None
    while True:
        order = world.hear()
        if isinstance(order, End):
            return order.status
        if isinstance(order, Job):
            ready = _ready(order)
        elif isinstance(order, Fit) and ready is not None:
            _take_part(world, *ready, order)


def _ready(job: Job) -> tuple[Encoder, Fitted | None]:
    """The model as the first process trains it; its weights come later."""
    encoder = Encoder.load(job.model.base, settings=job.model, precision=job.training.precision)
    prepare(encoder, job.training, job.seed)
    return encoder, put_in(encoder, job.training) if job.training.m3.train != "none" else None


def _take_part(world: World, encoder: Encoder, m3: Fitted | None, fit: Fit) -> None:
    fixed = fit.fixed
    recipe = fit.recipe if fixed is None else replace(fit.recipe, fixed=lambda _: fixed)
    settings = recipe.settings
    encoder.model.to(world.device)
    session = open_session(encoder, fit.pairs, recipe, Path(fit.work))
    hooks = Hooks() if m3 is None else with_m3(Hooks(), m3, recipe)
    size = settings.batch_size * settings.accumulate
    lengths = session.passages.lengths[fit.pairs.positive]
    steps = plan(fit.pairs, lengths, size, settings.epochs, recipe.seed)
    whole = session.state()
    with together():
        session.stepper.start(whole)
    while not isinstance(order := world.hear(), Done):
        with together():
            if isinstance(order, Step):
                set_rate(session.stepper.optimizer, settings, order.number, order.total)
                _step(session, steps[order.number], order.number, hooks)
            elif isinstance(order, Collect):
                session.stepper.collect(whole, order.step)
