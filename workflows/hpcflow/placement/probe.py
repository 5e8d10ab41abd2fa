"""The node that this process runs on, cut to the CPUs that it may use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which

from hpcflow.errors import InputError, SiteError
from hpcflow.placement import hwlocxml
from hpcflow.placement.cpulist import cpu_list
from hpcflow.placement.topology import Thread, Topology

CPUS = Path("/sys/devices/system/cpu")
NODES = Path("/sys/devices/system/node")
LSTOPO_SECONDS = 10.0  # a 256-thread node answers in 0.3 s; a hung one must not hang a submission


def this_machine() -> Topology:
    """Ask hwloc's lstopo where it is installed, else the kernel; keep what the cgroup and the affinity allow.

    Raises SiteError when neither tells.
    """
    return (_lstopo() or _kernel()).restricted(frozenset(os.sched_getaffinity(0)))


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


def _kernel(cpus: Path = CPUS, nodes: Path = NODES) -> Topology:
    """From sysfs, which is what lscpu reads too."""
    node_of = {
        cpu: int(folder.name.removeprefix("node"))
        for folder in nodes.glob("node[0-9]*")
        for cpu in cpu_list(_text(folder / "cpulist") or "")
    }
    try:
        online = cpu_list((cpus / "online").read_text())
        threads = []
        for cpu in online:
            topology = cpus / f"cpu{cpu}" / "topology"
            package = max(int(_text(topology / "physical_package_id") or 0), 0)
            siblings = _text(topology / "thread_siblings_list") or str(cpu)
            shared = _text(cpus / f"cpu{cpu}" / "cache" / "index3" / "shared_cpu_list")
            threads.append(
                Thread(
                    pu=cpu,
                    package=package,
                    core=min(cpu_list(siblings)),
                    numa=node_of.get(cpu),
                    l3=min(cpu_list(shared)) if shared else None,
                )
            )
    except (OSError, ValueError) as error:
        raise SiteError(
            f"the topology of this machine cannot be read: {error} (install hwloc's lstopo)"
        ) from error
    if any(t.l3 is None for t in threads):
        threads = [Thread(t.pu, t.package, t.core, t.numa) for t in threads]
    if any(t.numa is None for t in threads):
        threads = [Thread(t.pu, t.package, t.core, None, t.l3) for t in threads]
    return Topology.from_threads(threads, source="this machine (sysfs)")


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
