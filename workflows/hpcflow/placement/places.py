"""Which cores every rank of one node gets: the answer to a placement request on one topology.

The domain is the node, or every socket, NUMA node or L3 group. ``cores_per_rank: auto`` shares each domain
evenly, so at most (cores mod ranks) cores of a domain stay idle. On a node as the domain a rank spans
two sockets only if the ranks do not fit otherwise; ``packed`` fills a socket first, ``scattered`` goes round
robin over the sockets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcflow.errors import InputError
from hpcflow.placement.topology import Level, Topology

if TYPE_CHECKING:
    from hpcflow.experiment.schema import Placement

Cores = tuple[int, ...]
NAMES: dict[Level, str] = {"node": "node", "socket": "socket", "numa": "NUMA node", "l3": "L3 group"}


def many(number: int, what: str) -> str:
    """1 rank, 2 ranks."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def level_of(request: Placement) -> tuple[Level, int | None]:
    """The domain of a request and its ranks there; None where the request counts the whole job."""
    if request.ranks is not None:
        return "node", None
    if request.ranks_per_socket is not None:
        return "socket", request.ranks_per_socket
    if request.ranks_per_numa is not None:
        return "numa", request.ranks_per_numa
    if request.ranks_per_l3 is not None:
        return "l3", request.ranks_per_l3
    return "node", request.ranks_per_node or 1


def places(request: Placement, node: Topology, ranks: int | None, where: str) -> tuple[Cores, ...]:
    """The cores of every rank of one node, by local rank.

    ``ranks`` replaces the request's own number where that counts the whole job; ``where`` names the node in
    messages. Raises InputError with what was asked, what there is and the nearest that fits.
    """
    level, each = level_of(request)
    count = ranks if ranks is not None else each or 1
    kept = frozenset(range(len(node.cores))) - _reserved(request, node)
    domains = node.domains(level)
    found: list[Cores] = []
    for number, domain in enumerate(domains):
        free = tuple(core for core in domain if core in kept)
        label = where if level == "node" else f"{NAMES[level]} {number} of {where}"
        size = _size(request, len(free), count, label, len(domain) - len(free))
        if size * count > len(free):
            found += [
                tuple(free[(rank * size + i) % len(free)] for i in range(size)) for rank in range(count)
            ]
        elif level == "node":
            found += _over_sockets(node, free, count, size, scattered=request.order == "scattered")
        else:
            found += [free[rank * size : (rank + 1) * size] for rank in range(count)]
    if request.order == "scattered" and level != "node":
        return tuple(_round_robin(node, found))
    return tuple(found)


def _reserved(request: Placement, node: Topology) -> frozenset[int]:
    reserve = request.reserve
    if not reserve.cores:
        return frozenset()
    domains = node.domains("socket" if reserve.per == "socket" else "node")
    return frozenset(
        core
        for domain in domains
        for core in (domain[: reserve.cores] if reserve.at == "first" else domain[-reserve.cores :])
    )


def _size(request: Placement, free: int, count: int, label: str, reserved: int) -> int:
    """Cores of one rank in a domain of ``free`` cores. Raises InputError."""
    asked = request.cores_per_rank
    without = f" ({reserved} reserved)" if reserved else ""
    if asked == "auto":
        if count <= free:
            return free // count
        if request.oversubscribe and free:
            return 1
        nearest = f"nearest that fits: {many(free, 'rank')} of 1 core" if free else "no number of ranks fits"
        raise InputError(
            f"placement: asked {many(count, 'rank')} on {label}, available {many(free, 'core')}{without}; {nearest}"
            + (", or oversubscribe: true" if free else "")
        )
    if asked * count <= free or (request.oversubscribe and asked <= free):
        return asked
    fits = []
    if free >= asked:
        fits.append(f"{many(free // asked, 'rank')} of {many(asked, 'core')}")
    if free >= count:
        fits.append(f"{many(count, 'rank')} of {many(free // count, 'core')}")
    if not fits:
        fits.append(f"{many(free, 'rank')} of 1 core" if free else "no number of ranks")
    raise InputError(
        f"placement: asked {many(count, 'rank')} of {many(asked, 'core')} on {label} = {many(asked * count, 'core')}, "
        f"available {free}{without}; nearest that fits: {', or '.join(fits)}"
    )


def _over_sockets(node: Topology, free: Cores, count: int, size: int, *, scattered: bool) -> list[Cores]:
    """Ranks of a whole node, within one socket each if all of them fit so."""
    kept = set(free)
    left = [[core for core in socket if core in kept] for socket in node.sockets]
    fits = sum(len(socket) // size for socket in left)
    if not scattered and fits < count:
        return [free[rank * size : (rank + 1) * size] for rank in range(count)]
    found: list[Cores] = []
    turn = 0
    for _ in range(min(count, fits)):
        while len(left[turn % len(left)]) < size:
            turn += 1
        socket = left[turn % len(left)]
        found.append(tuple(socket[:size]))
        del socket[:size]
        turn += scattered
    rest = sorted(core for socket in left for core in socket)
    found += [tuple(rest[i * size : (i + 1) * size]) for i in range(count - len(found))]
    return found


def _round_robin(node: Topology, found: Sequence[Cores]) -> list[Cores]:
    """Number places by turns over the sockets that they begin in."""
    queues: dict[int, list[Cores]] = {}
    for place in found:
        queues.setdefault(node.cores[place[0]].package, []).append(place)
    ordered: list[Cores] = []
    waiting = [queues[package] for package in sorted(queues)]
    while len(ordered) < len(found):
        for queue in waiting:
            if queue:
                ordered.append(queue.pop(0))
    return ordered


def gpus(
    request: Placement, node: Topology, cores: Sequence[Cores], where: str
) -> tuple[tuple[int, ...], ...]:
    """The GPUs of every local rank: each takes the free ones nearest to its cores, in the order of the ranks.

    Near is: shares cores with the rank, then a socket, then any. Raises InputError when there are too few.
    """
    each = request.gpus_per_rank
    if not each:
        return ((),) * len(cores)
    if each * len(cores) > len(node.gpus):
        fits = len(node.gpus) // each
        raise InputError(
            f"placement: asked {many(len(cores), 'rank')} of {many(each, 'GPU')} on {where} = {each * len(cores)} GPUs, "
            f"available {len(node.gpus)}; nearest that fits: "
            + (f"{many(fits, 'rank')} of {many(each, 'GPU')}" if fits else "no GPUs (gpus_per_rank: 0)")
        )
    free = list(range(len(node.gpus)))
    taken = []
    for place in cores:
        mine = set(place)
        packages = {node.cores[core].package for core in place}

        def distance(gpu: int, mine: set[int] = mine, packages: set[int] = packages) -> tuple[int, int, int]:
            near = node.gpus[gpu].cores
            foreign = packages.isdisjoint(node.cores[core].package for core in near)
            return (foreign, -len(mine.intersection(near)), gpu)

        chosen = sorted(sorted(free, key=distance)[:each])
        free = [gpu for gpu in free if gpu not in chosen]
        taken.append(tuple(chosen))
    return tuple(taken)
