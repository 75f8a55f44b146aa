"""What a split is dealt by: sets of names that stay together, and who gets which."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fieldtune.types import Split


class Sets:
    """Disjoint sets of names; the least name of a set stands for it, whatever the order of joining."""

    def __init__(self) -> None:
        self._up: dict[str, str] = {}

    def __len__(self) -> int:
        return sum(name == up for name, up in self._up.items())

    def add(self, name: str) -> None:
        self._up.setdefault(name, name)

    def find(self, name: str) -> str:
        up = self._up
        while up.setdefault(name, name) != name:
            up[name] = up[up[name]]
            name = up[name]
        return name

    def join(self, a: str, b: str) -> None:
        low, high = sorted((self.find(a), self.find(b)))
        self._up[high] = low

    def names(self) -> list[str]:
        return list(self._up)

    def roots(self) -> list[str]:
        return sorted(name for name, up in self._up.items() if name == up)


def deal(load: Mapping[str, int], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Give each part to the side that lacks most, the big parts first and the others in random order.

    Biggest first keeps the sizes close to the shares; random order among the small ones keeps the sides alike.
    """
    total = sum(load.values())
    smallest = min(shares.values()) * total

    def order(part: str) -> tuple[int, str]:
        return (-load[part] if load[part] > smallest / 4 else 0), _stable(seed, part)

    missing = {side: share * total for side, share in shares.items()}
    dealt: dict[str, Split] = {}
    empty = sorted(shares, key=lambda side: (missing[side], side))
    ranked = sorted(load, key=order)
    for position, part in enumerate(ranked):
        # The last parts go to sides that would otherwise stay without any.
        lacking = (
            [side for side in empty if side not in dealt.values()] if len(ranked) - position <= len(shares) else []
        )
        side = lacking[0] if len(lacking) >= len(ranked) - position else max(shares, key=lambda s: (missing[s], s))
        dealt[part] = side
        missing[side] -= load[part]
    return dealt


def _stable(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode("utf-8", "surrogatepass")).hexdigest()
