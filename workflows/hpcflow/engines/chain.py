"""What a running job may do for the jobs of its run: release one, cancel tasks, queue more.

The chain holds without any of it: dependencies say the same, only slower (Slurm 22.05 looks at them every few
seconds, a release by scontrol acts in 0.04 s). So where a site lets no job call its commands, nothing is lost but
time, and a note in the job's log tells.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpcflow.engines import commands
from hpcflow.engines.chunks import chunks, publish
from hpcflow.engines.commands import Chunk, environment
from hpcflow.engines.status import Seen, State
from hpcflow.errors import SiteError
from hpcflow.jobs import record
from hpcflow.jobs.job import Job
from hpcflow.jobs.rundir import JobDir, RunDir, TaskDir
from hpcflow.storage.publish import publish_text

PATIENCE_S = 20
LONGEST_ARRAY = 1001
# What scontrol and scancel say of a job that has begun, or has ended: it waits for nothing any more.
_NOTHING_WAITS = (
    "Invalid job id",
    "no longer pending",
    "already completed",
    "already completing",
    "already finished",
)


class Chain(Protocol):
    """The engine's side of a running job."""

    def release(self, jobs: Sequence[JobDir], after: Sequence[JobDir] = ()) -> None:
        """Let ``jobs`` begin without waiting for those before them, but for the end of ``after``, however that is. One
        that is not queued yet is left alone.
        """

    def begin_in(self, jobs: Sequence[JobDir], seconds: int) -> None:
        """Let ``jobs`` begin after so long, whatever they wait for then, and not before unless they are released."""

    def cancel(self, job: JobDir, tasks: Sequence[int]) -> None:
        """End tasks of ``job``."""

    def over(self, job: JobDir) -> dict[int, State | None]:
        """Tasks of ``job`` that have ended, as far as can be told, and how; None: nobody knows."""

    def has(self, job: JobDir) -> bool:
        """Whether all of ``job``, which is laid out, is queued or was."""

    def extend(self, run: RunDir, jobs: Sequence[Job]) -> None:
        """Queue what is not yet of ``jobs``, which are laid out, after those of the run's graph. Raises SiteError."""


def chain(run: RunDir) -> Chain:
    """Of the engine that the run was given to."""
    return SlurmChain() if run.engine == "slurm" else LocalChain()


