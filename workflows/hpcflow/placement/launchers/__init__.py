"""One dialect a module, each with `line(Launch)`: the same rank map in a launcher's own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hpcflow.errors import InputError
from hpcflow.placement.hosts import checked
from hpcflow.placement.launchers import horovodrun, intelmpi, mpich, openmpi, srun
from hpcflow.placement.launchers.base import HostList, JobFile, Launch, LaunchLine, Scheduler, Word, shell
from hpcflow.placement.rankmap import RankMap

__all__ = ["DIALECTS", "HostList", "JobFile", "Launch", "LaunchLine", "Word", "line", "shell"]

DIALECTS: dict[str, Callable[[Launch], LaunchLine]] = {
    "openmpi": openmpi.line,
    "intelmpi": intelmpi.line,
    "mpich": mpich.line,
    "srun": srun.line,
    "horovodrun": horovodrun.line,
}


def line(
    name: str,
    rankmap: RankMap,
    program: Sequence[str],
    *,
    version: str | None = None,
    env: Mapping[str, str] | None = None,
    scheduler: Scheduler | None = None,
    as_root: bool = False,
    hosts: Sequence[str] | None = None,
    mpi: str | None = None,
    command: str | None = None,
) -> LaunchLine:
    """The line that starts ``program`` by the rank map. ``version`` None means: right for every version
    spoken here; ``command`` is the launcher's name on PATH where it is not the usual one.

    Raises InputError for an unknown launcher and for a map that the launcher cannot express.
    """
    if name not in DIALECTS:
        raise InputError(f"launcher {name}: unknown (known: {', '.join(sorted(DIALECTS))})")
    named = checked(hosts) if hosts is not None else None
    if named is not None and len(named) != rankmap.nodes:
        raise InputError(f"launcher {name}: {len(named)} hosts for {rankmap.nodes} nodes")
    ask = Launch(rankmap, tuple(program), version, dict(env or {}), scheduler, named, as_root, mpi, command)
    return DIALECTS[name](ask)
