"""An epoch of training and one of validation, the same for every strategy and model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcflow.training.data.batches import Augmentation, Batch, Samples, prefetch
from hpcflow.training.data.shards import EpochPlan, plan_epoch, shuffled
from hpcflow.training.data.split import Split
from hpcflow.training.losses import dice
from hpcflow.training.schedule import LearningRate
from hpcflow.training.steps import Steps
from hpcflow.training.strategies import Strategy

OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Settings:
    """What the loop itself needs of the experiment. ``limit``: at most so many steps an epoch."""

    batch_size: int
    seed: int
    tumour_slices_only: bool
    augmentation: Augmentation
    limit: int | None = None


@dataclass(frozen=True)
class Trained:
    """An epoch of training over all ranks.

    loss: mean over samples. dice: of all the epoch's voxels pooled, at 0.5, while the weights changed.
    seconds: of rank 0, from the first step to the last. allreduce_s and input_s: means over ranks of the time
    spent averaging gradients (see HorovodTape) and waiting for the input pipeline.
    """

    loss: float
    dice: float
    samples: int
    seconds: float
    allreduce_s: float
    input_s: float
    learning_rate: float


@dataclass(frozen=True)
class Validated:
    """A validation over all ranks. loss: mean over samples. dice: mean over subjects of the Dice of each
    one's whole volume at 0.5 (BraTS's way; slices without tumour count)."""

    loss: float
    dice: float


class Loop:
    """One rank's part of a training. All ranks call the same methods in the same order."""

    def __init__(
        self, samples: Samples, split: Split, steps: Steps, strategy: Strategy, settings: Settings
    ) -> None:
        self._samples, self._steps, self._strategy, self._settings = samples, steps, strategy, settings
        self._training = samples.of_subjects(split.training, with_target_only=settings.tumour_slices_only)
        self._validation = samples.of_subjects(split.validation, with_target_only=False)
        self._validation_subjects = np.asarray(split.validation, np.int64)

    def _plan(self, samples: NDArray[np.int64]) -> EpochPlan:
        return plan_epoch(samples, self._strategy.size, self._settings.batch_size, limit=self._settings.limit)

    @property
    def steps_per_epoch(self) -> int:
        return self._plan(self._training).steps

    def example(self) -> Batch:
        """A batch of the shape that every batch of this loop has."""
        plan = self._plan(self._training)
        return self._samples.batch(plan.indices[0, self._strategy.rank], plan.weights[0, self._strategy.rank])

    def _batches(
        self, plan: EpochPlan, augmentation: Augmentation | None, seed: tuple[int, ...]
    ) -> Iterator[Batch]:
        rank = self._strategy.rank
        for step in range(plan.steps):
            yield self._samples.batch(plan.indices[step, rank], plan.weights[step, rank], augmentation, seed)

    def train(self, epoch: int, rates: LearningRate, on_step: OnStep = lambda *_: None) -> Trained:
        """Epoch ``epoch``, from 1. ``on_step`` is called with (step, steps, this rank's loss)."""
        settings, strategy = self._settings, self._strategy
        plan = self._plan(shuffled(self._training, settings.seed, epoch))
        batches = prefetch(self._batches(plan, settings.augmentation, (settings.seed, epoch)))
        sums, allreduce_s, input_s, rate = np.zeros(5), 0.0, 0.0, 0.0
        start = asked = time.perf_counter()
        for step, batch in enumerate(batches):
            input_s += time.perf_counter() - asked
            done = (epoch - 1) * plan.steps + step
            rate = rates.at(done)
            noise = ((settings.seed * 1000003 + strategy.rank * 7919) % 2**31, done)
            part, seconds = self._steps.train(batch, float(plan.totals[step]), rate, noise)
            sums += part
            allreduce_s += seconds
            on_step(step + 1, plan.steps, part[0] / max(part[1], 1.0))
            asked = time.perf_counter()
        elapsed = time.perf_counter() - start
        # Each rank's batch normalisation saw its own shard; from here on all have one model again.
        strategy.average(self._steps.model.non_trainable_variables)
        whole = strategy.sum(np.concatenate([sums, [allreduce_s, input_s]]))
        return Trained(
            loss=whole[0] / whole[1],
            dice=float(dice(whole[2:5])),
            samples=plan.samples,
            seconds=elapsed,
            allreduce_s=whole[5] / strategy.size,
            input_s=whole[6] / strategy.size,
            learning_rate=rate,
        )

    def validate(self) -> Validated:
        """All slices or volumes of the validation subjects, dealt to the ranks."""
        plan = self._plan(self._validation)
        rank, subjects = self._strategy.rank, self._validation_subjects
        # Columns: loss, voxels both, predicted, true, samples of the loss, samples.
        totals = np.zeros((len(subjects), 6))
        for step, batch in enumerate(prefetch(self._batches(plan, None, ()))):
            rows = np.searchsorted(subjects, self._samples.subject_of(plan.indices[step, rank]))
            each = np.column_stack([self._steps.validate(batch), np.ones((len(rows), 2))])
            if self._settings.tumour_slices_only:
                each[:, [0, 4]] *= self._samples.has_target(plan.indices[step, rank])[:, None]
            np.add.at(totals, rows, each * batch.weights[:, None])
        totals = self._strategy.sum(totals)
        seen = totals[totals[:, 5] > 0]
        loss = seen[:, 0].sum() / max(seen[:, 4].sum(), 1.0)
        return Validated(loss=float(loss), dice=float(dice(seen[:, 1:4]).mean()))
