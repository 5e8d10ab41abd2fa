"""Data parallel training by Horovod over MPI (Sergeev and Del Balso, 2018), with TensorFlow 2.18 and Horovod
0.28.1.

``horovod.tensorflow`` alone is used: ``horovod.tensorflow.keras`` of 0.28.1 imports Keras 3, which it does
not know.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def _clock() -> Any:
    """Seconds of a monotonic clock as a float64 tensor. Not tf.timestamp: TensorFlow 2.18 refuses it under
    enable_op_determinism."""
    return tf.numpy_function(time.perf_counter, [], tf.float64, stateful=True, name="clock")


class _ClockedTape(tf.GradientTape):  # type: ignore[misc]  # TensorFlow has no types
    """A tape that notes when the last of this rank's gradients is ready, before Horovod takes them.

    DistributedGradientTape makes a subclass of the tape it is given and calls the gradient() below first.
    """

    ready: Any = None

    def gradient(self, target: Any, sources: Any, output_gradients: Any = None, **keywords: Any) -> Any:
        gradients = super().gradient(target, sources, output_gradients, **keywords)
        with tf.control_dependencies(gradients):
            self.ready = _clock()
        with tf.control_dependencies([self.ready]):
            return [tf.identity(gradient) for gradient in gradients]


class HorovodTape:
    """hvd.DistributedGradientTape, timed.

    The seconds are those from this rank's last gradient being ready to the last averaged gradient being back:
    the transfer, Horovod's negotiation, and the wait for the slowest rank. All gradients form one group. So
    their allreduce starts when the last is ready, which is what makes the time above the whole of it; and it
    always sums the same buffer in the same order, where Horovod's fusion by arrival would cut it otherwise
    each time and, from three ranks on, round otherwise: the same seed would not give the same losses.
    """

    def __init__(self) -> None:
        self._tape = hvd.DistributedGradientTape(_ClockedTape(), groups=1)

    def recording(self) -> AbstractContextManager[Any]:
        return self._tape  # type: ignore[no-any-return]

    def gradient(self, loss: Any, variables: list[Any]) -> tuple[list[Any], Any]:
        gradients = self._tape.gradient(loss, variables)
        with tf.control_dependencies(gradients):
            done = _clock()
        return gradients, done - self._tape.ready


class HorovodStrategy:
    """One rank of MPI_COMM_WORLD. Creating it calls hvd.init()."""

    def __init__(self) -> None:
        hvd.init()
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()

    def tape(self) -> HorovodTape:
        return HorovodTape()

    def broadcast(self, variables: list[Any]) -> None:
        hvd.broadcast_variables(variables, root_rank=0)

    def average(self, variables: list[Any]) -> None:
        if variables:
            means = hvd.grouped_allreduce([variable.value() for variable in variables], op=hvd.Average)
            for variable, mean in zip(variables, means, strict=True):
                variable.assign(mean)

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        reduced = hvd.allreduce(tf.constant(values, tf.float64), op=hvd.Sum)
        return np.asarray(reduced.numpy(), np.float64)

    def agree(self, text: str) -> str:
        mine = np.frombuffer(text.encode(), np.uint8)
        length = int(hvd.broadcast(tf.constant(len(mine), tf.int64), root_rank=0).numpy())
        mine = mine if self.rank == 0 else np.zeros(length, np.uint8)
        return bytes(hvd.broadcast(tf.constant(mine), root_rank=0).numpy()).decode()

    def close(self) -> None:
        hvd.shutdown()
