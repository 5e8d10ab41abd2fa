"""The tasks of a run as rows: one a task while they are few, those of an array folded by state when they are
many."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpcflow.engines.status import State, TaskStatus
from hpcflow.jobs.job import JobGraph

FEW = 20
"""Arrays of up to so many tasks are shown task by task."""


class Verdict(enum.StrEnum):
    """A run in one word."""

    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """One task, or the tasks of one array that are in one state. Times are seconds since the epoch."""

    job: str
    tasks: tuple[int, ...]
    state: State
    reason: str
    job_id: str
    host: str
    started: float | None
    ended: float | None
    exit_code: int | None
    start_estimate: str
    label: str
    trial: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """What the row is about: the same row at another time has the same key if it is one task's."""
        return self.job, self.tasks[0]

    def elapsed(self, now: float) -> float | None:
        """Seconds that the task ran, or has been running; of several, since the first began."""
        if self.started is None:
            return None
        if self.ended is not None:
            return self.ended - self.started
        return max(0.0, now - self.started) if self.state is State.RUNNING else None


def rows(
    graph: JobGraph,
    statuses: Iterable[TaskStatus],
    few: int = FEW,
    titles: Mapping[tuple[str, int], str] | None = None,
) -> list[Row]:
    """The rows in the order of the graph. Jobs with more than ``few`` tasks are folded by state. ``titles`` are those
    of trials, by job and task.
    """
    named = titles or {}
    by_job: dict[str, list[TaskStatus]] = {}
    for status in statuses:
        by_job.setdefault(status.job, []).append(status)
    result: list[Row] = []
    for job in graph:
        mine = by_job.get(job.name, [])
        if job.tasks is None or len(mine) <= few:
            result += [
                replace(
                    _one(status, job.name if job.tasks is None else f"{job.name}/{status.task}"),
                    trial=named.get((status.job, status.task), ""),
                )
                for status in mine
            ]
            continue
        for state in State:
            group = [status for status in mine if status.state is state]
            if group:
                result.append(_folded(job.name, state, group))
    return result


def verdict(statuses: Sequence[TaskStatus]) -> Verdict:
    """The run in one word: active while any task is; done if every task is, or need not be."""
    if any(status.state.active for status in statuses):
        return Verdict.ACTIVE
    return Verdict.DONE if all(status.well for status in statuses) else Verdict.FAILED


def failed(statuses: Iterable[TaskStatus]) -> bool:
    """Whether any task ended, or is lost, otherwise than well: what the exit code tells."""
    return any(not (status.state.active or status.well) for status in statuses)


def counts(statuses: Iterable[TaskStatus]) -> str:
    """How many tasks are in each state, as in `3 done, 1 running`."""
    found = Counter(status.state for status in statuses)
    return ", ".join(f"{found[state]} {state}" for state in State if found[state])


def to_json(status: TaskStatus, now: float) -> dict[str, Any]:
    """One task as `hpcflow status --json` prints it. Times are seconds since the epoch."""
    row = _one(status, "")
    elapsed = row.elapsed(now)
    return {
        "job": status.job,
        "task": status.task,
        "state": str(status.state),
        "reason": status.reason,
        "job_id": status.job_id,
        "host": row.host,
        "started": row.started,
        "ended": row.ended,
        "elapsed_s": None if elapsed is None else round(elapsed, 3),
        "exit_code": row.exit_code,
        "start_estimate": status.start_estimate,
    }


def ranges(numbers: Iterable[int]) -> str:
    """Task numbers as Slurm writes them: `0-3,5`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in parts)


def _one(status: TaskStatus, label: str) -> Row:
    record = status.record if status.state not in (State.WAITING, State.PENDING) else None
    started, host = (record.started, record.host) if record else (None, "")
    # Of an earlier attempt, as long as the task runs again.
    ended = record.ended if record and status.state is not State.RUNNING else None
    code = record.exit_code if record and ended is not None else None
    return Row(
        status.job, (status.task,), status.state, status.reason, status.job_id,
        host, started, ended, code, status.start_estimate, label,
    )  # fmt: skip


def _folded(job: str, state: State, group: Sequence[TaskStatus]) -> Row:
    each = [_one(status, "") for status in group]
    tasks = tuple(row.tasks[0] for row in each)
    starts = [row.started for row in each if row.started is not None]
    ends = [row.ended for row in each if row.ended is not None]
    codes = {row.exit_code for row in each}
    reasons = Counter(row.reason for row in each)
    reason, number = reasons.most_common(1)[0]
    if len(reasons) > 1:
        reason = f"{number} x {reason or 'no reason given'}; {len(group) - number} for other reasons"
    return Row(
        job, tasks, state, reason, job_id=_shared(row.job_id.partition("_")[0] for row in each),
        host=_shared(row.host for row in each), started=min(starts, default=None), ended=max(ends, default=None),
        exit_code=next(iter(codes)) if len(codes) == 1 else None,
        start_estimate=min((row.start_estimate for row in each if row.start_estimate), default=""),
        label=f"{job} [{ranges(tasks)}] {len(tasks)}",
    )  # fmt: skip


def _shared(values: Iterable[str]) -> str:
    """The one value; the first and how many others there are; empty where there is none."""
    found = [value for value in dict.fromkeys(values) if value]
    return found[0] + (f" +{len(found) - 1}" if len(found) > 1 else "") if found else ""
