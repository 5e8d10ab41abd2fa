"""What Slurm's accounting allows a user: limits of associations and of qualities of service."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from dataclasses import dataclass

from hpcflow.engines.ask import ask

QUERIES = {
    "associations": (
        "sacctmgr", "--noheader", "--parsable2", "show", "association", "where", "user={user}",
        "format=Account,Partition,QOS,MaxJobs,MaxSubmit,GrpSubmit",
    ),
    "qos": (
        "sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=Name,MaxJobsPU,MaxSubmitPU,GrpSubmit,MaxWall",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Association:
    """A user in an account (and partition). None: no limit of its own."""

    account: str
    partition: str
    qos: tuple[str, ...]
    max_jobs: int | None
    max_submit: int | None
    group_submit: int | None


@dataclass(frozen=True)
class Qos:
    """A quality of service; limits per user, ``group_submit`` of all users together."""

    name: str
    max_jobs: int | None
    max_submit: int | None
    group_submit: int | None
    max_wall: str


def max_submit() -> int | None:
    """How many jobs the user may have in the queue, by what accounting says of associations; None without a limit.

    Of several accounts the strictest counts. A limit that only a QOS sets is not known here: a site profile's
    max_submit_jobs says it.
    """
    answer = ask(queries(getpass.getuser())["associations"])
    limits = [
        limit
        for association in parse_associations(answer.out if answer.ok else "")
        for limit in (association.max_submit, association.group_submit)
        if limit is not None
    ]
    return min(limits, default=None)


def queries(user: str) -> dict[str, tuple[str, ...]]:
    """The argument lists for ``user``."""
    return {name: tuple(word.format(user=user) for word in words) for name, words in QUERIES.items()}


def parse_associations(out: str) -> tuple[Association, ...]:
    """`account|partition|qos,qos|MaxJobs|MaxSubmit|GrpSubmit`."""
    return tuple(
        Association(account, partition, tuple(filter(None, qos.split(","))), *map(_limit, limits))
        for account, partition, qos, *limits in _rows(out, 6)
    )


def parse_qos(out: str) -> tuple[Qos, ...]:
    """`name|MaxJobsPU|MaxSubmitPU|GrpSubmit|MaxWall`."""
    return tuple(
        Qos(name, _limit(jobs), _limit(submit), _limit(group), wall)
        for name, jobs, submit, group, wall in _rows(out, 5)
    )


def _rows(out: str, width: int) -> Iterator[list[str]]:
    for line in out.splitlines():
        fields = line.split("|")
        if len(fields) == width:
            yield fields


def _limit(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
