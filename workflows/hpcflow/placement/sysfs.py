"""The node that this process runs on as its kernel describes it (sysfs, which is what lscpu reads too)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcflow.errors import SiteError
from hpcflow.placement.cpulist import cpu_list
from hpcflow.placement.record import Seat
from hpcflow.placement.topology import Thread, Topology

SYSTEM = Path("/sys/devices/system")


def node() -> Topology:
    """All of it, whatever this process may use. Raises SiteError where the kernel does not tell.

    A core's files are read once, for its threads share them: every rank may ask, and a node has hundreds of CPUs.
    """
    numa = {
        cpu: int(folder.name.removeprefix("node"))
        for folder in (SYSTEM / "node").glob("node[0-9]*")
        for cpu in cpu_list(_text(folder / "cpulist") or "")
    }
    threads: dict[int, Thread] = {}
    try:
        for cpu in cpu_list((SYSTEM / "cpu" / "online").read_text()):
            if cpu not in threads:
                threads |= {thread.pu: thread for thread in _core(cpu, numa)}
    except (OSError, ValueError) as error:
        raise SiteError(
            f"the topology of this machine cannot be read: {error} (install hwloc's lstopo)"
        ) from error
    found = list(threads.values())
    if any(t.l3 is None for t in found):
        found = [Thread(t.pu, t.package, t.core, t.numa) for t in found]
    if any(t.numa is None for t in found):
        found = [Thread(t.pu, t.package, t.core, None, t.l3) for t in found]
    return Topology.from_threads(found, source="this machine (sysfs)")


def _core(cpu: int, numa: dict[int, int]) -> list[Thread]:
    """The hardware threads of the core that ``cpu`` is one of."""
    folder = SYSTEM / "cpu" / f"cpu{cpu}"
    package = max(int(_text(folder / "topology/physical_package_id") or 0), 0)
    siblings = cpu_list(_text(folder / "topology/thread_siblings_list") or str(cpu))
    shared = _text(folder / "cache/index3/shared_cpu_list")
    l3 = min(cpu_list(shared)) if shared else None
    return [Thread(pu, package, min(siblings), numa.get(pu), l3) for pu in siblings]


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def seat(cpus: Sequence[int]) -> Seat | None:
    """Where CPUs are on this node; None where its kernel does not tell of all of them."""
    try:
        here = node()
    except SiteError:
        return None
    mine = set(cpus)
    if not mine or not mine <= set(here.pus):
        return None
    cores = tuple(index for index, core in enumerate(here.cores) if mine.intersection(core.pus))
    return Seat(
        tuple(sorted({here.cores[index].package for index in cores})),
        cores,
        all(mine.issuperset(here.cores[index].pus) for index in cores),
        tuple(map(len, here.sockets)),
    )
