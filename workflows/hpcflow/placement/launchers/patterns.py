"""The short ways to say a rank map: so many ranks of so many cores on every socket, NUMA node, L3 group or
node.

A pattern is claimed only if it gives exactly the map on every node, so a dialect can rely on it. `spread`
computes what a pattern gives; the launchers' own mappers are compared with that in tests/placement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpcflow.errors import InputError
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.topology import Level, Topology

LEVELS: tuple[Level, ...] = ("socket", "numa", "l3", "node")
Cores = tuple[int, ...]


@dataclass(frozen=True)
class Pattern:
    """``ranks`` of ``cores`` each from the start of every domain; numbered domain by domain, or round robin
    over sockets.
    """

    level: Level
    ranks: int
    cores: int
    scattered: bool = False


def spread(node: Topology, pattern: Pattern) -> list[Cores] | None:
    """The cores of every local rank under a pattern; None where a domain is too small or unknown."""
    if not node.knows(pattern.level):
        return None
    size = pattern.cores
    places: list[Cores] = []
    for domain in node.domains(pattern.level):
        if len(domain) < size * pattern.ranks:
            return None
        places += [domain[i * size : (i + 1) * size] for i in range(pattern.ranks)]
    if not pattern.scattered:
        return places
    # sorted() is stable: the first of every domain, then the second of every domain
    turns = sorted(range(len(places)), key=lambda place: place % pattern.ranks)
    return [places[turn] for turn in turns]


def distinct(rankmap: RankMap) -> Iterator[tuple[Topology, list[Cores]]]:
    """Each different (shape, cores of the local ranks) among the nodes, once."""
    seen: set[tuple[int, tuple[Cores, ...]]] = set()
    for node, ranks in enumerate(rankmap.by_node):
        key = (rankmap.shape_of[node], tuple(place.cores for place in ranks))
        if key not in seen:
            seen.add(key)
            yield rankmap.topology(node), list(key[1])


def find(rankmap: RankMap) -> list[Pattern]:
    """The patterns that give exactly this map, the most telling first; none where ranks differ in size or
    place.
    """
    if not rankmap.even or rankmap.overlapping:
        return []
    nodes = list(distinct(rankmap))
    first, local = nodes[0]
    size = rankmap.cores_per_rank
    found = []
    for scattered in (False, True):
        for level in LEVELS:
            if not first.knows(level) or (scattered and level != "socket"):
                continue
            ranks, rest = divmod(len(local), len(first.domains(level)))
            pattern = Pattern(level, ranks, size, scattered)
            if ranks and not rest and all(spread(node, pattern) == places for node, places in nodes):
                found.append(pattern)
    return found


def spans_sockets(rankmap: RankMap) -> bool:
    """Whether some rank has cores of two sockets."""
    return any(len(place.sockets) > 1 for place in rankmap.ranks)


def regular(rankmap: RankMap) -> bool:
    """Whether every core has the same number of hardware threads, so that a size in cores means the same
    everywhere.
    """
    return len({len(core.pus) for shape in rankmap.shapes for core in shape.cores}) == 1


def refuse_guessed(rankmap: RankMap, launcher: str, form: str) -> None:
    """Raise InputError where ``form`` would name CPU ids that the topology's source does not tell.

    Guessed ids are wrong on most machines: Linux on x86 numbers the second threads after all first ones, so that masks
    made core by core put two ranks on one core.
    """
    for shape in rankmap.shapes:
        if shape.assumed:
            raise InputError(
                f"launcher {launcher}: this map needs {form}, and the topology {shape.source or 'given'} does not tell "
                "the CPU ids (give an hwloc file, made by `lstopo node.xml` on a compute node, by --topology or as "
                "node.hwloc in the site profile; or use openmpi, which counts cores)"
            )


def even_nodes(rankmap: RankMap) -> bool:
    """Whether the cores of a node have the same number of hardware threads, which may differ between nodes."""
    return all(len({len(core.pus) for core in shape.cores}) == 1 for shape in rankmap.shapes)
