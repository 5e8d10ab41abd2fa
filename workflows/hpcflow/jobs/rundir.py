"""The directory of a run: the only module that spells a file name in it.

RUNS/NAME/ID/
    experiment.yaml  provenance.json  graph.json  results.csv  trials.json (sweeps)  queue.json (Slurm)
    jobs/JOB/script.sh  queued.json  rankmap.json  scheduler.log (arrays)   and, of a single job, its task's files:
    jobs/JOB/[TASK/]out.log  record.json  metrics.jsonl  bindings/RANK.json  view/     TASK/ is made by the task
    jobs/JOB/experiment.yaml  or, of an array,  jobs/JOB/experiments/TASK.yaml
    checkpoints/JOB/[TASK/]
    local.json  local.log                                      of the local engine
    [arms/ARM/]rounds/NNNN/                                    see RoundDir
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from hpcflow.errors import RunError
from hpcflow.jobs.job import Job, JobGraph
from hpcflow.storage.publish import MANIFEST


def new_id(now: datetime) -> str:
    """A run's ID: sorts by time, and two runs of one second differ."""
    return f"{now:%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


@dataclass(frozen=True)
class TaskDir:
    """Files of one task: a single job or one index of an array. It alone writes them, but for ``experiment``; the folder
    of an array's task is made by its script, so that submitting a thousand does not make a thousand.
    """

    path: Path
    job_checkpoints: Path
    job: str
    index: int
    in_array: bool = False

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are; joined when it is asked for, which most of 10,000 tasks never are."""
        return self.job_checkpoints / self.path.name if self.in_array else self.job_checkpoints

    @property
    def experiment(self) -> Path:
        """The resolved experiment of this task (YAML)."""
        if self.in_array:
            return self.path.parent / "experiments" / f"{self.path.name}.yaml"
        return self.path / "experiment.yaml"

    @property
    def log(self) -> Path:
        """Standard output and error."""
        return self.path / "out.log"

    @property
    def record(self) -> Path:
        """What the script wrote of its start and end (JSON)."""
        return self.path / "record.json"

    def record_of(self, attempt: int) -> Path:
        """What the script wrote in an attempt before the last one."""
        return self.path / f"record.{attempt}.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def view(self) -> Path:
        """Of a confined task, while it runs: the run directory as it sees it (see federation/enclosure.py)."""
        return self.path / "view"

    @property
    def bindings(self) -> Path:
        """Folder: what each rank was really given."""
        return self.path / "bindings"

    def binding(self, rank: int) -> Path:
        """What rank ``rank`` was really given (JSON)."""
        return self.bindings / f"{rank:05d}.json"


@dataclass(frozen=True)
class RoundDir:
    """Files of one round of a federation; round 0 holds the initial model.

    updates/NAME.safetensors, its twin control/NAME.safetensors (SCAFFOLD's variate of that collaborator),
    failures/NAME.json, times/NAME.json and evaluation/NAME.json are written by NAME's own job; the rest by who
    concludes the round, the manifest last: it commits the round.
    """

    path: Path
    number: int

    @property
    def model(self) -> Path:
        """The aggregate: what the next round begins with."""
        return self.path / "model.safetensors"

    @property
    def manifest(self) -> Path:
        """What commits the round (JSON)."""
        return self.path / MANIFEST

    @property
    def state(self) -> Path:
        """The server's state after the round, of strategies that keep one."""
        return self.path / "state.safetensors"

    @property
    def stopped(self) -> Path:
        """Why the round could not be committed (JSON), until it is."""
        return self.path / "stopped.json"

    @property
    def concluder(self) -> Path:
        """Who concludes the round: `aggregate`, or the collaborator that does it in the aggregation's place."""
        return self.path / "concluder"

    @property
    def updates(self) -> Path:
        """Folder of updates."""
        return self.path / "updates"

    @property
    def controls(self) -> Path:
        """Folder of control variates."""
        return self.path / "control"

    @property
    def failures(self) -> Path:
        """Folder of what collaborators say who made no update."""
        return self.path / "failures"

    @property
    def evaluations(self) -> Path:
        """Folder of what the aggregate is worth."""
        return self.path / "evaluation"

    @property
    def timings(self) -> Path:
        """Folder of when what was done."""
        return self.path / "times"

    @property
    def bindings(self) -> Path:
        """Folder, in a view of the run: what each rank of its task was given (federation/enclosure.py)."""
        return self.path / "bindings"

    @property
    def folders(self) -> tuple[Path, ...]:
        """All that there may be."""
        return self.path, self.updates, self.controls, self.failures, self.evaluations, self.timings

    def update(self, name: str) -> Path:
        """The update of a collaborator."""
        return self.updates / f"{name}.safetensors"

    def control(self, name: str) -> Path:
        """SCAFFOLD's control variate of a collaborator after the round; its own, nobody else reads it."""
        return self.controls / f"{name}.safetensors"

    def failure(self, name: str) -> Path:
        """Why a collaborator made no update (JSON)."""
        return self.failures / f"{name}.json"

    def evaluation(self, name: str) -> Path:
        """Metrics of the aggregate on one's data (JSON)."""
        return self.evaluations / f"{name}.json"

    def timing(self, name: str) -> Path:
        """When a collaborator or the aggregation did what (JSON, seconds since the epoch)."""
        return self.timings / f"{name}.json"


@dataclass(frozen=True)
class JobDir:
    """Files of one submission."""

    path: Path
    run: Path
    name: str
    tasks: int | None

    @property
    def script(self) -> Path:
        """What is queued."""
        return self.path / "script.sh"

    @property
    def queued(self) -> Path:
        """The scheduler's handles, published as soon as the scheduler gave them (JSON)."""
        return self.path / "queued.json"

    @property
    def rankmap(self) -> Path:
        """The planned places of the ranks (JSON)."""
        return self.path / "rankmap.json"

    @property
    def moulds(self) -> Path:
        """Of a federation's first job: what the jobs of later rounds are cast from (JSON, and scripts beside it)."""
        return self.path / "moulds.json"

    @property
    def released(self) -> Path:
        """There once the job need not wait for those before it any longer."""
        return self.path / "released"

    @property
    def cancelled(self) -> Path:
        """There once somebody cancelled the run: what had not begun of the job left the queue for that."""
        return self.path / "cancelled"

    @property
    def closed(self) -> Path:
        """There once nobody needs the job any more: what of it has not ended well is not run again."""
        return self.path / "closed"

    @property
    def scheduler_log(self) -> Path:
        """Of an array: what the scheduler itself has to say, all tasks together."""
        return self.path / "scheduler.log"

    def task(self, index: int) -> TaskDir:
        """The directory of task ``index``."""
        if self.tasks is None:
            return TaskDir(self.path, self._checkpoints, self.name, index)
        name = f"{index:04d}"  # as the script's printf spells it
        return TaskDir(self.path / name, self._checkpoints, self.name, index, in_array=True)

    @cached_property
    def _checkpoints(self) -> Path:
        return self.run / "checkpoints" / self.name

    def __iter__(self) -> Iterator[TaskDir]:
        return (self.task(index) for index in range(1 if self.tasks is None else self.tasks))


@dataclass(frozen=True)
class RunDir:
    """One run. Holds paths only; nothing is made or read before it is asked for."""

    path: Path

    @property
    def name(self) -> str:
        """NAME/ID."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def experiment(self) -> Path:
        """The resolved experiment (YAML)."""
        return self.path / "experiment.yaml"

    @property
    def rankmap(self) -> Path:
        """In a view of the run: the planned places of the ranks of its job (JSON)."""
        return self.path / "rankmap.json"

    @property
    def provenance(self) -> Path:
        """Who, when, from what, with which versions (JSON)."""
        return self.path / "provenance.json"

    @property
    def institutions(self) -> Path:
        """Of a confined task's view alone: the CSV of subject and institution."""
        return self.path / "institutions.csv"

    @property
    def graph_file(self) -> Path:
        """The jobs and what they wait for (JSON)."""
        return self.path / "graph.json"

    @property
    def trials(self) -> Path:
        """Of a sweep: which task is which trial (JSON)."""
        return self.path / "trials.json"

    @property
    def queue(self) -> Path:
        """The Slurm engine's notes on what it may queue, and whether something is left to be queued (JSON)."""
        return self.path / "queue.json"

    @property
    def queue_claim(self) -> Path:
        """There while a process queues more of the run."""
        return self.path / "queue.claim"

    @property
    def unextended(self) -> Path:
        """There while a federation's next rounds could not be queued: since which round, and why (JSON)."""
        return self.path / "unextended.json"

    @property
    def results(self) -> Path:
        """The table of results (CSV)."""
        return self.path / "results.csv"

    @property
    def comparison(self) -> Path:
        """Of a comparison: an arm a line (CSV)."""
        return self.path / "comparison.csv"

    @property
    def evaluation(self) -> Path:
        """Of an evaluation: a model and a collaborator a line (CSV)."""
        return self.path / "evaluation.csv"

    def evaluated(self, name: str) -> Path:
        """Of an evaluation: metrics of all models on one's data (JSON)."""
        return self.path / "evaluation" / f"{name}.json"

    def rounds(self, arm: str = "") -> Path:
        """Folder of the rounds, of a comparison those of one arm."""
        return (self.path / "arms" / arm if arm else self.path) / "rounds"

    def round(self, number: int, arm: str = "") -> RoundDir:
        """The directory of a round."""
        return RoundDir(self.rounds(arm) / f"{number:04d}", number)

    @property
    def local_state(self) -> Path:
        """The local engine's runner and its tasks (JSON)."""
        return self.path / "local.json"

    @property
    def local_log(self) -> Path:
        """What the local engine's runner printed."""
        return self.path / "local.log"

    @property
    def graph(self) -> JobGraph:
        """The job graph as it is now: a federation's grows. Raises RunError when this is no run."""
        try:
            found = self.graph_file.stat()
        except OSError as error:
            raise RunError(f"{self.path} is no run: {self.graph_file.name}: {error.strerror}") from None
        return _graph(self, found.st_mtime_ns, found.st_size, found.st_ino)

    @property
    def engine(self) -> str:
        """Name of the engine that the run was given to."""
        about = self._json(self.provenance)
        if not isinstance(about, dict) or not isinstance(about.get("engine"), str):
            raise RunError(f"{self.provenance} is damaged: it names no engine")
        return str(about["engine"])

    def _json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{self.path} is no run: {path.name}: {error.strerror}") from None
        except ValueError:
            raise RunError(f"{path} is damaged: it is no JSON") from None

    def job(self, job: Job | str) -> JobDir:
        """The directory of a job, by the plan or by the name of one that was submitted."""
        plan = self.graph[job] if isinstance(job, str) else job
        return JobDir(self.path / "jobs" / plan.name, self.path, plan.name, plan.tasks)

    def task(self, job: Job | str, index: int) -> TaskDir:
        """The directory of task ``index`` of ``job``."""
        return self.job(job).task(index)

    def __iter__(self) -> Iterator[JobDir]:
        return (self.job(job) for job in self.graph)


@lru_cache(maxsize=16)
def _graph(run: RunDir, *_state: int) -> JobGraph:
    """Read once for each state of the file."""
    try:
        return JobGraph.from_json(run._json(run.graph_file))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{run.graph_file} is damaged: it is no graph of jobs ({error!r})") from None
