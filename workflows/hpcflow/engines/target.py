"""The place that a plan is made for, found out by asking it."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

import hpcflow
from hpcflow.engines.slurm_limits import max_submit
from hpcflow.engines.slurm_site import Node, SlurmSite
from hpcflow.experiment import Experiment, Loaded
from hpcflow.experiment.site import NodeShape
from hpcflow.flows.target import Target
from hpcflow.placement.launchers.detect import choose, detect
from hpcflow.placement.probe import this_machine
from hpcflow.placement.sources import profile
from hpcflow.placement.sources import read as read_topology
from hpcflow.placement.topology import Topology


def target(loaded: Loaded, slurm: SlurmSite | None) -> Target:
    """The cluster that ``slurm`` describes, or this machine. Raises SiteError when no launcher is to be had."""
    prefix = Path(sys.prefix)
    own_mpi = (prefix / "bin" / "mpirun").exists()
    node = _slurm_node(loaded, slurm) if slurm else this_machine()
    version = slurm.version_text if slurm else ""
    name, launcher_version, why = _launcher(loaded, own_mpi, version)
    return Target(
        scheduler="slurm" if slurm else "local",
        prefix=str(prefix),
        own_mpi=own_mpi,
        node=node,
        launcher=name,
        launcher_version=launcher_version,
        why_launcher=why,
        scheduler_version=version,
        # Open MPI has no PMI of its own to speak with srun: without PMIx every rank would be rank 0 of 1.
        mpi_plugin=loaded.site.mpi_plugin or ("pmix" if own_mpi and name == "srun" else None),
        as_root=os.geteuid() == 0,
        code=str(Path(hpcflow.__file__).parent),
        max_submit=_max_submit(loaded, slurm),
        cpu_flags=loaded.site.cpu_flags,
    )


def _launcher(loaded: Loaded, own_mpi: bool, slurm_version: str) -> tuple[str, str | None, str]:
    """The launcher, its version where it is known, and why it is this one."""
    wanted = loaded.experiment.placement
    if own_mpi and wanted.launcher in ("auto", "openmpi"):
        why = (
            "asked for" if wanted.launcher == "openmpi" else "this environment's Horovod is built against it"
        )
        return "openmpi", wanted.launcher_version or importlib.metadata.version("openmpi"), why
    if wanted.launcher == "srun":
        return "srun", wanted.launcher_version or slurm_version or None, "asked for"
    return choose(
        wanted.launcher,
        wanted.launcher_version,
        detect(),
        "slurm" if slurm_version else "local",
        loaded.site.launchers,
    )


def _slurm_node(loaded: Loaded, slurm: SlurmSite) -> Topology:
    """The smallest node of the partition: what is planned for it fits on every node."""
    if loaded.site.node:
        return shape(loaded.site.node)
    nodes = slurm.in_partition(partition(loaded.experiment))
    if not nodes:
        raise loaded.problem("resources.partition", f"Slurm has no nodes in it ({_partitions(slurm)})")
    smallest = min(nodes, key=_cores)
    return Topology.from_counts(
        smallest.sockets, smallest.cores, smallest.threads, source=f"Slurm's node {smallest.name}"
    )


def shape(node: NodeShape) -> Topology:
    """The node that a site profile describes."""
    return read_topology(node.hwloc) if node.hwloc else profile(node.model_dump(exclude_none=True))


def partition(experiment: Experiment) -> str | None:
    """The first partition asked for (Slurm takes a list)."""
    return experiment.resources.partition.split(",")[0] if experiment.resources.partition else None


def _cores(node: Node) -> int:
    return node.sockets * node.cores


def _partitions(slurm: SlurmSite) -> str:
    return (
        "it has " + ", ".join(found.name for found in slurm.partitions)
        if slurm.partitions
        else "it has none at all"
    )


def _max_submit(loaded: Loaded, slurm: SlurmSite | None) -> int | None:
    """Looked up for federations alone, whose rounds are queued in a window."""
    said = loaded.site.max_submit_jobs
    if slurm is None or loaded.experiment.federation is None:
        return None
    if isinstance(said, int):
        return said
    return max_submit() if slurm.accounting else None
