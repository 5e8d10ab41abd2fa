"""The processes of one aggregation: MPI ranks, or this process alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Ranks(Protocol):
    """What aggregation asks of its processes. Arrays travel as buffers; objects are small (names, reasons)."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def share(self, value: Any) -> list[Any]:
        """Every rank's ``value``, in the order of ranks, on all of them."""

    def send(self, array: NDArray[np.float64]) -> None:
        """To rank 0."""

    def receive(self, array: NDArray[np.float64], rank: int) -> None:
        """On rank 0, from ``rank``."""


class Alone:
    """One process."""

    rank: int = 0
    size: int = 1

    def share(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def send(self, array: NDArray[np.float64]) -> None:
        """Nobody is there."""
        raise AssertionError("one process sends nothing")

    def receive(self, array: NDArray[np.float64], rank: int) -> None:
        """Nobody is there."""
        raise AssertionError("one process receives nothing")


class Mpi:
    """The ranks of MPI_COMM_WORLD. Needs a launcher around the process."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._world = MPI.COMM_WORLD
        self.rank: int = self._world.Get_rank()
        self.size: int = self._world.Get_size()

    def share(self, value: Any) -> list[Any]:
        """By mpi4py's own pickles between the ranks of one job; nothing in them comes from a collaborator's bytes
        but text.
        """
        return list(self._world.allgather(value))

    def send(self, array: NDArray[np.float64]) -> None:
        """As a buffer, not limited to 2 GB by pickling."""
        self._world.Send(array, 0)

    def receive(self, array: NDArray[np.float64], rank: int) -> None:
        """The buffer of :meth:`send`."""
        self._world.Recv(array, rank)


# What launchers tell a rank of the number of ranks: Open MPI, MPICH and Intel MPI, PMIx under srun.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def ranks(environ: Mapping[str, str] = os.environ) -> Ranks:
    """MPI's ranks where a launcher started this process as one of several, else this process alone.

    srun starts MPI ranks as it starts anything else: with PMI2 it says PMI_SIZE; with PMIx the sign is
    PMIX_RANK, and Slurm's own count of tasks tells how many there are.
    """
    sizes = [environ[key] for key in _SIZES if key in environ]
    if not sizes and "PMIX_RANK" in environ:
        sizes = [environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", "1"))]
    return Mpi() if any(size not in ("", "1") for size in sizes) else Alone()
