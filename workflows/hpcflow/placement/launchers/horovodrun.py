"""horovodrun over Open MPI: its own -np and -H, and Open MPI's mapping in --binding-args.

Without --binding-args horovodrun 0.28.1 says `-bind-to none -map-by slot` to Open MPI, so nothing is bound;
that single-dash form also keeps Open MPI 5 from starting. It drops --binding-args in silence for Intel MPI
and MPICH, and forwards no environment there: both are refused. It forwards the whole environment itself with
Open MPI.
"""

from __future__ import annotations

from dataclasses import replace

from hpcflow.errors import InputError
from hpcflow.placement.launchers import openmpi
from hpcflow.placement.launchers.base import HostList, JobFile, Launch, LaunchLine, Nested, Word

DROPPED = {"intelmpi": "Intel MPI", "impi": "Intel MPI", "mpich": "MPICH"}


def line(ask: Launch) -> LaunchLine:
    """The horovodrun line of a map.

    ``version`` is that of the MPI below, as in 5.0.11 or openmpi-5.0.11. Raises InputError for an MPI that
    horovodrun does not bind on, and where the number of ranks differs between hosts that nobody knows yet.
    """
    family, version = _family(ask.version)
    if family in DROPPED:
        raise InputError(
            f"launcher horovodrun: on {DROPPED[family]} horovodrun 0.28.1 drops --binding-args and the environment "
            f"without a word, so every rank would run on all cores (use launcher: {family})"
        )
    if family != "openmpi":
        raise InputError(f"launcher horovodrun: an MPI called {family} is not known here (openmpi is)")
    words, files = openmpi.mapping_words(replace(ask, version=version))
    binding = Nested(tuple(word for word in words if isinstance(word, str | JobFile)), "--binding-args=")
    argv: list[Word] = [
        "horovodrun",
        "--mpi",
        "-np",
        str(ask.rankmap.size),
        "-H",
        _hosts(ask),
        binding,  # one word with =: alone, a value that begins with a dash is taken for an option
        "--mpi-args=--report-bindings",
    ]
    return LaunchLine((*argv, *ask.program), dict(ask.env), files, "cores")


def _family(version: str | None) -> tuple[str, str | None]:
    """openmpi-5.0.11 as (openmpi, 5.0.11), mpich as (mpich, None), 5.0.11 as (openmpi, 5.0.11)."""
    if version is None:
        return "openmpi", None
    if version[:1].isdigit():
        return "openmpi", version
    family, _, number = version.replace(" ", "-").partition("-")
    return family.lower(), number or None


def _hosts(ask: Launch) -> Word:
    counts = ask.rankmap.counts
    if ask.scheduler == "slurm":
        if len(set(counts)) > 1:
            raise InputError(
                f"launcher horovodrun: the nodes have {' and '.join(map(str, sorted(set(counts))))} ranks, and which "
                "host is which is not known before the job starts (use openmpi)"
            )
        return HostList(counts[0])
    named = ask.hosts or (("localhost",) if ask.rankmap.nodes == 1 else ask.rankmap.hosts)
    return ",".join(f"{host}:{count}" for host, count in zip(named, counts, strict=True))
