"""What a strategy is: a rule that says, from the updates' metadata, how a block of the result is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import InputError
from hpcflow.federation.numbers import Floats
from hpcflow.federation.update import UpdateInfo

By = Literal["samples", "uniform"]
# Bits of a coefficient: times the 24 of a float32 it is exact in the 53 of a float64.
COEFFICIENT_BITS = 29


@dataclass(frozen=True)
class Contribution:
    """One update as a strategy sees it: a name for messages, its weight, and what it says of itself."""

    name: str
    weight: Fraction
    info: UpdateInfo


Contributions = Sequence[Contribution]


@dataclass(frozen=True)
class Linear:
    """The sum of ``coefficients`` times updates, divided by ``divisor``.

    Each coefficient has at most 29 significant bits: its product with a float32 is exact in float64, so that it
    makes no difference whether a processor multiplies and adds in one step or in two.
    """

    coefficients: tuple[float, ...]
    divisor: float


@dataclass(frozen=True)
class Coordinate:
    """``function`` of the rows of ``members``: (members, n) as float32 or float64 to float64 (n,). It may change
    the rows.
    """

    members: tuple[int, ...]
    function: Callable[[NDArray[Any]], Floats]


@dataclass(frozen=True)
class Called:
    """``function(rows, tensor, offset)``: rows (updates, n) of one tensor from element ``offset`` on, to (n,)."""

    function: Callable[[NDArray[Any], str, int], Floats]


Recipe = Linear | Coordinate | Called


class Server(Protocol):
    """An optimizer of the server: element by element, state in tensors like the model's."""

    @property
    def state(self) -> Mapping[str, float]:
        """Names of its state tensors and what each begins with."""

    def step(self, mean: Floats, state: Mapping[str, Floats]) -> Floats:
        """What is added to the model; changes ``state`` in place. All float64 (n,)."""


class Strategy:
    """A rule. Subclasses are frozen dataclasses whose fields are the options; the table is in __init__.py."""

    name: ClassVar[str]
    distances: ClassVar[bool] = False  # asks for squared distances between updates
    control: ClassVar[bool] = False  # aggregates SCAFFOLD's control variates as well
    symbols: ClassVar[Mapping[str, str]] = {}  # the papers' letters for options
    deltas: ClassVar[bool] = False  # is no mean: makes sense of changes, not of weights
    server: ClassVar[Server | None] = None

    def least(self) -> int:
        """The smallest number of updates that it works with."""
        return 1

    def complaint(self, info: UpdateInfo) -> str | None:
        """Why an update is of no use to it, by what it says of itself, or None."""
        return None

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Recipe:
        """How to make a block. ``distances`` (n, n) float64, squared, where asked for."""
        raise NotImplementedError

    def statistics(self, updates: Contributions) -> Linear | None:
        """How a block of moving statistics is made; None: as any other, where that is no more than a mean of them."""
        return None


def mean_of_statistics(updates: Contributions, by: By) -> Linear:
    """The plain mean of moving statistics, see statistics.py. A late update, made from an older model than the newest
    ones, is left out: two changes against different variances may add up to a negative one.
    """
    newest = max((update.info.round or 0 for update in updates), default=0)
    weights = weights_by(updates, by)
    return mean(
        [
            weight if (update.info.round or 0) == newest else 0
            for update, weight in zip(updates, weights, strict=True)
        ]
    )


def mean(weights: Sequence[Fraction | int]) -> Linear:
    """The weighted mean, with the weights as given: exact where they are integers below 2^29."""
    if not any(weights):
        raise InputError("all updates have the weight 0 (give one a positive num_samples)")
    return linear(weights, Fraction(sum(weights)))


def linear(coefficients: Sequence[Fraction | int], divisor: Fraction) -> Linear:
    """A recipe of exact coefficients, which are rounded to COEFFICIENT_BITS of the largest where they need it."""
    exact = [Fraction(value) for value in coefficients]
    fine = all(value.denominator == 1 and abs(value) < 1 << COEFFICIENT_BITS for value in exact)
    if not fine:
        largest = max(map(abs, exact))
        scale = Fraction(2) ** (COEFFICIENT_BITS - 1 - _exponent(largest))
        exact, divisor = [Fraction(round(value * scale)) for value in exact], divisor * scale
    return Linear(tuple(float(value) for value in exact), float(divisor))


def _exponent(value: Fraction) -> int:
    """The e with 2^e <= value < 2^(e+1)."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def weights_by(updates: Contributions, by: By) -> list[Fraction]:
    """Every update's weight in a mean."""
    return [update.weight if by == "samples" else Fraction(1) for update in updates]


def check(strategy: Strategy, complaints: Mapping[str, bool]) -> None:
    """Raise InputError with the texts whose condition is true, each after the strategy's name."""
    wrong = [text for text, bad in complaints.items() if bad]
    if wrong:
        raise InputError("\n".join(f"{strategy.name}: {text}" for text in wrong))


def as_floats(values: Any) -> Floats:
    """An array of float64."""
    return np.asarray(values, np.float64)
