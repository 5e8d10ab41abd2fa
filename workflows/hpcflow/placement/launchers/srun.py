"""srun: a distribution and `--cpu-bind=cores` where that gives the map, else one CPU mask a local rank.

--cpus-per-task is in logical CPUs (9 cores with 2 hardware threads are 18) and always written: srun ignores
SLURM_CPUS_PER_TASK from 22.05 on and reads it again from 23.11. No --hint=nomultithread: 22.05 drops the hint
beside --cpu-bind=cores and ranks overlap; whole cores are asked for and bound instead, and smt: false is said
by the number of threads. Masks name CPU ids, so they need a topology that knows them.
"""

from __future__ import annotations

import re

from hpcflow.errors import InputError
from hpcflow.placement.cpulist import hexmask
from hpcflow.placement.launchers.base import Grain, Launch, LaunchLine, Word
from hpcflow.placement.launchers.patterns import find, refuse_guessed, regular, spans_sockets
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.requirements import requirements

CORES: Grain = "cores"
PUS: Grain = "pus"


def line(ask: Launch) -> LaunchLine:
    """The srun line of a map. Raises InputError where nodes need different masks: one srun has one list."""
    need = requirements(ask.rankmap)
    rankmap = ask.rankmap
    distribution = _distribution(rankmap)
    if distribution is not None:
        cpus: int | None = need.cpus_per_task
        bind, grain = "cores", CORES
    else:
        refuse_guessed(rankmap, "srun", "CPU masks")
        cpus = _whole_node(rankmap)
        bind, grain = f"mask_cpu:{','.join(map(hexmask, _local_pus(rankmap)))}", PUS
    _check_order(ask)
    argv: list[Word] = [] if cpus is not None else ["env", "-u", "SLURM_CPUS_PER_TASK"]
    argv += [
        "srun",
        f"--nodes={rankmap.nodes}",
        f"--ntasks={rankmap.size}",
        f"--ntasks-per-node={rankmap.ranks_per_node}",
    ]
    if cpus is not None:
        argv.append(f"--cpus-per-task={cpus}")
    argv += [f"--distribution={distribution or 'block:block'}", f"--cpu-bind=verbose,{bind}"]
    if ask.hosts is not None and ask.scheduler is None:
        argv.append(f"--nodelist={','.join(ask.hosts)}")
    if need.overcommit:
        argv.append("--overcommit")
    if ask.mpi:
        argv.append(f"--mpi={ask.mpi}")
    # ALL: a list of names alone would drop PATH. The values are exported by the script, commas and all.
    argv += ["--export=ALL", "--kill-on-bad-exit=1"]
    return LaunchLine((*argv, *ask.program), dict(ask.env), {}, grain)


def _distribution(rankmap: RankMap) -> str | None:
    """The distribution under which --cpu-bind=cores gives the map; None where none does."""
    if len(rankmap.shapes) > 1 or rankmap.topology(0).disallowed or not regular(rankmap):
        return None
    if len({len(socket) for socket in rankmap.topology(0).sockets}) > 1 or len(set(rankmap.counts)) > 1:
        return None
    whole = rankmap.cores_per_rank == len(rankmap.topology(0).cores)
    for pattern in find(rankmap):
        if pattern.level == "node" and (whole or not spans_sockets(rankmap)):
            return "block:block"
        if pattern.level == "socket" and (pattern.scattered or pattern.ranks == 1):
            return "block:cyclic"
    return None


def _check_order(ask: Launch) -> None:
    """Slurm takes a --nodelist for a set: rank 0 is on the node that Slurm knows first, whatever the list says.

    Raises InputError for hosts in another order than their names count.
    """
    hosts = ask.hosts or ()
    ordered = sorted(hosts, key=_counting)
    if list(hosts) != ordered:
        raise InputError(
            "launcher srun: Slurm sorts its nodes, and the ranks would be on other hosts than planned "
            f"(name them as {','.join(ordered)})"
        )


def _counting(host: str) -> list[tuple[int, str]]:
    """n10 after n9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", host)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _whole_node(rankmap: RankMap) -> int | None:
    """A --cpus-per-task that makes the step own every CPU of its nodes; None where the ranks do not divide
    them.

    From 21.08 on --cpus-per-task means --exact: the step owns that many CPUs a task and no more, Slurm
    chooses which, and a mask outside of them is refused. Without the option a step owns the node; from 23.11
    on srun would read it from SLURM_CPUS_PER_TASK again, so that goes away too.
    """
    cpus = {len(shape.pus) for shape in rankmap.shapes}
    ranks = set(rankmap.counts)
    if len(cpus) > 1 or len(ranks) > 1:
        return None
    share, rest = divmod(cpus.pop(), ranks.pop())
    return share if share and not rest else None


def _local_pus(rankmap: RankMap) -> list[tuple[int, ...]]:
    """The PUs of every local rank, the same on all nodes. Raises InputError where they are not."""
    local: list[tuple[int, ...]] = []
    for ranks in rankmap.by_node:
        masks = [place.pus for place in ranks]
        if masks[: len(local)] != local[: len(masks)]:
            raise InputError(
                "launcher srun: the nodes need different CPU masks, and one srun has one list of masks "
                "for all nodes (use openmpi, whose rankfile names every rank, or nodes of one shape)"
            )
        local = max(local, masks, key=len)
    return local
