"""Queries through a BERT model with torch alone: what the whole library would give, without seconds of imports, and
without padding where several go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.bert_folder import PROBES, BertFolder
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.precision import autocast, resolve_precision
from fieldtune.encoding.tokens import budgeted
from fieldtune.errors import FieldtuneError
from fieldtune.types import Side

if TYPE_CHECKING:
    import torch

_BUDGET = 2_048
"""Padded tokens of one pass: texts of like length go together."""
_SAME = 0.9999


class SingleEncoder(BertFolder):
    """Encodes queries on the processor with torch alone; made for a server, and for a process that ends soon.

    Whether a folder is such a model is not guessed where it matters: `agrees` compares with the library when an index
    is built, and search takes this way only where it was found to give the very same vectors.
    """

    def __init__(self, folder: Path) -> None:
        """Raises FieldtuneError, OSError, KeyError or ValueError for a folder that is no plain BERT model."""
        import torch
        from safetensors.torch import load_file

        super().__init__(folder)
        if torch.cuda.is_available():
            raise ValueError("the library would compute on the GPU")
        self._weights: dict[str, Any] = load_file(str(self.weights))
        self.precision = resolve_precision("auto", "cpu")
        if self.precision == "bf16":  # once, not with every pass: the products are the very same
            for name, weight in self._weights.items():
                if name.startswith("encoder.") and "LayerNorm" not in name:
                    self._weights[name] = weight.to(torch.bfloat16)

    def encode(self, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
        """Unit vectors, float32 (len(texts), dimension): of one text those of `Encoder.encode`, of several those up to
        the last digits of bf16."""
        import torch

        rows = np.zeros((len(texts), self.dimension), np.float32)
        tokens = self.tokenized(texts, side)
        for batch in budgeted(np.array([len(ids) for ids in tokens]), _BUDGET):
            with torch.inference_mode():
                output, _ = self.states([tokens[row] for row in batch.tolist()])
            rows[batch] = torch.nn.functional.normalize(output.float(), dim=-1).numpy()
        return rows

    def states(self, tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """One pass: the texts' vectors (n, dimension), not brought to unit length, and their tokens' states end to
        end (tokens, dimension)."""
        with autocast(self.precision, "cpu"):
            hidden = self._forward(tokens)
            return self._pooled(hidden, tokens), hidden[0]

    def _forward(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Token vectors (1, tokens, dimension) of texts end to end; operation for operation what BertModel does.

        Attention alone, a small part of the work, sees texts side by side and padded; of one text there is no padding.
        """
        import torch
        from torch.nn import functional

        weights, longest = self._weights, max(map(len, texts))
        ids, length = torch.tensor([[number for text in texts for number in text]]), sum(map(len, texts))
        places = torch.from_numpy(np.concatenate([self.places(text) for text in texts]))
        apart, mask = None, None
        if len(texts) > 1:
            apart = torch.cat([torch.arange(len(text)) + row * longest for row, text in enumerate(texts)])
            lengths = torch.tensor([len(text) for text in texts])
            mask = (torch.arange(longest) < lengths[:, None])[:, None, None, :]

        def beside(values: torch.Tensor) -> torch.Tensor:
            """(1, tokens, dimension) -> (texts, heads, longest, dimension of a head)"""
            if apart is not None:
                padded = values.new_zeros(len(texts) * longest, self.dimension)
                padded[apart] = values[0]
                values = padded
            return values.view(len(texts), longest, self.heads, -1).transpose(1, 2)

        words = functional.embedding(ids, weights["embeddings.word_embeddings.weight"])
        hidden = words + weights["embeddings.token_type_embeddings.weight"][:1]
        hidden = hidden + weights["embeddings.position_embeddings.weight"][places]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}"
            query, key, value = (
                beside(self._linear(hidden, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
            )
            scale = query.shape[-1] ** -0.5
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
            found = found.transpose(1, 2).contiguous().reshape(len(texts) * longest, -1)
            found = (found if apart is None else found[apart]).view(1, length, -1)
            found = self._linear(found, f"{name}.attention.output.dense")
            hidden = self._norm(found + hidden, f"{name}.attention.output.LayerNorm")
            inner = functional.gelu(self._linear(hidden, f"{name}.intermediate.dense"))
            hidden = self._norm(self._linear(inner, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")
        return hidden

    def _pooled(self, hidden: torch.Tensor, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        import torch
        from torch.nn import functional

        parts = torch.split(hidden[0], [len(text) for text in texts])
        output = torch.stack([part.sum(0) / len(part) if self.mean else part[0] for part in parts])
        return functional.normalize(output, p=2.0, dim=1) if self.normalizes else output

    def _linear(self, values: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional

        return functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, values: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(values, (self.dimension,), weight, bias, self.epsilon)


def agrees(folder: Path, encoder: Encoder, texts: Sequence[str] = ()) -> bool:
    """Whether `SingleEncoder` gives the very vectors of the loaded model, for some probes and these texts."""
    probes = [*PROBES, *texts]
    sides: tuple[Side, ...] = ("query", "passage")
    try:
        single = SingleEncoder(folder)
        alone = all(
            np.array_equal(single.encode([text], side), encoder.encode([text], side))
            for side in sides
            for text in probes
        )
        return alone and all(
            bool(((single.encode(probes, side) * encoder.encode(probes, side)).sum(axis=1) > _SAME).all())
            for side in sides
        )
    except (FieldtuneError, OSError, LookupError, ValueError, TypeError, RuntimeError):
        return False  # not such a model; what it is does not matter
