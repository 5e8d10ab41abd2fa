"""Asking a launcher's own mapper, here and now, whether a launch line does what the plan says (`hpcflow map --verify`).

Open MPI maps onto a topology file without starting anything, Intel MPI and MPICH's Hydra start nothing but an echo on
this machine. Open MPI 5 is asked about all nodes, the others about one: they do on every node what they do on the
first. srun cannot be asked without a cluster of that shape.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcflow.errors import SiteError
from hpcflow.placement.cpulist import ranges
from hpcflow.placement.hwlocwrite import write
from hpcflow.placement.launchers import LaunchLine
from hpcflow.placement.launchers.base import JobFile
from hpcflow.placement.rankmap import RankMap

SECONDS = 60.0
ROOT = (
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
)
Given = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class Verdict:
    """``given`` holds the cores (of what was asked: all ranks, or those of node 0) that the mapper gives each rank."""

    launcher: str
    version: str
    asked: str
    given: Mapping[int, tuple[int, ...]]
    different: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the mapper does exactly what the plan says."""
        return not self.different


def verify(name: str, version: str | None, line: LaunchLine, rankmap: RankMap, command: Path) -> Verdict:
    """Compare ``line`` with what the launcher at ``command`` makes of it.

    Raises SiteError where that launcher cannot be asked here.
    """
    if name not in ASK:
        raise SiteError(
            f"--verify: {name} cannot be asked for a map without running it on such nodes "
            "(openmpi, intelmpi and mpich can; a job checks itself)"
        )
    with tempfile.TemporaryDirectory(prefix="hpcflow-map-") as folder:
        given, asked = ASK[name](line, rankmap, command, version or "", Path(folder))
    different = tuple(
        f"rank {place.rank}: planned cores {ranges(place.cores)} of {place.host}, "
        + (
            f"{name} gives cores {ranges(given[place.rank])}"
            if place.rank in given
            else f"{name} does not say"
        )
        for place in rankmap.ranks
        if (asked == "all nodes" or place.node == 0) and tuple(sorted(place.cores)) != given.get(place.rank)
    )
    return Verdict(name, version or "", asked, given, different)


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


def _topologies(rankmap: RankMap, folder: Path) -> tuple[list[str], list[int]]:
    """A file for every stretch of nodes of one shape, and the length of the stretch."""
    files: list[str] = []
    lengths: list[int] = []
    previous: int | None = None
    for shape in rankmap.shape_of:
        if shape == previous:
            lengths[-1] += 1
            continue
        name = f"shape{shape}.xml"
        (folder / name).write_text(write(rankmap.shapes[shape]))
        files.append(str(folder / name))
        lengths.append(1)
        previous = shape
    return files, lengths


def _options(line: LaunchLine, folder: Path) -> list[str]:
    """The line's words from the launcher's name to the program, with its files written."""
    for name, text in line.files.items():
        (folder / name).write_text(text)
    words = [
        f"{word.prefix}{folder / word.name}" if isinstance(word, JobFile) else str(word) for word in line.argv
    ]
    return words


def _openmpi(
    line: LaunchLine, rankmap: RankMap, command: Path, version: str, folder: Path
) -> tuple[Given, str]:
    return (_openmpi5 if version.startswith("5") else _openmpi4)(line, rankmap, command, folder)


def _openmpi4(line: LaunchLine, rankmap: RankMap, command: Path, folder: Path) -> tuple[Given, str]:
    """One node, this one, with the topology of the plan's first: 4.1's simulator of nodes miscounts their slots."""
    if "rankfile" in " ".join(map(str, line.argv)):
        raise SiteError(
            "--verify: Open MPI 4 cannot show a rankfile's map without starting it (5 can; a job checks itself)"
        )
    files, _ = _topologies(rankmap, folder)
    words = _without(_options(line, folder)[1:], "-H")
    words[words.index("-np") + 1] = str(rankmap.counts[0])
    show = ["--do-not-launch", "--display-map", "-H", f"localhost:{rankmap.counts[0]}"]
    output = _run(
        [str(command), *show, *words],
        folder,
        {**line.env, "HWLOC_XMLFILE": files[0], "HWLOC_THISSYSTEM": "1"},
    )
    return _told(parse_openmpi4(output), command, output), "one node"


def _openmpi5(line: LaunchLine, rankmap: RankMap, command: Path, folder: Path) -> tuple[Given, str]:
    """All nodes, made up by the launcher itself."""
    files, lengths = _topologies(rankmap, folder)
    simulated = {
        "num_nodes": ",".join(map(str, lengths)),
        "topo_files": ",".join(files),
        "slots": ",".join([str(max(rankmap.counts))] * len(files)),
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
    return _told(parse_openmpi5(output), command, output), "all nodes"


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


def _cores_of(rankmap: RankMap, pus: Sequence[int]) -> tuple[int, ...]:
    mine = set(pus)
    return tuple(i for i, core in enumerate(rankmap.topology(0).cores) if mine.intersection(core.pus))


def _one_node(words: list[str], rankmap: RankMap) -> list[str]:
    """The words of a Hydra for the ranks of the first node alone."""
    found = _without(words, "-hosts")
    found[found.index("-n") + 1] = str(rankmap.counts[0])
    return found


def _intelmpi(
    line: LaunchLine, rankmap: RankMap, command: Path, version: str, folder: Path
) -> tuple[Given, str]:
    files, _ = _topologies(rankmap, folder)
    words = _one_node(_options(line, folder), rankmap)
    options = words[1 : _program(words, line)]
    show = ["/bin/sh", "-c", "echo =$PMI_RANK $I_MPI_PIN_INFO"]
    path = f"{command.parent}:{os.environ.get('PATH', '')}"
    output = _run(
        [str(command), *options, *show], folder, {**line.env, "HWLOC_XMLFILE": files[0], "PATH": path}
    )
    given = {
        int(rank): _cores_of(rankmap, [int(cpu) for cpu in cpus.split(",")])
        for rank, cpus in re.findall(r"^=([0-9]+) ([0-9,]+)$", output, re.MULTILINE)
    }
    return _told(given, command, output), "one node"


def _mpich(
    line: LaunchLine, rankmap: RankMap, command: Path, version: str, folder: Path
) -> tuple[Given, str]:
    files, _ = _topologies(rankmap, folder)
    words = _one_node(_options(line, folder), rankmap)
    options = words[1 : _program(words, line)]
    more = {**line.env, "HWLOC_XMLFILE": files[0], "HYDRA_TOPO_DEBUG": "1"}
    output = _run([str(command), *options, "/bin/true"], folder, more)
    given = {
        int(rank): _cores_of(rankmap, [cpu for cpu, bit in enumerate(bits) if bit == "1"])
        for rank, bits in re.findall(r"process ([0-9]+) binding: ([01]+)", output)
    }
    return _told(given, command, output), "one node"


def _program(words: Sequence[str], line: LaunchLine) -> int:
    """Where the program begins: after the last -genv NAME VALUE, or the last option that hpcflow writes."""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        at += {"-genv": 3, "-print-rank-map": 1}.get(words[at], 2)
    return at


ASK: dict[str, Callable[[LaunchLine, RankMap, Path, str, Path], tuple[Given, str]]] = {
    "openmpi": _openmpi,
    "intelmpi": _intelmpi,
    "mpich": _mpich,
}
