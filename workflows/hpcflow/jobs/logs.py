"""What tasks printed: which one is meant, where its last lines begin, and its lines as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from hpcflow.errors import InputError, RunError
from hpcflow.jobs import record
from hpcflow.jobs.rundir import RunDir, TaskDir

_BLOCK = 1 << 16


def choose(run: RunDir, job: str | None) -> TaskDir:
    """The task that JOB or JOB/INDEX names; of several, the first that failed, else the one that began last.

    Read from the records alone, so that logs are at hand when no scheduler is. Raises InputError for a task
    that the run has not, RunError when none of those meant has begun.
    """
    tasks = _named(run, job)
    if len(tasks) == 1:
        return tasks[0]
    begun = [(task, found) for task in tasks if (found := record.read(task.record))]
    for task, found in begun:
        if found.ended is not None and not found.succeeded:
            return task
    if not begun:
        raise RunError(f"no task of {job or run.name} has begun yet (`hpcflow status {run.name}`)")
    return max(begun, key=lambda pair: pair[1].started)[0]


def _named(run: RunDir, job: str | None) -> list[TaskDir]:
    if job is None:
        return [task for where in run for task in where]
    name, _, index = job.partition("/")
    known = {where.name: where for where in run}
    if name not in known:
        raise InputError(f"{run.name} has no job {name!r} (it has: {', '.join(known)})")
    tasks = list(known[name])
    if not index:
        return tasks
    if not index.isdecimal() or int(index) >= len(tasks):
        raise InputError(f"the job {name} has no task {index!r} (they are numbered 0 to {len(tasks) - 1})")
    return [tasks[int(index)]]


def start_of_tail(path: Path, lines: int | None) -> int:
    """Where the last ``lines`` lines of a file begin (its first for None); 0 while there is no such file."""
    if lines is None:
        return 0
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            if lines == 0:
                return position
            wanted = lines + 1 if position and _ends_with_newline(file) else lines
            while position:
                size = min(_BLOCK, position)
                position -= size
                file.seek(position)
                block = file.read(size)
                found = block.count(b"\n")
                if found >= wanted:
                    return position + _nth_from_end(block, wanted) + 1
                wanted -= found
    except FileNotFoundError:
        pass
    return 0


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _nth_from_end(block: bytes, number: int) -> int:
    """The place of the ``number``-th line break from the end; the block's end for 0."""
    place = len(block)
    for _ in range(number):
        place = block.rindex(b"\n", 0, place)
    return place


def follow(
    path: Path, position: int, active: Callable[[], bool], pause: Callable[[], None]
) -> Iterator[bytes]:
    """What is appended to ``path`` after ``position``, until the task is not ``active`` and everything was
    read.

    A file that is cut (by a task that begins anew) is read from its start.
    """
    last = False
    while True:
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                position = position if size >= position else 0
                file.seek(position)
                while block := file.read(_BLOCK):
                    position += len(block)
                    yield block
        except FileNotFoundError:
            pass
        if last:
            return
        last = not active()
        if not last:
            pause()
