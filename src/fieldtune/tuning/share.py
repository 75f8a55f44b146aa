"""Whether the winner needs a share of the base model's weights: decided by general ability, not by the search."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.config import Config
from fieldtune.tuning.space import Settings
from fieldtune.tuning.trial import Inputs
from fieldtune.workspace import write_json

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder

_NAME = "training.base_share"


def settle_share(
    config: Config, inputs: Inputs, base: Encoder, model: Path, fixed: Collection[str]
) -> tuple[Settings, tuple[str, ...]]:
    """`base_share = "auto"` for a winner that lost more general ability than it may, else 0, and what is to be said.

    `base` is the base model, `model` the winner's folder; the curve is written beside that. A search by dev alone would
    always take the share that dev likes, so the shares are no part of it: this is a matter of the limit. All trials are
    trained and measured with a share of 0, so that is what the config gets: "queries", the default, would make another
    model than the winner where queries were made. Nothing is decided where the share is given or the training takes
    none; where general ability is not to be measured it is 0.
    """
    from fieldtune.encoding import Encoder
    from fieldtune.probes import all_probes, halves
    from fieldtune.training.blend import choose_blend, kept_weights
    from fieldtune.training.general import mixes
    from fieldtune.training.stage import development_of

    if _NAME in fixed or config.training.base_share not in (0, "queries") or not mixes(config):
        return {}, ()
    as_measured: Settings = {_NAME: 0.0}
    if not config.evaluation.general:
        return as_measured, (
            "The config has training.base_share = 0, with which the trials were trained and measured.",
        )
    development = development_of(config, inputs.data, base, inputs.vectors)
    trust = config.model.trust_remote_code
    tuned = Encoder.load(str(model), precision=config.training.precision, trust=trust)
    start, probes = kept_weights(base.model), halves(all_probes(config.evaluation), "choosing")
    limit = config.evaluation.max_general_loss
    blended = choose_blend(tuned, start, development, probes, limit)
    write_json(model.with_name("base_share.json"), blended.rows())
    plain = blended.curve[0].general
    if plain is None or plain >= -limit:
        return as_measured, (
            f"The winner keeps general ability within {100 * limit:g} points as it is (base_share 0).",
        )
    return {_NAME: "auto"}, (f'The config has training.base_share = "auto". {blended.notes[-1]}',)
