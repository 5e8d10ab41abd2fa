"""Local training of a NumPy model: what a collaborator does in a round, with every strategy's client part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.blas import one_thread
from hpcflow.federation.client import Control, nova_steps, prox_gradient, scaffold_control, scaffold_gradient
from hpcflow.federation.seeds import generator

Weights = dict[str, NDArray[np.float32]]


class Data(Protocol):
    """Samples that can be counted and picked."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.int64]) -> Any:
        """Those at ``indices``."""


class Model(Protocol):
    """What local training asks of a model."""

    def gradients(self, weights: Mapping[str, NDArray[np.float32]], batch: Any) -> tuple[float, Weights]:
        """The mean loss of a batch and its gradient by each weight."""


@dataclass(frozen=True)
class LocalPlan:
    """SGD on a client. ``batch_size`` 0 takes all samples at once; ``mu`` is FedProx's."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1
    momentum: float = 0.0
    mu: float = 0.0


@dataclass(frozen=True)
class LocalResult:
    """``steps`` counts optimizer steps, ``normaliser`` is FedNova's |a|_1 where there is one, ``loss`` the mean of
    the last epoch. ``control`` is SCAFFOLD's next control variate of this client and ``control_change`` what goes to
    the server.
    """

    weights: Weights
    samples: int
    steps: int
    normaliser: float | None
    loss: float
    control: Weights | None = None
    control_change: Weights | None = None


def train(
    model: Model,
    base: Mapping[str, NDArray[np.float32]],
    data: Data,
    plan: LocalPlan,
    *,
    seed: int,
    round: int,
    collaborator: str,
    control: Control | None = None,
) -> LocalResult:
    """Train from ``base``. The order of samples is a function of (seed, round, collaborator, epoch)."""
    weights = {name: array.copy() for name, array in base.items()}
    velocity: Weights = {}
    rate = np.float32(plan.learning_rate)
    steps, losses = 0, [0.0]
    with one_thread():  # a product's last bits depend on OpenBLAS's threads
        for epoch in range(plan.epochs):
            losses = []
            for batch in _batches(data, plan.batch_size, seed, round, collaborator, epoch):
                loss, gradients = model.gradients(weights, batch)
                losses.append(loss)
                for name, gradient in gradients.items():
                    slope = prox_gradient(gradient, weights[name], base[name], plan.mu)
                    if control is not None:
                        slope = scaffold_gradient(slope, control.ours[name], control.server[name])
                    if plan.momentum:
                        slope = velocity[name] = np.float32(plan.momentum) * velocity.get(name, 0) + slope
                    weights[name] = weights[name] - rate * slope
                steps += 1
    following, change = None, None
    if control is not None:
        following, change = scaffold_control(
            control.ours, control.server, base, weights, steps, plan.learning_rate
        )
    normaliser = nova_steps(steps, momentum=plan.momentum, mu=plan.mu, learning_rate=plan.learning_rate)
    return LocalResult(weights, len(data), steps, normaliser, float(np.mean(losses)), following, change)


def _batches(data: Any, size: int, seed: int, *purpose: str | int) -> Iterator[Any]:
    if size == 0 or size >= len(data):
        # In the order of the data: one step over all of it is the gradient of the whole.
        yield data
        return
    order = generator(seed, "order", *purpose).permutation(len(data))
    for start in range(0, len(order), size):
        yield data.take(order[start : start + size])
