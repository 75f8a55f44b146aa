"""Peak memory of the sparse score and its gradient: three ways to the same numbers.

    python benchmarks/m3_memory.py [--passages 16] [--tokens 2048] [--words 250002] [--shared 400] [--results FILE]

naive: token weights scattered into (passages x length x vocabulary), then the maximum over the length, as the public
trainer of BGE-M3 does while it trains. vocabulary: a scatter-maximum into (passages x vocabulary). here: a
scatter-maximum into the ids that the batch's queries have, the only ones that a product can have. Each way runs forward
and backward in float32 in a process of its own; of the processor the growth of its peak resident memory is taken, on a
GPU what torch had allocated at most. A way that would not fit into the free memory is computed, not run. The table is
appended to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from memory import peak_memory
from results import RESULTS, append, markdown

WAYS = {
    "naive": "passages x length x vocabulary",
    "vocabulary": "passages x vocabulary",
    "here": "passages x ids of the queries",
}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=2_048, help="of each passage; a query has an eighth")
    parser.add_argument("--words", type=int, default=250_002, help="of the vocabulary")
    parser.add_argument("--shared", type=int, default=400, help="ids that a text draws half of its tokens from")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)  # a way, in a process of its own
    return parser.parse_args(words)


def run_one(given: argparse.Namespace) -> dict[str, float]:
    """Growth of the peak in GB, seconds, and the score's sum, which all ways must agree on."""
    import torch

    from fieldtune.encoding.m3 import Signals, sparse_scores

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(1)

    def texts(count: int, length: int) -> Signals:
        anywhere = torch.randint(given.words, (count * length,), generator=generator)
        often = torch.randint(min(given.shared, given.words), (count * length,), generator=generator)
        ids = torch.where(torch.rand(count * length, generator=generator) < 0.5, anywhere, often)
        weights = torch.rand(count * length, generator=generator)
        nothing = torch.zeros(0, 1, device=device)
        leaf = weights.to(device).requires_grad_()
        return Signals(nothing, leaf, nothing, ids.to(device), torch.full((count,), length, device=device))

    def scattered(side: Signals) -> torch.Tensor:
        length = int(side.counts[0])
        ids, weights = side.ids.view(-1, length), side.weights.view(-1, length)
        if given.one == "naive":
            whole = weights.new_zeros(*ids.shape, given.words)
            return whole.scatter(-1, ids[..., None], weights[..., None]).max(dim=1).values
        return weights.new_zeros(len(ids), given.words).scatter_reduce(1, ids, weights, "amax")

    queries, passages = texts(given.passages, max(1, given.tokens // 8)), texts(given.passages, given.tokens)
    small = Signals(queries.dense, queries.weights[:2], queries.vectors, queries.ids[:2], queries.counts[:2] * 0 + 1)
    sparse_scores(small, small).sum().backward()  # what torch loads once is not the way's
    queries.weights.grad = None
    before, began = peak_memory(), time.monotonic()
    score = sparse_scores(queries, passages) if given.one == "here" else scattered(queries) @ scattered(passages).T
    score.pow(2).sum().backward()
    gradient = passages.weights.grad
    assert gradient is not None
    return {
        "gb": peak_memory() - before,
        "seconds": time.monotonic() - began,
        "sum": float(score.sum()),
        "gradient": float(gradient.sum()),
    }


def computed(given: argparse.Namespace) -> float:
    """GB of two copies of the naive way's tensor of the passages in float32: the zeros, and what scatter returns."""
    return 2 * given.passages * given.tokens * given.words * 4 / 1e9


def free() -> float:
    """GB that can be used now."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9


def main(words: list[str] | None = None) -> list[tuple[str, ...]]:
    given = arguments(words)
    if given.one:
        print(json.dumps(run_one(given)))
        return []
    room, rows, found = free(), [], {}
    for way, shape in WAYS.items():
        if way == "naive" and 1.5 * computed(given) > room:
            rows.append((way, shape, f"{computed(given):.1f} GB, computed: {room:.1f} GB were free", "not run"))
            continue
        command = [sys.executable, __file__, "--one", way]
        for name in ("passages", "tokens", "words", "shared"):
            command += [f"--{name}", str(getattr(given, name))]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[way] = json.loads(said.splitlines()[-1])
        rows.append((way, shape, f"{1000 * found[way]['gb']:,.1f} MB", f"{found[way]['seconds']:.2f} s"))
    for name in ("sum", "gradient"):
        values = [one[name] for one in found.values()]
        if max(values) - min(values) > 1e-3 * max(map(abs, values)):
            sys.exit(f"the ways disagree: {name} {values}")
    about = (
        f"{given.passages} queries of {max(1, given.tokens // 8):,} tokens, as many passages of {given.tokens:,}, "
        f"vocabulary of {given.words:,}, float32, forward and backward; scores and gradients of all ways agree."
    )
    columns = ("way", "tensor", "peak memory added", "time")
    print(append("Memory of the sparse score", about, markdown(columns, rows), given.results))
    return rows


if __name__ == "__main__":
    main()
