"""The rank map: for every rank its node, sockets, NUMA nodes, cores, PUs and GPUs.

Everything else in this package says, draws or checks a rank map. Ranks are numbered node by node.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpcflow.errors import InputError
from hpcflow.placement.hosts import checked
from hpcflow.placement.places import gpus as near_gpus
from hpcflow.placement.places import level_of, many, places
from hpcflow.placement.topology import Topology

if TYPE_CHECKING:
    from hpcflow.experiment.schema import Placement

FORMAT = 1


@dataclass(frozen=True, slots=True)
class RankPlace:
    """One rank. Sockets, NUMA nodes, cores and GPUs are logical numbers within the node; ``pus`` are OS ids.

    ``pus`` are the hardware threads that the rank's own threads are meant for: one of each core, or with smt
    all. A launcher that binds whole cores gives the others too; no other rank gets them.
    """

    rank: int
    node: int
    host: str
    local_rank: int
    sockets: tuple[int, ...]
    numa_nodes: tuple[int, ...]
    cores: tuple[int, ...]
    pus: tuple[int, ...]
    gpus: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `hpcflow map --json` prints it."""
        return {
            "rank": self.rank,
            "node": self.node,
            "host": self.host,
            "local_rank": self.local_rank,
            "sockets": list(self.sockets),
            "numa_nodes": list(self.numa_nodes),
            "cores": list(self.cores),
            "pus": list(self.pus),
            "gpus": list(self.gpus),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> RankPlace:
        """The reverse of to_json. Raises KeyError, TypeError or ValueError on anything else."""
        return cls(
            rank=int(row["rank"]),
            node=int(row["node"]),
            host=str(row["host"]),
            local_rank=int(row["local_rank"]),
            sockets=_numbers(row["sockets"]),
            numa_nodes=_numbers(row["numa_nodes"]),
            cores=_numbers(row["cores"]),
            pus=_numbers(row["pus"]),
            gpus=_numbers(row["gpus"]),
        )


@dataclass(frozen=True)
class RankMap:
    """A plan: ``ranks`` in order, and the node shapes they were planned on (``shapes[shape_of[node]]``)."""

    ranks: tuple[RankPlace, ...]
    hosts: tuple[str, ...]
    shapes: tuple[Topology, ...]
    shape_of: tuple[int, ...]
    smt: bool = False

    @property
    def size(self) -> int:
        """Number of ranks: what MPI must say."""
        return len(self.ranks)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.hosts)

    def topology(self, node: int) -> Topology:
        """The topology of a node."""
        return self.shapes[self.shape_of[node]]

    @cached_property
    def by_node(self) -> tuple[tuple[RankPlace, ...], ...]:
        """The ranks of every node, by local rank."""
        found: list[list[RankPlace]] = [[] for _ in self.hosts]
        for place in self.ranks:
            found[place.node].append(place)
        return tuple(map(tuple, found))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of ranks of every node."""
        return tuple(map(len, self.by_node))

    @property
    def ranks_per_node(self) -> int:
        """Ranks of the node that has most."""
        return max(self.counts)

    @cached_property
    def uniform(self) -> bool:
        """Whether every node has the same shape and the same ranks on the same cores."""
        if len(set(self.shape_of)) > 1 or len(set(self.counts)) > 1:
            return False
        first = [(place.cores, place.gpus) for place in self.by_node[0]]
        return all([(p.cores, p.gpus) for p in ranks] == first for ranks in self.by_node)

    @cached_property
    def cores_per_rank(self) -> int:
        """Cores of the rank that has fewest."""
        return min(len(place.cores) for place in self.ranks)

    @cached_property
    def even(self) -> bool:
        """Whether all ranks have the same number of cores."""
        return all(len(place.cores) == self.cores_per_rank for place in self.ranks)

    @cached_property
    def overlapping(self) -> bool:
        """Whether two ranks share a core, which only ``oversubscribe`` allows."""
        return any(
            len({core for p in ranks for core in p.cores}) < sum(len(p.cores) for p in ranks)
            for ranks in self.by_node
        )

    @property
    def guessed(self) -> bool:
        """Whether the CPU ids of some node are a guess."""
        return any(shape.assumed for shape in self.shapes)

    def place(self, rank: int) -> RankPlace:
        """Where a rank is planned."""
        return self.ranks[rank]

    def core_pus(self, place: RankPlace) -> tuple[int, ...]:
        """All hardware threads of a rank's cores: what a launcher that binds whole cores gives it."""
        node = self.topology(place.node)
        return tuple(pu for core in place.cores for pu in node.cores[core].pus)

    def to_text(self, **about: str) -> str:
        """jobs/JOB/rankmap.json: ``about`` and to_json(), with a line a rank so that each rank of the job need parse no
        other (binding.PlanFile).
        """
        data = self.to_json() | {"ranks": []}
        rows = ",\n".join(json.dumps(place.to_json()) for place in self.ranks)
        return f"{json.dumps({**about, **data}).removesuffix(']}')}\n{rows}\n]}}\n"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data; the ranks are last."""
        return {
            "format": FORMAT,
            "smt": self.smt,
            "hosts": list(self.hosts),
            "topologies": [shape.to_json() for shape in self.shapes],
            "topology_of": list(self.shape_of),
            "ranks": [place.to_json() for place in self.ranks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RankMap:
        """The reverse of to_json. Raises InputError on anything else."""
        try:
            if data["format"] != FORMAT:
                raise InputError(f"the rank map has format {data['format']}, this hpcflow reads {FORMAT}")
            ranks = tuple(RankPlace.from_json(row) for row in data["ranks"])
            return cls(
                ranks,
                tuple(map(str, data["hosts"])),
                tuple(Topology.from_json(shape) for shape in data["topologies"]),
                _numbers(data["topology_of"]),
                bool(data["smt"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no rank map as hpcflow writes it: {error!r}") from error


def _numbers(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(map(int, values))


def plan(request: Placement, nodes: Sequence[Topology], hosts: Sequence[str] | None = None) -> RankMap:
    """Place the ranks of ``request`` on ``nodes``, named ``hosts`` (node0, node1, ... where nobody knows
    yet).

    Raises InputError when the request does not fit: what was asked, what there is, the nearest that fits.
    """
    if not nodes:
        raise InputError("placement: there is no node to place ranks on")
    names = checked(hosts) if hosts is not None else tuple(f"node{i}" for i in range(len(nodes)))
    if len(names) != len(nodes):
        raise InputError(f"placement: {len(names)} host names for {len(nodes)} nodes")
    shapes, shape_of = _shapes(nodes)
    counts = _counts(request, len(nodes))
    worked: dict[tuple[int, int | None], list[tuple[Any, ...]]] = {}
    ranks: list[RankPlace] = []
    for node, (shape, count, host) in enumerate(zip(shape_of, counts, names, strict=True)):
        key = (shape, count)
        if key not in worked:
            worked[key] = _local(request, shapes[shape], count, host)
        for local, fields in enumerate(worked[key]):
            ranks.append(RankPlace(len(ranks), node, host, local, *fields))
    return RankMap(tuple(ranks), names, shapes, shape_of, request.smt)


def _shapes(nodes: Sequence[Topology]) -> tuple[tuple[Topology, ...], tuple[int, ...]]:
    """The distinct topologies, and the number of each node's."""
    by_identity: dict[int, int] = {}
    by_value: dict[Topology, int] = {}
    for node in nodes:
        if id(node) not in by_identity:
            by_identity[id(node)] = by_value.setdefault(node, len(by_value))
    return tuple(by_value), tuple(by_identity[id(node)] for node in nodes)


