"""Threads of one rank, from the rank map: OpenMP, Intel's OpenMP runtime, and TensorFlow's two pools.

Where they act: a stock TensorFlow computes in an Eigen pool, which obeys the rank's cpuset and the
intra/inter-op settings; OMP_* and KMP_* act on oneDNN builds with OpenMP. One environment serves all ranks,
so where ranks differ in size the smallest counts. Starting values are those published for Intel-optimised
TensorFlow: OMP_NUM_THREADS and intra-op = cores of the rank, inter-op = 1 under MPI and the number of sockets
otherwise, KMP_BLOCKTIME 1, KMP_AFFINITY granularity=fine,compact,1,0, OMP_PROC_BIND true,
TF_ENABLE_ONEDNN_OPTS 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpcflow.placement.rankmap import RankMap

if TYPE_CHECKING:
    from hpcflow.experiment.schema import Threads


@dataclass(frozen=True)
class ThreadSettings:
    """``env`` goes to every rank; ``intra_op`` and ``inter_op`` to TensorFlow's configuration. ``cpus`` is
    what a rank has.
    """

    intra_op: int
    inter_op: int
    omp: int
    cpus: int
    cores: int
    ranks_per_node: int
    env: Mapping[str, str] = field(default_factory=dict)
    inter_op_said: bool = False

    def lint(self) -> list[str]:
        """A sentence for each setting that starts more threads than the rank has hardware threads."""
        found = []
        for name, number in (
            ("OMP_NUM_THREADS", _number(self.env.get("OMP_NUM_THREADS"), self.omp)),
            ("TF_NUM_INTRAOP_THREADS", _number(self.env.get("TF_NUM_INTRAOP_THREADS"), self.intra_op)),
        ):
            if number > self.cpus:
                found.append(
                    f"{name} is {number} and a rank has {self.cpus} hardware threads on {self.cores} cores "
                    f"({self.ranks_per_node} ranks a node): {self.cpus} or less, or fewer ranks"
                )
        inter = _number(self.env.get("TF_NUM_INTEROP_THREADS"), self.inter_op)
        intra = _number(self.env.get("TF_NUM_INTRAOP_THREADS"), self.intra_op)
        if self.inter_op_said and inter > 1 and intra <= self.cpus < inter * intra:
            found.append(
                f"{inter} operations at once with {intra} threads each are {inter * intra} threads, and a "
                f"rank has {self.cpus} hardware threads: inter_op 1, or intra_op {max(1, self.cpus // inter)}"
            )
        return found


def _number(text: str | None, otherwise: int) -> int:
    """The first number of an OpenMP list such as 24 or 24,1."""
    first = (text or "").split(",")[0].strip()
    return int(first) if first.isdecimal() else otherwise


def derive(rankmap: RankMap, threads: Threads) -> ThreadSettings:
    """The settings of a map; what the user said stays as said (see `ThreadSettings.lint`)."""
    cpus = min(len(place.pus) for place in rankmap.ranks)
    sockets = max(len(place.sockets) for place in rankmap.ranks)
    omp = cpus if threads.omp == "auto" else threads.omp
    intra = cpus if threads.intra_op == "auto" else threads.intra_op
    inter = threads.inter_op
    if inter == "auto":
        inter = 1 if rankmap.size > 1 else sockets
    env = {
        "OMP_NUM_THREADS": str(omp),
        "OMP_PLACES": "threads" if rankmap.smt else "cores",
        "TF_NUM_INTRAOP_THREADS": str(intra),
        "TF_NUM_INTEROP_THREADS": str(inter),
        "TF_ENABLE_ONEDNN_OPTS": "1",
    }
    bind = threads.proc_bind
    if bind is not None:
        env["OMP_PROC_BIND"] = str(bind).lower()
    if threads.kmp.blocktime is not None:
        env["KMP_BLOCKTIME"] = str(threads.kmp.blocktime)
    if threads.kmp.affinity is not None:
        env["KMP_AFFINITY"] = threads.kmp.affinity
    env.update(threads.env)
    return ThreadSettings(
        intra_op=intra,
        inter_op=inter,
        omp=omp,
        cpus=cpus,
        cores=rankmap.cores_per_rank,
        ranks_per_node=rankmap.ranks_per_node,
        env=dict(sorted(env.items())),
        inter_op_said=threads.inter_op != "auto" or "TF_NUM_INTEROP_THREADS" in threads.env,
    )
