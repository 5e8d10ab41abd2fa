"""U-Net in 2-D and 3-D (Ronneberger et al. 2015; Cicek et al. 2016), sized as in IntelAI/unet.

Each level: two times convolution 3, batch normalisation, ReLU; down by max pooling 2; up by a transposed
convolution 2 or by nearest neighbours and a convolution, joined with the level's own features; a sigmoid at
the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from hpcflow.errors import InputError
from hpcflow.experiment.schema import Model

# Keras's default of 0.99 needs hundreds of steps before validation sees sensible statistics.
_MOMENTUM = 0.9


class SeededDropout(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Dropout whose mask is a function of ``noise``, an int32 variable (2,) that the loop sets before each
    step.

    Keras's own keeps a hidden counter, which a restart from a checkpoint would begin anew: the restarted run
    would not be the undisturbed one. ``salt`` makes the layers of a model differ.
    """

    def __init__(self, rate: float, noise: Any, salt: int, name: str) -> None:
        super().__init__(name=name)
        # A function, because Keras takes a variable that is an attribute for one of the layer's weights.
        self.read_noise: Callable[[], Any] = lambda: noise
        self.rate, self.salt = rate, salt

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        seed = self.read_noise() + tf.constant([0, self.salt << 24], tf.int32)
        kept = tf.random.stateless_uniform(tf.shape(inputs), seed) >= self.rate
        return inputs * tf.cast(kept, inputs.dtype) / (1.0 - self.rate)


class _Builder:
    """The pieces of a U-Net for one number of dimensions, each layer named so that checkpoints have stable
    keys.
    """

    def __init__(self, spec: Model, dimensions: int, noise: Any) -> None:
        self.spec, self.noise = spec, noise
        layers = keras.layers
        flat = dimensions == 2
        self.convolution = layers.Conv2D if flat else layers.Conv3D
        self.transposed = layers.Conv2DTranspose if flat else layers.Conv3DTranspose
        self.pooling = layers.MaxPooling2D if flat else layers.MaxPooling3D
        self.upsampling = layers.UpSampling2D if flat else layers.UpSampling3D

    def block(self, x: Any, filters: int, name: str) -> Any:
        for part in ("a", "b"):
            bias = not self.spec.batch_norm
            x = self.convolution(
                filters,
                3,
                padding="same",
                use_bias=bias,
                kernel_initializer="he_normal",
                name=f"{name}_conv_{part}",
            )(x)
            if self.spec.batch_norm:
                x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm_{part}")(x)
            x = keras.layers.ReLU(name=f"{name}_relu_{part}")(x)
        return x

    def up(self, x: Any, filters: int, name: str) -> Any:
        if self.spec.upsampling == "transpose":
            return self.transposed(filters, 2, strides=2, padding="same", name=f"{name}_up")(x)
        x = self.upsampling(2, name=f"{name}_nearest")(x)
        return self.convolution(filters, 2, padding="same", name=f"{name}_up")(x)

    def dropout(self, x: Any, level: int, name: str) -> Any:
        if self.spec.dropout == 0:
            return x
        return SeededDropout(self.spec.dropout, self.noise, level + 1, f"{name}_dropout")(x)


def build_unet(spec: Model, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The network for images of ``shape`` ((x, y, c) or (z, x, y, c)) and its dropout's ``noise`` variable.

    The network maps (n, *shape) float32 to (n, *shape[:-1], 1) float32 between 0 and 1. ``noise``: int32
    (2,), not among its weights. Raises InputError for a shape that the model's depth cannot halve.
    """
    step = 2 ** (spec.depth - 1)
    if any(size % step for size in shape[:-1]):
        voxels = "x".join(map(str, shape[:-1]))
        raise InputError(
            f"images of {voxels} cannot be halved {spec.depth - 1} times (crop to multiples of {step})"
        )
    noise = tf.Variable([0, 0], dtype=tf.int32, trainable=False, name="noise")
    build = _Builder(spec, len(shape) - 1, noise)
    x = image = keras.Input(shape, name="image")
    skips = []
    for level in range(spec.depth - 1):
        x = build.block(x, spec.filters << level, f"down{level}")
        skips.append(x)
        x = build.pooling(2, name=f"down{level}_pool")(x)
        # The two lowest levels hold most of the weights.
        x = build.dropout(x, level, f"down{level}") if level >= spec.depth - 3 else x
    x = build.block(x, spec.filters << (spec.depth - 1), "bottom")
    for level in reversed(range(spec.depth - 1)):
        x = build.up(x, spec.filters << level, f"up{level}")
        x = keras.layers.Concatenate(name=f"up{level}_join")([x, skips[level]])
        x = build.block(x, spec.filters << level, f"up{level}")
    mask = build.convolution(1, 1, activation="sigmoid", name="mask")(x)
    return keras.Model(image, mask, name=spec.name), noise


def build_model(spec: Model, shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    """:func:`build_unet` with initial weights that ``seed`` decides."""
    keras.utils.set_random_seed(seed % 2**32)
    return build_unet(spec, shape)
