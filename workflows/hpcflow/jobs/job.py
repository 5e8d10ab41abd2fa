"""A batch job as a plan, before anybody queued it. What it prints as is its script (see script.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpcflow.errors import InputError
from hpcflow.jobs.shell import Word

# ok: once every task of the other job ended well; any: ended at all; task: task i waits for task i alone.
Kind = Literal["ok", "any", "task"]


@dataclass(frozen=True)
class After:
    """A job that must end first; of an array its ``task`` alone, if one is named."""

    job: str
    kind: Kind = "ok"
    task: int | None = None


@dataclass(frozen=True)
class Allocation:
    """What one task of a job asks the scheduler for; ``flags`` are further sbatch flags (value None: a bare flag)."""

    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1  # logical CPUs, as Slurm counts them
    time: str = "01:00:00"
    flags: tuple[tuple[str, str | None], ...] = ()

    @property
    def cpus(self) -> int:
        """Logical CPUs of one task of the job, over all its nodes."""
        return self.nodes * self.tasks_per_node * self.cpus_per_task


@dataclass(frozen=True)
class Job:
    """One submission: a single job, or an array of ``tasks`` alike jobs that differ in their task directory."""

    name: str
    allocation: Allocation
    program: tuple[Word, ...]
    launch: tuple[Word, ...] = ()  # the launcher's words before the program's; none: one process
    tasks: int | None = None
    after: tuple[After, ...] = ()
    modules: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)  # exported as they are
    paths: Mapping[str, str] = field(default_factory=dict)  # exported with $NAME in them expanded
    files: Mapping[str, str] = field(
        default_factory=dict
    )  # written beside the script: rankmap.json, a rankfile
    max_parallel: int | None = None  # of an array: tasks at once
    mpi_prefix: str | None = None  # a Python environment that brings its own Open MPI
    folders: tuple[str, ...] = ()  # variables naming folders that are made before the command
    enter: tuple[
        Word, ...
    ] = ()  # of a confined job: what hpcflow does outside of the image before the command,
    leave: tuple[Word, ...] = ()  # and after it, however it ended
    runtime: str | None = (
        None  # the container runtime that the command refers to: auto, apptainer, singularity
    )
    notes: tuple[str, ...] = ()  # sentences for whoever submits it: what it relies on, what of it is unwise
    needs_hosts: bool = False  # the command refers to HPCFLOW_HOSTS, the allocation's hosts with commas

    @property
    def indices(self) -> range:
        """The task numbers: 0 alone for a single job."""
        return range(1 if self.tasks is None else self.tasks)


@dataclass(frozen=True)
class JobGraph:
    """Jobs in an order in which each comes after those it waits for. Raises InputError when there is none."""

    jobs: tuple[Job, ...]

    def __post_init__(self) -> None:
        seen: dict[str, Job] = {}
        for job in self.jobs:
            for after in job.after:
                if after.job not in seen:
                    raise InputError(
                        f"the job {job.name} waits for {after.job}, which does not come before it"
                    )
                if after.kind == "task" and seen[after.job].tasks != job.tasks:
                    raise InputError(
                        f"the tasks of {job.name} wait for those of {after.job}, which has another number"
                    )
            if job.name in seen:
                raise InputError(f"two jobs are called {job.name}")
            seen[job.name] = job

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def __getitem__(self, name: str) -> Job:
        return next(job for job in self.jobs if job.name == name)

    @property
    def size(self) -> int:
        """Number of tasks over all jobs."""
        return sum(len(job.indices) for job in self.jobs)

    def to_json(self) -> dict[str, Any]:
        """What a run directory keeps of the graph: enough to run and to watch it, the rest is in the scripts."""
        return {"jobs": [_job_to_json(job) for job in self.jobs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobGraph:
        """The graph that ``to_json`` wrote (without commands and variables, which the scripts hold)."""
        return cls(tuple(_job_from_json(item) for item in data["jobs"]))


def _job_to_json(job: Job) -> dict[str, Any]:
    allocation = job.allocation
    return {
        "name": job.name,
        "tasks": job.tasks,
        "after": [_after_to_json(after) for after in job.after],
        "nodes": allocation.nodes,
        "tasks_per_node": allocation.tasks_per_node,
        "cpus_per_task": allocation.cpus_per_task,
        "time": allocation.time,
        "max_parallel": job.max_parallel,
    }


def _after_to_json(after: After) -> dict[str, Any]:
    task = {} if after.task is None else {"task": after.task}
    return {"job": after.job, "kind": after.kind, **task}


def _job_from_json(item: Mapping[str, Any]) -> Job:
    allocation = Allocation(item["nodes"], item["tasks_per_node"], item["cpus_per_task"], item["time"])
    after = tuple(After(entry["job"], entry["kind"], entry.get("task")) for entry in item["after"])
    return Job(
        item["name"], allocation, (), tasks=item["tasks"], after=after, max_parallel=item["max_parallel"]
    )
