"""MPICH's Hydra: `-bind-to core:K` and its relatives where they give the map, else `-bind-to user:` with CPU
ids.

Hydra wraps silently, and across sockets, when ranks do not fit; a plan that does not fit never gets here.
"""

from __future__ import annotations

from hpcflow.errors import InputError
from hpcflow.placement.launchers.base import Grain, Launch, LaunchLine, Word
from hpcflow.placement.launchers.patterns import find, refuse_guessed, regular
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.topology import Level

DOMAIN: dict[Level, str] = {"socket": "socket", "numa": "numa", "l3": "l3cache"}


def line(ask: Launch) -> LaunchLine:
    """The mpiexec line of a map. Raises InputError for what Hydra cannot express."""
    rankmap = ask.rankmap
    if len(set(rankmap.counts)) > 1:
        raise InputError(
            "launcher mpich: -ppn is one number for all nodes, and the nodes have "
            f"{' and '.join(map(str, sorted(set(rankmap.counts))))} ranks "
            "(use openmpi, or a number of ranks that the nodes divide)"
        )
    binding, grain = _binding(rankmap)
    argv: list[Word] = [ask.command or "mpiexec", "-n", str(rankmap.size)]
    argv += ["-ppn", str(rankmap.ranks_per_node)]
    if ask.hosts is not None and ask.scheduler != "slurm":
        argv += ["-hosts", ",".join(ask.hosts)]
    argv += binding
    argv += [word for name in sorted(ask.env) for word in ("-genv", name, ask.env[name])]
    return LaunchLine((*argv, *ask.program), dict(ask.env), {}, grain)


def _binding(rankmap: RankMap) -> tuple[list[Word], Grain]:
    """The binding options, and what they bind."""
    # Hydra counts a core's hardware threads: with uneven cores a size in cores is another one on each.
    for pattern in find(rankmap) if regular(rankmap) else ():
        if pattern.level == "node":
            return ["-bind-to", f"core:{pattern.cores}"], "cores"
        if pattern.scattered or (pattern.ranks == 1 and pattern.level in DOMAIN):
            domain = DOMAIN[pattern.level]
            return ["-bind-to", f"core:{pattern.cores}", "-map-by", domain], "cores"
    refuse_guessed(rankmap, "mpich", "-bind-to user: with CPU ids")
    lists = ["+".join(map(str, place.pus)) for place in rankmap.by_node[0]]
    if not all(["+".join(map(str, place.pus)) for place in ranks] == lists for ranks in rankmap.by_node):
        raise InputError(
            "launcher mpich: the nodes need different CPU lists, and -bind-to user: has one for all nodes "
            "(use openmpi, whose rankfile names every rank, or nodes of one shape)"
        )
    for shape in rankmap.shapes:
        if max(shape.pus) >= len(shape.pus):
            raise InputError(
                f"launcher mpich: -bind-to user: counts CPU ids modulo the {len(shape.pus)} CPUs of a node, and the "
                f"map needs id {max(shape.pus)} (use openmpi, or a map that core:K says)"
            )
    return ["-bind-to", f"user:{','.join(lists)}"], "pus"
