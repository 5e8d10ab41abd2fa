"""How several processes train one model. A strategy is named in the schema and loaded inside the job."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Tape(Protocol):
    """A gradient tape whose gradients are averaged over the ranks, and what the averaging took."""

    def recording(self) -> AbstractContextManager[Any]:
        """Operations in the block are recorded."""

    def gradient(self, loss: Any, variables: list[Any]) -> tuple[list[Any], Any]:
        """Gradients of the mean over ranks of ``loss``, and the seconds (float64 scalar tensor) spent
        averaging.
        """


class Strategy(Protocol):
    """What the loop needs from the others. All ranks call it in the same order, as MPI's collectives."""

    rank: int
    size: int

    def tape(self) -> Tape:
        """A new tape; called while a step is traced."""

    def broadcast(self, variables: list[Any]) -> None:
        """Give every rank the values that rank 0 has."""

    def average(self, variables: list[Any]) -> None:
        """Give every rank the mean over ranks of each variable (floating point)."""

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Element by element over ranks, the same on each."""

    def agree(self, text: str) -> str:
        """Rank 0's ``text`` on every rank."""

    def close(self) -> None:
        """Leave the others, once, after the last call."""


def load_strategy(name: str) -> Strategy:
    """Start the strategy called ``name`` ("horovod" initialises MPI). Imports TensorFlow."""
    if name == "horovod":
        from hpcflow.training.strategies.horovod import HorovodStrategy

        return HorovodStrategy()
    from hpcflow.training.strategies.single import SingleStrategy

    return SingleStrategy()
