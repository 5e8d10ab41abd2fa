"""Where jobs are going to run, as far as a plan must know it. Made by an engine, or written down for a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpcflow.placement.topology import Topology


@dataclass(frozen=True)
class Target:
    """A place that runs jobs.

    ``prefix`` is the Python environment that jobs run in; ``own_mpi`` says that it brings its own Open MPI.
    ``node`` is the shape of one node, ``launcher`` the one that `auto` stands for. ``code`` is the folder of hpcflow's
    package, which images are given.
    """

    scheduler: Literal["slurm", "local"]
    prefix: str
    own_mpi: bool
    node: Topology
    launcher: str
    launcher_version: str | None
    why_launcher: str = ""
    scheduler_version: str = ""
    mpi_plugin: str | None = None
    as_root: bool = False
    code: str = ""
    max_submit: int | None = None  # jobs that the user may have in the queue; None: no limit is known
    cpu_flags: tuple[str, ...] = ()  # features of the nodes' processors, where the site's profile says them
