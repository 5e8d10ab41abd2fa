"""What of a graph is queued next, as pure functions: arrays cut into pieces, and a window of them.

MaxArraySize bounds the index of an array's tasks, so that a piece of a longer array begins at 0 again and its script is
told the task that it begins with. A user's MaxSubmitJobs counts every task of every array. Where all that is to be
queued is more than that, pieces of half the limit are queued while they fit, and the rest is left: whoever extends the
queue later (engines/more.py) does the same with what is left then. Half of it, because a piece makes room when all its
tasks have ended: while that is waited for, the other half keeps the nodes busy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcflow.jobs.job import Job, JobGraph

Wanted = Mapping[str, Sequence[int]]
"""Job -> the numbers of its tasks that are to be queued, ascending."""


@dataclass(frozen=True)
class Piece:
    """One call of sbatch: some tasks of a job, counted from ``offset``; None: a job that is no array."""

    job: str
    offset: int
    tasks: tuple[int, ...] | None

    @property
    def size(self) -> int:
        """How much of MaxSubmitJobs it takes."""
        return 1 if self.tasks is None else len(self.tasks)


@dataclass(frozen=True)
class Choice:
    """The pieces to queue now, in the order of the graph, and whether anything is left."""

    pieces: tuple[Piece, ...]
    left: bool


def choose(graph: JobGraph, wanted: Wanted, longest: int, room: int | None) -> Choice:
    """What to queue of ``wanted``, in pieces of at most ``longest`` tasks and at most ``room`` tasks together.

    A job waits for its turn until all that it needs of other jobs is queued.
    """
    chosen: list[Piece] = []
    incomplete: set[str] = set()
    for job in graph:
        tasks = wanted.get(job.name, ())
        if not tasks:
            continue
        if any(after.job in incomplete for after in job.after):
            incomplete.add(job.name)
            continue
        for piece in cut(job, tasks, longest):
            if room is not None and piece.size > room:
                incomplete.add(job.name)
                break
            room = None if room is None else room - piece.size
            chosen.append(piece)
    return Choice(tuple(chosen), bool(incomplete))


def cut(job: Job, tasks: Sequence[int], longest: int) -> Iterator[Piece]:
    """The pieces of some tasks of ``job``; two numbers share a piece only if their distance is below ``longest``."""
    if job.tasks is None:
        yield Piece(job.name, 0, None)
        return
    piece: list[int] = []
    for task in tasks:
        if piece and task - piece[0] >= longest:
            yield Piece(job.name, piece[0], tuple(piece))
            piece = []
        piece.append(task)
    if piece:
        yield Piece(job.name, piece[0], tuple(piece))


def total(graph: JobGraph, wanted: Wanted) -> int:
    """How much of MaxSubmitJobs all of it takes."""
    return sum(len(wanted.get(job.name, ())) for job in graph)
