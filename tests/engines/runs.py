"""Small runs of shell commands, so that the engines are tested without any training."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcflow.engines.base import Engine
from hpcflow.engines.status import TaskStatus
from hpcflow.jobs.job import After, Allocation, Job, JobGraph
from hpcflow.jobs.layout import Layout, lay_out
from hpcflow.jobs.rundir import RunDir

SMALL = Allocation(time="00:05:00")
HOSTILE = "a b'\"$(touch hacked);&#*"


def shell(
    name: str, script: str, tasks: int | None = None, after: Sequence[After] = (), **more: object
) -> Job:
    allocation = Allocation(time=str(more.pop("time", "00:05:00")), flags=tuple(more.pop("flags", ())))  # type: ignore[arg-type]
    return Job(name, allocation, ("bash", "-c", script), tasks=tasks, after=tuple(after), **more)  # type: ignore[arg-type]


def lay(folder: Path, *jobs: Job, engine: str = "slurm") -> Layout:
    graph = JobGraph(jobs)
    layout = lay_out(RunDir(folder / "test" / "1"), graph, "name: test\n", {"engine": engine}, "test")
    layout.write()
    return layout


def states(engine: Engine, run: RunDir) -> dict[str, str]:
    return {f"{status.job}/{status.task}": str(status.state) for status in engine.statuses(run)}


def until(
    engine: Engine,
    run: RunDir,
    condition: Callable[[list[TaskStatus]], bool] | None = None,
    seconds: float = 90,
) -> list[TaskStatus]:
    """Statuses once ``condition`` holds; without one, once nothing is active."""
    deadline = time.monotonic() + seconds
    while True:
        found = list(engine.statuses(run))
        if condition(found) if condition else not any(status.state.active for status in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
