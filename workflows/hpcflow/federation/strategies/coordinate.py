"""Strategies of one coordinate at a time: median and trimmed mean (Yin et al. 2018, definitions 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.numbers import Floats
from hpcflow.federation.strategies.base import Contributions, Coordinate, Strategy, check
from hpcflow.federation.strategies.network import order


def middle_mean(rows: NDArray[Any], trim: int) -> Floats:
    """The mean of each column of ``rows`` (n, m) without its ``trim`` smallest and largest values, in float64 and
    in rising order of the values. Changes ``rows``.
    """
    kept = range(trim, len(rows) - trim)
    ordered = order(rows, kept)  # type: ignore[arg-type]  # an array is the sequence of its rows
    total: Floats = ordered[trim].astype(np.float64)
    for row in kept[1:]:
        total += ordered[row]
    total /= len(kept)
    return total


def median(rows: NDArray[Any]) -> Floats:
    """The median of each column; of an even number the mean of the two in the middle. Changes ``rows``."""
    return middle_mean(rows, (len(rows) - 1) // 2)


@dataclass(frozen=True)
class Median(Strategy):
    """The median of every coordinate, unweighted."""

    name: ClassVar[str] = "median"

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Coordinate:
        """Of all updates."""
        return Coordinate(tuple(range(len(updates))), median)


@dataclass(frozen=True)
class TrimmedMean(Strategy):
    """The mean of every coordinate without the ``trim`` share of the smallest and of the largest values."""

    name: ClassVar[str] = "trimmedmean"
    symbols: ClassVar[Mapping[str, str]] = {"beta": "trim"}
    trim: float = 0.2

    def __post_init__(self) -> None:
        check(self, {f"trim is {self.trim} (from 0 to below 0.5)": not 0 <= self.trim < 0.5})

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Coordinate:
        """floor(trim n) values are cut at each end."""
        # 0.3 * 10 is 2.999...: a share that is meant to be a whole number is one.
        cut = int(self.trim * len(updates) + 1e-9)
        return Coordinate(tuple(range(len(updates))), lambda rows: middle_mean(rows, cut))
