"""Asking a launcher's own mapper, here and now, whether a launch line does what the plan says (`hpcflow map --verify`).

Open MPI maps onto a topology file without starting anything, Intel MPI and MPICH's Hydra start nothing but an echo on
this machine. Open MPI 5 is asked about all nodes, the others about one of each kind: they do the same on all nodes of a
kind. They read the user's own file where that is hwloc's, and tell cores (Open MPI) or CPUs (the others). srun cannot
be asked without a cluster of that shape.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcflow.errors import InputError, SiteError
from hpcflow.placement import sources
from hpcflow.placement.cpulist import ranges
from hpcflow.placement.hwlocwrite import write
from hpcflow.placement.launchers import LaunchLine
from hpcflow.placement.launchers.base import JobFile
from hpcflow.placement.rankmap import RankMap, RankPlace
from hpcflow.placement.topology import Topology

SECONDS = 60.0
ROOT = (
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
)
Given = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class Told:
    """What a mapper said: each rank's cores or CPUs, of all ranks of the ``nodes`` that it was asked about."""

    given: Mapping[int, tuple[int, ...]]
    unit: Literal["cores", "CPUs"]
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """``different`` has a sentence a rank that is not where it was planned; ``asked`` says about which nodes."""

    launcher: str
    version: str
    asked: str
    different: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the mapper does exactly what the plan says."""
        return not self.different


def askable(name: str) -> None:
    """Raises SiteError for a launcher that has no mapper to ask."""
    if name not in ASK:
        raise SiteError(
            f"--verify: {name} cannot be asked for a map without running it on such nodes "
            "(openmpi, intelmpi and mpich can; a job checks itself)"
        )


def verify(name: str, version: str | None, line: LaunchLine, rankmap: RankMap, command: Path) -> Verdict:
    """Compare ``line`` with what the launcher at ``command`` makes of it.

    Raises SiteError where that launcher cannot be asked here.
    """
    askable(name)
    with tempfile.TemporaryDirectory(prefix="hpcflow-map-") as folder:
        told = ASK[name](line, rankmap, command, version or "", Path(folder))
    places = [place for place in rankmap.ranks if place.node in told.nodes]
    different = tuple(
        sentence
        for place in places
        if (sentence := _difference(name, line, rankmap, place, told)) is not None
    )
    return Verdict(name, version or "", _asked(rankmap, told.nodes), different)


def _asked(rankmap: RankMap, nodes: Sequence[int]) -> str:
    if len(nodes) == rankmap.nodes:
        return "all nodes" if rankmap.nodes > 1 else "one node"
    return "one node" if len(nodes) == 1 else f"one node of each of {len(nodes)} kinds"


def _difference(name: str, line: LaunchLine, rankmap: RankMap, place: RankPlace, told: Told) -> str | None:
    """What a rank is given and was not planned to get, or the reverse."""
    planned = place.cores
    if told.unit == "CPUs":
        planned = place.pus if line.grain == "pus" else rankmap.core_pus(place)
    given = told.given.get(place.rank)
    if given is not None and sorted(planned) == sorted(given):
        return None
    said = f"{name} does not say" if given is None else f"{name} gives {told.unit} {ranges(given)}"
    return f"rank {place.rank}: planned {told.unit} {ranges(planned)} of {place.host}, {said}"


def _run(argv: Sequence[str], folder: Path, more: Mapping[str, str]) -> str:
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SLURM_", "PMI", "OMPI_", "PRTE_", "I_MPI_", "HWLOC_", "HYDRA_"))
    }
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
            env={**clean, **dict.fromkeys(ROOT, "1"), **more},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise SiteError(f"--verify: {argv[0]} cannot be run: {error}") from error
    return done.stdout + done.stderr


def document(shape: Topology) -> str:
    """A topology as hwloc 2 reads it: the user's own file where that is one, which tells more than a copy would."""
    source = Path(shape.source)
    try:
        text = source.read_text(encoding="utf-8") if shape.source and source.is_file() else ""
        if '<topology version="2' in text and sources.parse(text, shape.source) == shape:
            return text
    except (OSError, UnicodeDecodeError, InputError):
        pass  # the file has changed since it was read
    return write(shape)


