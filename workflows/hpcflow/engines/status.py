"""The state of a task: what the scheduler says and what the task's own record says, put together.

Neither is trusted alone. Where they contradict each other, the state is `unknown`, with a sentence that says
why.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hpcflow.jobs.record import Record


class State(enum.StrEnum):
    """What a user needs to tell apart."""

    WAITING = "waiting"  # for jobs before it
    PENDING = "pending"  # for resources
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def active(self) -> bool:
        """Whether it may still change by itself."""
        return self in (State.WAITING, State.PENDING, State.RUNNING)


@dataclass(frozen=True)
class Seen:
    """What the scheduler says of a task: one of its own states, its reason in words, its own id of the task.

    ``state`` None means that the scheduler knows nothing of the task (any more).
    """

    state: State | None
    reason: str = ""
    job_id: str = ""
    start_estimate: str = ""


@dataclass(frozen=True)
class TaskStatus:
    """One row of `hpcflow status`."""

    job: str
    task: int
    state: State
    reason: str
    job_id: str
    record: Record | None
    start_estimate: str = ""
    closed: bool = False  # nobody needs it any more: the run went on without it

    @property
    def well(self) -> bool:
        """Whether it ended well, or need not."""
        return self.state is State.DONE or self.closed


_STOPPED = (State.CANCELLED, State.TIMEOUT, State.FAILED)

# Signals that tell a script to end, as Slurm sends before a time limit, on scancel and on preemption.
_TOLD_TO_END = frozenset({"TERM", "INT", "HUP"})

_SIGNALS = {
    "KILL": "ended by SIGKILL (memory ran out?)",
    "TERM": "ended by SIGTERM (cancelled, preempted or out of time)",
    "BUS": "ended by SIGBUS (/dev/shm full?)",
}

_LOST = "its record has no end, and the scheduler does not know it any more (killed? node lost?)"


def settle(seen: Seen, record: Record | None) -> tuple[State, str]:
    """The state and a sentence on it, from both witnesses.

    A record of an end is believed unless the scheduler says the opposite of it. An end without a record is
    never `done`: the script was killed too hard to write one, or the file is not visible here yet. While the
    scheduler says that a task waits or runs, a record of a bad end is that of an earlier attempt, or the
    scheduler is about to agree: the task is not given up before it does. A record of another job (the task
    was queued anew since) is none.
    """
    if record is not None and seen.job_id and record.job_id != seen.job_id:
        record = None
    if seen.state in (State.WAITING, State.PENDING):
        return seen.state, seen.reason
    if seen.state is State.RUNNING:
        return (State.DONE, "") if record is not None and record.succeeded else (State.RUNNING, seen.reason)
    if record is None:
        return _without_record(seen)
    if record.ended is None:
        return _without_end(seen, record)
    state, reason = _of_record(record)
    if seen.state is State.DONE and state is not State.DONE:
        return State.UNKNOWN, f"the scheduler says that it completed, its record says: {reason}"
    if seen.state in _STOPPED:
        if state is State.DONE:
            return State.UNKNOWN, f"its record says that it ended well, the scheduler says: {seen.state}"
        return seen.state, seen.reason or reason
    return state, reason


def _of_record(record: Record) -> tuple[State, str]:
    if record.succeeded:
        return State.DONE, ""
    # Exit codes above 128 + 64 are no signal, whatever the script called them (Open MPI's 255).
    if record.signal and record.signal.isalpha():
        told = record.signal in _TOLD_TO_END
        reason = _SIGNALS.get(record.signal, f"ended by SIG{record.signal}")
        return State.CANCELLED if told else State.FAILED, f"{reason} on {record.host}"
    return State.FAILED, f"exit code {record.exit_code} on {record.host}"


def _without_record(seen: Seen) -> tuple[State, str]:
    if seen.state is State.DONE:
        return State.UNKNOWN, "the scheduler says that it completed, and there is no record of it"
    if seen.state in _STOPPED:
        return seen.state, seen.reason or "ended before its script began"
    return State.UNKNOWN, seen.reason or "the scheduler knows nothing of it, and it left no record"


def _without_end(seen: Seen, record: Record) -> tuple[State, str]:
    if seen.state in _STOPPED:
        return seen.state, seen.reason or "killed before it could record its end"
    if seen.state is State.DONE:
        return State.UNKNOWN, "the scheduler says that it completed, but its record has no end"
    if record.signal:
        return State.UNKNOWN, f"told to end by SIG{record.signal}, and gone before it could record its end"
    return State.UNKNOWN, seen.reason or _LOST
