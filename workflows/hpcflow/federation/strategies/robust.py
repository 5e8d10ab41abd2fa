"""Strategies that look at distances between whole updates: geometric median, Krum, Multi-Krum, Bulyan.

The squared distances are gathered in one pass over the files; what follows is arithmetic on a matrix of updates by
updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.numbers import Floats
from hpcflow.federation.strategies.base import (
    By,
    Contributions,
    Coordinate,
    Linear,
    Recipe,
    Strategy,
    check,
    linear,
    mean,
    weights_by,
)
from hpcflow.federation.strategies.network import order


def krum_scores(distances: Floats, byzantine: int) -> Floats:
    """The sum of each update's n - f - 2 smallest squared distances to others (Blanchard et al. 2017, section 4)."""
    number = len(distances)
    others = np.sort(distances + np.diag(np.full(number, np.inf)), axis=1)
    return np.asarray(others[:, : max(1, number - byzantine - 2)].sum(axis=1))


def krum_order(distances: Floats, byzantine: int) -> list[int]:
    """Updates from the best score to the worst. Two that are each other's only neighbour have one score: then the
    one that is nearer to all others is the better.
    """
    totals = distances.sum(axis=1)
    ranked: list[int] = np.lexsort((totals, krum_scores(distances, byzantine))).tolist()
    return ranked


@dataclass(frozen=True)
class Krum(Strategy):
    """The one update that is nearest to its neighbours; ``byzantine`` (f) of them may be anything."""

    name: ClassVar[str] = "krum"
    symbols: ClassVar[Mapping[str, str]] = {"f": "byzantine", "m": "select"}
    distances: ClassVar[bool] = True
    byzantine: int = 0

    def __post_init__(self) -> None:
        check(self, {f"byzantine is {self.byzantine} (0 or more)": self.byzantine < 0})

    def least(self) -> int:
        """2 f + 3, as the proof asks."""
        return 2 * self.byzantine + 3

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Recipe:
        """Weight 1 for the best."""
        assert distances is not None
        best = krum_order(distances, self.byzantine)[0]
        return mean([int(index == best) for index in range(len(updates))])


@dataclass(frozen=True)
class MultiKrum(Krum):
    """The mean of the ``select`` best updates by Krum's score; 0 selects n - f - 2 of them."""

    name: ClassVar[str] = "multikrum"
    select: int = 0
    by: By = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, {f"select is {self.select} (0 or more)": self.select < 0})

    def least(self) -> int:
        """As Krum, and as many as are selected."""
        return max(super().least(), self.select)

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Linear:
        """The mean of the selected."""
        assert distances is not None
        number = self.select or len(updates) - self.byzantine - 2
        best = set(krum_order(distances, self.byzantine)[:number])
        weights = weights_by(updates, self.by)
        return mean([weight if index in best else 0 for index, weight in enumerate(weights)])


@dataclass(frozen=True)
class Bulyan(Krum):
    """n - 2 f updates chosen by Krum one after the other; of them, in every coordinate, the mean of the
    n - 4 f values nearest to the median (El Mhamdi et al. 2018, section 4).
    """

    name: ClassVar[str] = "bulyan"

    def least(self) -> int:
        """4 f + 3."""
        return 4 * self.byzantine + 3

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Recipe:
        """Coordinate-wise over the chosen."""
        assert distances is not None
        left, chosen = list(range(len(updates))), []
        for _ in range(len(updates) - 2 * self.byzantine):
            chosen.append(left.pop(krum_order(distances[np.ix_(left, left)], self.byzantine)[0]))
        number = len(chosen) - 2 * self.byzantine
        return Coordinate(tuple(sorted(chosen)), lambda rows: nearest_to_median(rows, number))


def nearest_to_median(rows: NDArray[Any], number: int) -> Floats:
    """The mean of the ``number`` values of each column of ``rows`` (n, m) that are nearest to its median.

    In a sorted column they are neighbours: the window is the first one whose farther end is nearest.
    Changes ``rows``.
    """
    size = len(rows)
    values = np.stack(order(rows, range(size))).astype(np.float64)  # type: ignore[arg-type]
    centre = (values[(size - 1) // 2] + values[size // 2]) / 2
    starts = range(size - number + 1)
    reach = np.stack([np.maximum(centre - values[s], values[s + number - 1] - centre) for s in starts])
    first = np.argmin(reach, axis=0)
    total = np.zeros(rows.shape[1])
    columns = np.arange(rows.shape[1])
    for step in range(number):
        total += values[first + step, columns]
    return total / number


def spread(distances: Floats) -> float:
    """How far apart updates are: the median over updates of the median distance to the others, which a minority cannot
    move; where most are the same, the largest distance. ``distances`` are squared.
    """
    number = len(distances)
    if number < 2:
        return 0.0
    others = np.sqrt(distances[~np.eye(number, dtype=bool)]).reshape(number, number - 1)
    return float(np.median(np.median(others, axis=1))) or float(others.max())


@dataclass(frozen=True)
class GeometricMedian(Strategy):
    """The point with the least weighted sum of distances to the updates, by the smoothed Weiszfeld algorithm
    (Pillutla et al. 2022, algorithm 2). ``smoothing`` is its nu as a share of how far apart the updates are, so that
    small updates are treated as large ones are.

    Every iterate is a mean of the updates with weights beta, and its squared distance to update i is
    (D beta)_i - beta' D beta / 2 where D holds the squared distances between updates: the iterations need no
    further pass over the files.
    """

    name: ClassVar[str] = "geometricmedian"
    distances: ClassVar[bool] = True
    by: By = "samples"
    smoothing: float = 1e-6
    iterations: int = 100
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        check(
            self,
            {
                f"smoothing is {self.smoothing} (more than 0)": self.smoothing <= 0,
                f"iterations is {self.iterations} (1 or more)": self.iterations < 1,
                f"tolerance is {self.tolerance} (0 or more)": self.tolerance < 0,
            },
        )

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Linear:
        """Weights alpha_i / max(nu, distance to the iterate), normalised, until they stand still."""
        assert distances is not None
        alpha = np.array([float(weight) for weight in weights_by(updates, self.by)])
        alpha = alpha / alpha.sum()
        beta = alpha
        least = self.smoothing * spread(distances)
        if not least:
            return mean(weights_by(updates, self.by))  # they are all the same
        for _ in range(self.iterations):
            reach = np.sqrt(np.maximum(distances @ beta - 0.5 * (beta @ distances @ beta), 0.0))
            following = alpha / np.maximum(reach, least)
            following = following / following.sum()
            moved, beta = float(np.abs(following - beta).max()), following
            if moved <= self.tolerance:
                break
        exact = [Fraction(float(value)) for value in beta]
        return linear(exact, sum(exact, Fraction(0)))
