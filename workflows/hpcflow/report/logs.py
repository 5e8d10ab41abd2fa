"""A task's log on standard output, as it is: bytes in, bytes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hpcflow.engines.base import Engine
from hpcflow.engines.poll import Poll
from hpcflow.errors import SiteError
from hpcflow.jobs import logs, record
from hpcflow.jobs.rundir import RunDir, TaskDir

FILE_S = 0.3
"""Seconds between two looks at a log that is followed."""


def show(run: RunDir, task: TaskDir, lines: int | None, engine: Engine | None = None) -> None:
    """Print the last ``lines`` lines (None: all) of a task's log; with an ``engine``, go on until the task
    ends."""
    _say(task.log)
    active = (lambda: False) if engine is None else _activity(run, task, engine)
    _print(task.log, lines, active)
    where = run.job(task.job)
    if where.tasks is not None and _size(where.scheduler_log):
        _say(where.scheduler_log)
        _print(where.scheduler_log, lines, lambda: False)


def _print(path: Path, lines: int | None, active: Callable[[], bool]) -> None:
    out: BinaryIO = sys.stdout.buffer
    sys.stdout.flush()
    for block in logs.follow(path, logs.start_of_tail(path, lines), active, lambda: time.sleep(FILE_S)):
        out.write(block)
        out.flush()


def _activity(run: RunDir, task: TaskDir, engine: Engine) -> Callable[[], bool]:
    """Whether the task may still print. Its record says so at once; the scheduler is asked at Poll's pace."""
    delays = iter(Poll.of(engine.name))
    first, due = record.read(task.record), time.monotonic()

    def active() -> bool:
        nonlocal due
        found = record.read(task.record)
        # An end that stood there from the start may be that of an earlier attempt: the scheduler knows.
        if found != first and found is not None and found.ended is not None:
            return False
        if time.monotonic() < due:
            return True
        due = time.monotonic() + next(delays)
        try:
            return any(
                s.state.active for s in engine.statuses(run) if (s.job, s.task) == (task.job, task.index)
            )
        except SiteError as error:
            if not error.transient:
                raise
            return True

    return active


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _say(path: Path) -> None:
    """Name the log on stderr, so that standard output holds nothing else than the log."""
    print(f"==> {path} <==" + ("" if _size(path) else " (nothing yet)"), file=sys.stderr, flush=True)
