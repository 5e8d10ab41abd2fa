"""One step of training and one of validation, compiled by tf.function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from hpcflow.training.data.batches import Batch
from hpcflow.training.losses import overlap_counts
from hpcflow.training.strategies import Strategy


class Steps:
    """A model, its optimizer and loss, and the ranks that share them."""

    def __init__(
        self, model: Any, optimizer: Any, noise: Any, loss: Callable[[Any, Any], Any], strategy: Strategy
    ) -> None:
        self.model, self.optimizer, self.noise = model, optimizer, noise
        self._loss, self._strategy = loss, strategy
        optimizer.build(model.trainable_variables)
        self._train = tf.function(self._train_step, reduce_retracing=True)
        self._validate = tf.function(self._validate_step, reduce_retracing=True)

    def compile(self, batch: Batch) -> None:
        """Trace both steps for batches of this shape, so that the first epoch's time holds no tracing."""
        specs = [tf.TensorSpec(array.shape, array.dtype) for array in batch]
        scalar = tf.TensorSpec([], tf.float32)
        self._train.get_concrete_function(*specs, scalar, scalar, tf.TensorSpec([2], tf.int32))
        self._validate.get_concrete_function(*specs[:2])

    def train(
        self, batch: Batch, total: float, rate: float, noise: tuple[int, int]
    ) -> tuple[NDArray[np.float64], float]:
        """Update the weights by one step at learning rate ``rate``.

        ``total``: the samples that count in this step over all ranks. ``noise``: the dropout's seed. Returns
        this rank's sums (loss, samples, voxels both, predicted, true) and the seconds spent averaging
        gradients.
        """
        sums, seconds = self._train(
            *batch,
            tf.constant(total, tf.float32),
            tf.constant(rate, tf.float32),
            tf.constant(noise, tf.int32),
        )
        return np.asarray(sums.numpy(), np.float64), float(seconds.numpy())

    def validate(self, batch: Batch) -> NDArray[np.float64]:
        """(n, 4) of a batch: each sample's loss and voxels (both, predicted, true)."""
        return np.asarray(self._validate(batch.images, batch.masks).numpy(), np.float64)

    def corrected(self, gradients: list[Any], variables: list[Any]) -> list[Any]:
        """What the optimizer is given instead of the gradients: them. Federations add terms (traced once)."""
        return gradients

    def _train_step(
        self, images: Any, masks: Any, weights: Any, total: Any, rate: Any, noise: Any
    ) -> tuple[Any, Any]:
        self.noise.assign(noise)
        self.optimizer.learning_rate.assign(rate)
        variables = self.model.trainable_variables
        tape = self._strategy.tape()
        with tape.recording():
            predictions = self.model(images, training=True)
            weighted = tf.reduce_sum(weights * self._loss(masks, predictions))
            # Its mean over ranks is the mean over all samples that count, also in a step that is not full.
            loss = weighted * (self._strategy.size / total)
        gradients, seconds = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(self.corrected(gradients, variables), variables, strict=True))
        counts = tf.reduce_sum(weights[:, None] * overlap_counts(masks, predictions), axis=0)
        return tf.concat([[weighted, tf.reduce_sum(weights)], counts], axis=0), seconds

    def _validate_step(self, images: Any, masks: Any) -> Any:
        predictions = self.model(images, training=False)
        loss = self._loss(masks, predictions)
        return tf.concat([loss[:, None], overlap_counts(masks, predictions)], axis=1)
