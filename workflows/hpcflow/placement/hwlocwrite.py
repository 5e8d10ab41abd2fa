"""Writing a node as an hwloc 2 document, for a launcher's own mapper to read (`hpcflow map --verify`, the
tests).

Packages, NUMA nodes and L3 groups where they are known, cores and PUs. GPUs are left out and memory sizes
made up: no mapper that hpcflow speaks to asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from hpcflow.placement.topology import Topology

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<!DOCTYPE topology SYSTEM "hwloc2.dtd">',
    '<topology version="2.0">',
)
MORE = {
    "Group": ' kind="0" subkind="0"',
    "L3Cache": ' cache_size="33554432" depth="3" cache_linesize="64" cache_associativity="16" cache_type="0"',
}
INDEXED = frozenset({"Machine", "Package", "Core"})


@dataclass
class _Node:
    """One object of the tree: its kind, its cores, and the objects within."""

    kind: str
    cores: tuple[int, ...]
    inner: list[_Node] = field(default_factory=list)


def bitmap(pus: frozenset[int]) -> str:
    """A bitmap as hwloc prints it. The reverse of cpuset."""
    value = sum(1 << pu for pu in pus)
    words: list[str] = []
    while value or not words:
        words.append(f"0x{value & 0xFFFFFFFF:08x}")
        value >>= 32
    return ",".join(reversed(words))


def write(topology: Topology) -> str:
    """The document. hwloc reads from it the numbers that the topology has."""
    lines = list(HEAD)
    numa = topology.domains("numa") if topology.knows("numa") else (_all(topology),)
    homeless = dict(enumerate(numa))
    serial = count(1)
    numbers: dict[str, int] = {}

    def nodeset(cores: tuple[int, ...]) -> str:
        wanted = set(cores)
        return bitmap(frozenset(i for i, domain in enumerate(numa) if wanted.intersection(domain)))

    def tag(kind: str, pus: frozenset[int], cores: tuple[int, ...], index: int | None, more: str = "") -> str:
        bits, nodes = bitmap(pus), nodeset(cores)
        os_index = "" if index is None else f' os_index="{index}"'
        return (
            f'<object type="{kind}"{os_index} cpuset="{bits}" complete_cpuset="{bits}" nodeset="{nodes}" '
            f'complete_nodeset="{nodes}" gp_index="{next(serial)}"{more}'
        )

    def emit(node: _Node, depth: int) -> None:
        blank = "  " * depth
        pus = frozenset(pu for core in node.cores for pu in topology.cores[core].pus)
        numbers[node.kind] = numbers.get(node.kind, -1) + 1
        more = MORE.get(node.kind, "")
        if node.kind == "Machine":
            more = f' allowed_cpuset="{bitmap(pus)}" allowed_nodeset="{nodeset(node.cores)}"'
        lines.append(
            blank
            + tag(node.kind, pus, node.cores, numbers[node.kind] if node.kind in INDEXED else None, more)
            + ">"
        )
        for number, domain in list(homeless.items()):
            if domain == node.cores:
                del homeless[number]
                lines.append(
                    f'{blank}  {tag("NUMANode", pus, node.cores, number)} local_memory="1073741824"/>'
                )
        for inner in sorted(node.inner, key=lambda n: n.cores[0]):
            emit(inner, depth + 1)
        if node.kind == "Core":
            for pu in topology.cores[node.cores[0]].pus:
                lines.append(f"{blank}  {tag('PU', frozenset({pu}), node.cores, pu)}/>")
        lines.append(blank + "</object>")

    emit(_tree(topology, numa), 1)
    return "\n".join([*lines, "</topology>", ""])


def _all(topology: Topology) -> tuple[int, ...]:
    return tuple(range(len(topology.cores)))


def _tree(topology: Topology, numa: tuple[tuple[int, ...], ...]) -> _Node:
    """Every object under the narrowest one that encloses it. A NUMA node that is no other object gets a
    Group.
    """
    root = _Node("Machine", _all(topology))
    caches = topology.domains("l3") if topology.knows("l3") else ()
    taken = {root.cores, *topology.sockets, *caches}
    objects = [_Node("Package", cores) for cores in topology.sockets]
    objects += [_Node("Group", cores) for cores in numa if cores not in taken]
    objects += [_Node("L3Cache", cores) for cores in caches]
    objects += [_Node("Core", (core,)) for core in root.cores]
    # Stable: of two objects of one size the earlier kind encloses the later one.
    for node in sorted(objects, key=lambda node: -len(node.cores)):
        parent = root
        while (
            inner := next(
                (n for n in parent.inner if n.kind != "Core" and set(node.cores) <= set(n.cores)), None
            )
        ) is not None:
            parent = inner
        parent.inner.append(node)
    return root
