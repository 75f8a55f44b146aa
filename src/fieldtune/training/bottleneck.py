"""Bottleneck adapters put into a model for training, and written into its folder after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.config import Training
from fieldtune.training.blocks import sublayer_ends

if TYPE_CHECKING:
    from fieldtune.bottleneck_adapters import Bottlenecks


def add_bottlenecks(module: Any, settings: Training) -> Bottlenecks:
    """Put trainable adapters, at first without effect, behind the parts of the layers; nothing else is trained.

    `module` is the Sentence Transformers module around the transformer; the adapters become part of it, beside the
    transformer. Both placements act before the part's result is added to its input, as Houlsby et al. have them.
    Raises ModelError for a transformer that they do not fit.
    """
    from fieldtune.bottleneck_adapters import Bottlenecks

    transformer = module.model
    width = int(transformer.config.hidden_size)
    kinds = (False, True) if settings.bottleneck.placement == "houlsby" else (False,)
    ends = [end for kind in kinds for end in sublayer_ends(transformer, attention=kind, width=width)]
    places = [end.name for end in sorted(ends, key=lambda end: end.layer) if end.layer >= settings.freeze_layers]
    module.requires_grad_(False)
    like = next(transformer.parameters())
    module.bottlenecks = Bottlenecks(places, width, settings.bottleneck.size).to(like.device)
    module.bottlenecks.put_into(transformer)
    return module.bottlenecks  # type: ignore[no-any-return]


def write_into_model(folder: Path, adapters: Bottlenecks) -> None:
    """Complete a model saved in `folder`: the adapters' weights, and the code that puts them in at loading."""
    from fieldtune.bottleneck_adapters import write_code

    adapters.write(folder)
    write_code(folder)
