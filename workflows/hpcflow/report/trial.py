"""The tasks that a report has rows for, with their place in a sweep, if the run is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpcflow.jobs import trials
from hpcflow.jobs.job import Job
from hpcflow.jobs.rundir import JobDir, RunDir, TaskDir
from hpcflow.jobs.trials import TrialRow, Trials
from hpcflow.report import experiment

_PREPARE = re.compile(r"prepare(-\d+)?")


def prepares(job: str) -> bool:
    """Whether a job makes ready what others train on, and trains nothing itself."""
    return _PREPARE.fullmatch(job) is not None


@dataclass(frozen=True)
class Task:
    """A task that trains: of ``run``, or of an earlier one that had done this trial already (``reused``)."""

    run: RunDir
    where: JobDir
    dir: TaskDir
    plan: Job
    trial: TrialRow | None = None
    reused: bool = False

    @property
    def key(self) -> str:
        """Its name in the cache of the run that is reported."""
        return f"{self.run.path.name}/{self.dir.job}/{self.dir.index}"


class Settings:
    """The values in a task's resolved experiment.

    A trial's own file need not be opened for most of them: what the sweep gave it is in trials.json, and all else is as
    in the run's experiment. A trial that lacks a key which others have (of `include`) may differ in more: it is read.
    """

    def __init__(
        self,
        task: Task,
        found: Trials | None,
        base: Callable[[], Mapping[str, Any]],
        own: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._base, self._own = base, own
        self.given: Mapping[str, Any] = {**task.trial.values, **task.trial.scaled} if task.trial else {}
        self._known = bool(task.trial and found and set(found.keys) == set(self.given))

    @property
    def known(self) -> bool:
        """Whether `given` and the run's experiment together are the whole of it."""
        return self._known

    @cached_property
    def whole(self) -> Mapping[str, Any]:
        """The experiment as a mapping."""
        return self._own()

    def value(self, dotted: str) -> Any:
        """What stands under a dotted key; None where nothing does."""
        if not self._known:
            return experiment.value(self.whole, dotted)
        if dotted in self.given:
            return self.given[dotted]
        if any(key.startswith(f"{dotted}.") or dotted.startswith(f"{key}.") for key in self.given):
            return experiment.value(self.whole, dotted)
        return experiment.value(self._base(), dotted)


def keys(found: Trials | None) -> tuple[str, ...]:
    """The dotted keys that a sweep varies."""
    return found.keys if found else ()


def titles(run: RunDir) -> dict[tuple[str, int], str]:
    """(job, task) -> the values of its trial, as in `nodes=4 #2`; empty where the run is no sweep."""
    found = trials.read(run)
    result: dict[tuple[str, int], str] = {}
    for row in found.rows if found else ():
        if row.run == run.path.name:
            values = [f"{key.rpartition('.')[2]}={value}" for key, value in row.values.items()]
            number = [f"#{row.repeat + 1}"] if found and found.repeats > 1 else []
            result[row.job, row.task] = " ".join([*values, *number])
    return result


def tasks(run: RunDir, found: Trials | None) -> Iterator[Task]:
    """Every task with a row: trials in their own order, then what else the graph has."""
    own = run.path.name
    runs = {own: run}
    jobs: dict[tuple[str, str], tuple[JobDir, Job]] = {}
    seen: dict[str, set[int]] = {}
    for row in found.rows if found else ():
        source = runs.setdefault(row.run, RunDir(run.path.parent / row.run))
        place = (row.run, row.job)
        if place not in jobs:
            jobs[place] = source.job(row.job), source.graph[row.job]
        where, plan = jobs[place]
        if row.run == own:
            seen.setdefault(row.job, set()).add(row.task)
        yield Task(source, where, where.task(row.task), plan, row, row.run != own)
    for where in run:
        if prepares(where.name):
            continue
        plan, mine = run.graph[where.name], seen.get(where.name, set())
        for index in plan.indices:
            if index not in mine:
                yield Task(run, where, where.task(index), plan)


__all__ = ["Settings", "Task", "keys", "prepares", "tasks", "titles", "trials"]
