"""Sorting rows against each other, element by element, with minimum and maximum alone.

Batcher's odd-even merge sort (1968; Knuth, The Art of Computer Programming, volume 3, 5.3.4) needs no branch and no
copy across rows, so that one NumPy call compares a whole block of two updates. Where only some ranks of the order
are asked for (the median's), comparators that cannot reach them are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparator:
    """Rows ``low`` and ``high`` become their minimum and maximum; one that nobody reads later is not made."""

    low: int
    high: int
    keeps_low: bool
    keeps_high: bool


def _batcher(rows: int) -> list[tuple[int, int]]:
    pairs = []
    p = 1
    while p < rows:
        k = p
        while k >= 1:
            for j in range(k % p, rows - k, 2 * k):
                for i in range(min(k, rows - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    return pairs


@lru_cache(maxsize=16)
def network(rows: int, wanted: tuple[int, ...]) -> tuple[Comparator, ...]:
    """Comparators after which row r holds the r-th smallest value, for every r of ``wanted``."""
    needed: set[int] = set(wanted)
    kept = []
    for low, high in reversed(_batcher(rows)):
        if low in needed or high in needed:
            kept.append(Comparator(low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept))


def order(rows: Sequence[NDArray[Any]], wanted: Collection[int]) -> list[NDArray[Any]]:
    """Rows of which row r holds the r-th smallest of each column of ``rows`` (n of (m,)), for every r of
    ``wanted``; the others hold anything. Works in the memory of ``rows``. A NaN comes to every wanted row of its
    column.
    """
    now = list(rows)
    spare = np.empty_like(now[0])
    for step in network(len(now), tuple(sorted(wanted))):
        low, high = now[step.low], now[step.high]
        if step.keeps_low and step.keeps_high:
            np.minimum(low, high, out=spare)
            np.maximum(low, high, out=high)
            now[step.low], spare = spare, low
        elif step.keeps_low:
            np.minimum(low, high, out=low)
        else:
            np.maximum(low, high, out=high)
    return now
