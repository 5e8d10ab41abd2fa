"""Means: FedAvg, FedProx, FedNova and SCAFFOLD as the server sees them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from hpcflow.errors import InputError
from hpcflow.federation.numbers import Floats
from hpcflow.federation.strategies.base import (
    By,
    Contributions,
    Linear,
    Strategy,
    check,
    linear,
    mean,
    mean_of_statistics,
    weights_by,
)
from hpcflow.federation.update import UpdateInfo


@dataclass(frozen=True)
class FedAvg(Strategy):
    """The mean of the updates, weighted by samples (McMahan et al. 2017, algorithm 1)."""

    name: ClassVar[str] = "fedavg"
    by: By = "samples"

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Linear:
        """Weights n_k / n."""
        return mean(weights_by(updates, self.by))

    def statistics(self, updates: Contributions) -> Linear:
        """Their plain mean."""
        return mean_of_statistics(updates, self.by)


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg whose clients add a proximal term (Li et al. 2020); the server's part is FedAvg's. ``mu`` is for
    the clients and stands here so that the strategy and its constant are said in one place.
    """

    name: ClassVar[str] = "fedprox"
    mu: float = 0.01

    def __post_init__(self) -> None:
        check(self, {f"mu is {self.mu} (0 or more)": self.mu < 0})


@dataclass(frozen=True)
class FedNova(Strategy):
    """Normalised averaging (Wang et al. 2020, eq. 10): sum p_i tau_eff Delta_i / |a_i|_1 with tau_eff the mean of
    |a_i|_1. |a_i|_1 is the update's ``steps``, which :func:`hpcflow.federation.client.nova_steps` counts.

    With equal steps the coefficients are FedAvg's own integers, and so is every bit of the result.
    """

    name: ClassVar[str] = "fednova"
    deltas: ClassVar[bool] = True
    by: By = "samples"

    def complaint(self, info: UpdateInfo) -> str | None:
        """Without the number of steps there is nothing to normalise by."""
        return None if info.steps else "does not say its steps, which FedNova normalises by"

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Linear:
        """Coefficients p_i tau_eff / |a_i|_1 as exact fractions."""
        weights = weights_by(updates, self.by)
        total = sum(weights, Fraction(0))
        steps = [Fraction(update.info.steps or 0) for update in updates]
        effective = sum((w * s for w, s in zip(weights, steps, strict=True)), Fraction(0)) / total
        return linear([w * effective / s for w, s in zip(weights, steps, strict=True)], total)

    def statistics(self, updates: Contributions) -> Linear:
        """Their plain mean."""
        return mean_of_statistics(updates, self.by)


@dataclass(frozen=True)
class Scaffold(Strategy):
    """SCAFFOLD's server (Karimireddy et al. 2020, algorithm 1, lines 16 and 17): x += lr * mean Delta y,
    c += the sum of Delta c / N. ``collaborators`` is N; 0 means all that there are take part.

    As in the paper c is the plain mean of the clients' variates however x is weighted: only so it stays that mean when
    a round asks some of them. Its fixed point is that of the plain mean too, which is why ``by`` begins with it.
    """

    name: ClassVar[str] = "scaffold"
    control: ClassVar[bool] = True
    deltas: ClassVar[bool] = True
    by: By = "uniform"
    learning_rate: float = 1.0
    collaborators: int = 0

    def __post_init__(self) -> None:
        check(
            self,
            {
                f"learning_rate is {self.learning_rate} (more than 0)": self.learning_rate <= 0,
                f"collaborators is {self.collaborators} (0 or more)": self.collaborators < 0,
            },
        )

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Linear:
        """The mean of the weights' changes; the learning rate is in the divisor."""
        weights = weights_by(updates, self.by)
        plain = mean(weights)
        return Linear(plain.coefficients, plain.divisor / self.learning_rate)

    def control_recipe(self, updates: Contributions) -> Linear:
        """The change of the server's control variate."""
        number = self.collaborators or len(updates)
        if number < len(updates):
            raise InputError(
                f"scaffold: {len(updates)} updates of {number} collaborators (say how many there are)"
            )
        return linear([1] * len(updates), Fraction(number))

    def statistics(self, updates: Contributions) -> Linear:
        """Their plain mean."""
        return mean_of_statistics(updates, self.by)
