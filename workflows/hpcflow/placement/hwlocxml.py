"""hwloc's XML files, version 1 and version 2: reading a node from them.

Version 2 hangs NUMA nodes beside the tree (memory children), version 1 has them inside of it; both are read
by their cpusets, so one reader serves. The logical order of cores is the order of the document, as in hwloc.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from hpcflow.errors import InputError
from hpcflow.placement.topology import Core, Gpu, Topology

PACKAGE = frozenset({"Package", "Socket"})  # hwloc before 1.11 said Socket
L3 = frozenset({"L3Cache"})
GPU_OSDEV = (
    "cuda",
    "nvml",
    "rsmi",
    "ze",
    "opencl",
)  # one GPU may have several of these; the first family counts


def parse(text: str, source: str = "") -> Topology:
    """The node that an hwloc XML document describes. Raises InputError on anything that is not one."""
    if re.search(r"<!ENTITY", text):
        raise InputError(f"{source or 'the topology'}: an hwloc file has no entities (export it with lstopo)")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError(f"{source or 'the topology'}: no well-formed XML: {error}") from error
    machine = root.find("object") if root.tag == "topology" else None
    if machine is None:
        raise InputError(f"{source or 'the topology'}: no hwloc XML file (export one with `lstopo node.xml`)")
    try:
        return _read(machine, source)
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{source or 'the topology'}: not as hwloc writes it: {error!r}") from error


def cpuset(text: str) -> frozenset[int]:
    """The members of a bitmap as hwloc prints it: 32-bit words, the highest first. Raises ValueError."""
    value = 0
    for word in text.split(","):
        if word == "0xf...f":
            raise ValueError(f"the cpuset {text} has no end")
        value = (value << 32) | (int(word, 16) if word else 0)
    return frozenset(bit for bit in range(value.bit_length()) if value >> bit & 1)


def _walk(
    node: ET.Element, parents: tuple[ET.Element, ...] = ()
) -> Iterator[tuple[ET.Element, tuple[ET.Element, ...]]]:
    yield node, parents
    for child in node.findall("object"):
        yield from _walk(child, (*parents, node))


def _kind(element: ET.Element) -> str:
    kind = element.get("type", "")
    return f"L{element.get('depth')}Cache" if kind == "Cache" else kind


def _read(machine: ET.Element, source: str) -> Topology:
    allowed = machine.get("allowed_cpuset") or machine.get("complete_cpuset")
    usable = cpuset(allowed) if allowed else None
    online = machine.get("online_cpuset")
    if usable is not None and online:
        usable &= cpuset(online)
    objects = list(_walk(machine))
    rows: dict[int, tuple[int, int | None, list[int]]] = {}
    barred: list[int] = []
    for element, parents in objects:
        if _kind(element) != "PU":
            continue
        pu = int(element.attrib["os_index"])
        if usable is not None and pu not in usable:
            barred.append(pu)
            continue
        core = next((p for p in reversed(parents) if _kind(p) == "Core"), element)
        package = next((p for p in parents if _kind(p) in PACKAGE), machine)
        cache = next((p for p in reversed(parents) if _kind(p) in L3), None)
        row = rows.setdefault(id(core), (id(package), None if cache is None else id(cache), []))
        row[2].append(pu)
    numa = _numa_of_pu(objects)
    packages: dict[int, int] = {}
    caches: dict[int, int] = {}
    nodes: dict[frozenset[int], int] = {}
    told_l3 = all(cache is not None for _, cache, _ in rows.values())
    cores = []
    for package_id, cache_id, pus in rows.values():
        memory = numa.get(pus[0])
        cores.append(
            Core(
                package=packages.setdefault(package_id, len(packages)),
                numa=None if memory is None else nodes.setdefault(memory, len(nodes)),
                l3=caches.setdefault(cache_id, len(caches)) if told_l3 and cache_id is not None else None,
                pus=tuple(sorted(pus)),
            )
        )
    if any(core.numa is None for core in cores):
        cores = [Core(core.package, None, core.l3, core.pus) for core in cores]
    return Topology(tuple(cores), _gpus(objects, cores), tuple(sorted(barred)), source)


def _numa_of_pu(
    objects: list[tuple[ET.Element, tuple[ET.Element, ...]]],
) -> dict[int, frozenset[int]]:
    """The smallest NUMA domain of every PU. Nodes of the same CPUs (fast and large memory) are one domain."""
    domains = sorted(
        {
            cpuset(element.attrib["cpuset"])
            for element, _ in objects
            if _kind(element) == "NUMANode" and element.get("cpuset")
        },
        key=len,
        reverse=True,
    )
    return {pu: domain for domain in domains for pu in domain}


def _gpus(objects: list[tuple[ET.Element, tuple[ET.Element, ...]]], cores: list[Core]) -> tuple[Gpu, ...]:
    found: dict[str, list[Gpu]] = {}
    for element, parents in objects:
        name = element.get("name", "")
        family = re.fullmatch(r"([a-z]+)[0-9].*", name)
        if _kind(element) != "OSDev" or family is None or family[1] not in GPU_OSDEV:
            continue
        local = next((p.attrib["cpuset"] for p in reversed(parents) if p.get("cpuset")), None)
        near = cpuset(local) if local else frozenset()
        touching = tuple(i for i, core in enumerate(cores) if near.intersection(core.pus))
        found.setdefault(family[1], []).append(Gpu(name, touching or tuple(range(len(cores)))))
    family_name = next((name for name in GPU_OSDEV if name in found), None)
    # By the runtime's own number (cuda0 first), which is what CUDA_VISIBLE_DEVICES means.
    return tuple(sorted(found[family_name], key=_number)) if family_name else ()


def _number(gpu: Gpu) -> tuple[int, str]:
    digits = re.search(r"[0-9]+", gpu.name)
    return (int(digits[0]) if digits else 0, gpu.name)
