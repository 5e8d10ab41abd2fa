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
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

from hpcflow.errors import EXIT_FAILED, InputError
from hpcflow.placement.cpulist import brief, cpu_list, ranges
from hpcflow.placement.rankmap import RankPlace
from hpcflow.placement.record import Binding, told, write
from hpcflow.placement.topology import Topology

Verify = Literal["fail", "warn", "off"]
CPUS = Path("/sys/devices/system/cpu")


class Planned(Protocol):
    """What a rank must know of the plan. A RankMap is one; `PlanFile` is one that reads no more than it is asked for."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    def place(self, rank: int) -> RankPlace:
        """Where a rank is planned."""

    def topology(self, node: int) -> Topology:
        """The topology of a node."""

    def core_pus(self, place: RankPlace) -> tuple[int, ...]:
        """All hardware threads of a rank's cores."""


class PlanFile:
    """A rank map as its file has it (jobs/JOB/rankmap.json).

    One rank's place is all that is made of it: 8,000 ranks that each build 8,000 places would start a quarter of a
    second later.
    """

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file that is no rank map."""
        try:
            self._data = json.loads(path.read_text(encoding="utf-8"))
            self.size = len(self._data["ranks"])
            self._shape_of: list[int] = self._data["topology_of"]
            self._shapes = [Topology.from_json(shape) for shape in self._data["topologies"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: no rank map: {error}") from error

    def place(self, rank: int) -> RankPlace:
        """Where a rank is planned."""
        return RankPlace.from_json(self._data["ranks"][rank])

    def topology(self, node: int) -> Topology:
        """The topology of a node."""
        return self._shapes[self._shape_of[node]]

    def core_pus(self, place: RankPlace) -> tuple[int, ...]:
        """All hardware threads of a rank's cores."""
        cores = self.topology(place.node).cores
        return tuple(pu for core in place.cores for pu in cores[core].pus)


def check_in(bindings: Path, rankmap: Planned | None, verify: Verify = "fail") -> Binding:
    """Record what this rank was given in ``bindings`` and compare it with the plan. To be called before TensorFlow.

    Ends the process with exit code 1, one of the ranks having said why on stderr, when MPI has another size than the
    plan, or when some rank is not where it was planned and ``verify`` is "fail". "warn" says it and goes on, "off"
    records alone. Without a plan (``rankmap`` None) it records alone.
    """
    bindings.mkdir(parents=True, exist_ok=True)
    host, cpus, launcher = socket.gethostname(), tuple(sorted(os.sched_getaffinity(0))), told()
    if rankmap is not None and rankmap.size > 1 and launcher.rank is None:
        # Before MPI starts: some libraries abort there, every rank with a page of its own.
        _end_once(bindings, size_problem(Binding(0, 1, host, cpus, launcher), rankmap.size))
    rank, size, first = _mpi(bindings, rankmap)
    here = Binding(rank, size, host, cpus, launcher)
    if rankmap is not None and size != rankmap.size:
        _end_once(bindings, size_problem(here, rankmap.size))
    if rankmap is not None:
        place = rankmap.place(rank)
        problem = "" if verify == "off" else compare(here, place, rankmap)
        here = Binding(here.rank, here.size, here.host, here.cpus, here.told, place.pus, problem)
    write(bindings / f"{rank:05d}.json", here)
    if rankmap is None or verify == "off":
        return here
    worst = first(bool(here.problem))
    if worst is not None:
        number, speaker = worst
        others = f" ({number} of {size} ranks are not where they were planned)" if number > 1 else ""
        if rank == speaker:
            print(f"hpcflow: {here.problem}{others}", file=sys.stderr, flush=True)
        if verify == "fail":
            raise SystemExit(EXIT_FAILED)
    return here


def _mpi(bindings: Path, rankmap: Planned | None) -> tuple[int, int, Any]:
    """MPI's rank and size, and how the ranks agree: (are you wrong?) -> (how many are, the first of them) or None."""
    alone = (rankmap is None or rankmap.size == 1) and (told().size or 1) == 1
    if alone:
        # Nobody to agree with, and a program started without a launcher need not have an MPI that starts so.
        return 0, 1, lambda wrong: (1, 0) if wrong else None
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        _end_once(bindings, f"mpi4py finds no MPI library: {error} (load the launcher's MPI)")
    if MPI.Get_library_version().startswith("Open MPI") and "HYDI_CONTROL_FD" in os.environ:
        _end_once(
            bindings, "Hydra (MPICH, Intel MPI) started an Open MPI program: load the launcher's own MPI"
        )
    if not MPI.Is_initialized():
        MPI.Init_thread()  # the level that mpi4py asks for by default, MPI_THREAD_MULTIPLE, serves Horovod too
        atexit.register(_finalize, MPI)
    world = MPI.COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()

    def agree(wrong: bool) -> tuple[int, int] | None:
        count, lowest = array("i", [0]), array("i", [0])
        world.Allreduce(array("i", [int(wrong)]), count, op=MPI.SUM)
        world.Allreduce(array("i", [rank if wrong else size]), lowest, op=MPI.MIN)
        return (count[0], lowest[0]) if count[0] else None

    return rank, size, agree


