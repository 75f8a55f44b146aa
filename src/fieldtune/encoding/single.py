"""Queries through a BERT model with torch alone: what the whole library would give, without seconds of imports, and
without padding where several go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.precision import autocast, resolve_precision
from fieldtune.encoding.tokens import budgeted, no_words
from fieldtune.errors import FieldtuneError
from fieldtune.model_folder import saved_prompts
from fieldtune.models import resolve_model
from fieldtune.types import Side
from fieldtune.workspace import read_json

if TYPE_CHECKING:
    import torch

_MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_BUDGET = 2_048
"""Padded tokens of one pass: texts of like length go together."""
PROBES = ("a", "What is it, and when does it end? (§ 12.3)", "合同什么时候解除?", "word " * 600)
_SAME = 0.9999
_PLAIN = {
    "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
    "dtype": "float32", "torch_dtype": "float32",
}  # fmt: skip


class SingleEncoder:
    """Encodes queries on the processor; made for a process that asks once and ends, and for a server.

    Whether a folder is such a model is not guessed where it matters: `agrees` compares with the library when an index
    is built, and search takes this way only where it was found to give the very same vectors.
    """

    def __init__(self, folder: Path) -> None:
        """Raises FieldtuneError, OSError, KeyError or ValueError for a folder that is no plain BERT model."""
        import torch
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        config, pooling = read_json(folder / "config.json"), read_json(folder / "1_Pooling" / "config.json")
        modules = [str(module["type"]).rpartition(".")[2] for module in read_json(folder / "modules.json")]
        if modules not in _MODULES or any(config.get(key, value) != value for key, value in _PLAIN.items()):
            raise ValueError("not a plain BERT model")
        if pooling.get("pooling_mode") not in ("mean", "cls") or not pooling.get("include_prompt", True):
            raise ValueError("another pooling")
        if torch.cuda.is_available():
            raise ValueError("the library would compute on the GPU")
        self._mean, self._normalizes = pooling["pooling_mode"] == "mean", len(modules) == 3
        self._layers, self._heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._weights: dict[str, Any] = load_file(str(folder / "model.safetensors"))
        self._prompts: dict[Side, str] = dict(zip(("query", "passage"), saved_prompts(folder), strict=True))
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.first, self.special = no_words(self._tokenizer)
        self._tokenizer.enable_truncation(resolve_model(str(folder)).max_tokens or 512)
        self.precision = resolve_precision("auto", "cpu")
        if self.precision == "bf16":  # once, not with every pass: the products are the very same
            for name, weight in self._weights.items():
                if name.startswith("encoder.") and "LayerNorm" not in name:
                    self._weights[name] = weight.to(torch.bfloat16)
        self.dimension = int(config["hidden_size"])
        self.words = int(config["vocab_size"])

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

    def ids(self, text: str) -> list[int]:
        """Token ids, special ones included, as far as the model reads."""
        return list(self._tokenizer.encode(text).ids)

    def tokenized(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Token ids of each text, with prompt and special tokens, cut at the model's limit."""
        return [self.ids(self._prompts[side] + text.strip()) for text in texts]

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
        places = torch.cat([torch.arange(len(text)) for text in texts])
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
            return values.view(len(texts), longest, self._heads, -1).transpose(1, 2)

        words = functional.embedding(ids, weights["embeddings.word_embeddings.weight"])
        hidden = words + weights["embeddings.token_type_embeddings.weight"][:1]
        hidden = hidden + weights["embeddings.position_embeddings.weight"][places]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for layer in range(self._layers):
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
        output = torch.stack([part.sum(0) / len(part) if self._mean else part[0] for part in parts])
        return functional.normalize(output, p=2.0, dim=1) if self._normalizes else output

    def _linear(self, values: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional

        return functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, values: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(values, (self.dimension,), weight, bias, self._epsilon)


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