def _file(rankmap: RankMap, shape: int, folder: Path) -> str:
    """The file of a shape, written into ``folder``."""
    path = folder / f"shape{shape}.xml"
    if not path.exists():
        path.write_text(document(rankmap.shapes[shape]), encoding="utf-8")
    return str(path)


def _kinds(rankmap: RankMap) -> tuple[int, ...]:
    """The first node of every kind: of its shape, and of its ranks' places."""
    first: dict[tuple[int, tuple[tuple[int, ...], ...]], int] = {}
    for node, ranks in enumerate(rankmap.by_node):
        first.setdefault((rankmap.shape_of[node], tuple(place.pus for place in ranks)), node)
    return tuple(first.values())


def _each_kind(
    rankmap: RankMap, folder: Path, unit: Literal["cores", "CPUs"], ask: Callable[[int, str], Given]
) -> Told:
    """Ask about a node of every kind: ``ask`` makes (node, its file) what each of its local ranks is given."""
    given: Given = {}
    nodes = _kinds(rankmap)
    for node in nodes:
        found = ask(node, _file(rankmap, rankmap.shape_of[node], folder))
        given |= {
            place.rank: found[place.local_rank]
            for place in rankmap.by_node[node]
            if place.local_rank in found
        }
    return Told(given, unit, nodes)


def _options(line: LaunchLine, folder: Path) -> list[str]:
    """The line's words from the launcher's name to the program, with its files written."""
    for name, text in line.files.items():
        (folder / name).write_text(text)
    words = [
        f"{word.prefix}{folder / word.name}" if isinstance(word, JobFile) else str(word) for word in line.argv
    ]
    return words


def _openmpi(line: LaunchLine, rankmap: RankMap, command: Path, version: str, folder: Path) -> Told:
    return (_openmpi5 if version.startswith("5") else _openmpi4)(line, rankmap, command, folder)


def _openmpi4(line: LaunchLine, rankmap: RankMap, command: Path, folder: Path) -> Told:
    """One node, this one, with the topology of the plan's: 4.1's simulator of nodes miscounts their slots."""
    if "rankfile" in " ".join(map(str, line.argv)):
        raise SiteError(
            "--verify: Open MPI 4 cannot show a rankfile's map without starting it (5 can; a job checks itself)"
        )
    words = _without(_options(line, folder)[1:], "-H")

    def ask(node: int, file: str) -> Given:
        count = rankmap.counts[node]
        words[words.index("-np") + 1] = str(count)
        show = ["--do-not-launch", "--display-map", "-H", f"localhost:{count}"]
        told = {**line.env, "HWLOC_XMLFILE": file, "HWLOC_THISSYSTEM": "1"}
        output = _run([str(command), *show, *words], folder, told)
        return _told(parse_openmpi4(output), command, output)

    return _each_kind(rankmap, folder, "cores", ask)


def _openmpi5(line: LaunchLine, rankmap: RankMap, command: Path, folder: Path) -> Told:
    """All nodes, made up by the launcher itself. Seen: 5.0.11 does not start with nodes of a second shape."""
    if len(rankmap.shapes) > 1:
        raise SiteError(
            "--verify: Open MPI 5 cannot be asked about nodes of several shapes without running it on them "
            "(ask about each shape by itself; a job checks itself)"
        )
    simulated = {
        "num_nodes": str(rankmap.nodes),
        "topo_files": _file(rankmap, 0, folder),
        "slots": str(max(rankmap.counts)),
    }
    options = [
        word for key, value in simulated.items() for word in ("--prtemca", f"ras_simulator_{key}", value)
    ]
    words = _without(_options(line, folder)[1:], "-H")
    output = _run(
        [str(command), *options, "--display", "map", "--runtime-options", "donotlaunch", *words],
        folder,
        line.env,
    )
    return Told(_told(parse_openmpi5(output), command, output), "cores", tuple(range(rankmap.nodes)))