def _finalize(mpi: Any) -> None:
    if mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()


def size_problem(here: Binding, planned: int) -> str:
    """The sentence for ranks whose MPI has another size than the plan."""
    said = f"MPI says rank {here.rank} of {here.size}, and {planned} ranks are planned"
    if here.told.size is None:
        return (
            f"{planned} ranks are planned, and no launcher's variables are in the environment: a container cleaned it "
            "(--cleanenv), or the program was started without the launcher"
        )
    if here.size == 1 and here.told.size == planned:
        cause = (
            "the launcher started all of them, so the program's MPI library is not the launcher's "
            "(load the same MPI, in the container too; srun needs a matching --mpi=)"
        )
    else:
        cause = f"the launcher itself started {here.told.size} (the allocation's tasks differ from the plan)"
    return f"{said}: {cause}"


def compare(here: Binding, place: RankPlace, rankmap: Planned) -> str:
    """The sentence for a rank that is not where it was planned; empty when it is."""
    if here.told.rank is not None and here.told.rank != here.rank:
        return (
            f"rank {here.rank}: the launcher calls it rank {here.told.rank}; likely cause: the program's MPI library is "
            "not the launcher's"
        )
    if here.told.local_rank is not None and here.told.local_rank != place.local_rank:
        return (
            f"rank {here.rank} on {here.host}: planned as local rank {place.local_rank} of node {place.node}, "
            f"is local rank {here.told.local_rank}; likely cause: the ranks are spread over other nodes than planned "
            "(--ntasks-per-node or the host list differs)"
        )
    actual, planned, whole = set(here.cpus), set(place.pus), set(rankmap.core_pus(place))
    if actual in (planned, whole):
        return ""
    if rankmap.topology(place.node).assumed and _same_shape(here.cpus, place):
        return ""
    shown = f"rank {here.rank} on {here.host}: planned CPUs {brief(place.pus)}, got {brief(here.cpus)}"
    return f"{shown}; likely cause: {_cause(actual, whole, here, place)} (placement.verify: warn goes on)"


def _same_shape(cpus: tuple[int, ...], place: RankPlace) -> bool:
    """Whether the CPUs are as many cores on as many sockets as planned, where the plan had to guess their ids."""
    try:
        cores = {
            min(cpu_list((CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text())) for cpu in cpus
        }
        sockets = {(CPUS / f"cpu{cpu}/topology/physical_package_id").read_text().strip() for cpu in cpus}
    except (OSError, ValueError):
        return False
    return len(cores) == len(place.cores) and len(sockets) == len(place.sockets)


def _cause(actual: set[int], whole: set[int], here: Binding, place: RankPlace) -> str:
    machine = max(os.cpu_count() or 0, max(actual, default=0) + 1)
    if max(whole) >= machine:
        return f"{here.host} has {machine} CPUs, fewer than the node that was planned for"
    if actual > whole:
        free = "all CPUs of the node" if len(actual) == machine else f"{len(actual)} CPUs"
        return f"nothing bound it, it may use {free}: the launcher's binding was dropped or overridden"
    if actual < whole:
        return "the job's cgroup is smaller than what was asked for, or smt differs"
    if here.told.rank is None:
        return (
            "the program was not started by the launcher, or a container cleaned the environment (--cleanenv)"
        )
    return f"the launcher mapped it elsewhere than on cores {ranges(place.cores)}: its version may differ from the plan's"


def _end_once(bindings: Path, sentence: str) -> NoReturn:
    """End this process; the first of the ranks to create the attempt's file says why."""
    attempt = "-".join(
        os.environ.get(name) or "0" for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "PMIX_NAMESPACE")
    )
    clean = "".join(c if c.isalnum() else "-" for c in attempt)
    name = clean if clean.strip("0-") else f"{clean}-{os.getppid()}"
    try:
        os.close(os.open(bindings / f"refused-{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise SystemExit(EXIT_FAILED) from None
    except OSError:
        pass  # better said twice than not at all
    print(f"hpcflow: {sentence}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_FAILED)
