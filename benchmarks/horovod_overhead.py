"""What Horovod costs a step where it has nobody to talk to: 1 rank against none, target at most 5 %.

    mpirun -np 1 python benchmarks/horovod_overhead.py [--filters 16] [--batch 8] [--size 64] [--pairs 150]

Two copies of the U-Net of configs/unet.yaml take a step each on the same random batch in one process, in
turns, so that whatever else the machine does falls on both. Printed: the median time of a step, and the
median of the ratio of the two steps of a turn. The step is the one that a job runs: forward, loss, backward,
allreduce, Adam, Dice counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np

from hpcflow.experiment.schema import Model
from hpcflow.training.data.batches import Batch
from hpcflow.training.job import configure_tensorflow
from hpcflow.training.strategies import Strategy, load_strategy

if TYPE_CHECKING:
    from hpcflow.training.steps import Steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("filters", 16), ("batch", 8), ("size", 64), ("pairs", 150)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    configure_tensorflow(deterministic=True)
    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size)
    images = rng.standard_normal((*shape, 4), dtype=np.float32)
    masks = (rng.random((*shape, 1)) < 0.1).astype(np.float32)
    batch = Batch(images, masks, np.ones(options.batch, np.float32))
    steps = {name: make_steps(load_strategy(name), options.filters, batch) for name in ("single", "horovod")}
    for number in range(-5, 0):
        for each in steps.values():
            one_step(each, batch, number)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(options.pairs):
        # The order changes from pair to pair, so that a machine that slows down does not favour one.
        for name in ("single", "horovod") if number % 2 else ("horovod", "single"):
            times[name].append(one_step(steps[name], batch, number))
    ratios = [
        with_it[0] / without[0] for with_it, without in zip(times["horovod"], times["single"], strict=True)
    ]
    for name, label in (("single", "without Horovod"), ("horovod", "Horovod, 1 rank")):
        print(f"{label:20} {1000 * statistics.median(step for step, _ in times[name]):8.2f} ms a step")
    print(
        f"{'  of it allreduce':20} {1000 * statistics.median(part for _, part in times['horovod']):8.2f} ms"
    )
    print(f"{'ratio':20} {statistics.median(ratios):8.3f}    (target <= 1.05)")


def make_steps(strategy: Strategy, filters: int, batch: Batch) -> Steps:
    """A model of its own for ``strategy``, traced."""
    import tf_keras as keras

    from hpcflow.training.losses import LOSSES
    from hpcflow.training.models.unet import build_model
    from hpcflow.training.steps import Steps

    model, noise = build_model(Model(name="unet2d", filters=filters), batch.images.shape[1:], seed=0)
    steps = Steps(model, keras.optimizers.Adam(jit_compile=False), noise, LOSSES["dice"], strategy)
    steps.compile(batch)
    return steps


def one_step(steps: Steps, batch: Batch, number: int) -> tuple[float, float]:
    """Seconds of a step, and those of them in allreduce."""
    start = time.perf_counter()
    _, allreduce_s = steps.train(batch, float(len(batch.weights)), 1e-3, (0, number))
    return time.perf_counter() - start, allreduce_s


if __name__ == "__main__":
    main()
