"""Soft Dice loss, binary cross-entropy, and the counts that Dice is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

SMOOTH = 1.0
"""Voxels added above and below, so that an empty mask predicted empty has Dice 1."""


def _axes(masks: Any) -> list[int]:
    return list(range(1, len(masks.shape)))


def soft_dice_loss(masks: Any, predictions: Any) -> Any:
    """1 - (2 sum(m p) + s) / (sum m + sum p + s) of each sample: (n, ..., 1) float32 twice -> (n,) float32.

    Milletari et al., V-Net (2016), without squares, s = SMOOTH; the mean over samples is taken by the caller.
    """
    axes = _axes(masks)
    overlap = tf.reduce_sum(masks * predictions, axes)
    together = tf.reduce_sum(masks, axes) + tf.reduce_sum(predictions, axes)
    return 1.0 - (2.0 * overlap + SMOOTH) / (together + SMOOTH)


def dice_and_cross_entropy_loss(masks: Any, predictions: Any) -> Any:
    """:func:`soft_dice_loss` plus the mean binary cross-entropy over voxels, of each sample: (n,) float32."""
    clipped = tf.clip_by_value(predictions, 1e-6, 1.0 - 1e-6)
    entropy = -(masks * tf.math.log(clipped) + (1.0 - masks) * tf.math.log(1.0 - clipped))
    return soft_dice_loss(masks, predictions) + tf.reduce_mean(entropy, _axes(masks))


LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "dice": soft_dice_loss,
    "dice_bce": dice_and_cross_entropy_loss,
}


def overlap_counts(masks: Any, predictions: Any) -> Any:
    """Voxels (both, predicted, true) of each sample, predictions cut at 0.5: (n, 3) float32."""
    axes = _axes(masks)
    found = tf.cast(predictions > 0.5, tf.float32)
    return tf.stack([tf.reduce_sum(t, axes) for t in (found * masks, found, masks)], axis=1)


def dice(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dice (Sorensen) from counts (..., 3) as above: 2 both / (predicted + true), 1 where both are empty."""
    both, predicted, true = np.moveaxis(counts, -1, 0)
    total = predicted + true
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)
