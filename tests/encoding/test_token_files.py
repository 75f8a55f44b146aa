"""Token ids of a training lie in a file, written once and mapped, whole or not there."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.encoding import Encoder
from fieldtune.encoding import tokens as tokens_module
from fieldtune.encoding.tokens import Tokens, TokenStore

WORDS = ["lease", "rent", "tenant", "fever", "cough", "audit", "bond", "ends", "starts", "article", "7", "12"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    draw = random.Random(5)
    made = [" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(4_500)]
    return ["", "  rent  ", *made, "租金 lease"]


@pytest.fixture
def tokens(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    monkeypatch.setattr(tokens_module, "_SMALL", 100)
    found = Encoder.load(tiny_model, precision="fp32").tokens
    assert found is not None
    return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each tokenising has begun with."""
    counts: list[int] = []
    real = Tokens._blocks

    def counted(self: Tokens, texts: Any, prompt: str, limit: int) -> Any:
        counts.append(len(texts))
        return real(self, texts, prompt, limit)

    monkeypatch.setattr(Tokens, "_blocks", counted)
    return counts


def is_mapped(store: TokenStore) -> bool:
    return isinstance(store.ids, np.memmap) and not store.ids.flags.writeable


def test_ids_of_a_file_are_those_of_memory_and_are_not_made_twice(
    tokens: Tokens, texts: list[str], tmp_path: Path, made: list[int]
) -> None:
    some = texts
    plain = tokens.store(some, "query: ", 20)
    kept = tokens.store(some, "query: ", 20, folder=tmp_path / "tokens")
    again = tokens.store(some, "query: ", 20, folder=tmp_path / "tokens")
    assert made == [len(some)] * 2
    assert not is_mapped(plain) and is_mapped(kept) and is_mapped(again)
    for store in (kept, again):
        assert store.ids.dtype == plain.ids.dtype and len(store) == len(some)
        np.testing.assert_array_equal(store.ids, plain.ids)
        np.testing.assert_array_equal(store.starts, plain.starts)
        np.testing.assert_array_equal(store.lengths, plain.lengths)
    rows = np.array([4_000, 0, 17, len(some) - 1])
    for mine, theirs in zip(kept.padded_arrays(rows, 0), plain.padded_arrays(rows, 0), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [path.suffix for path in (tmp_path / "tokens").iterdir()] == [".ids"]  # nothing half-written beside it


@pytest.mark.parametrize(
    "other",
    [
        lambda tokens, texts, folder: tokens.store(texts, "passage: ", 20, folder=folder),
        lambda tokens, texts, folder: tokens.store(texts, "query: ", 19, folder=folder),
        lambda tokens, texts, folder: tokens.store(texts[1:], "query: ", 20, folder=folder),
        lambda tokens, texts, folder: tokens.store(
            [*texts[:-2], "".join(texts[-2:]), ""], "query: ", 20, folder=folder
        ),
    ],
    ids=["prompt", "limit", "fewer", "cut elsewhere"],
)
def test_what_else_decides_the_ids_makes_another_file(
    tokens: Tokens, texts: list[str], tmp_path: Path, made: list[int], other: Callable[..., TokenStore]
) -> None:
    some = texts[:60]
    tokens.store(some, "query: ", 20, folder=tmp_path)
    other(tokens, some, tmp_path)
    assert len(made) == len(list(tmp_path.iterdir())) == 2


def damage_first(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        damage_first,
        lambda data: bytes(len(data)),
        lambda data: data + b"\0" * 8,
    ],
    ids=["empty", "half", "cut", "a bit", "zeros", "longer"],
)
def test_a_damaged_file_is_made_anew(
    tokens: Tokens, texts: list[str], tmp_path: Path, made: list[int], damage: Callable[[bytes], bytes]
) -> None:
    some = texts[:300]
    first = np.array(tokens.store(some, folder=tmp_path).ids)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    np.testing.assert_array_equal(tokens.store(some, folder=tmp_path).ids, first)
    assert len(made) == 2 and path.read_bytes() == whole


def test_a_killed_tokenising_leaves_no_file(
    tokens: Tokens, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Tokens._blocks

    def dying(self: Tokens, texts: Any, prompt: str, limit: int) -> Any:
        for number, block in enumerate(real(self, texts, prompt, limit)):
            if number:
                raise KeyboardInterrupt
            yield block

    with monkeypatch.context() as patch:
        patch.setattr(Tokens, "_blocks", dying)
        with pytest.raises(KeyboardInterrupt):
            tokens.store(texts, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_memory_alone(
    tokens: Tokens, texts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")  # also forgets what a converter made the logger believe of its level
    (tmp_path / "file").write_text("")
    store = tokens.store(texts[:300], folder=tmp_path / "file" / "tokens")
    np.testing.assert_array_equal(store.ids, tokens.store(texts[:300]).ids)
    assert "stay in memory" in caplog.text


def test_texts_without_any_token_have_a_file_too(tokens: Tokens, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    bare = Tokenizer.from_str(tokens.serialized())
    bare.post_processor = None  # type: ignore[assignment]
    none = Tokens(bare.to_str(), 8, 0)
    for _ in range(2):
        store = none.store([" " * 200, " " * 200], folder=tmp_path)
        assert len(store.ids) == 0 and store.lengths.tolist() == [0, 0]


def test_few_texts_stay_in_memory(tiny_model: str, tmp_path: Path) -> None:
    tokens = Encoder.load(tiny_model, precision="fp32").tokens
    assert tokens is not None
    assert not is_mapped(tokens.store(["rent ends"] * 50, folder=tmp_path / "tokens"))
    assert not (tmp_path / "tokens").exists()


def test_memory_of_many_ids_is_not_twice_theirs_nor_an_array_each(tokens: Tokens, tmp_path: Path) -> None:
    short = ["rent ends 7"] * 60_000  # 5 ids a text: 1.2 MB, and half a MB of places
    for folder, most in ((None, 6e6), (tmp_path, 5e6)):
        tracemalloc.start()
        store = tokens.store(short, folder=folder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(store) == 60_000
        assert peak < most, (folder, peak)


def test_another_process_maps_the_same_file(tokens: Tokens, texts: list[str], tmp_path: Path) -> None:
    some = texts[:300]
    expected = tokens.store(some, folder=tmp_path / "tokens")
    (tmp_path / "texts").write_text("\n".join(some), "utf-8")
    (tmp_path / "tokenizer.json").write_text(tokens.serialized(), "utf-8")
    script = (
        "import sys, pathlib\n"
        "from fieldtune.encoding import tokens\n"
        "tokens._SMALL = 100\n"
        "def refuse(*_): raise SystemExit('tokenised again')\n"
        "tokens.Tokens._blocks = refuse\n"
        "folder, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
        "texts = (folder / 'texts').read_text('utf-8').split('\\n')\n"
        "made = tokens.Tokens((folder / 'tokenizer.json').read_text('utf-8'), limit, 0)\n"
        "store = made.store(texts, folder=folder / 'tokens')\n"
        "print(len(store), int(store.ids.sum()))\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path), str(tokens.limit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(len(some)), str(int(expected.ids.sum()))], done.stderr[-2000:]
