"""What a step of training is made of, and what was tried to shorten it and left out.

    python benchmarks/speed_parts.py --data DIR [--repeats 9] [--results FILE]

On one core of a processor, in bf16, with all-MiniLM-L6-v2:

- how many operations a second the products of its linear layers reach by themselves, and the bytes of mining;
- what share of a step on passages of 250 tokens such products take, and attention;
- attention as fieldtune computes it against PyTorch's kernel, forward and backward;
- ways that change no result and were tried: passes of more tokens, one autocast context for all passes of a step, the
  weights of attention computed again in the backward pass instead of kept, each against the way it is, in alternation:
  medians of the ratios of time and their spread;
- queries and passages in one pass: passes and padded tokens of batches of 64 with one negative, of the BEIR folders in
  DIR, against those of sides apart.

Appended to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peak import TRAINING, shape_of
from results import RESULTS, append, markdown

from fieldtune.beir import load_beir
from fieldtune.encoding import Encoder
from fieldtune.encoding.tokens import budgeted
from fieldtune.training import attention as ours
from fieldtune.training.processor import fast_passes

MODEL = "builtin:all-MiniLM-L6-v2"
SETS = ("med-en-medquad", "law-zh-stard-small")
BUDGET, LONG = 1_024, 250
Run = Callable[[], object]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(words)


def seconds(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def ratio(other: Run, now: Run, repeats: int) -> str:
    """Time of another way over that of the way it is."""
    other(), now()
    found = [seconds(other) / seconds(now) for _ in range(repeats)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def rate(run: Run, operations: float, repeats: int) -> float:
    """Billions of operations a second."""
    run()
    return operations / statistics.median(seconds(run) for _ in range(repeats)) / 1e9


class Step:
    """Forward and backward passes of one model over random texts."""

    def __init__(self) -> None:
        self.encoder = Encoder.load(MODEL, precision="bf16")
        self.inner: Any = self.encoder.model.transformers_model
        self.inner.eval()  # as it trains: without dropout

    def texts(self, length: int, tokens: int) -> torch.Tensor:
        return torch.randint(1_000, 20_000, (max(1, tokens // length), length))

    def learn(self, ids: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16), fast_passes(self.encoder):
            vectors = self.inner(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        vectors.float().mean().backward()

    def over(self, length: int, tokens: int, budget: int, *, one_context: bool = False) -> Run:
        parts = [self.texts(length, budget) for _ in range(tokens // budget)]

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16) if one_context else nullcontext():
                for part in parts:
                    self.learn(part)

        return run


def kernels(length: int, repeats: int) -> str:
    """Attention forward and backward, 12 heads of 32: ours over PyTorch's."""
    count = max(1, BUDGET // length)
    parts = [torch.randn(count, 12, length, 32, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    given = torch.randn(count, 12, length, 32, dtype=torch.bfloat16)

    def mine() -> None:
        found = ours.attend(parts, {})
        assert found is not None  # it is of 16 bits and learns
        torch.autograd.grad(found, parts, given)

    def theirs() -> None:
        torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(*parts), parts, given)

    return ratio(mine, theirs, repeats)


def again(step: Step, repeats: int) -> str:
    run, kept = step.over(LONG, BUDGET, BUDGET), ours._KEPT_TO

    def computed_again() -> None:
        ours._KEPT_TO = 0
        try:
            run()
        finally:
            ours._KEPT_TO = kept

    return ratio(computed_again, run, repeats)


def joined(name: str, data: Path, draws: int = 200) -> tuple[str, str, str]:
    """Passes and padded tokens of both sides together over those of sides apart."""
    encoder, whole = Encoder.load(MODEL), load_beir(data / name)
    assert encoder.tokens is not None  # the builtin model takes ids
    asked = [whole.queries[query].text for query in list(whole.qrels["train"])[:2_000]]
    texts = [passage.content for passage in list(whole.passages.values())[:3_000]]
    sides = [encoder.tokens.store(some, "").lengths for some in (asked, texts)]
    draw, found = np.random.default_rng(0), []
    for _ in range(draws):
        lengths = [draw.choice(side, count) for side, count in zip(sides, (64, 128), strict=True)]
        both = np.concatenate(lengths)
        apart = [(side, budgeted(side, BUDGET)) for side in lengths]
        together = budgeted(both, BUDGET)
        found.append((len(together) / sum(len(parts) for _, parts in apart),
                      padded(both, together) / sum(padded(*one) for one in apart)))  # fmt: skip
    passes, tokens = np.mean(found, axis=0)
    return name, f"{passes:.2f}", f"{tokens:.2f}"


def padded(lengths: np.ndarray, parts: list[np.ndarray]) -> int:
    return sum(len(part) * int(lengths[part].max()) for part in parts)


def rates(repeats: int) -> dict[str, float]:
    half = [torch.randn(shape, dtype=torch.bfloat16) for shape in ((1_024, 384), (384, 1_536))]
    bytes_ = [torch.randint(-127, 127, shape, dtype=torch.int8) for shape in ((4_096, 384), (512, 384))]
    return {
        "bf16 products of a linear layer": rate(lambda: half[0] @ half[1], 2 * 1_024 * 384 * 1_536, 20 * repeats),
        "products of bytes": rate(lambda: torch._int_mm(bytes_[0], bytes_[1].T), 2 * 4_096 * 384 * 512, 5 * repeats),
    }


def shares(step: Step, rates: dict[str, float], repeats: int) -> list[tuple[str, str]]:
    """Of a step on long passages: the products at the rate they reach alone, attention, and what is left."""
    run, count = step.over(LONG, BUDGET, BUDGET), max(1, BUDGET // LONG)
    run()
    whole = statistics.median(seconds(run) for _ in range(repeats))
    shape = shape_of(step.encoder.model)
    products = TRAINING * 2 * shape.weights * count * LONG / (1e9 * rates["bf16 products of a linear layer"])
    parts = [torch.randn(count, 12, LONG, 32, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    given = torch.randn(count, 12, LONG, 32, dtype=torch.bfloat16)

    def attention() -> None:
        found = ours.attend(parts, {})
        assert found is not None  # as in `kernels`
        torch.autograd.grad(found, parts, given)

    attention()
    looked = shape.layers * statistics.median(seconds(attention) for _ in range(repeats))
    found = {"linear layers' products": products, "attention": looked, "all else": whole - products - looked}
    return [(name, f"{took / whole:.2f}") for name, took in found.items()]


def main(words: list[str] | None = None) -> None:
    given = arguments(words)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step, repeats = Step(), given.repeats
    reached = rates(repeats)
    lines = [f"- {name}: {found:,.0f} billion operations a second" for name, found in reached.items()]
    lines += ["", *markdown((f"of a step on {LONG} tokens", "share"), shares(step, reached, repeats))]
    tried = [(f"attention against PyTorch's, {length} tokens", kernels(length, repeats)) for length in (64, 250, 1_024)]
    for budget in (2_048, 4_096):
        runs = [step.over(64, 4_096, size) for size in (budget, BUDGET)]
        tried.append((f"passes of {budget:,} tokens against {BUDGET:,}", ratio(*runs, repeats)))
    runs = [step.over(64, 4_096, BUDGET, one_context=one) for one in (True, False)]
    tried.append(("one autocast context for a step", ratio(*runs, repeats)))
    tried.append(("weights of attention computed again", again(step, repeats)))
    lines += ["", *markdown(("against the way it is", "time"), tried)]
    sides = [joined(name, given.data) for name in SETS]
    lines += ["", *markdown(("queries and passages together", "passes", "padded tokens"), sides)]
    about = f"{MODEL}, one core, bf16, {repeats} repeats in alternation; medians of ratios, spread."
    print(append("Parts of a step of training", about, lines, given.results))


if __name__ == "__main__":
    main()
