"""From the packed cache to batches of float32: choose samples, augment, prefetch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import InputError
from hpcflow.training.data.cache import Packed

T = TypeVar("T")


class Batch(NamedTuple):
    """images (n, [z,] x, y, c) float32; masks (n, [z,] x, y, 1) float32, 0 or 1; weights (n,) float32."""

    images: NDArray[np.float32]
    masks: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """Random changes; see ``training.data.augment`` in the schema. ``noise`` in units of the normalised
    image.
    """

    flip: bool = False
    rotate90: bool = False
    noise: float = 0.0

    def apply(
        self, image: NDArray[np.float32], mask: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Change one sample ([z,] x, y, c): mirrors, turns in the x-y plane, Gaussian noise on the image.

        Where x and y differ, turns are by 180 degrees alone, which keep the shape.
        """
        across, along = image.ndim - 3, image.ndim - 2
        if self.flip:
            axes = [axis for axis in (across, along) if rng.random() < 0.5]
            image, mask = np.flip(image, axes), np.flip(mask, axes)
        if self.rotate90:
            square = image.shape[across] == image.shape[along]
            turns = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
            image, mask = (np.rot90(array, turns, (across, along)) for array in (image, mask))
        if self.noise:
            image = image + self.noise * rng.standard_normal(image.shape, dtype=np.float32)
        return image, mask


class Samples:
    """The samples of a packed cache: slices for a 2-D model, volumes for a 3-D one, numbered from 0.

    target: the labels that make the foreground. dimensions: 2 or 3.
    """

    def __init__(self, packed: Packed, target: Sequence[int], dimensions: int) -> None:
        flat = dimensions == 2
        self.per_subject = packed.images.shape[1] if flat else 1
        self._images = packed.images.reshape(-1, *packed.images.shape[2:]) if flat else packed.images
        self._labels = packed.labels.reshape(-1, *packed.labels.shape[2:]) if flat else packed.labels
        self._foreground = np.isin(np.arange(256), list(target)).astype(np.float32)
        known = [label for label in target if label < packed.voxels.shape[-1]]
        counts = packed.voxels[..., known].sum(axis=-1)
        self._has_target = (counts if flat else counts.sum(axis=1, keepdims=True)).reshape(-1) > 0

    def has_target(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each sample shows a voxel of the target."""
        return np.asarray(self._has_target[numbers], np.bool_)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (x, y, c) or (z, x, y, c)."""
        return self._images.shape[1:]

    def of_subjects(self, subjects: Sequence[int], *, with_target_only: bool) -> NDArray[np.int64]:
        """Sample numbers of ``subjects``, rising. Raises InputError where none is left."""
        starts = np.asarray(subjects, np.int64)[:, None] * self.per_subject
        numbers = (starts + np.arange(self.per_subject)).reshape(-1)
        numbers = numbers[self._has_target[numbers]] if with_target_only else numbers
        if not len(numbers):
            raise InputError(
                "no slice of the training subjects shows the target (set training.data.slices: all)"
            )
        return np.sort(numbers)

    def subject_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The subject's position of each sample number."""
        return numbers // self.per_subject

    def batch(
        self,
        numbers: NDArray[np.int64],
        weights: NDArray[np.float32],
        augmentation: Augmentation | None = None,
        seed: tuple[int, ...] = (),
    ) -> Batch:
        """Read samples. Each is augmented by a generator of ``seed`` and its number: the same on whatever
        rank.
        """
        images = np.empty((len(numbers), *self.shape), np.float32)
        masks = np.empty((*images.shape[:-1], 1), np.float32)
        for row, number in enumerate(numbers.tolist()):
            image = self._images[number].astype(np.float32)
            mask = self._foreground[self._labels[number]][..., None]
            if augmentation is not None:
                image, mask = augmentation.apply(image, mask, np.random.default_rng([*seed, number]))
            images[row], masks[row] = image, mask
        return Batch(images, masks, weights)


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield ``items`` while a thread makes up to ``depth`` of them in advance.

    What the thread raises is raised here. Leaving the loop early stops the thread after the item it is
    making.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(entry: tuple[T | None, BaseException | None, bool]) -> None:
        while not stop.is_set():
            try:
                return ready.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put((item, None, False))
                if stop.is_set():
                    return
            put((None, None, True))
        except BaseException as error:  # raised again in the loop that waits for the item
            put((None, error, True))

    thread = threading.Thread(target=make, name="hpcflow-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]  # None only where T has it
    finally:
        stop.set()
        thread.join()
