"""Reading a node from whatever text there is: hwloc XML, `lscpu --json`, `slurmd -C`, `scontrol show node`,
counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcflow.errors import InputError
from hpcflow.placement import hwlocxml
from hpcflow.placement.cpulist import cpu_list
from hpcflow.placement.topology import Gpu, Thread, Topology

COUNTS = re.compile(r"\s*([0-9]+)\s*[xX]\s*([0-9]+)(?:\s*[xX]\s*([0-9]+))?\s*")


def read(given: str) -> Topology:
    """The node that a file, or a text such as 2x18x2 (sockets x cores x threads), describes.

    Raises InputError when there is no such file or nothing in it is understood.
    """
    path = Path(given)
    counts = COUNTS.fullmatch(given)
    if counts and not path.exists():
        sockets, cores, threads = (int(number or 1) for number in counts.groups())
        return Topology.from_counts(sockets, cores, threads)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (getattr(error, "strerror", None) or "it is no text").lower()
        raise InputError(
            f"{given}: no topology: {why} (give a file of lstopo, lscpu, slurmd -C; or counts: 2x18x2)"
        ) from error
    return parse(text, given)


def parse(text: str, source: str = "") -> Topology:
    """The node that a text describes, whichever tool wrote it. Raises InputError when none did."""
    start = text.lstrip()[:1]
    if start == "<":
        return hwlocxml.parse(text, source)
    if start in ("{", "["):
        return lscpu(text, source)
    if re.search(r"\bNodeName=", text):
        return slurm(text, source)
    raise InputError(
        f"{source or 'the topology'}: neither hwloc XML nor lscpu --json nor slurmd -C nor scontrol show node"
    )


def lscpu(text: str, source: str = "lscpu") -> Topology:
    """The node of `lscpu --extended --json` (exact) or of `lscpu --json` (its counts and NUMA lists).

    The plain form tells no core of a CPU. Where a core has several threads Linux on x86 numbers the first
    thread of all cores before the second ones; that is assumed then, as is which socket a CPU is on.
    """
    try:
        data = json.loads(text)
        if "cpus" in data:
            return _extended(data["cpus"], source)
        return _summary(_fields(data["lscpu"]), source)
    except KeyError as error:
        raise InputError(f"{source or 'the topology'}: not as lscpu writes it: no field {error}") from error
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{source or 'the topology'}: not as lscpu writes it: {error!r}") from error


def _extended(rows: list[dict[str, Any]], source: str) -> Topology:
    threads = []
    for row in rows:
        row = {key.lower(): value for key, value in row.items()}
        if row.get("online") in (False, "no", "n", "N"):
            continue
        caches = next((str(row[key]) for key in row if key.startswith("l1d:l1i")), "")
        parts = caches.split(":")
        l3 = int(parts[3]) if len(parts) > 3 and parts[3].isdigit() else None
        node = row.get("node")
        threads.append(
            Thread(
                pu=int(row["cpu"]),
                package=_number(row.get("socket")) or 0,
                core=int(row["core"]),
                numa=_number(node),
                l3=l3,
            )
        )
    if any(thread.l3 is None for thread in threads):
        threads = [Thread(t.pu, t.package, t.core, t.numa) for t in threads]
    return Topology.from_threads(threads, source=source)


def _number(value: Any) -> int | None:
    return None if value in (None, "-", "") else int(value)


def _fields(entries: list[dict[str, Any]]) -> dict[str, str]:
    """The name: value pairs of plain lscpu, nested or not."""
    found: dict[str, str] = {}
    for entry in entries:
        if entry.get("data") is not None:
            found[entry["field"].rstrip(":")] = str(entry["data"])
        found.update(_fields(entry.get("children", [])))
    return found


def _sockets(fields: Mapping[str, str]) -> tuple[int, int]:
    """Sockets, and cores of each. On ARM lscpu counts the cores of a cluster, and where the firmware tells of no socket
    (it says "-") there is one.
    """
    if "Core(s) per cluster" not in fields:
        return int(fields["Socket(s)"]), int(fields["Core(s) per socket"])
    cores = int(fields["Core(s) per cluster"]) * int(fields["Cluster(s)"])
    sockets = _number(fields.get("Socket(s)")) or 1
    return sockets, cores // sockets


def _summary(fields: Mapping[str, str], source: str) -> Topology:
    online = cpu_list(fields.get("On-line CPU(s) list") or f"0-{int(fields['CPU(s)']) - 1}")
    threads = int(fields["Thread(s) per core"])
    sockets, cores = _sockets(fields)
    if threads * cores * sockets != len(online):
        raise InputError(
            f"{source}: {len(online)} CPUs are online and {sockets} x {cores} x {threads} are described; "
            "give `lscpu --extended --json`, which lists them"
        )
    node_of = {
        cpu: int(match[1])
        for key, value in fields.items()
        if (match := re.fullmatch(r"NUMA node([0-9]+) CPU\(s\)", key))
        for cpu in cpu_list(value)
    }
    guessed = threads > 1 or sockets > 1  # on one socket of single threads every CPU is a core like any other
    by_node = sorted(online, key=lambda cpu: (node_of.get(cpu, 0), cpu))
    nodes = len(set(node_of.values()))
    if nodes and nodes % sockets == 0:
        # A socket's CPUs are those of its NUMA nodes; its cores are the first share of them.
        size = len(online) // sockets
        groups = [by_node[i * size : (i + 1) * size] for i in range(sockets)]
        per_node = nodes // sockets
        found = []
        for package, group in enumerate(groups):
            share = len(group) // per_node
            for part in range(per_node):
                members = group[part * share : (part + 1) * share]
                width = len(members) // threads
                found += [
                    Thread(cpu, package, part * share + place % width, node_of.get(cpu))
                    for place, cpu in enumerate(members)
                ]
        return Topology.from_threads(found, source=source, assumed=guessed)
    width = cores * sockets
    return Topology.from_threads(
        (
            Thread(cpu, (place % width) // cores, place % width, node_of.get(cpu) if node_of else None)
            for place, cpu in enumerate(online)
        ),
        source=source,
        assumed=guessed,
    )


def slurm(text: str, source: str = "slurmd -C") -> Topology:
    """The node of `slurmd -C` or of `scontrol show node`: counts alone, so NUMA nodes and L3 caches stay
    unknown.

    PU ids are taken to run core by core, which is what Slurm itself shows; the operating system's may differ,
    and then only forms that name no PU are right. An hwloc file is exact. Several nodes in one text must be
    alike.
    """
    shapes = set()
    for block in re.split(r"(?=\bNodeName=)", text):
        if "NodeName=" not in block:
            continue
        values = dict(re.findall(r"\b(\w+)=(\S+)", block))
        try:
            boards = int(values.get("Boards", 1))
            # slurmd -C and scontrol: CoresPerSocket; SocketsPerBoard or Sockets, which counts all boards.
            sockets = (
                int(values["SocketsPerBoard"]) * boards
                if "SocketsPerBoard" in values
                else int(values["Sockets"])
            )
            cores, threads = int(values["CoresPerSocket"]), int(values.get("ThreadsPerCore", 1))
            reserved = int(values.get("CoreSpecCount", 0))
            shapes.add((sockets, cores, threads, values.get("Gres", ""), reserved))
        except (KeyError, ValueError) as error:
            raise InputError(f"{source}: a node without sockets and cores: {error!r}") from error
    if len(shapes) != 1:
        raise InputError(f"{source}: {len(shapes)} different shapes of node (give one file a shape)")
    (counted,) = shapes
    return of_slurm(*counted, source=source)


def of_slurm(
    sockets: int, cores: int, threads: int, gres: str = "", reserved: int = 0, *, source: str = ""
) -> Topology:
    """A node as Slurm counts it, with its GPUs, and without the ``reserved`` cores (CoreSpecCount) that no job gets.

    Slurm takes the last core of every socket in turn, the last socket first (unless spec_cores_first says otherwise).
    """
    node = Topology.from_counts(sockets, cores, threads, source=source)
    taken = {
        (sockets - 1 - number % sockets) * cores + cores - 1 - number // sockets for number in range(reserved)
    }
    kept = frozenset(pu for index, core in enumerate(node.cores) if index not in taken for pu in core.pus)
    return replace(node, gpus=_gpus(gres, node)).restricted(kept)


def _gpus(gres: str, node: Topology) -> tuple[Gpu, ...]:
    """The GPUs of Slurm's `gpu:a100:2(S:0),gpu:v100:2(S:1),tmpdir:1`, next to the sockets that stand in brackets."""
    found: list[Gpu] = []
    for count, near in re.findall(r"\bgpu(?::[^:,()]+)?:([0-9]+)(?:\(S:([0-9,-]+)\))?", gres):
        sockets = [number for number in cpu_list(near) if number < len(node.sockets)]
        cores = tuple(core for number in sockets for core in node.sockets[number])
        everywhere = tuple(range(len(node.cores)))
        found += [Gpu(f"gpu{len(found) + number}", cores or everywhere) for number in range(int(count))]
    return tuple(found)


