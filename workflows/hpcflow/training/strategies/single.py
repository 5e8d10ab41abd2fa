"""One process alone: the same loop without Horovod or MPI."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class PlainTape:
    """tf.GradientTape; nothing is averaged and that takes 0 s."""

    def __init__(self) -> None:
        self._tape = tf.GradientTape()

    def recording(self) -> AbstractContextManager[Any]:
        return self._tape  # type: ignore[no-any-return]

    def gradient(self, loss: Any, variables: list[Any]) -> tuple[list[Any], Any]:
        return self._tape.gradient(loss, variables), tf.constant(0.0, tf.float64)


class SingleStrategy:
    """Rank 0 of 1; every collective is the identity."""

    rank = 0
    size = 1

    def tape(self) -> PlainTape:
        return PlainTape()

    def broadcast(self, variables: list[Any]) -> None:
        pass

    def average(self, variables: list[Any]) -> None:
        pass

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values

    def agree(self, text: str) -> str:
        return text

    def close(self) -> None:
        pass
