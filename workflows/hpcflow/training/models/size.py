"""How large a U-Net is, without making it: what a plan needs to know of its checkpoints. No TensorFlow."""

from __future__ import annotations

import functools

from hpcflow.experiment.schema import Model

FLOAT = 4  # bytes
KEPT = 4  # checkpoints at once: the last two, the best, and the one that is being written


@functools.lru_cache(maxsize=64)  # thousands of trials share a few models
def weights(model: Model, channels: int) -> tuple[int, int]:
    """(trainable, all) weights of the U-Net that models/unet.py builds for images of ``channels``."""
    dimensions = 3 if model.name == "unet3d" else 2
    trained = fixed = 0

    def convolution(inside: int, out: int, kernel: int, bias: bool = True) -> None:
        nonlocal trained
        trained += inside * out * kernel**dimensions + (out if bias else 0)

    def block(inside: int, out: int) -> None:
        nonlocal trained, fixed
        for entering in (inside, out):
            convolution(entering, out, 3, not model.batch_norm)
            if model.batch_norm:
                trained += 2 * out
                fixed += 2 * out

    inside = channels
    for level in range(model.depth - 1):
        block(inside, model.filters << level)
        inside = model.filters << level
    block(inside, model.filters << (model.depth - 1))
    for level in reversed(range(model.depth - 1)):
        out = model.filters << level
        convolution(out * 2, out, 2)
        block(out * 2, out)
    convolution(model.filters, 1, 1)
    return trained, trained + fixed


def checkpoint_bytes(model: Model, channels: int) -> int:
    """One checkpoint: all weights, and Adam's two moments of what is trained."""
    trained, everything = weights(model, channels)
    return FLOAT * (everything + 2 * trained)
