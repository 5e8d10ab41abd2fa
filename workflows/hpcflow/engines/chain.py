"""What a running job may do for the jobs of its run: release one, cancel tasks, queue more.

The chain holds without any of it: dependencies say the same, only slower (Slurm 22.05 looks at them every few
seconds, a release by scontrol acts in 0.04 s). So where a site lets no job call its commands, nothing is lost but
time, and a note in the job's log tells.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpcflow.engines import chunks, commands
from hpcflow.engines.commands import Chunk, environment
from hpcflow.engines.status import Seen
from hpcflow.errors import RunError, SiteError
from hpcflow.jobs import record
from hpcflow.jobs.job import Job
from hpcflow.jobs.rundir import JobDir, RunDir
from hpcflow.storage.publish import publish_text

PATIENCE_S = 20
LONGEST_ARRAY = 1001


class Chain(Protocol):
    """The engine's side of a running job."""

    def release(self, jobs: Sequence[JobDir]) -> None:
        """Let ``jobs`` begin without waiting for those before them. One that is not queued yet is left alone."""

    def cancel(self, job: JobDir, tasks: Sequence[int]) -> None:
        """End tasks of ``job``."""

    def over(self, job: JobDir) -> set[int]:
        """Tasks of ``job`` that have ended, as far as can be told."""

    def extend(self, run: RunDir, jobs: Sequence[Job]) -> None:
        """Queue ``jobs``, which are laid out, after those of the run's graph. Raises SiteError."""


def chain(run: RunDir) -> Chain:
    """Of the engine that the run was given to."""
    return SlurmChain() if run.engine == "slurm" else LocalChain()


@dataclass(frozen=True)
class SlurmChain:
    """By scontrol, scancel and sbatch."""

    def release(self, jobs: Sequence[JobDir]) -> None:
        """`scontrol update JobId=N Dependency=`."""
        for job in jobs:
            for chunk in _chunks(job):
                self._call(["scontrol", "update", f"JobId={chunk.job_id}", "Dependency="])

    def cancel(self, job: JobDir, tasks: Sequence[int]) -> None:
        """One scancel."""
        names = []
        for chunk in _chunks(job):
            if chunk.count is None:
                names.append(chunk.job_id)
            else:
                inside = range(chunk.offset, chunk.offset + chunk.count)
                names += [f"{chunk.job_id}_{index - chunk.offset}" for index in tasks if index in inside]
        if names:
            self._call(["scancel", *names])

    def over(self, job: JobDir) -> set[int]:
        """One squeue. None are where it does not answer."""
        try:
            said = subprocess.run(
                commands.SQUEUE, env=environment(os.environ), capture_output=True, text=True,
                timeout=PATIENCE_S, check=True,
            ).stdout  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return set()
        seen = commands.squeue(said)
        found = set()
        for chunk in _chunks(job):
            for task in chunk.tasks:
                index = None if chunk.count is None else task - chunk.offset
                state = seen.get((chunk.job_id, index), Seen(None)).state
                if state is None or not state.active:
                    found.add(task)
        return found

    def extend(self, run: RunDir, jobs: Sequence[Job]) -> None:
        """One sbatch a job, from the run directory; arrays are cut where Slurm's default MaxArraySize would."""
        known = {where.name: where for where in run}
        for job in jobs:
            known[job.name] = where = run.job(job)
            made: list[Chunk] = []
            for offset, count in commands.cut(job.tasks, LONGEST_ARRAY):
                before = [(after, _chunks(known[after.job])) for after in job.after]
                # What has left Slurm's memory has ended; the job itself looks whether it ended well.
                terms = [commands.dependency(after, offset, found) for after, found in before if found]
                flags = commands.sbatch_flags(count, job.max_parallel, terms)
                script = str(where.script.relative_to(run.path))
                argv = ["sbatch", "--parsable", *flags, script, *([str(offset)] if offset else [])]
                made.append(Chunk(_sbatch(argv, run.path), offset, count))
                chunks.publish(where, made)

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
        if error and "Invalid job id" not in error and "already completed" not in error:
            print(
                f"hpcflow: {' '.join(argv)}: {error} (the chain goes on by its dependencies)", file=sys.stderr
            )


@dataclass(frozen=True)
class LocalChain:
    """The local runner looks for these files whenever one of its tasks ends: this one is about to."""

    def release(self, jobs: Sequence[JobDir]) -> None:
        """A file says so."""
        for job in jobs:
            if job.path.is_dir():
                publish_text(job.released, "")

    def cancel(self, job: JobDir, tasks: Sequence[int]) -> None:
        """SIGTERM to the script, which passes it on and writes its record."""
        for index in tasks:
            found = record.read(job.task(index).record)
            if found and found.ended is None:
                try:
                    os.kill(found.pid, signal.SIGTERM)
                except ProcessLookupError:
                    continue

    def over(self, job: JobDir) -> set[int]:
        """Whose record says so, or whose script is no process any more."""
        found = set()
        for task in job:
            said = record.read(task.record)
            if said and (said.ended is not None or not Path(f"/proc/{said.pid}").exists()):
                found.add(task.index)
        return found

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


def _chunks(job: JobDir) -> list[Chunk]:
    try:
        return chunks.chunks(job)
    except RunError:
        return []
