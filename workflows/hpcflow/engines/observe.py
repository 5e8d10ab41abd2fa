"""A run as it goes on: one scheduler query a tick until nothing can change any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hpcflow.engines.base import Engine
from hpcflow.engines.poll import Poll
from hpcflow.engines.status import State, TaskStatus
from hpcflow.errors import SiteError
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import patience

SETTLE_S = 10.0  # for a scheduler and a record that tell of one end at different moments


@dataclass(frozen=True)
class Tick:
    """The tasks at one moment; ``note`` says why they are those of an earlier one, if they are."""

    statuses: Sequence[TaskStatus]
    note: str = ""

    @property
    def active(self) -> int:
        """Number of tasks that may still change by themselves."""
        return sum(status.state.active for status in self.statuses)


def observe(
    run: RunDir,
    engine: Engine,
    pause: Callable[[float], None] = time.sleep,
    patience_s: float | None = None,
) -> Iterator[Tick]:
    """Yield a tick at once and one after each delay of Poll, the last when no task is active.

    A task that is `unknown` is given ``patience_s`` more (None: as the run's file system says): on NFS its record may
    take that long to be seen here. A scheduler that does not answer for a while (a transient SiteError) is asked again
    at the next tick; any other error is raised.
    """
    if patience_s is None:
        patience_s = max(SETTLE_S, patience(run.path))
    statuses: Sequence[TaskStatus] = ()
    settled_since: float | None = None
    for delay in Poll.of(engine.name):
        try:
            statuses, note = engine.statuses(run), ""
            # What a full queue left is queued while somebody looks, where no job does it.
            if any(not status.job_id and status.state is State.WAITING for status in statuses):
                engine.top_up(run, statuses)
        except SiteError as error:
            if not error.transient:
                raise
            note = str(error)
        tick = Tick(statuses, note)
        yield tick
        if not note and not tick.active:
            settled_since = settled_since or time.monotonic()
            certain = all(status.state is not State.UNKNOWN or status.closed for status in statuses)
            if certain or time.monotonic() - settled_since > patience_s:
                return
        else:
            settled_since = None
        pause(delay)