def _counts(request: Placement, nodes: int) -> list[int | None]:
    """Ranks of every node where the request gives their total: evenly, the first nodes one more."""
    _, each = level_of(request)
    if each is not None:
        return [None] * nodes
    total = request.ranks or 1
    if total < nodes:
        raise InputError(
            f"placement: asked {many(total, 'rank')} on {nodes} nodes, and a node without a rank is wasted; "
            f"nearest that fits: {many(total, 'node')}, or {nodes} ranks"
        )
    share, more = divmod(total, nodes)
    return [share + (node < more) for node in range(nodes)]


def _local(request: Placement, node: Topology, count: int | None, where: str) -> list[tuple[Any, ...]]:
    """Sockets, NUMA nodes, cores, PUs and GPUs of the ranks of one node."""
    placed = places(request, node, count, where)
    cards = near_gpus(request, node, placed, where)
    found = []
    for cores, gpus in zip(placed, cards, strict=True):
        threads = [node.cores[core].pus if request.smt else node.cores[core].pus[:1] for core in cores]
        numa = {node.cores[core].numa for core in cores}
        found.append(
            (
                tuple(sorted({node.cores[core].package for core in cores})),
                tuple(sorted(number for number in numa if number is not None)),
                cores,
                tuple(pu for pus in threads for pu in pus),
                gpus,
            )
        )
    return found
