"""What strategies change in a client's local training: FedProx, SCAFFOLD, FedNova.

The functions take NumPy arrays or TensorFlow tensors alike, one tensor at a time or mappings of them, and import
neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array")
Arrays = Mapping[str, NDArray[np.float32]]


def prox_gradient(gradient: Array, weight: Array, base: Array, mu: float) -> Array:
    """The gradient of f(w) + mu / 2 |w - base|^2 (Li et al. 2020, eq. 2). With mu = 0 the gradient itself, untouched
    to the bit.
    """
    if mu == 0:
        return gradient
    return gradient + mu * (weight - base)  # type: ignore[operator,no-any-return]


def scaffold_gradient(gradient: Array, ours: Array, server: Array) -> Array:
    """g - c_i + c: the step direction of SCAFFOLD (Karimireddy et al. 2020, algorithm 1, line 10)."""
    return gradient - ours + server  # type: ignore[operator,no-any-return]


def scaffold_control(
    ours: Arrays, server: Arrays, base: Arrays, after: Arrays, steps: float, learning_rate: float
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """The client's next control variate and its change, which goes to the server (line 12, option II):
    c_i+ = c_i - c + (x - y_i) / (K eta_l). ``steps`` is K, ``learning_rate`` eta_l. float32, computed in float64.
    """
    following, change = {}, {}
    for name, before in ours.items():
        moved = (base[name].astype(np.float64) - after[name]) / (steps * learning_rate)
        exact = before.astype(np.float64) - server[name] + moved
        following[name] = exact.astype(np.float32)
        change[name] = (following[name].astype(np.float64) - before).astype(np.float32)
    return following, change


def zeros_like(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """The control variate that everybody begins with."""
    return {name: np.zeros_like(array) for name, array in arrays.items()}


def nova_steps(
    steps: int, *, momentum: float = 0.0, mu: float = 0.0, learning_rate: float = 0.0
) -> float | None:
    """|a_i|_1 of FedNova for ``steps`` local steps (Wang et al. 2020, section 4.1): the number of steps for plain
    SGD; for momentum rho (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho); for a proximal term
    (1 - (1 - eta mu)^tau) / (eta mu). None for both at once, for which the paper has no sum: FedNova refuses an update
    that does not say its steps.
    """
    if momentum and mu:
        return None
    if momentum:
        return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)
    shrink = learning_rate * mu
    if shrink:
        return (1 - (1 - shrink) ** steps) / shrink
    return float(steps)


@dataclass(frozen=True)
class Control:
    """SCAFFOLD's control variates as a client sees them: its own and the server's, under the weights' names."""

    ours: Arrays
    server: Arrays
