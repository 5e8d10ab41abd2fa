"""Nodes and requests of every kind, by number: the same number gives the same case on every machine."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import count

from hpcflow.errors import InputError
from hpcflow.experiment.schema import Placement, Reserve
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.topology import Thread, Topology


@dataclass(frozen=True)
class Case:
    """A request on some nodes, and its map."""

    number: int
    request: Placement
    nodes: tuple[Topology, ...]
    rankmap: RankMap


def topology(rng: random.Random, limit: int = 1024) -> Topology:
    """1-8 sockets x 1-96 cores x 1, 2 or 4 threads, at most ``limit`` PUs; OS ids in several orders, with
    holes or not.
    """
    while True:
        sockets = rng.choice([1, 2, 2, 2, 3, 4, 8])
        smt = rng.choice([1, 2, 2, 4])
        sizes = [rng.choice([1, 2, 3, 4, 6, 8, 12, 18, 24, 28, 32, 48, 64, 96])] * sockets
        if rng.random() < 0.15:
            sizes = [max(1, size - rng.randrange(3)) for size in sizes]
        if sum(sizes) * smt <= limit:
            break
    numa_per_socket = rng.choice([1, 1, 1, 2, 4])
    l3_per_numa = rng.choice([1, 1, 2, 3])
    cores = []
    for package, size in enumerate(sizes):
        for core in range(size):
            numa = core * numa_per_socket // size
            inside = core - -(-numa * size // numa_per_socket)
            width = max(1, -(-size // numa_per_socket))
            cores.append(
                (package, core, package * 8 + numa, (package * 8 + numa) * 8 + inside * l3_per_numa // width)
            )
    ids = _os_ids(rng, len(cores), smt)
    tell_numa, tell_l3 = rng.random() < 0.8, rng.random() < 0.6
    threads = [
        Thread(ids[index][thread], package, core, numa if tell_numa else None, cache if tell_l3 else None)
        for index, (package, core, numa, cache) in enumerate(cores)
        for thread in range(smt)
    ]
    if rng.random() < 0.1 and len(threads) > 4:
        threads = [t for t in threads if rng.random() > 0.1] or threads
    return Topology.from_threads(threads, source="generated")


def guessed(node: Topology) -> Topology:
    """A node of which counts alone are known, so that its ids are taken to run core by core."""
    ids = count()
    cores = tuple(replace(core, pus=tuple(next(ids) for _ in core.pus)) for core in node.cores)
    return replace(node, cores=cores, disallowed=(), assumed=True)


def _os_ids(rng: random.Random, cores: int, smt: int) -> list[list[int]]:
    """OS ids of every core: core by core, or as Linux does it on x86 (siblings later); with holes sometimes."""
    total = cores * smt
    step = rng.choice([1, 1, 1, 2])
    pool = [i * step for i in range(total)]
    if rng.random() < 0.2:
        pool = sorted(rng.sample(range(total + total // 4 + 1), total))
    if rng.random() < 0.5:
        return [[pool[core + thread * cores] for thread in range(smt)] for core in range(cores)]
    return [[pool[core * smt + thread] for thread in range(smt)] for core in range(cores)]


def request(rng: random.Random, node: Topology) -> Placement:
    """A request that may or may not fit ``node``."""
    level = rng.choice(
        [
            "ranks_per_node",
            "ranks_per_node",
            "ranks_per_socket",
            "ranks_per_socket",
            "ranks_per_numa",
            "ranks_per_l3",
            "ranks",
        ]
    )
    return Placement(
        **{level: rng.choice([1, 1, 2, 2, 3, 4, 5, 8])},
        cores_per_rank=rng.choice(["auto", "auto", "auto", 1, 2, 3, 4, 6, 8, 9, 12]),
        smt=rng.random() < 0.4,
        order=rng.choice(["packed", "packed", "scattered"]),
        reserve=Reserve(
            cores=rng.choice([0, 0, 0, 0, 1, 2]),
            per=rng.choice(["node", "socket"]),
            at=rng.choice(["first", "last"]),
        ),
    )


def case(number: int, limit: int = 1024, *, mixed: bool = True, auto: bool = False) -> Case:
    """The ``number``-th case that fits its nodes; with ``auto`` all of them share the cores evenly."""
    rng = random.Random(number)
    while True:
        node = topology(rng, limit)
        nodes = [node] * rng.choice([1, 2, 2, 3])
        if mixed and rng.random() < 0.1:
            nodes[-1] = topology(rng, limit)
        asked = request(rng, node)
        if auto:
            asked = asked.model_copy(update={"cores_per_rank": "auto"})
        try:
            return Case(number, asked, tuple(nodes), plan(asked, nodes))
        except InputError:
            continue
