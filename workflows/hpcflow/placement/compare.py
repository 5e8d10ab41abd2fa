"""The sentence for a rank that was given something else than planned.

Where the plan knows the node's CPU ids, ids are compared. Where it had counts alone (`Topology.assumed`) its ids are a
guess, and equal ids would mean nothing: what counts there are the cores, sockets and threads that the node's kernel
tells, and that no other rank of the node has one of the cores (`overlap`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from hpcflow.placement.cpulist import brief, ranges
from hpcflow.placement.places import many
from hpcflow.placement.rankmap import RankPlace
from hpcflow.placement.record import Binding, Seat
from hpcflow.placement.topology import Topology


class Planned(Protocol):
    """What a rank must know of the plan. A RankMap is one; `PlanFile` is one that reads no more than it is asked for."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    @property
    def guessed(self) -> bool:
        """Whether the CPU ids of some node are a guess."""

    def place(self, rank: int) -> RankPlace:
        """Where a rank is planned."""

    def topology(self, node: int) -> Topology:
        """The topology of a node."""

    def core_pus(self, place: RankPlace) -> tuple[int, ...]:
        """All hardware threads of a rank's cores."""


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
    if rankmap.topology(place.node).assumed:
        return _compare_seat(here, place)
    actual, planned, whole = set(here.cpus), set(place.pus), set(rankmap.core_pus(place))
    if actual in (planned, whole):
        return ""
    shown = f"rank {here.rank} on {here.host}: planned CPUs {brief(place.pus)}, got {brief(here.cpus)}"
    return f"{shown}; likely cause: {_cause(actual, whole, here, place)} (placement.verify: warn goes on)"


def _compare_seat(here: Binding, place: RankPlace) -> str:
    """By cores, sockets and threads, where the plan does not know the CPU ids."""
    rank, seat = f"rank {here.rank} on {here.host}", here.seat
    if seat is None:
        return (
            f"{rank}: the plan has counts alone, and the kernel does not tell where CPUs {brief(here.cpus)} are "
            "(no /sys in the container?), so that they cannot be compared (give the site profile an hwloc file)"
        )
    # A launcher binds one thread of a core or, whatever smt says, all of them.
    exact = seat.whole or len(here.cpus) == len(place.pus)
    if (len(seat.cores), seat.sockets) == (len(place.cores), place.sockets) and exact:
        return ""
    wanted = f"planned {many(len(place.cores), 'core')} of {_sockets(place.sockets)}"
    got = f"got {many(len(seat.cores), 'core')} of {_sockets(seat.sockets)} (CPUs {brief(here.cpus)})"
    cause = _cause_of_seat(seat, here, place)
    return f"{rank}: {wanted}, {got}; likely cause: {cause} (placement.verify: warn goes on)"


def _sockets(numbers: tuple[int, ...]) -> str:
    return f"socket{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def overlap(here: Binding, others: Iterable[Binding], rankmap: Planned) -> str:
    """The sentence for a rank that shares a core of its node with another, where that is not planned; else empty."""
    if here.seat is None:
        return ""
    planned = set(rankmap.place(here.rank).cores)
    for other in others:
        if other.seat is None or other.rank == here.rank or other.host != here.host:
            continue
        shared = set(here.seat.cores).intersection(other.seat.cores)
        if shared and planned.isdisjoint(rankmap.place(other.rank).cores):
            cores = ranges(sorted(shared))
            return (
                f"rank {here.rank} on {here.host}: rank {other.rank} has core {cores} too, and no core is planned for "
                "both; likely cause: the launcher's CPU ids are not the node's (give the site profile an hwloc file) "
                "(placement.verify: warn goes on)"
            )
    return ""


def _cause(actual: set[int], whole: set[int], here: Binding, place: RankPlace) -> str:
    machine = max(os.cpu_count() or 0, max(actual, default=0) + 1)
    if max(whole) >= machine:
        return f"{here.host} has {machine} CPUs, fewer than the node that was planned for"
    if actual > whole:
        free = "all CPUs of the node" if len(actual) == machine else f"{len(actual)} CPUs"
        return f"nothing bound it, it may use {free}: the launcher's binding was dropped or overridden"
    if actual < whole:
        return "the job's cgroup is smaller than what was asked for, or smt differs"
    return _elsewhere(here, place)


def _cause_of_seat(seat: Seat, here: Binding, place: RankPlace) -> str:
    node = sum(seat.node)
    if max(place.cores) >= node or max(place.sockets) >= len(seat.node):
        shape = f"{many(node, 'core')} on {many(len(seat.node), 'socket')}"
        return f"{here.host} has {shape}, fewer than the node that was planned for"
    if len(seat.cores) == node:
        return "nothing bound it, it may use all cores of the node: the launcher's binding was dropped or overridden"
    if len(seat.cores) < len(place.cores) and set(seat.sockets) <= set(place.sockets):
        return "the job's cgroup is smaller than what was asked for"
    return _elsewhere(here, place)


def _elsewhere(here: Binding, place: RankPlace) -> str:
    if here.told.rank is None:
        return (
            "the program was not started by the launcher, or a container cleaned the environment (--cleanenv)"
        )
    return f"the launcher mapped it elsewhere than on cores {ranges(place.cores)}: its version may differ from the plan's"
