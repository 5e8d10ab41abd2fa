"""The hardware of one node: packages, NUMA nodes, L3 groups, cores, hardware threads and GPUs.

Numbers are hwloc's logical ones, dense and from 0, except for hardware threads (PUs), which keep the
operating system's ids: these are what sched_setaffinity, Slurm's masks and Intel MPI's masks speak of, and
they may have holes. What may not be used (offline, outside of the cgroup) is left out before anything is
numbered, as hwloc does it, so a core's number here is the number that a launcher gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hpcflow.errors import InputError

Level = Literal["node", "socket", "numa", "l3"]


@dataclass(frozen=True)
class Thread:
    """One hardware thread as a source describes it; ``package``, ``numa``, ``l3`` and ``core`` are any
    labels.

    None says that the source does not tell. Cores are told apart by (package, core).
    """

    pu: int
    package: int
    core: int
    numa: int | None = None
    l3: int | None = None


@dataclass(frozen=True, slots=True)
class Core:
    """One core. ``pus`` are the OS ids of its usable hardware threads, ascending."""

    package: int
    numa: int | None
    l3: int | None
    pus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU and the logical cores next to it (all of the node's where the topology does not tell)."""

    name: str
    cores: tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """One node. Equality is that of the hardware; ``source`` says where it was read.

    ``assumed`` says that the source gave counts alone, so that the OS ids of the PUs are a guess (core by
    core).
    """

    cores: tuple[Core, ...]
    gpus: tuple[Gpu, ...] = ()
    disallowed: tuple[int, ...] = ()
    source: str = field(default="", compare=False)
    assumed: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.cores:
            raise InputError(f"the topology {self.source or 'given'} has no usable core")
        pus = [pu for core in self.cores for pu in core.pus]
        if min(pus) < 0:
            raise InputError(f"the topology {self.source or 'given'} has a hardware thread number {min(pus)}")
        if len(set(pus)) != len(pus):
            raise InputError(f"the topology {self.source or 'given'} names a hardware thread twice")

    @classmethod
    def from_counts(cls, sockets: int, cores: int, threads: int = 1, *, source: str = "") -> Topology:
        """``sockets`` x ``cores`` each x ``threads`` each, PUs numbered core by core as Slurm and hwloc's
        synthetic nodes do.
        """
        if min(sockets, cores, threads) < 1:
            raise InputError(
                f"a node of {sockets} sockets x {cores} cores x {threads} threads does not exist (1 or more)"
            )
        made = tuple(
            Core(
                package=core // cores,
                numa=None,
                l3=None,
                pus=tuple(range(core * threads, (core + 1) * threads)),
            )
            for core in range(sockets * cores)
        )
        return cls(made, source=source or f"{sockets}x{cores}x{threads}", assumed=True)

    @classmethod
    def from_threads(
        cls,
        threads: Iterable[Thread],
        *,
        allowed: frozenset[int] | None = None,
        gpus: Sequence[Gpu] = (),
        source: str = "",
        assumed: bool = False,
    ) -> Topology:
        """Number what a flat list of hardware threads describes, in hwloc's order: objects by their lowest
        PU, outer ones first.
        """
        everything = list(threads)
        usable = [t for t in everything if allowed is None or t.pu in allowed]
        barred = sorted({t.pu for t in everything} - {t.pu for t in usable})
        if not usable:
            raise InputError(f"the topology {source or 'given'} has no usable hardware thread")
        grouped: dict[tuple[int, int], list[Thread]] = {}
        for thread in usable:
            grouped.setdefault((thread.package, thread.core), []).append(thread)
        labels: dict[str, dict[tuple[int, int], int | None]] = {
            "package": {key: members[0].package for key, members in grouped.items()},
            "numa": {key: members[0].numa for key, members in grouped.items()},
            "l3": {key: members[0].l3 for key, members in grouped.items()},
        }
        first_pu: dict[str, dict[int | None, int]] = {}
        for level, of_core in labels.items():
            first_pu[level] = {}
            for key, label in of_core.items():
                lowest = min(t.pu for t in grouped[key])
                known = first_pu[level].get(label, lowest)
                first_pu[level][label] = min(known, lowest)
        # A level with fewer groups encloses one with more; a package encloses a NUMA node of its own size.
        order = sorted(labels, key=lambda level: len(first_pu[level]))

        def rank_of(key: tuple[int, int]) -> tuple[int, ...]:
            outer = tuple(first_pu[level][labels[level][key]] for level in order)
            return (*outer, min(t.pu for t in grouped[key]))

        ordered = sorted(grouped, key=rank_of)
        number: dict[str, dict[int | None, int]] = {level: {} for level in ("package", "numa", "l3")}
        for level, of_core in labels.items():
            for key in ordered:
                number[level].setdefault(of_core[key], len(number[level]))

        def numbered(level: str, key: tuple[int, int]) -> int | None:
            label = labels[level][key]
            return None if label is None else number[level][label]

        cores = tuple(
            Core(
                package=number["package"][labels["package"][key]],
                numa=numbered("numa", key),
                l3=numbered("l3", key),
                pus=tuple(sorted(t.pu for t in grouped[key])),
            )
            for key in ordered
        )
        return cls(cores, tuple(gpus), tuple(barred), source, assumed)

    @property
    def pus(self) -> tuple[int, ...]:
        """Every usable OS id, in the order of the cores."""
        return tuple(pu for core in self.cores for pu in core.pus)

    @property
    def threads_per_core(self) -> int:
        """The largest number of usable hardware threads that a core has."""
        return max(len(core.pus) for core in self.cores)

    @cached_property
    def sockets(self) -> tuple[tuple[int, ...], ...]:
        """The logical cores of every package."""
        return self.domains("socket")

    def domains(self, level: Level) -> tuple[tuple[int, ...], ...]:
        """The logical cores of every domain of a level, in logical order.

        Raises InputError where the source of the topology does not tell about that level.
        """
        if level == "node":
            return (tuple(range(len(self.cores))),)
        groups: dict[int, list[int]] = {}
        for index, core in enumerate(self.cores):
            label = {"socket": core.package, "numa": core.numa, "l3": core.l3}[level]
            if label is None:
                name = {"numa": "NUMA nodes", "l3": "L3 caches", "socket": "sockets"}[level]
                raise InputError(
                    f"the topology {self.source or 'given'} does not tell its {name} (give an hwloc XML file, or "
                    "numa_per_socket and l3_per_socket of the site profile's node)"
                )
            groups.setdefault(label, []).append(index)
        return tuple(tuple(groups[label]) for label in sorted(groups))

    def knows(self, level: Level) -> bool:
        """Whether the source tells about a level."""
        attribute = {"numa": "numa", "l3": "l3"}.get(level)
        return attribute is None or all(getattr(core, attribute) is not None for core in self.cores)

    def restricted(self, allowed: frozenset[int]) -> Topology:
        """The node as a process that may use only ``allowed`` sees it: numbered anew. Raises InputError if
        nothing is left.
        """
        kept = [i for i, core in enumerate(self.cores) if allowed.intersection(core.pus)]
        if allowed.issuperset(self.pus):
            return self
        number = {old: new for new, old in enumerate(kept)}

        def dense(labels: list[int | None]) -> list[int | None]:
            seen: dict[int, int] = {}
            return [None if label is None else seen.setdefault(label, len(seen)) for label in labels]

        old = [self.cores[i] for i in kept]
        packages = dense([core.package for core in old])
        numa, l3 = dense([core.numa for core in old]), dense([core.l3 for core in old])
        cores = tuple(
            Core(package or 0, node, cache, tuple(pu for pu in core.pus if pu in allowed))
            for core, package, node, cache in zip(old, packages, numa, l3, strict=True)
        )
        everywhere = tuple(range(len(cores)))
        gpus = tuple(
            Gpu(gpu.name, tuple(number[i] for i in gpu.cores if i in number) or everywhere)
            for gpu in self.gpus
        )
        barred = tuple(sorted({*self.disallowed, *(set(self.pus) - allowed)}))
        return Topology(cores, gpus, barred, self.source, self.assumed)

    def sentence(self) -> str:
        """The node in a few words, for messages."""
        sizes = [len(socket) for socket in self.sockets]
        each = str(sizes[0]) if len(set(sizes)) == 1 else "+".join(map(str, sizes))
        sockets = f"{len(sizes)} socket{'s' if len(sizes) > 1 else ''}"
        return f"{sockets} x {each} cores x {self.threads_per_core} threads"

    def to_json(self) -> dict[str, Any]:
        """As plain data: one row [package, numa, l3, [pus]] a core."""
        return {
            "source": self.source,
            "assumed": self.assumed,
            "cores": [[c.package, c.numa, c.l3, list(c.pus)] for c in self.cores],
            "gpus": [[gpu.name, list(gpu.cores)] for gpu in self.gpus],
            "disallowed": list(self.disallowed),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Topology:
        """The reverse of to_json. Raises InputError on anything else."""
        try:
            cores = tuple(
                Core(int(package), _optional(numa), _optional(l3), tuple(map(int, pus)))
                for package, numa, l3, pus in data["cores"]
            )
            gpus = tuple(Gpu(str(name), tuple(map(int, near))) for name, near in data["gpus"])
            disallowed = tuple(map(int, data["disallowed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no topology as hpcflow writes it: {error!r}") from error
        return cls(cores, gpus, disallowed, str(data.get("source", "")), bool(data.get("assumed")))


def _optional(value: Any) -> int | None:
    return None if value is None else int(value)
