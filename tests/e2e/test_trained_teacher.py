"""A small cross-encoder, really trained here, checks negatives and scores them; the rows go out and train a model."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from fieldtune.cli import main
from fieldtune.dataset import read_examples
from fieldtune.models import resolve_model
from fieldtune.workspace import read_json

THINGS = {
    "deposit": "protected by a scheme and given back", "boiler": "serviced by an engineer and kept warm",
    "garden": "mown and free of weeds", "parking bay": "marked with a number and kept clear",
    "key": "copied by a locksmith and returned", "dog": "insured and kept on a lead",
    "carpet": "shampooed and without burns", "lodger": "registered and over eighteen",
    "alarm": "tested with the siren on", "balcony": "swept and free of barbecues",
}  # fmt: skip
PEOPLE = ("tenant", "landlord", "agent", "council", "insurer", "guest")


def world(seed: int, count: int) -> list[tuple[str, str, list[str]]]:
    """(query, passage that answers it, passages on the same person or the same thing that do not)."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        thing, person = rng.choice(list(THINGS)), rng.choice(PEOPLE)
        days = rng.randrange(2, 99)

        def passage(who: str, what: str, number: int) -> str:
            return f"The {who} must see to it that the {what} is {THINGS[what]} within {number} days."

        other = rng.choice([name for name in THINGS if name != thing])
        somebody = rng.choice([name for name in PEOPLE if name != person])
        wrong = [passage(person, other, days), passage(somebody, thing, days + 1)]
        found.append((f"when must the {person} deal with the {thing}?", passage(person, thing, days), wrong))
    return found


def train_reranker(folder: Path, base: str) -> None:
    """A scoring head over the builtin encoder, tuned on a few hundred pairs."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.manual_seed(0)
    model = CrossEncoder(base, num_labels=1, max_length=64)
    network = model.transformers_model
    for name, weight in network.named_parameters():
        weight.requires_grad_(not any(part in name for part in ("embeddings", "layer.0.", "layer.1.", "layer.2.")))
    optimizer = torch.optim.AdamW([w for w in network.parameters() if w.requires_grad], lr=1e-4)
    rows = world(1, 240)
    network.train()
    for begin in range(0, len(rows), 12):
        batch = rows[begin : begin + 12]
        pairs = [(query, text) for query, answer, wrong in batch for text in (answer, *wrong)]
        tokens = model.tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        # Listwise: the answer against the two others of its query.
        scores = network(**tokens).logits.view(len(batch), 3)
        loss = torch.nn.functional.cross_entropy(scores, torch.zeros(len(batch), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    model.save_pretrained(str(folder))


@pytest.mark.e2e
def test_a_reranker_trained_here_teaches_what_no_random_one_could(tmp_path: Path) -> None:
    base = resolve_model("builtin:all-MiniLM-L6-v2").path_or_id
    train_reranker(tmp_path / "reranker", base)

    rows, passages = [], {}
    for number, (query, answer, wrong) in enumerate(world(2, 90)):
        rows.append((f"q{number}", query, answer))
        passages |= dict.fromkeys((answer, *wrong))
    ids = {text: f"p{number}" for number, text in enumerate(passages)}
    data = tmp_path / "beir"
    (data / "qrels").mkdir(parents=True)
    write = {
        "corpus.jsonl": [{"_id": key, "title": "", "text": text} for text, key in ids.items()],
        "queries.jsonl": [{"_id": key, "text": text} for key, text, _ in rows],
    }
    for name, lines in write.items():
        (data / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for side, part in (("train", rows[:70]), ("dev", rows[70:])):
        lines = "".join(f"{key}\t{ids[answer]}\t1\n" for key, _, answer in part)
        (data / "qrels" / f"{side}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")

    out = tmp_path / "train.jsonl"
    words = ["mine", "--data", str(data), "--out", str(out), "--teacher", str(tmp_path / "reranker")]
    words += ["--check", str(tmp_path / "reranker"), "--candidates", "fused", "--set", "negatives.check_confirm=1.5"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0

    record = read_json(tmp_path / "train.jsonl.teacher.json")
    assert record["kind"] == "cross-encoder"
    assert record["max_tokens"] == 64
    # A passage on the same person and thing is an answer too, whatever its days: labels that say otherwise are not the
    # teacher's fault, and out of the count.
    answers = {text: query for query, text, _ in world(2, 90)}
    right = total = 0
    for row in read_examples(out):
        others = [s for t, s in zip(row.neg, row.neg_scores, strict=True) if answers.get(t) != row.query]
        right += sum(row.pos_scores[0] > score for score in others)
        total += len(others)
    assert total > 300
    assert right / total > 0.8  # a random head puts the positive first half of the time

    # What the check drops as answers are passages on the very person and thing.
    words[words.index("--out") + 1] = str(tmp_path / "unchecked.jsonl")
    for option in ("--check", "--teacher"):
        del words[words.index(option) : words.index(option) + 2]
    with pytest.raises(SystemExit):
        main(words)

    def false_ones(path: Path) -> int:
        about = {text: query for query, text, _ in world(2, 90)}
        return sum(
            about.get(text) == row.query for row in read_examples(path) for text in row.neg if text not in row.known
        )

    assert false_ones(out) < false_ones(tmp_path / "unchecked.jsonl")
