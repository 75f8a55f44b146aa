"""What a plain BERT model's folder says, for ways that run it without the library: settings, prompts, token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.tokens import encodable, no_words
from fieldtune.model_folder import saved_prompts
from fieldtune.models import resolve_model
from fieldtune.types import Side
from fieldtune.workspace import read_json

PROBES = ("a", "What is it, and when does it end? (§ 12.3)", "合同什么时候解除?", "word " * 600)
"""Texts on which a way without the library is compared with it, beside some of the user's own."""
_MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_KINDS = ("bert", "roberta", "xlm-roberta")
_OLD_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_PLAIN = {
    "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False, "dtype": "float32",
    "torch_dtype": "float32",
}  # fmt: skip


class BertFolder:
    """A model folder of the BERT or RoBERTa kind with a tokenizer of `tokenizers`, mean or first-token pooling."""

    def __init__(self, folder: Path) -> None:
        """Raises FieldtuneError, OSError, KeyError or ValueError for a folder that is no such model."""
        from tokenizers import Tokenizer

        config, pooling = read_json(folder / "config.json"), read_json(folder / "1_Pooling" / "config.json")
        modules = [str(module["type"]).rpartition(".")[2] for module in read_json(folder / "modules.json")]
        kind = config.get("model_type", "bert")
        if modules not in _MODULES or kind not in _KINDS:
            raise ValueError("not a plain BERT model")
        if any(config.get(key, value) != value for key, value in _PLAIN.items()):
            raise ValueError("not a plain BERT model")
        mode = _pooling_mode(pooling)
        if mode not in ("mean", "cls") or not pooling.get("include_prompt", True):
            raise ValueError("another pooling")
        self.weights = folder / "model.safetensors"
        self.mean, self.normalizes = mode == "mean", len(modules) == 3
        self.layers, self.heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self.epsilon = float(config["layer_norm_eps"])
        self.dimension, self.words = int(config["hidden_size"]), int(config["vocab_size"])
        self._padding = None if kind == "bert" else int(config["pad_token_id"])
        self._prompts: dict[Side, str] = dict(zip(("query", "passage"), saved_prompts(folder), strict=True))
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.first, self.special = no_words(self._tokenizer)
        self._tokenizer.enable_truncation(resolve_model(str(folder)).max_tokens or 512)

    def ids(self, text: str) -> list[int]:
        """Token ids, special ones included, as far as the model reads."""
        return list(self._tokenizer.encode(encodable(text)).ids)

    def tokenized(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Token ids of each text, with prompt and special tokens, cut at the model's limit."""
        return [self.ids(self._prompts[side] + text) for text in texts]

    def places(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """The row of the table of positions for each token of a text: (len(ids),).

        RoBERTa counts from behind the number of its padding token, and that token itself has no place of its own.
        """
        if self._padding is None:
            return np.arange(len(ids))
        counts = np.array(ids) != self._padding
        places: NDArray[np.int64] = np.cumsum(counts) * counts + self._padding
        return places


def _pooling_mode(config: Mapping[str, Any]) -> Any:
    """What Sentence Transformers 6 writes, or the only way that earlier versions, with a key for each, say yes to."""
    old = [key for key, used in config.items() if key.startswith("pooling_mode_") and used]
    return config.get("pooling_mode", _OLD_MODES.get(old[0]) if len(old) == 1 else None)
