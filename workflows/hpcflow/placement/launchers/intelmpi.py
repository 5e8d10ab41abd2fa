"""Intel MPI: I_MPI_PIN_DOMAIN as a size and a layout where that gives the map, else one CPU mask a local
rank.

I_MPI_PIN_CELL is always said: its default `unit` counts hardware threads, and splits a core between two ranks
where a size in cores was meant. The layout is always said too: the default order spreads the ranks of a
half-filled node over the sockets. Intel MPI wraps silently when ranks do not fit; a plan that does not fit
never gets here.
"""

from __future__ import annotations

from hpcflow.errors import InputError
from hpcflow.placement.cpulist import hexmask
from hpcflow.placement.launchers.base import Launch, LaunchLine, Word
from hpcflow.placement.launchers.patterns import Pattern, find, refuse_guessed, regular
from hpcflow.placement.rankmap import RankMap


def line(ask: Launch) -> LaunchLine:
    """The mpirun line of a map. Raises InputError where nodes need different masks, or different numbers of
    ranks.
    """
    rankmap = ask.rankmap
    if len(set(rankmap.counts)) > 1:
        raise InputError(
            f"launcher intelmpi: -ppn is one number for all nodes, and the nodes have {_counts(rankmap)} ranks "
            "(use openmpi, or a number of ranks that the nodes divide)"
        )
    settings = {
        "I_MPI_PIN": "on",
        **_pinning(rankmap),
        # Under Slurm -ppn is ignored unless this is off.
        "I_MPI_JOB_RESPECT_PROCESS_PLACEMENT": "off",
    }
    argv: list[Word] = [ask.command or "mpirun", "-n", str(rankmap.size), "-ppn", str(rankmap.ranks_per_node)]
    if ask.hosts is not None and ask.scheduler != "slurm":
        argv += ["-hosts", ",".join(ask.hosts)]
    argv.append("-print-rank-map")
    forwarded = {key: value for key, value in settings.items() if key.startswith("I_MPI_PIN")} | dict(ask.env)
    argv += [word for name in sorted(forwarded) for word in ("-genv", name, forwarded[name])]
    return LaunchLine((*argv, *ask.program), {**settings, **ask.env}, {}, "pus")


def _counts(rankmap: RankMap) -> str:
    return " and ".join(map(str, sorted(set(rankmap.counts))))


def _pinning(rankmap: RankMap) -> dict[str, str]:
    """The variables that pin every rank to exactly its PUs."""
    short = _domain(rankmap) if regular(rankmap) else None
    if short is not None:
        return {"I_MPI_PIN_DOMAIN": short, "I_MPI_PIN_CELL": "unit" if rankmap.smt else "core"}
    refuse_guessed(rankmap, "intelmpi", "CPU masks")
    masks = [hexmask(place.pus) for place in rankmap.by_node[0]]
    if not all([hexmask(place.pus) for place in ranks] == masks for ranks in rankmap.by_node):
        raise InputError(
            "launcher intelmpi: the nodes need different CPU masks, and I_MPI_PIN_DOMAIN has one list for all nodes "
            "(use openmpi, whose rankfile names every rank, or nodes of one shape)"
        )
    return {"I_MPI_PIN_DOMAIN": f"[{','.join(masks)}]", "I_MPI_PIN_CELL": "unit"}


def _domain(rankmap: RankMap) -> str | None:
    """The shortest I_MPI_PIN_DOMAIN that gives the map."""
    unit = rankmap.shapes[0].threads_per_core if rankmap.smt else 1
    patterns = find(rankmap)
    whole = _whole(rankmap, patterns)
    if whole is not None:
        return whole
    for pattern in patterns:
        if pattern.level == "node":
            return f"{pattern.cores * unit}:compact"
        # With more ranks a socket, scatter goes round its NUMA nodes and caches too, and leaves even gaps.
        sizes = {len(socket) for shape in rankmap.shapes for socket in shape.sockets}
        if pattern.level == "socket" and pattern.ranks == 1 and len(sizes) == 1:
            return f"{pattern.cores * unit}:scatter"
    return None


def _whole(rankmap: RankMap, patterns: list[Pattern]) -> str | None:
    """socket or numa, where every rank has exactly one of them."""
    for pattern in patterns:
        if pattern.level in ("socket", "numa") and pattern.ranks == 1 and not pattern.scattered:
            sizes = {len(d) for shape in rankmap.shapes for d in shape.domains(pattern.level)}
            if sizes == {pattern.cores}:
                return pattern.level
    return None
