"""Which rank sees which sample in which step.

The samples of an epoch, in their order, are cut into steps of ``size`` x ``batch``; within a step they are
dealt to the ranks like cards. Every rank so has the same number of steps and none waits for another. What is
missing to a whole last step is filled with samples from the start of the order at weight 0: they keep the
shape of the batch and the statistics of batch normalisation sane and count for nothing. With their weights,
the shards are disjoint and their union is the whole set, each sample once, whatever size and batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EpochPlan:
    """All ranks' samples of an epoch.

    indices: (steps, ranks, batch) int64, sample numbers. weights: the same shape, float32, 1 or 0.
    totals: (steps,) float32, samples of weight 1 in a step over all ranks, known to each without asking.
    """

    indices: NDArray[np.int64]
    weights: NDArray[np.float32]
    totals: NDArray[np.float32]

    @property
    def steps(self) -> int:
        return len(self.totals)

    @property
    def samples(self) -> int:
        """Samples of weight 1, all ranks and steps together."""
        return int(self.totals.sum())


def plan_epoch(samples: NDArray[np.int64], size: int, batch: int, *, limit: int | None = None) -> EpochPlan:
    """Deal ``samples`` (n,), in their order and not empty, to ``size`` ranks; ``limit`` cuts the steps."""
    together = size * batch
    steps = -(-len(samples) // together)
    weights = np.zeros(steps * together, np.float32)
    weights[: len(samples)] = 1
    dealt = (steps, batch, size)
    indices = np.resize(samples, steps * together).reshape(dealt).transpose(0, 2, 1)
    weights = weights.reshape(dealt).transpose(0, 2, 1)
    kept = slice(0, limit)
    return EpochPlan(indices[kept], weights[kept], weights[kept].sum(axis=(1, 2), dtype=np.float32))


def shuffled(samples: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """``samples`` in the order of ``epoch``: the same on every rank and for any number of them."""
    return np.random.Generator(np.random.Philox([seed, epoch])).permutation(samples)
