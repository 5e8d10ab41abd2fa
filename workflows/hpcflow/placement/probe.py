"""The node that this process runs on, cut to the CPUs that it may use."""

from __future__ import annotations

import os
import subprocess
from shutil import which

from hpcflow.errors import InputError
from hpcflow.placement import hwlocxml, sysfs
from hpcflow.placement.topology import Topology

LSTOPO_SECONDS = 10.0  # a 256-thread node answers in 0.3 s; a hung one must not hang a submission


def this_machine() -> Topology:
    """Ask hwloc's lstopo where it is installed, else the kernel; keep what the cgroup and the affinity allow.

    Raises SiteError when neither tells.
    """
    return (_lstopo() or sysfs.node()).restricted(frozenset(os.sched_getaffinity(0)))


def _lstopo() -> Topology | None:
    tool = which("lstopo-no-graphics") or which("lstopo")
    if tool is None:
        return None
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HWLOC_")}
    try:
        done = subprocess.run(
            [tool, "--of", "xml", "-"],
            capture_output=True,
            text=True,
            timeout=LSTOPO_SECONDS,
            env=clean,
            check=True,
        )
        return hwlocxml.parse(done.stdout, "this machine (hwloc)")
    except (OSError, subprocess.SubprocessError, InputError):
        return None
