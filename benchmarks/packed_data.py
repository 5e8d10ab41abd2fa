"""An epoch from packed data against NIfTI files that are read again each epoch: its input alone, and the whole of it.

    .venv/bin/python benchmarks/packed_data.py [--subjects 12] [--shape 64] [--epochs 2] [--filters 4]

One rank trains a small 2-D U-Net on all slices. Both train on the same arrays; only where they come from differs.
PHANTOM images, made for this.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hpcflow.experiment.schema import Model
from hpcflow.training.data.batches import Augmentation, Samples
from hpcflow.training.data.cache import Packed, build_packed, open_packed
from hpcflow.training.data.decathlon import Decathlon, open_decathlon
from hpcflow.training.data.phantom import PhantomSpec, write_phantoms
from hpcflow.training.data.preprocess import preprocess
from hpcflow.training.data.split import Split

RATE, BATCH, TARGET = 1e-3, 16, (1, 2, 3)


def main() -> None:
    """Print the seconds of each epoch for both, and what packing cost once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--shape", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--filters", type=int, default=4)
    options = parser.parse_args()
    crop = (options.shape,) * 3
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        write_phantoms(data, options.subjects, PhantomSpec(shape=crop), 0)
        dataset = open_decathlon(data)
        begun = time.perf_counter()
        path, _ = build_packed(Path(folder, "cache"), dataset, (0,), crop)
        print(f"packing, once: {time.perf_counter() - begun:.2f} s for {options.subjects} volumes of {crop}")
        train = trainer(open_packed(path), options.filters)
        train(from_cache(path), 1)  # the first epoch of a process is slower
        for epoch in range(2, options.epochs + 2):
            nifti, nifti_epoch, read_again = timed(lambda: from_nifti(dataset, path, crop), train, epoch)
            cache, cache_epoch, packed = timed(lambda: from_cache(path), train, epoch)
            assert np.array_equal(read_again.images, packed.images)
            print(
                f"epoch {epoch}: input NIfTI {nifti:.2f} s, packed {cache:.2f} s: {nifti / cache:.0f} x; "
                f"whole epoch NIfTI {nifti_epoch:.2f} s, packed {cache_epoch:.2f} s: {nifti_epoch / cache_epoch:.2f} x",
                flush=True,
            )


def timed(
    read: Callable[[], Packed], train: Callable[[Packed, int], None], epoch: int
) -> tuple[float, float, Packed]:
    """Seconds until the data is in memory, and until the epoch is over."""
    begun = time.perf_counter()
    packed = read()
    reading = time.perf_counter() - begun
    train(packed, epoch)
    return reading, time.perf_counter() - begun, packed


def from_nifti(dataset: Decathlon, path: Path, crop: tuple[int, int, int]) -> Packed:
    """Every volume decompressed and preprocessed anew."""
    pairs = [preprocess(*dataset.load(subject, (0,)), crop) for subject in dataset.subjects]
    images, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    return replace(open_packed(path), images=images, labels=labels)


def from_cache(path: Path) -> Packed:
    """The same arrays from packed data, every byte read."""
    packed = open_packed(path)
    return replace(packed, images=np.array(packed.images), labels=np.array(packed.labels))


def trainer(packed: Packed, filters: int) -> Callable[[Packed, int], None]:
    """What trains one epoch on all slices of all subjects with a U-Net of three levels, compiled for them."""
    import tf_keras as keras

    from hpcflow.training.loop import Loop, Settings
    from hpcflow.training.losses import LOSSES
    from hpcflow.training.models.unet import build_model
    from hpcflow.training.schedule import LearningRate
    from hpcflow.training.steps import Steps
    from hpcflow.training.strategies import load_strategy

    strategy, everybody = load_strategy("single"), tuple(range(len(packed.subjects)))
    model, noise = build_model(Model(filters=filters, depth=3), Samples(packed, TARGET, 2).shape, 0)
    optimizer = keras.optimizers.Adam(RATE, jit_compile=False)
    steps = Steps(model, optimizer, noise, LOSSES["dice_bce"], strategy)
    settings = Settings(BATCH, 0, False, Augmentation())

    def loop(data: Packed) -> Loop:
        return Loop(Samples(data, TARGET, 2), Split(everybody, everybody), steps, strategy, settings)

    steps.compile(loop(packed).example())

    def train(data: Packed, epoch: int) -> None:
        loop(data).train(epoch, LearningRate(RATE, 1, False, 0))

    return train


if __name__ == "__main__":
    main()
