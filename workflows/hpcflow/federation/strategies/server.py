"""Optimizers of the server over FedAvg's mean Delta, which stands for the negative gradient.

FedAvgM: Hsu et al. 2019, "Measuring the effects of non-identical data distribution", section 4.3.
FedAdagrad, FedYogi, FedAdam: Reddi et al. 2021, "Adaptive federated optimization", algorithm 2, with its v_{-1} =
tau^2 and without bias correction, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcflow.federation.numbers import Floats
from hpcflow.federation.strategies.base import Server, check
from hpcflow.federation.strategies.means import FedAvg


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """v = momentum v + Delta; x += learning_rate v."""

    name: ClassVar[str] = "fedavgm"
    symbols: ClassVar[Mapping[str, str]] = {"eta": "learning_rate", "beta": "momentum"}
    learning_rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check(
            self,
            {
                f"learning_rate is {self.learning_rate} (more than 0)": self.learning_rate <= 0,
                f"momentum is {self.momentum} (from 0 to below 1)": not 0 <= self.momentum < 1,
            },
        )

    @property
    def server(self) -> Server:  # type: ignore[override]  # a dataclass of options is its own optimizer
        """Itself."""
        return self

    @property
    def state(self) -> Mapping[str, float]:
        """The velocity."""
        return {"momentum": 0.0}

    def step(self, mean: Floats, state: Mapping[str, Floats]) -> Floats:
        """See the class."""
        velocity = state["momentum"]
        velocity *= self.momentum
        velocity += mean
        return self.learning_rate * velocity


@dataclass(frozen=True)
class FedAdagrad(FedAvg):
    """m = beta1 m + (1 - beta1) Delta; v += Delta^2; x += learning_rate m / (sqrt(v) + tau)."""

    name: ClassVar[str] = "fedadagrad"
    symbols: ClassVar[Mapping[str, str]] = {"eta": "learning_rate"}
    learning_rate: float = 0.01
    beta1: float = 0.0
    tau: float = 1e-3

    def __post_init__(self) -> None:
        beta2 = getattr(self, "beta2", 0.0)
        check(
            self,
            {
                f"learning_rate is {self.learning_rate} (more than 0)": self.learning_rate <= 0,
                f"beta1 is {self.beta1} (from 0 to below 1)": not 0 <= self.beta1 < 1,
                f"beta2 is {beta2} (from 0 to below 1)": not 0 <= beta2 < 1,
                f"tau is {self.tau} (more than 0)": self.tau <= 0,
            },
        )

    @property
    def server(self) -> Server:  # type: ignore[override]
        """Itself."""
        return self

    @property
    def state(self) -> Mapping[str, float]:
        """Both moments."""
        return {"m": 0.0, "v": self.tau**2}

    def step(self, mean: Floats, state: Mapping[str, Floats]) -> Floats:
        """See the class."""
        first, second = state["m"], state["v"]
        first *= self.beta1
        first += (1.0 - self.beta1) * mean
        self._second(second, np.square(mean))
        return self.learning_rate * first / (np.sqrt(second) + self.tau)

    def _second(self, second: Floats, square: Floats) -> None:
        second += square


@dataclass(frozen=True)
class FedAdam(FedAdagrad):
    """As FedAdagrad with v = beta2 v + (1 - beta2) Delta^2."""

    name: ClassVar[str] = "fedadam"
    beta1: float = 0.9
    beta2: float = 0.99

    def _second(self, second: Floats, square: Floats) -> None:
        second *= self.beta2
        second += (1.0 - self.beta2) * square


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """As FedAdagrad with v -= (1 - beta2) Delta^2 sign(v - Delta^2)."""

    name: ClassVar[str] = "fedyogi"

    def _second(self, second: Floats, square: Floats) -> None:
        second -= (1.0 - self.beta2) * square * np.sign(second - square)
