"""The head that guesses masked tokens: the model's own where it has one, on hidden states made by the encoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.encoding import Encoder
from fieldtune.models import quiet

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

_log = logging.getLogger(__name__)


def masked_head(encoder: Encoder, folder: Path) -> tuple[Module, bool]:
    """The model's own head for masked tokens, and whether its weights came with the model.

    Takes hidden states (n, hidden) and gives logits (n, vocabulary). Where the architecture has such a head but the
    folder lacks its weights, as most sentence encoders do, they are fresh; where it has none, a fresh one of the same
    form is made. The output layer is the encoder's word vectors in any case.
    """
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM
    from transformers.modeling_outputs import BaseModelOutput

    inner = encoder.model.transformers_model
    words = inner.get_input_embeddings().weight
    try:
        with quiet():  # weights that the head lacks are the rule here, and told by the result
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            whole, said = AutoModelForMaskedLM.from_pretrained(
                folder, config=config, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except (ValueError, KeyError, OSError) as error:
        _log.info("no masked-token head for this architecture: %s", error)
        return fresh_head(words), False
    prefix = whole.base_model_prefix
    fresh = any(not name.startswith(f"{prefix}.") and "decoder" not in name for name in said["missing_keys"])
    output = whole.get_output_embeddings()
    if output is None or not hasattr(whole, prefix) or output.weight.shape != words.shape:
        return fresh_head(words), False

    class Given(torch.nn.Module):
        """Stands in for the encoder inside its own masked-token model: hands on hidden states made elsewhere."""

        def __init__(self) -> None:
            super().__init__()
            self.states: torch.Tensor | None = None

        def forward(self, *_: Any, **__: Any) -> BaseModelOutput:
            return BaseModelOutput(last_hidden_state=self.states)

    given = Given()
    setattr(whole, prefix, given)
    output.weight = words
    whole.config.return_dict = True

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            given.states = states.unsqueeze(0)
            dummy = torch.zeros(given.states.shape[:2], dtype=torch.long, device=states.device)
            logits: torch.Tensor = self.whole(input_ids=dummy).logits
            given.states = None
            return logits.squeeze(0)

    head = Head().to(words.device)
    try:
        with torch.no_grad():
            shape = head(torch.zeros(2, inner.config.hidden_size, device=words.device)).shape
    except Exception as error:  # an architecture whose head wants more of its encoder than hidden states
        _log.info("the head of this architecture cannot be used alone: %s", error)
        return fresh_head(words), False
    return (head, not fresh) if shape == (2, len(words)) else (fresh_head(words), False)


def fresh_head(words: torch.nn.Parameter) -> Module:
    """A dense layer, GELU and norm before the word vectors, as BERT's head is built."""
    import torch
    from torch.nn import GELU, LayerNorm, Linear, Sequential

    size = words.shape[1]
    output = Linear(size, len(words))
    output.weight = words
    with torch.no_grad():
        output.bias.zero_()
    return Sequential(Linear(size, size), GELU(), LayerNorm(size), output).to(words.device)
