"""What is done once to every subject before it is packed: normalise, crop, reorder."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Part of the packed cache's key: raise it when anything here changes its result."""

T = TypeVar("T", bound=np.generic)


def normalise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Image (x, y, z, c): each channel to mean 0 and standard deviation 1 within the brain, cut at +-5, 0
    outside.

    MR intensities have no unit. The brain is where any channel is not 0 (Decathlon and BraTS images are
    skull-stripped); background as 0 is the mean of the brain, which zero padding in the network continues.
    """
    brain = (image != 0).any(axis=-1)
    result = np.zeros_like(image)
    for channel in range(image.shape[-1]):
        values = image[..., channel][brain]
        if values.size:
            spread = float(values.std(dtype=np.float64)) or 1.0
            result[..., channel][brain] = np.clip((values - values.mean(dtype=np.float64)) / spread, -5, 5)
    return result


def crop_centre(volume: NDArray[T], crop: tuple[int, int, int]) -> NDArray[T]:
    """The ``crop`` voxels in the middle of the first three axes; where the volume is smaller, zeros around
    it.
    """
    cuts, pads = [], []
    for have, want in zip(volume.shape[:3], crop, strict=True):
        start = max(0, (have - want) // 2)
        cuts.append(slice(start, start + min(have, want)))
        missing = max(0, want - have)
        pads.append((missing // 2, missing - missing // 2))
    rest: list[tuple[int, int]] = [(0, 0)] * (volume.ndim - 3)
    return np.pad(volume[tuple(cuts)], pads + rest)


def preprocess(
    image: NDArray[np.float32], labels: NDArray[np.uint8], crop: tuple[int, int, int]
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Image (x, y, z, c) and labels (x, y, z) to packed form: (z, x, y, c) float16 and (z, x, y) uint8.

    Slices are contiguous that way, so that a 2-D model reads them as views of the volumes a 3-D model reads.
    Half precision keeps 3 digits of values within +-5, well below an image's noise, at half the bytes to
    read.
    """
    packed: NDArray[Any] = crop_centre(normalise(image), crop).astype(np.float16)
    cropped = crop_centre(labels, crop)
    return np.ascontiguousarray(np.moveaxis(packed, 2, 0)), np.ascontiguousarray(np.moveaxis(cropped, 2, 0))
