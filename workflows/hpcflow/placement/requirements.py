"""What a Slurm allocation must ask for so that the planned cores are there.

Whole nodes (--exclusive): a rank map names cores, and on a shared node Slurm hands out whichever cores are
free, so that neither core numbers nor "the first K cores of a socket" would mean the planned ones. Slots come
from --ntasks-per-node, memory of a core from --cpus-per-task (in logical CPUs), and both also tell mpirun and
srun what the job is. There is no --hint: whole cores are asked for, and smt: false is said by the number of
threads. A socket's number of tasks is not asked for either: with whole nodes the launch line alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcflow.placement.rankmap import RankMap


@dataclass(frozen=True)
class Allocation:
    """Directives of one job. ``cpus_per_task`` counts logical CPUs, ``gpus_per_node`` is None where none are
    asked.
    """

    nodes: int
    ntasks: int
    ntasks_per_node: int
    cpus_per_task: int
    exclusive: bool = True
    overcommit: bool = False
    gpus_per_node: int | None = None

    def directives(self) -> dict[str, str | None]:
        """sbatch's long flags without the dashes; None for a flag without a value."""
        flags: dict[str, str | None] = {
            "nodes": str(self.nodes),
            "ntasks": str(self.ntasks),
            "ntasks-per-node": str(self.ntasks_per_node),
            "cpus-per-task": str(self.cpus_per_task),
        }
        if self.exclusive:
            flags["exclusive"] = None
        if self.overcommit:
            flags["overcommit"] = None
        if self.gpus_per_node:
            flags["gres"] = f"gpu:{self.gpus_per_node}"
        return flags


def requirements(rankmap: RankMap) -> Allocation:
    """The allocation of a map: the largest rank decides --cpus-per-task, cut to what fits on every node."""
    wanted = max(len(rankmap.core_pus(place)) for place in rankmap.ranks)
    fits = min(len(rankmap.topology(node).pus) // count for node, count in enumerate(rankmap.counts))
    cards = max(sum(len(place.gpus) for place in ranks) for ranks in rankmap.by_node)
    return Allocation(
        nodes=rankmap.nodes,
        ntasks=rankmap.size,
        ntasks_per_node=rankmap.ranks_per_node,
        cpus_per_task=max(1, min(wanted, fits)),
        overcommit=fits < 1,
        gpus_per_node=cards or None,
    )
