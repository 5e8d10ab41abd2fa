"""Putting tasks of a run into Slurm's queue, and what was put there."""

from __future__ import annotations

import concurrent.futures
import re
import time
from collections.abc import Sequence
from dataclasses import replace

from hpcflow.engines import commands, more, notes
from hpcflow.engines.call import call
from hpcflow.engines.chunks import chunks, publish
from hpcflow.engines.commands import Chunk
from hpcflow.engines.notes import Notes
from hpcflow.engines.queueing import Piece, Wanted, choose, total
from hpcflow.engines.sbatch import ScriptExecutor
from hpcflow.engines.status import TaskStatus
from hpcflow.errors import SiteError
from hpcflow.jobs.job import After, Job, JobGraph
from hpcflow.jobs.rundir import JobDir, RunDir

# sbatch spends its time waiting for slurmctld: 4 at once reach 290 jobs/s where one after another reaches 173.
SUBMITTERS = 4
FEW = 32
STRAY_S = 60.0  # Slurm kills what ignores SIGTERM after KillWait, 30 s by default
MORE = 1  # what the job that extends the queue takes of MaxSubmitJobs


class Queue:
    """The queue of one run. ``current`` is how its tasks stand (none: nothing was queued yet), ``exclude`` nodes that
    new submissions keep off.
    """

    def __init__(
        self,
        run: RunDir,
        graph: JobGraph,
        said: Notes,
        current: Sequence[TaskStatus] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self._run, self._graph, self._notes, self._exclude = run, graph, said, exclude
        self._active = {
            (status.job, status.task) for status in current if status.state.active and status.job_id
        }
        self._queued: dict[str, list[Chunk]] = {}

    def put(self, wanted: Wanted) -> int:
        """Queue ``wanted``, or as much of it as MaxSubmitJobs takes; the number of tasks queued. Raises SiteError."""
        said, graph = self._notes, self._graph
        room = None if said.max_submit is None else said.max_submit - in_queue()
        longest, size = said.max_array_size, total(graph, wanted)
        if room is not None and said.max_submit is not None and size > room:
            longest = max(1, min(longest, (said.max_submit - 2 * MORE) // 2))
            room -= MORE
        else:
            room = None
        choice = choose(graph, wanted, longest, room)
        if not choice.pieces and choice.left and not (said.left or said.by_jobs):
            count = f"you have {said.max_submit} jobs in the queue or nearly so, and may not have more"
            raise SiteError(f"{count} (wait, or cancel some)", transient=True)
        self._put_pieces(choice.pieces, wanted)
        job_id = self._put_more(choice.pieces) if choice.left and said.by_jobs else None
        notes.write(self._run, replace(said, left=choice.left, more=job_id))
        return sum(piece.size for piece in choice.pieces)

    def _put_pieces(self, pieces: Sequence[Piece], wanted: Wanted) -> None:
        """Queue pieces, those of several jobs at once, those of one job one after another."""
        by_job: dict[str, list[Piece]] = {}
        for piece in pieces:
            by_job.setdefault(piece.job, []).append(piece)
        # One after another while they are few: then the queue has them in the order of the graph.
        with concurrent.futures.ThreadPoolExecutor(SUBMITTERS if len(by_job) > FEW else 1) as pool:
            left = [job for job in self._graph if job.name in by_job]
            while left:
                waiting = {job.name for job in left}
                ready = [job for job in left if not any(after.job in waiting for after in job.after)]
                left = [job for job in left if job not in ready]
                futures = [pool.submit(self._put_job, job, by_job[job.name], wanted) for job in ready]
                concurrent.futures.wait(futures)
                for future in futures:
                    future.result()

    def _put_job(self, job: Job, pieces: Sequence[Piece], wanted: Wanted) -> None:
        where = self._run.job(job)
        known, mine = chunks(where), self._queued.setdefault(job.name, [])
        for piece in pieces:
            terms = [term for after in job.after if (term := self._term(after, piece, wanted))]
            before = [
                chunk.job_id for chunk in (*known, *mine) if self._holds(job.name, chunk) or chunk in mine
            ]
            if job.max_parallel and before:  # else each piece would run so many at once
                terms.append(f"afterany:{before[-1]}")
            indices = None if piece.tasks is None else [task - piece.offset for task in piece.tasks]
            flags = commands.sbatch_flags(indices, job.max_parallel, terms)
            if self._exclude:
                flags.append(f"--exclude={','.join([*_excluded(where), *self._exclude])}")
            executor = ScriptExecutor(
                where.run, where.script, flags, [str(piece.offset)] if piece.offset else []
            )
            mine.append(_chunk(executor.queue().job_id, piece))
            publish(where, (*known, *mine))

    def _holds(self, job: str, chunk: Chunk) -> bool:
        return any((job, task) in self._active for task in chunk.tasks)

    def _term(self, after: After, piece: Piece, wanted: Wanted) -> str | None:
        """The term of --dependency for what must end first; None where it has."""
        new = self._queued.get(after.job, [])
        known = [chunk for chunk in chunks(self._run.job(self._graph[after.job])) if chunk not in new]
        if after.task is not None or after.kind == "task":
            tasks = [after.task] if after.task is not None else list(piece.tasks or (0,))
            open_ = {
                task
                for task in tasks
                if (after.job, task) in self._active or task in wanted.get(after.job, ())
            }
            found = [chunk for chunk in (*known, *new) if open_ & set(chunk.tasks)]
        else:
            found = [chunk for chunk in known if self._holds(after.job, chunk)] + new
        return commands.dependency(after, piece.offset, found) if found else None

    def _put_more(self, pieces: Sequence[Piece]) -> str:
        """Queue the job that queues more: after the oldest piece that is still under way; its job id."""
        first = next(iter(self._graph))
        script = more.write(self._run, self._run.job(first).script.read_text(encoding="utf-8"))
        oldest = [
            chunk.job_id
            for job in self._graph
            for chunk in chunks(self._run.job(job))
            if job.tasks is not None
            and (self._holds(job.name, chunk) or chunk in self._queued.get(job.name, ()))
        ]
        waits = [f"--dependency=afterany:{oldest[0]}"] if oldest else []
        flags = waits if pieces else [f"--begin={more.BEGIN_AGAIN}"]
        return ScriptExecutor(self._run.path, script, flags).queue().job_id

    def withdraw(self) -> None:
        """Cancel all that was queued of the run."""
        found = [chunk for where in self._run for chunk in chunks(where)]
        if found:
            call(commands.scancel(found))

    def cancel_strays(self) -> None:
        """Cancel what sbatch took and nobody wrote down, because hpcflow was killed at that moment, and see it end."""
        known = {chunk.job_id for where in self._run for chunk in chunks(where)} | {self._notes.more}
        deadline = time.monotonic() + STRAY_S
        told: set[str] = set()
        while found := [
            job for job in commands.jobs_of(call(commands.JOBS), str(self._run.path)) if job not in known
        ]:
            if set(found) - told:
                call(["scancel", *found])
                told |= set(found)
            if time.monotonic() > deadline:
                raise SiteError(f"the jobs {' '.join(found)} of {self._run.name} do not end", transient=True)
            time.sleep(0.5)


def in_queue() -> int:
    """How much of MaxSubmitJobs the user's jobs take."""
    seen = commands.squeue(call(commands.SQUEUE))
    return sum(value.state is not None and value.state.active for value in seen.values())


def _chunk(job_id: str, piece: Piece) -> Chunk:
    if piece.tasks is None:
        return Chunk(job_id, 0, None)
    dense = piece.tasks == tuple(range(piece.offset, piece.offset + len(piece.tasks)))
    return Chunk(job_id, piece.offset, len(piece.tasks), () if dense else piece.tasks)


def _excluded(where: JobDir) -> list[str]:
    """The nodes that the script itself keeps off: a flag on the command line replaces the script's."""
    found = re.search(r"^#SBATCH --exclude=(.+)$", where.script.read_text(encoding="utf-8"), re.MULTILINE)
    return [found[1].strip('"')] if found else []
