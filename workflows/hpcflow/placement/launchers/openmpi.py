"""Open MPI 4.1 and 5: `--map-by ppr:N:LEVEL:pe=K` where that gives the map, else a rankfile. Binds whole
cores.

ppr is used even where `socket:pe=K` would do, because the latter changed its meaning in silence between 4.1
(0,1,0,1) and 5 (0,0,1,1), and `slot:pe=K` fails under Slurm with 5.0.8 (ompi#13426).
"""

from __future__ import annotations

from collections.abc import Mapping

from hpcflow.errors import InputError
from hpcflow.placement.cpulist import ranges
from hpcflow.placement.launchers.base import JobFile, Launch, LaunchLine, Word, version_numbers
from hpcflow.placement.launchers.patterns import Pattern, even_nodes, find, spans_sockets
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.topology import Level

RANKFILE = "rankfile.txt"
# Seen: 4.1.8 and 5.0.11 cut a longer list at 63 characters in silence, Debian's 4.1.4 aborts from 55 on.
SLOTS = 54
LEVEL: dict[Level, str] = {"socket": "socket", "numa": "numa", "l3": "l3cache", "node": "node"}


def line(ask: Launch) -> LaunchLine:
    """The mpirun line of a map. Raises InputError for a version that is not spoken here."""
    mapping, files = mapping_words(ask)
    argv: list[Word] = [
        ask.command or "mpirun",
        "-np",
        str(ask.rankmap.size),
        *host_words(ask),
        *mapping,
        "--report-bindings",
    ]
    if ask.as_root:
        argv.append("--allow-run-as-root")
    argv += forward_words(ask.env)
    return LaunchLine((*argv, *ask.program), dict(ask.env), files, "cores")


def forward_words(env: Mapping[str, str]) -> list[Word]:
    """-x NAME for every variable: the value comes from mpirun's own environment, so it is quoted nowhere."""
    return [word for name in sorted(env) for word in ("-x", name)]


def host_words(ask: Launch) -> list[Word]:
    """-H with slots, where no scheduler tells the hosts."""
    if ask.scheduler == "slurm":
        return []  # the allocation's hosts, and its --ntasks-per-node as slots
    if ask.hosts is None and ask.rankmap.nodes > 1:
        return []
    named = ask.hosts or ("localhost",)
    return ["-H", ",".join(f"{host}:{slots}" for host, slots in zip(named, ask.rankmap.counts, strict=True))]


def mapping_words(ask: Launch) -> tuple[list[Word], dict[str, str]]:
    """The options that place and bind, and the rankfile if there must be one."""
    if ask.version is not None and not (4, 0) <= version_numbers(ask.version) < (6,):
        raise InputError(f"launcher openmpi: version {ask.version} is not known here (4.0, 4.1 and 5.x are)")
    five = ask.at_least(5)
    for pattern in find(ask.rankmap):
        words = _ppr(pattern, ask, five)
        if words is not None:
            return words, {}
    if (five or ask.version is None) and not even_nodes(ask.rankmap):
        raise InputError(
            "launcher openmpi: some cores of a node lack a hardware thread, and Open MPI 5 counts cores wrongly in a "
            "rankfile there (let whole cores be used, or Open MPI 4.1)"
        )
    file = {RANKFILE: rankfile(ask.rankmap, _node_names(ask))}
    overlap: list[Word] = ["--bind-to", "core:overload-allowed"] if ask.rankmap.overlapping else []
    if five:
        # 5.x warns that --rankfile is deprecated.
        return ["--map-by", JobFile(RANKFILE, "rankfile:file="), *overlap], file
    # 4.1 binds what a rankfile says, overlapping or not, and refuses a --bind-to beside it.
    return ["--rankfile", JobFile(RANKFILE)], file


def _ppr(pattern: Pattern, ask: Launch, five: bool) -> list[Word] | None:
    if pattern.level == "node" and spans_sockets(ask.rankmap) and (five or ask.version is None):
        return None  # 5.x refuses a rank on two packages unless a rankfile says so
    level = "package" if five and pattern.level == "socket" else LEVEL[pattern.level]
    words: list[Word] = ["--map-by", f"ppr:{pattern.ranks}:{level}:pe={pattern.cores}", "--bind-to", "core"]
    if not pattern.scattered:
        return words
    if ask.version is None:
        return None
    if not five:
        return [*words, "--rank-by", "socket"]
    # 5.x has no --rank-by socket; its span counts over all nodes, so it says the same on one node alone.
    return [*words, "--rank-by", "span"] if ask.rankmap.nodes == 1 else None


def _node_names(ask: Launch) -> tuple[str, ...]:
    if ask.scheduler != "slurm":
        if ask.hosts is not None:
            return ask.hosts
        if ask.rankmap.nodes == 1:
            return ("localhost",)
    return tuple(f"+n{node}" for node in range(ask.rankmap.nodes))


def rankfile(rankmap: RankMap, names: tuple[str, ...]) -> str:
    """One line a rank, by logical core numbers of its node. +nI is the I-th node of the allocation.

    Raises InputError for a rank whose cores are in too many pieces.
    """
    lines = []
    for place in rankmap.ranks:
        slots = ranges(place.cores)
        if len(slots) > SLOTS:
            raise InputError(
                f"launcher openmpi: the cores of rank {place.rank} ({slots[:30]}...) take {len(slots)} characters in "
                f"a rankfile, and Open MPI reads {SLOTS} (fewer pieces: smaller ranks, or reserve per node)"
            )
        lines.append(f"rank {place.rank}={names[place.node]} slot={slots}\n")
    return "".join(lines)
