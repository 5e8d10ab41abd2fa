"""Generated maps against srun under task/affinity of a real Slurm, whose nodes have the generated shapes."""

from __future__ import annotations

import random
from pathlib import Path

from hpcflow.errors import InputError
from hpcflow.placement.rankmap import plan
from hpcflow.placement.topology import Topology
from placement.generate import Case, request, topology
from placement.oracles import cluster
from placement.oracles.compare import MOST_RANKS, Score, spoken
from placement.oracles.slurm import FakeSlurm


def shapes(count: int, seed: int) -> list[Topology]:
    """Nodes that Slurm can describe: sockets of one size, cores of one kind, all CPUs from 0 on.

    The OS ids come in any order; NUMA nodes and caches are there and do not count.
    """
    rng = random.Random(seed)
    found: list[Topology] = []
    while len(found) < count:
        made = topology(rng, 512)
        regular = len(set(map(len, made.sockets))) == 1 and len({len(core.pus) for core in made.cores}) == 1
        if regular and sorted(made.pus) == list(range(len(made.pus))):
            found.append(made)
    return found


def compare(folder: Path, built: Path, kinds: int, each: int, seed: int = 1) -> Score:
    """``each`` requests on each of ``kinds`` shapes, on one or two nodes."""
    cluster.build(built)
    score = Score()
    rng = random.Random(seed)
    made = shapes(kinds, seed)
    slurm = FakeSlurm(folder, built, made)
    try:
        slurm.start()
        for number, shape in enumerate(made):
            done = 0
            while done < each:
                asked, nodes = request(rng, shape), rng.choice([1, 2])
                try:
                    rankmap = plan(asked, [shape] * nodes, slurm.hosts(number, nodes))
                except InputError:
                    continue
                if rankmap.size > MOST_RANKS:
                    continue
                done += 1
                found = Case(score.compared, asked, (shape,) * nodes, rankmap)
                try:
                    said, without_ids = spoken(found, "srun", built)
                except InputError:
                    score.refused += 1
                    continue
                score.guessed += without_ids
                try:
                    score.add(found, said, slurm.run(said, rankmap, number))
                except RuntimeError as error:
                    score.silent.append(str(error))
    finally:
        slurm.stop()
    return score