@dataclass(frozen=True)
class SlurmChain:
    """By scontrol, scancel and sbatch."""

    def release(self, jobs: Sequence[JobDir], after: Sequence[JobDir] = ()) -> None:
        """`scontrol update JobId=N Dependency= StartTime=now`."""
        # What has left Slurm's memory has ended: 22.05 takes its number, and then waits for nothing.
        before = dict.fromkeys(chunk.job_id for job in after for chunk in _latest(job).values())
        self._let_begin(jobs, "now", ":".join(["afterany", *before]) if before else "")

    def begin_in(self, jobs: Sequence[JobDir], seconds: int) -> None:
        """The same with a later time: Slurm itself keeps it, no process does."""
        self._let_begin(jobs, f"now+{seconds}")

    def _let_begin(self, jobs: Sequence[JobDir], when: str, after: str = "") -> None:
        for job in jobs:
            for job_id in dict.fromkeys(chunk.job_id for chunk in _latest(job).values()):
                self._call(
                    ["scontrol", "update", f"JobId={job_id}", f"Dependency={after}", f"StartTime={when}"]
                )

    def cancel(self, job: JobDir, tasks: Sequence[int]) -> None:
        """One scancel."""
        if names := [chunk.id_of(task) for task, chunk in _latest(job).items() if task in tasks]:
            self._call(["scancel", *names])

    def over(self, job: JobDir) -> dict[int, State | None]:
        """One squeue. Where it does not answer, those whose record says so."""
        queued = _latest(job)  # before Slurm is asked, as in SlurmEngine.statuses
        try:
            seen = commands.squeue(_ask(commands.SQUEUE))
        except (OSError, subprocess.SubprocessError):
            ended = [task.index for task in job if _has_ended(task)]
            return dict.fromkeys(ended)
        found: dict[int, State | None] = {}
        for task, chunk in queued.items():
            index = None if chunk.count is None else task - chunk.offset
            state = seen.get((chunk.job_id, index), Seen(None)).state
            if state is None or not state.active:
                found[task] = state
        return found

    def has(self, job: JobDir) -> bool:
        """By Slurm's numbers."""
        return len(_latest(job)) == (1 if job.tasks is None else job.tasks)

    def extend(self, run: RunDir, jobs: Sequence[Job]) -> None:
        """One sbatch a job, from the run directory; arrays are cut where Slurm's default MaxArraySize would."""
        if run.unextended.exists():
            self._cancel_strays(run)
        known = {where.name: where for where in run}
        for job in jobs:
            known[job.name] = where = run.job(job)
            queued = chunks(where)
            for offset, count in commands.cut(job.tasks, LONGEST_ARRAY):
                if any(chunk.offset == offset for chunk in queued):
                    continue
                before = [
                    (after, list(dict.fromkeys(_latest(known[after.job]).values()))) for after in job.after
                ]
                # What has left Slurm's memory has ended; the job itself looks whether it ended well.
                terms = [commands.dependency(after, offset, found) for after, found in before if found]
                flags = commands.sbatch_flags(count, job.max_parallel, terms)
                script = str(where.script.relative_to(run.path))
                argv = ["sbatch", "--parsable", *flags, script, *([str(offset)] if offset else [])]
                queued.append(Chunk(_sbatch(argv, run.path), offset, count))
                publish(where, queued)

    def _cancel_strays(self, run: RunDir) -> None:
        """Cancel what a controller that answered too late took all the same: nobody wrote its number down."""
        known = {chunk.job_id for where in run for chunk in chunks(where)}
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found = commands.jobs_of(_ask(commands.JOBS), str(run.path))
            if strays := [job for job in found if job not in known]:
                self._call(["scancel", *strays])

    @staticmethod
    def _call(argv: Sequence[str]) -> None:
        try:
            done = subprocess.run(
                argv,
                env=environment(os.environ),
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            error = done.stderr.strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as caught:
            error = str(caught)
        if error and not any(phrase in error for phrase in _NOTHING_WAITS):
            print(
                f"hpcflow: {' '.join(argv)}: {error} (the chain goes on by its dependencies)", file=sys.stderr
            )


@dataclass(frozen=True)
class LocalChain:
    """The local runner looks for these files whenever one of its tasks ends: this one is about to."""

    def release(self, jobs: Sequence[JobDir], after: Sequence[JobDir] = ()) -> None:
        """A file says so. Nothing is waited for then, nor is ``after``."""
        for job in jobs:
            if job.path.is_dir():
                publish_text(job.released, "")

    def begin_in(self, jobs: Sequence[JobDir], seconds: int) -> None:
        """Nothing: the runner keeps no time, here they begin when those before them have ended."""

    def cancel(self, job: JobDir, tasks: Sequence[int]) -> None:
        """SIGTERM to the script, which passes it on and writes its record."""
        for index in tasks:
            found = record.read(job.task(index).record)
            if found and found.ended is None:
                try:
                    os.kill(found.pid, signal.SIGTERM)
                except ProcessLookupError:
                    continue

    def over(self, job: JobDir) -> dict[int, State | None]:
        """Whose record says so, or whose script is no process any more."""
        found: dict[int, State | None] = {}
        for task in job:
            said = record.read(task.record)
            if said and (said.ended is not None or not Path(f"/proc/{said.pid}").exists()):
                found[task.index] = None
        return found

    def has(self, job: JobDir) -> bool:
        """What is in the graph the runner will find."""
        return True

    def extend(self, run: RunDir, jobs: Sequence[Job]) -> None:
        """Nothing: the runner reads the graph anew."""


def _sbatch(argv: Sequence[str], folder: Path) -> str:
    queued = {"HPCFLOW_QUEUED": f"{time.time():.3f}"}
    try:
        done = subprocess.run(
            argv, env={**environment(os.environ), **queued}, cwd=folder, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=3 * PATIENCE_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SiteError(f"sbatch: {error}") from None
    if done.returncode:
        raise SiteError(f"sbatch: {commands.refusal(done.stderr)}")
    return done.stdout.strip().partition(";")[0]


def _ask(argv: Sequence[str]) -> str:
    return subprocess.run(
        argv, env=environment(os.environ), capture_output=True, text=True, timeout=PATIENCE_S, check=True
    ).stdout


def _latest(job: JobDir) -> dict[int, Chunk]:
    """Where Slurm has each task: the latest submission of it counts."""
    return {task: chunk for chunk in chunks(job) for task in chunk.tasks}


def _has_ended(task: TaskDir) -> bool:
    found = record.read(task.record)
    return bool(found and found.ended is not None)
