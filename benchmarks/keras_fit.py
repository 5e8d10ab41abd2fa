"""Images a second of a job's training against plain Keras fit: the same U-Net, data, batch, loss and
optimizer.

    mpirun -np 1 python benchmarks/keras_fit.py [--filters 16] [--batch 8] [--subjects 12] [--epochs 5]

Keras (tf-keras) gets the training slices of a PHANTOM data set as two arrays in memory and model.fit; hpcflow
reads them from its packed cache and counts Dice at each step, once with the strategy single and once with
Horovod on one rank. The three take an epoch in turn, in one process; the first of each (tracing) is left out.
No augmentation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np

from hpcflow.experiment.schema import Training
from hpcflow.training.data.batches import Samples
from hpcflow.training.data.cache import open_packed
from hpcflow.training.data.split import split_subjects
from hpcflow.training.job import Place, TrainingJob, configure_tensorflow
from hpcflow.training.prepare import prepare
from hpcflow.training.strategies import load_strategy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("filters", 16), ("batch", 8), ("subjects", 12), ("epochs", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    training = Training.model_validate(
        {
            "model": {"name": "unet2d", "filters": options.filters},
            "data": {
                "phantom": {"subjects": options.subjects, "shape": [64, 64, 48]},
                "modalities": ["FLAIR", "T1w", "t1gd", "T2w"],
                "crop": [64, 64, 48],
                "augment": {"flip": False},
            },
            "batch_size": options.batch,
        }
    )
    configure_tensorflow(deterministic=True)
    with tempfile.TemporaryDirectory() as folder:
        measure(training, Path(folder), options.epochs)


def measure(training: Training, folder: Path, epochs: int) -> None:
    """Let the three train in turns and print the medians."""
    packed = prepare(training.data, "", folder)
    runners: dict[str, Callable[[int], float]] = {"Keras fit": keras_fit(training, packed)}
    for strategy, label in (("single", "hpcflow, single"), ("horovod", "hpcflow, Horovod 1 rank")):
        place = Place("", folder, folder / "metrics.jsonl", folder)
        job = TrainingJob(training, place, load_strategy(strategy))
        job.steps.compile(job.loop.example())
        runners[label] = loop_epoch(job)
    rates: dict[str, list[float]] = {label: [] for label in runners}
    for epoch in range(1, epochs + 2):
        for label, run in runners.items():
            rates[label].append(run(epoch))
    medians = {label: statistics.median(values[1:]) for label, values in rates.items()}
    for label, rate in medians.items():
        print(f"{label:24} {rate:8.1f} images/s   {rate / medians['Keras fit']:5.2f} of Keras fit")


def loop_epoch(job: TrainingJob) -> Callable[[int], float]:
    """An epoch of hpcflow's loop: number -> images a second."""

    def run(epoch: int) -> float:
        trained = job.loop.train(epoch, job.rates)
        return trained.samples / trained.seconds

    return run


def keras_fit(training: Training, packed: Path) -> Callable[[int], float]:
    """An epoch of model.fit on the same slices: number -> images a second."""
    import tensorflow as tf
    import tf_keras as keras

    from hpcflow.training.losses import LOSSES
    from hpcflow.training.models.unet import build_model

    cache = open_packed(packed)
    samples = Samples(cache, (1, 2, 3), 2)
    split = split_subjects(cache.subjects, training.data.validation_fraction, training.seed)
    numbers = samples.of_subjects(split.training, with_target_only=True)
    images, masks, _ = samples.batch(numbers, np.ones(len(numbers), np.float32))
    model, _ = build_model(training.model, samples.shape, training.seed)
    loss = LOSSES[training.loss]
    model.compile(
        keras.optimizers.Adam(training.learning_rate, jit_compile=False),
        lambda m, p: tf.reduce_mean(loss(m, p)),
    )

    def run(epoch: int) -> float:
        start = time.perf_counter()
        model.fit(images, masks, training.batch_size, epochs=1, verbose=0)
        return len(images) / (time.perf_counter() - start)

    return run


if __name__ == "__main__":
    main()
