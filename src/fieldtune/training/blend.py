"""A mean of base and tuned weights: most of the gain in the field, less of the loss elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fieldtune.encoding import Encoder
from fieldtune.probes import Probe, Probed, known, probe, score
from fieldtune.training.development import Development

if TYPE_CHECKING:
    import torch

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Of the base model's weights, tried where the share is to be chosen."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one share of the base model's weights gives."""

    base_share: float
    dev: float | None
    """The dev measure; None without a dev set."""
    general: float | None
    """Mean change over the probes against the base model, negative is a loss; None where none applies."""
    probes: Mapping[str, float]
    """The change of each probe."""


@dataclass(frozen=True, slots=True)
class Blended:
    """The share that was taken, and the curve it was taken from."""

    chosen: Point
    curve: tuple[Point, ...]
    notes: tuple[str, ...]
    fixed: bool = False
    """Whether the share was set, and the curve had no part in it."""

    def rows(self) -> list[dict[str, Any]]:
        """The curve for log and report."""
        about = {"fixed": True} if self.fixed else {}
        return [{**asdict(point), "taken": point == self.chosen, **about} for point in self.curve]

    def told(self, step: int) -> list[dict[str, Any]]:
        """The curve as rows of numbers for a tracker, each at a step of its own after this one."""
        rows: list[dict[str, Any]] = []
        for place, point in enumerate(self.curve, 1):
            row = {"share": point.base_share, "dev": point.dev, "general": point.general, **point.probes}
            known = {f"base_share/{name}": value for name, value in row.items() if value is not None}
            rows.append({"step": step + place, **known})
        return rows


def kept_weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of the model's trainable numbers, to be blended in later."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def blend(model: Any, base: Mapping[str, torch.Tensor], share: float) -> None:
    """Set each weight to `share` of the base model's and the rest of its own (WiSE-FT, arXiv:2109.01903, section 3)."""
    set_weights(model, base, kept_weights(model), share)


def set_weights(
    model: Any, base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor], share: float = 0.0
) -> None:
    """Set each weight to `share` of `base` and the rest of `tuned`; what `tuned` lacks was not trained and stays."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in tuned:
                own = tuned[name].to(weight.device, copy=True)
                weight.copy_(own.lerp_(base[name].to(weight.device), share) if share else own)


def choose_blend(
    encoder: Encoder,
    base: Mapping[str, torch.Tensor],
    development: Development | None,
    probes: Sequence[Probe],
    limit: float,
    shares: Sequence[float] = SHARES,
) -> Blended:
    """Leave the encoder's model with the share of `base` that is best on dev among those that keep general ability.

    `probes` must have no part in the final verdict; `limit` is the accepted mean fall over them (0.01 is one point).
    After WiSE-FT (arXiv:2109.01903) and LM-Cocktail (arXiv:2311.13534), which choose on held-out data too.
    """
    model = encoder.model
    tuned = kept_weights(model)
    set_weights(model, base, tuned, 1.0)
    before = probe(encoder, probes, None, label="base")
    rows, notes = known(probes, before)
    curve = []
    for share in shares:
        set_weights(model, base, tuned, share)
        general, changes = _changed(encoder, probes, rows, before, share)
        dev = None if development is None else float(development.score(encoder).mean())
        curve.append(Point(share, dev, general, changes))
    chosen = choose(curve, limit)
    set_weights(model, base, tuned, chosen.base_share)
    return Blended(chosen, tuple(curve), (*notes, _sentence(chosen, curve, limit, development)))


def draw_curve(
    encoder: Encoder,
    base: Mapping[str, torch.Tensor],
    development: Development,
    probes: Sequence[Probe],
    share: float,
    between: float,
    dev: tuple[float, float],
) -> Blended:
    """What a share that is set costs and brings, and leave the encoder's model with it.

    Measured are the tuned model alone, the share (`between` where it is 0) and the base model alone; `dev` are the
    measures of the first and the last on dev, which training knows. No curve where no probe says anything about this
    base model.
    """
    model = encoder.model
    tuned = kept_weights(model)
    set_weights(model, base, tuned, 1.0)
    before = probe(encoder, probes, None, label="base")
    rows, _ = known(probes, before)
    middle, mixed = share or between, dev[0]
    curve = []
    for tried in (0.0, middle):
        set_weights(model, base, tuned, tried)
        general, changes = _changed(encoder, probes, rows, before, tried) if rows else (None, {})
        if tried and (rows or share):
            mixed = float(development.score(encoder).mean())
        curve.append(Point(tried, mixed if tried else dev[0], general, changes))
    curve.append(Point(1.0, dev[1], 0.0, {probes[n].name: 0.0 for n in rows}))
    set_weights(model, base, tuned, share)
    chosen = next(point for point in curve if point.base_share == share)
    return Blended(chosen, tuple(curve) if rows else (chosen,), (), fixed=True)


def _changed(
    encoder: Encoder, probes: Sequence[Probe], rows: Sequence[int], before: Probed, share: float
) -> tuple[float | None, dict[str, float]]:
    """The mean change over the probes that apply, and that of each."""
    after = probe(encoder, probes, None, label=f"base_share {share:g}")
    changes = {probes[n].name: score(probes[n], after.values[n]) - score(probes[n], before.values[n]) for n in rows}
    return (sum(changes.values()) / len(changes) if changes else None), changes


def choose(curve: Sequence[Point], limit: float) -> Point:
    """Of the points within the limit the best on dev, at equal dev the smallest share; without a dev set the smallest.

    If no point is within the limit, the one that lost least.
    """
    within = [point for point in curve if point.general is None or point.general >= -limit]
    if not within:
        return max(curve, key=lambda point: (point.general or 0.0, -point.base_share))
    return max(within, key=lambda point: (point.dev or 0.0, -point.base_share))


def _sentence(chosen: Point, curve: Sequence[Point], limit: float, development: Development | None) -> str:
    plain = min(curve, key=lambda point: point.base_share)
    taken = f"training.base_share = {chosen.base_share:g} was chosen"
    if chosen.general is None or plain.general is None:
        return f"{taken} on dev alone: no probe says anything about this base model's general ability."
    moved = (
        f"{100 * chosen.general:+.2f} points over the probes' choosing half ({100 * plain.general:+.2f} with share 0)"
    )
    dev = ""
    if development is not None and chosen.dev is not None and plain.dev is not None:
        dev = f", dev {development.label} {chosen.dev:.4f} ({plain.dev:.4f})"
    if chosen.general < -limit:
        return (
            f"No share of the base model's weights kept the loss of general ability within {100 * limit:g} points; "
            f"{taken}, which lost least: {moved}{dev}. Try training.anchor, training.replay or a lower rate."
        )
    return f"{taken}, the best on dev of those within {100 * limit:g} points: {moved}{dev}."
