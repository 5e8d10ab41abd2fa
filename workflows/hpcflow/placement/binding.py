"""In the job: what a rank was really given, written down and compared with the plan before user code starts.

Every rank compares itself, all of them agree on the first that differs, and that one speaks: one sentence however many
ranks there are. Ranks whose MPI has another size than the plan cannot agree on anything (an MPI mismatch makes each of
them "rank 0 of 1"), so there the first to create a file speaks, and all end: N trainings that overwrite each other's
checkpoints are worse than none, whatever ``verify`` says.

Standard library and mpi4py. Beyond MPI's own start, which the training needs anyway, it costs some milliseconds a rank
(benchmarks/binding_cost.py).
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

from hpcflow.errors import EXIT_FAILED, InputError
from hpcflow.placement.compare import Planned, compare, overlap, size_problem
from hpcflow.placement.gpus import own_gpus
from hpcflow.placement.rankmap import RankPlace
from hpcflow.placement.record import Binding, refuse, told, write
from hpcflow.placement.sysfs import seat
from hpcflow.placement.topology import Topology

Verify = Literal["fail", "warn", "off"]


class PlanFile:
    """A rank map as its file has it (jobs/JOB/rankmap.json), and what is to be done where a rank differs.

    One rank's line is all that is parsed of its ranks (RankMap.to_text): 8,000 ranks that each parse 8,000 would start
    a tenth of a second later, and a quarter if they made places of them.
    """

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file that is no rank map."""
        try:
            head, *self._rows, end = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
            about = json.loads(head + end)
            self.size = len(self._rows)
            self.verify: Verify = about.get("verify", "fail")
            self._shape_of: list[int] = about["topology_of"]
            self._shapes = [Topology.from_json(shape) for shape in about["topologies"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: no rank map: {error}") from error

    @property
    def guessed(self) -> bool:
        """Whether the CPU ids of some node are a guess."""
        return any(shape.assumed for shape in self._shapes)

    def place(self, rank: int) -> RankPlace:
        """Where a rank is planned."""
        return RankPlace.from_json(json.loads(self._rows[rank].rstrip(",")))

    def topology(self, node: int) -> Topology:
        """The topology of a node."""
        return self._shapes[self._shape_of[node]]

    def core_pus(self, place: RankPlace) -> tuple[int, ...]:
        """All hardware threads of a rank's cores."""
        cores = self.topology(place.node).cores
        return tuple(pu for core in place.cores for pu in cores[core].pus)


def check_in_job(rankmap: Path, bindings: Path) -> int | None:
    """Check in by the rank map of this job; the number of ranks, or None for a job that has no rank map.

    Every program that a job may start as several ranks begins so. Ends the process as `check_in` does; raises InputError
    for a file that is no rank map.
    """
    if not rankmap.exists():
        return None
    plan = PlanFile(rankmap)
    check_in(bindings, plan, plan.verify)
    return plan.size


def check_in(bindings: Path, rankmap: Planned, verify: Verify = "fail") -> Binding:
    """Record what this rank was given in ``bindings``, compare it with the plan and show the rank its GPUs.

    To be called before TensorFlow is imported. Ends the process with exit code 1, one of the ranks having said why on
    stderr, when MPI has another size than the plan, or when some rank is not where it was planned and ``verify`` is
    "fail". "warn" says it and goes on, "off" records alone.
    """
    bindings.mkdir(parents=True, exist_ok=True)
    here = Binding(0, 1, socket.gethostname(), tuple(sorted(os.sched_getaffinity(0))), told())
    if rankmap.size > 1 and here.told.rank is None:
        # Before MPI starts: some libraries abort there, every rank with a page of its own.
        _end_once(bindings, here, rankmap.size, size_problem(here, rankmap.size))
    world = _world(bindings, here, rankmap.size)
    here = replace(here, rank=world.rank, size=world.size)
    if here.size != rankmap.size:
        _end_once(bindings, here, rankmap.size, size_problem(here, rankmap.size))
    here = _judged(here, rankmap, world, verify)
    os.environ.update(here.gpus)
    write(bindings / f"{here.rank:05d}.json", here)
    if verify == "off":
        return here
    worst = world.agree(bool(here.problem))
    if worst is not None:
        number, speaker = worst
        others = f" ({number} of {here.size} ranks are not where they were planned)" if number > 1 else ""
        if here.rank == speaker:
            print(f"hpcflow: {here.problem}{others}", file=sys.stderr, flush=True)
        if verify == "fail":
            raise SystemExit(EXIT_FAILED)
    return here


def _judged(here: Binding, rankmap: Planned, world: _World, verify: Verify) -> Binding:
    """The binding with what was planned, where it is and what is wrong with it."""
    place = rankmap.place(here.rank)
    node = rankmap.topology(place.node)
    here = replace(here, planned=place.pus, seat=seat(here.cpus) if node.assumed else None)
    problem = compare(here, place, rankmap)
    if rankmap.guessed and verify != "off":
        shared = overlap(
            here, world.neighbours(place.node, here), rankmap
        )  # all ranks ask, or they wait for ever
        problem = problem or shared
    try:
        return replace(here, problem=problem, gpus=own_gpus(place, node, os.environ))
    except InputError as error:
        return replace(here, problem=problem or str(error))


class _World(Protocol):
    """The ranks of the job, as far as they must agree."""

    rank: int
    size: int

    def agree(self, wrong: bool) -> tuple[int, int] | None:
        """Are you wrong? How many are, and the first of them; None where nobody is."""

    def neighbours(self, node: int, here: Binding) -> list[Binding]:
        """The bindings of all ranks that are planned on a node."""


class _Alone:
    rank: int = 0
    size: int = 1

    def agree(self, wrong: bool) -> tuple[int, int] | None:
        return (1, 0) if wrong else None

    def neighbours(self, node: int, here: Binding) -> list[Binding]:
        return [here]


class _Mpi:
    def __init__(self, mpi: Any) -> None:
        self._mpi, self._world = mpi, mpi.COMM_WORLD
        self.rank: int = self._world.Get_rank()
        self.size: int = self._world.Get_size()

    def agree(self, wrong: bool) -> tuple[int, int] | None:
        count, lowest = array("i", [0]), array("i", [0])
        self._world.Allreduce(array("i", [int(wrong)]), count, op=self._mpi.SUM)
        self._world.Allreduce(array("i", [self.rank if wrong else self.size]), lowest, op=self._mpi.MIN)
        return (count[0], lowest[0]) if count[0] else None

    def neighbours(self, node: int, here: Binding) -> list[Binding]:
        """As the bytes that bindings/ has, each with blanks to the length of the longest."""
        local = self._world.Split(node, self.rank)
        mine = json.dumps(here.to_json()).encode()
        longest = array("i", [0])
        local.Allreduce(array("i", [len(mine)]), longest, op=self._mpi.MAX)
        everybody = bytearray(longest[0] * local.Get_size())
        local.Allgather(mine.ljust(longest[0]), everybody)
        local.Free()
        rows = (everybody[at : at + longest[0]] for at in range(0, len(everybody), longest[0]))
        return [Binding.from_json(json.loads(row)) for row in rows]


def _world(bindings: Path, here: Binding, planned: int) -> _World:
    """MPI's ranks. Ends the process where MPI cannot be the launcher's."""
    if planned == 1 and (here.told.size or 1) == 1:
        # Nobody to agree with, and a program started without a launcher need not have an MPI that starts so.
        return _Alone()
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        text = f"mpi4py finds no MPI library: {error} (load the launcher's MPI)"
        _end_once(bindings, here, planned, text)
    if MPI.Get_library_version().startswith("Open MPI") and "HYDI_CONTROL_FD" in os.environ:
        text = "Hydra (MPICH, Intel MPI) started an Open MPI program: load the launcher's own MPI"
        _end_once(bindings, here, planned, text)
    if not MPI.Is_initialized():
        MPI.Init_thread()  # the level that mpi4py asks for by default, MPI_THREAD_MULTIPLE, serves Horovod too
        atexit.register(_finalize, MPI)
    return _Mpi(MPI)


def _finalize(mpi: Any) -> None:
    if mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()


def _end_once(bindings: Path, here: Binding, planned: int, sentence: str) -> NoReturn:
    """Record this rank and end its process; the first of the ranks to create the attempt's file says why.

    The record has the launcher's number, for to MPI each of them may be rank 0; beyond the plan's ranks there is none.
    """
    number = here.rank if here.told.rank is None else here.told.rank
    if number < planned:
        write(bindings / f"{number:05d}.json", replace(here, problem=sentence))
    if refuse(bindings, sentence):
        print(f"hpcflow: {sentence}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_FAILED)