def _without(words: Sequence[str], flag: str) -> list[str]:
    """The words without a flag and its value, and without the report that only started ranks give."""
    kept = [word for word in words if word != "--report-bindings"]
    if flag in kept:
        del kept[kept.index(flag) : kept.index(flag) + 2]
    return kept


def _told(given: Given, command: Path, output: str) -> Given:
    """What a mapper said. Raises SiteError with its words when that is no map."""
    if not given:
        raise SiteError(f"--verify: {command} printed no map: {' '.join(output.split())[:300]}")
    return given


def parse_openmpi4(output: str) -> Given:
    """rank -> cores from `--display-map`."""
    return {
        int(rank): tuple(sorted(int(core) for core in re.findall(r"core ([0-9]+)\[", bound)))
        for rank, bound in re.findall(r"Process rank: ([0-9]+) Bound: (.*)", output)
    }


def parse_openmpi5(output: str) -> Given:
    """rank -> cores from `--display map`."""
    found: Given = {}
    for rank, bound in re.findall(r"Data for proc: \[\S+,([0-9]+)\].*?Binding: ([^\n]*)", output, re.DOTALL):
        cores: list[int] = []
        for piece in re.findall(r"core:L([0-9,-]+)", bound):
            for part in piece.split(","):
                low, _, high = part.partition("-")
                cores += range(int(low), int(high or low) + 1)
        found[int(rank)] = tuple(sorted(cores))
    return found


def _one_node(words: list[str], ranks: int) -> list[str]:
    """The words of a Hydra for the ranks of one node alone."""
    found = _without(words, "-hosts")
    found[found.index("-n") + 1] = str(ranks)
    return found


def _intelmpi(line: LaunchLine, rankmap: RankMap, command: Path, version: str, folder: Path) -> Told:
    show = ["/bin/sh", "-c", "echo =$PMI_RANK $I_MPI_PIN_INFO"]
    path = f"{command.parent}:{os.environ.get('PATH', '')}"

    def ask(node: int, file: str) -> Given:
        words = _one_node(_options(line, folder), rankmap.counts[node])
        argv = [str(command), *words[1 : _program(words, line)], *show]
        output = _run(argv, folder, {**line.env, "HWLOC_XMLFILE": file, "PATH": path})
        rows = re.findall(r"^=([0-9]+) ([0-9,]+)$", output, re.MULTILINE)
        return _told({int(rank): tuple(map(int, cpus.split(","))) for rank, cpus in rows}, command, output)

    return _each_kind(rankmap, folder, "CPUs", ask)


def _mpich(line: LaunchLine, rankmap: RankMap, command: Path, version: str, folder: Path) -> Told:
    def ask(node: int, file: str) -> Given:
        words = _one_node(_options(line, folder), rankmap.counts[node])
        argv = [str(command), *words[1 : _program(words, line)], "/bin/true"]
        output = _run(argv, folder, {**line.env, "HWLOC_XMLFILE": file, "HYDRA_TOPO_DEBUG": "1"})
        rows = re.findall(r"process ([0-9]+) binding: ([01]+)", output)
        masks = {int(rank): tuple(cpu for cpu, bit in enumerate(bits) if bit == "1") for rank, bits in rows}
        return _told(masks, command, output)

    return _each_kind(rankmap, folder, "CPUs", ask)


def _program(words: Sequence[str], line: LaunchLine) -> int:
    """Where the program begins: after the last -genv NAME VALUE, or the last option that hpcflow writes."""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        at += {"-genv": 3, "-print-rank-map": 1}.get(words[at], 2)
    return at


ASK: dict[str, Callable[[LaunchLine, RankMap, Path, str, Path], Told]] = {
    "openmpi": _openmpi,
    "intelmpi": _intelmpi,
    "mpich": _mpich,
}