def profile(data: Mapping[str, Any], source: str = "site profile") -> Topology:
    """The node that a site profile describes: {hwloc: node.xml}, or counts.

    The counts are sockets, cores (of a socket), threads (of a core), numa_per_socket, l3_per_socket and gpus
    (of the node, spread evenly over the sockets). Raises InputError for any other key and for counts that do
    not divide.
    """
    if data.get("hwloc"):
        return read(str(data["hwloc"]))
    known = ("sockets", "cores", "threads", "numa_per_socket", "l3_per_socket", "gpus", "hwloc")
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise InputError(f"{source}: node: unknown {', '.join(unknown)} (known: {', '.join(known)})")
    try:
        sockets, cores = int(data["sockets"]), int(data["cores"])
        threads, gpus = int(data.get("threads", 1)), int(data.get("gpus", 0))
        parts = {
            key: int(data[key]) for key in ("numa_per_socket", "l3_per_socket") if data.get(key) is not None
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: node: sockets and cores are numbers: {error!r}") from error
    for key, number in parts.items():
        if number < 1 or cores % number:
            raise InputError(f"{source}: node.{key}: {cores} cores of a socket do not divide into {number}")
    plain = Topology.from_counts(sockets, cores, threads, source=source)

    def domain(key: str, core: int) -> int | None:
        return core // (cores // parts[key]) if key in parts else None

    found = [
        Thread(pu, core.package, index, domain("numa_per_socket", index), domain("l3_per_socket", index))
        for index, core in enumerate(plain.cores)
        for pu in core.pus
    ]
    near = [Gpu(f"gpu{i}", plain.sockets[i * sockets // gpus]) for i in range(gpus)]
    return Topology.from_threads(found, gpus=near, source=source, assumed=True)
