"""One query through a BERT model with torch alone: what the whole library would give, without seconds of imports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.precision import autocast, resolve_precision
from fieldtune.errors import FieldtuneError
from fieldtune.model_folder import saved_prompts
from fieldtune.models import resolve_model
from fieldtune.types import Side
from fieldtune.workspace import read_json

if TYPE_CHECKING:
    import torch

_MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_PROBES = ("a", "What is it, and when does it end? (§ 12.3)", "合同什么时候解除?", "word " * 600)
_PLAIN = {
    "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
    "dtype": "float32", "torch_dtype": "float32",
}  # fmt: skip


class SingleEncoder:
    """Encodes texts one by one on the processor; made for a process that asks once and ends.

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
        self._tokenizer.enable_truncation(resolve_model(str(folder)).max_tokens or 512)
        self.precision = resolve_precision("auto", "cpu")
        self.dimension = int(config["hidden_size"])

    def encode(self, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
        """Unit vectors, float32 (len(texts), dimension), as `Encoder.encode` gives them for one text at a time."""
        import torch

        rows = np.zeros((len(texts), self.dimension), np.float32)
        for place, text in enumerate(texts):
            ids = torch.tensor([self._tokenizer.encode(self._prompts[side] + text.strip()).ids])
            with torch.inference_mode(), autocast(self.precision, "cpu"):
                output = self._pooled(self._forward(ids))
            rows[place] = torch.nn.functional.normalize(output.float(), dim=-1)[0].numpy()
        return rows

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token vectors (1, tokens, dimension); operation for operation what BertModel does without padding."""
        from torch.nn import functional

        weights, length = self._weights, ids.shape[1]
        words = functional.embedding(ids, weights["embeddings.word_embeddings.weight"])
        hidden = words + weights["embeddings.token_type_embeddings.weight"][:1]
        hidden = hidden + weights["embeddings.position_embeddings.weight"][:length]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            query, key, value = (
                self._linear(hidden, f"{name}.attention.self.{part}").view(1, length, self._heads, -1).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            scale = query.shape[-1] ** -0.5
            found = functional.scaled_dot_product_attention(query, key, value, scale=scale)
            found = found.transpose(1, 2).contiguous().reshape(1, length, -1)
            found = self._linear(found, f"{name}.attention.output.dense")
            hidden = self._norm(found + hidden, f"{name}.attention.output.LayerNorm")
            inner = functional.gelu(self._linear(hidden, f"{name}.intermediate.dense"))
            hidden = self._norm(self._linear(inner, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")
        return hidden

    def _pooled(self, hidden: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        output = hidden.sum(1) / hidden.shape[1] if self._mean else hidden[:, 0]
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
    probes = [*_PROBES, *texts]
    try:
        single = SingleEncoder(folder)
        return all(
            np.array_equal(single.encode([text], side), encoder.encode([text], side))
            for side in ("query", "passage")
            for text in probes
        )
    except (FieldtuneError, OSError, LookupError, ValueError, TypeError, RuntimeError):
        return False  # not such a model; what it is does not matter
