"""A quadratic bowl: a model of any size whose training costs next to nothing and whose optimum is known.

Collaborator k has the loss |w - t_k|^2 / 2 with a target t_k of its own. For tests, and for measuring what a round
costs beside training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.seeds import generator

Floats = NDArray[np.float32]
Weights = dict[str, Floats]


@dataclass(frozen=True)
class Targets:
    """``number`` samples that are all the same target (float32, (parameters,))."""

    target: Floats
    number: int

    def __len__(self) -> int:
        return self.number

    def take(self, indices: NDArray[np.int64]) -> Targets:
        """So many of them."""
        return Targets(self.target, len(indices))


@dataclass(frozen=True)
class Bowl:
    """Weights ``w`` (parameters,) float32."""

    parameters: int

    def initial(self, seed: int) -> Weights:
        """Normal numbers."""
        return {"w": generator(seed, "bowl", "initial").standard_normal(self.parameters, np.float32)}

    def targets(self, seed: int, name: str, number: int) -> Targets:
        """The target of a collaborator: the same for all of its samples."""
        draw = generator(seed, "bowl", "target", name)
        return Targets(draw.standard_normal(self.parameters, np.float32), number)

    def gradients(self, weights: Mapping[str, Floats], batch: Targets) -> tuple[float, Weights]:
        """Loss, as the mean over weights, and its gradient times the number of weights."""
        slope = weights["w"] - batch.target
        return float(np.mean(np.square(slope), dtype=np.float64)) / 2, {"w": slope}

    def evaluate(self, weights: Mapping[str, Floats], data: Targets) -> dict[str, float]:
        """The loss."""
        return {"loss": self.gradients(weights, data)[0]}
