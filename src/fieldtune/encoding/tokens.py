"""Texts tokenised once into one flat array, in memory or mapped from a file, truncated but never padded."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.token_files import mapped_ids, write_ids

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

_SMALL = 1_000_000  # characters that are tokenised as fast as a file of them is looked after
_READING = 2  # how a text becomes what the tokenizer gets: raise it where texts get other ids
_BLOCK = 2_000  # texts handed to the tokenizer at once; it spreads them over threads


@dataclass(frozen=True, slots=True)
class TokenStore:
    """Token ids of n texts end to end."""

    ids: NDArray[np.int32]
    """(total tokens,)"""
    starts: NDArray[np.int64]
    """(n + 1,): text i is ids[starts[i]:starts[i + 1]]."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens per text, special tokens included."""
        return np.diff(self.starts)

    def padded(self, rows: NDArray[np.integer[Any]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, int64 (len(rows), longest of them), padded on the right."""
        import torch

        ids, mask = self.padded_arrays(rows, pad)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def padded_arrays(self, rows: NDArray[np.integer[Any]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `padded`, without torch."""
        lengths = self.lengths[rows]
        width = int(lengths.max())
        columns = np.arange(width)
        mask = columns < lengths[:, None]
        places = self.starts[rows][:, None] + columns
        ids = np.where(mask, self.ids[np.minimum(places, len(self.ids) - 1)], pad)
        return ids.astype(np.int64), mask.astype(np.int64)


class Tokens:
    """A model's tokenizer with the model's own length limit, set apart from the model so that nothing is shared.

    Safe to use from several threads.
    """

    def __init__(self, tokenizer: str, limit: int, pad: int) -> None:
        """`tokenizer` is the content of a tokenizer.json."""
        from tokenizers import Tokenizer

        self.limit, self.pad = limit, pad
        self._tokenizer: Any = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._lock = Lock()  # where to cut is a state of the tokenizer
        self.first, self.special = no_words(self._tokenizer)

    @classmethod
    def of(cls, model: SentenceTransformer) -> Tokens:
        """A copy: the model's own tokenizer keeps its padding and truncation for whoever calls model.encode."""
        tokenizer = model.tokenizer
        limit = int(model.max_seq_length or 512)
        return cls(tokenizer.backend_tokenizer.to_str(), limit, int(tokenizer.pad_token_id or 0))

    def within(self, limit: int) -> Tokens:
        """The same tokenizer, which is in memory once, with another limit."""
        made = copy.copy(self)
        made.limit = limit
        return made

    def serialized(self) -> str:
        """The content of a tokenizer.json, truncation at the model's limit included."""
        with self._lock:
            self._tokenizer.enable_truncation(self.limit)
            return str(self._tokenizer.to_str())

    def store(
        self, texts: Sequence[str], prompt: str = "", limit: int = 0, *, folder: Path | None = None
    ) -> TokenStore:
        """Tokenise prompt + text, cut at the model's limit as the model itself would, or at a lower `limit`.

        With a `folder`, many ids go to a file there as they are made and are mapped from it, and the same texts are not
        tokenised again by a later call; a folder that cannot be written costs memory, nothing else.
        """
        limit = min(limit, self.limit) if limit else self.limit
        if folder is not None and sum(map(len, texts)) >= _SMALL:
            path = folder / f"{self._key(texts, prompt, limit)}.ids"
            found = mapped_ids(path)
            if found is None:
                try:
                    write_ids(path, self._blocks(texts, prompt, limit))
                    found = mapped_ids(path)
                except OSError as error:
                    log.warning("token ids of %d texts stay in memory: %s", len(texts), error)
            if found is not None:
                return TokenStore(*found)
        flat, lengths = bytearray(), [np.zeros(1, np.int64)]
        for ids, several in self._blocks(texts, prompt, limit):
            flat += ids.tobytes()
            lengths.append(several)
        return TokenStore(np.frombuffer(flat, np.int32), np.cumsum(np.concatenate(lengths)))

    def longer(self, texts: Sequence[str], prompt: str = "", limit: int = 0) -> int:
        """How many of the texts `store` cuts: tokenises them all, and keeps no ids."""
        limit = limit or self.limit
        return sum(int((lengths > limit).sum()) for _, lengths in self._blocks(texts, prompt, limit + 1))

    def _blocks(
        self, texts: Sequence[str], prompt: str, limit: int
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Ids of some texts after the other, end to end, and how many each text has."""
        for begin in range(0, len(texts), _BLOCK):
            block = [encodable(prompt + text) for text in texts[begin : begin + _BLOCK]]
            with self._lock:
                self._tokenizer.enable_truncation(limit)
                encodings = self._tokenizer.encode_batch_fast(block)
            each = [encoding.ids for encoding in encodings]
            lengths = np.fromiter(map(len, each), np.int64, len(each))
            yield np.fromiter(chain.from_iterable(each), np.int32, int(lengths.sum())), lengths

    def _key(self, texts: Sequence[str], prompt: str, limit: int) -> str:
        """Of all that decides the ids: the tokenizer with its limit of the moment, its version, prompt and texts."""
        import tokenizers

        with self._lock:
            self._tokenizer.enable_truncation(limit)
            tokenizer = self._tokenizer.to_str()
        sha = hashlib.sha256(f"{_READING}\0{tokenizers.__version__}\0{tokenizer}\0{prompt}\0".encode())
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            sha.update(len(data).to_bytes(8, "little") + data)
        return sha.hexdigest()[:32]


def encodable(text: str) -> str:
    """The text with halves of surrogate pairs, which broken JSON holds and neither UTF-8 nor a tokenizer takes, as
    "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def no_words(tokenizer: Any) -> tuple[int, NDArray[np.int64]]:
    """Of a `tokenizers.Tokenizer`: the id that it puts before every text, -1 for none, and all ids that are no word.

    What it puts around a text counts whether or not anyone declared it as a special token; names such as cls or eos,
    which many tokenizers leave empty, do not matter.
    """
    around = tokenizer.encode("a")
    put = [number for number, special in zip(around.ids, around.special_tokens_mask, strict=True) if special]
    declared = [int(number) for number, one in tokenizer.get_added_tokens_decoder().items() if one.special]
    first = int(around.ids[0]) if around.ids and around.special_tokens_mask[0] else -1
    return first, np.array(sorted({*put, *declared}), np.int64)


def budgeted(lengths: NDArray[np.integer[Any]], budget: int) -> list[NDArray[np.int64]]:
    """Cut texts into batches of like length whose padded size stays within `budget` tokens, longest first.

    Longest first shows at once whether memory suffices. A single longer text makes a batch of its own.
    Equal lengths keep their order, so the same input always makes the same batches.
    """
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    batches = []
    begin = 0
    while begin < len(order):
        size = max(1, budget // max(1, int(lengths[order[begin]])))
        batches.append(order[begin : begin + size])
        begin += size
    return batches
