"""Slurm: what is queued of a run, how it stands, and its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcflow.engines import commands, notes
from hpcflow.engines.call import call
from hpcflow.engines.chunks import chunks
from hpcflow.engines.commands import Chunk
from hpcflow.engines.notes import Notes
from hpcflow.engines.queueing import Wanted
from hpcflow.engines.status import Seen, State, TaskStatus, settle
from hpcflow.errors import SiteError
from hpcflow.jobs import record
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.rundir import JobDir, RunDir
from hpcflow.storage.publish import publish_text

if TYPE_CHECKING:
    from hpcflow.engines.slurm_queue import Queue

_LEFT = "waits for room in the queue (MaxSubmitJobs)"
_FORGOTTEN = "not queued yet, and nothing will do it by itself (`hpcflow resume`)"


class SlurmEngine:
    """Runs job graphs on the cluster that SLURM_CONF or /etc/slurm names.

    ``max_submit_jobs`` is the user's MaxSubmitJobs, "auto" what accounting says; ``by_jobs`` whether a job may call
    sbatch. A run remembers them (engines/notes.py): they are for new runs only.
    """

    name = "slurm"

    def __init__(
        self,
        max_array_size: int = 1001,
        accounting: bool = False,
        max_submit_jobs: int | str | None = None,
        by_jobs: bool = True,
    ) -> None:
        # MaxArraySize is one more than the highest index: so many tasks.
        self._notes = Notes(max(1, max_array_size), None, by_jobs)
        self._max_submit = max_submit_jobs
        self._accounting = accounting

    def preflight(self, scripts: Mapping[str, str]) -> dict[str, str]:
        """Ask Slurm whether each script could ever start; job -> expected start. Raises SiteError with its reason."""
        starts: dict[str, str] = {}
        asked: dict[tuple[str, ...], str] = {}
        for name, script in scripts.items():
            shape = tuple(
                row
                for row in script.splitlines()
                if row.startswith("#SBATCH") and "job-name" not in row and "output" not in row
            )
            if shape not in asked:
                try:
                    asked[shape] = commands.expected_start(call(["sbatch", "--test-only"], text=script))
                except SiteError as error:
                    raise SiteError(
                        f"Slurm would refuse the job {name}: {str(error).removeprefix('sbatch: ')} (nothing was queued)",
                        transient=error.transient,
                    ) from None
            starts[name] = asked[shape]
        return starts

    def submit(self, run: RunDir, graph: JobGraph) -> None:
        """Queue every job; what does not wait for another is queued at once. On a refusal all are cancelled.

        More than MaxSubmitJobs is queued in a window (engines/queueing.py).
        """
        from hpcflow.engines.slurm_limits import max_submit

        limit = self._max_submit
        if limit == "auto":
            limit = max_submit() if self._accounting else None
        said = replace(self._notes, max_submit=None if limit is None else int(limit))
        wanted = {job.name: job.indices for job in graph}
        queue = _queue(run, graph, said)
        try:
            queue.put(wanted)
        except BaseException as error:
            queue.withdraw()
            if isinstance(error, SiteError):
                message = f"{error} (what was queued before was cancelled)"
                raise SiteError(message, transient=error.transient) from None
            raise

    def top_up(self, run: RunDir, statuses: Sequence[TaskStatus] | None = None) -> int:
        """Queue what a full queue left, as far as it fits now; the number of tasks. Cheap where nothing was left.

        Leaves it to the job that is queued for it, if there is one. Raises SiteError.
        """
        said = notes.read(run)
        if not said.left or self._has_more(said):
            return 0
        with notes.claimed(run):
            said = notes.read(run)
            current = self.statuses(run) if statuses is None else statuses
            wanted = _by_job(
                status for status in current if status.state is State.WAITING and not status.job_id
            )
            return _queue(run, run.graph, said, current).put(_possible(run.graph, wanted, current))

    def resume(self, run: RunDir) -> int:
        """Queue again every task that has neither ended well nor is under way; the number of tasks.

        A node on which one of them failed because the node did is left out. Raises SiteError.
        """
        with notes.claimed(run):
            _queue(run, run.graph, notes.read(run)).cancel_strays()
            current = self.statuses(run)
            again = [status for status in current if not (status.well or _under_way(status))]
            if not again:
                return 0
            for name in {status.job for status in again}:
                run.job(name).cancelled.unlink(missing_ok=True)
            queue = _queue(run, run.graph, notes.read(run), current, lost_nodes(again))
            number = queue.put(_by_job(again))
            run.unextended.unlink(missing_ok=True)
            return number

    @staticmethod
    def chunks(where: JobDir) -> list[Chunk]:
        """What was queued of a job; empty where nothing was."""
        return chunks(where)

    def _has_more(self, said: Notes) -> bool:
        """Whether a job that will extend the queue is queued or runs, other than the one we are in."""
        if said.more is None or said.more == os.environ.get("SLURM_JOB_ID"):
            return False
        seen = commands.squeue(call(commands.SQUEUE)).get((said.more, None), Seen(None))
        return seen.state is not None and seen.state.active

    def statuses(self, run: RunDir) -> list[TaskStatus]:
        """Every task, from one squeue, and one sacct when some left Slurm's memory without a record of their end."""
        # Before Slurm is asked: what another process queues afterwards would else seem to have left the queue.
        noted, refused = notes.read(run), notes.unextended(run)
        tasks = [(where, task, key) for where in run for task, key in enumerate(self._keys(where))]
        seen = commands.squeue(call(commands.SQUEUE))
        states = [seen[key].state for *_, key in tasks if key in seen]
        unqueued = self._unqueued(run, noted, refused, any(state and state.active for state in states), seen)
        records = {key: record.read(where.task(task).record) for where, task, key in tasks if key}
        lost = {key[0] for key, found in records.items() if key not in seen and not (found and found.ended)}
        if lost and self._accounting:
            # Without slurmdbd sacct fails: then the records are all that is left.
            with contextlib.suppress(SiteError):
                seen = {**commands.sacct(call([*commands.SACCT, "--jobs", ",".join(sorted(lost))])), **seen}
        closed = {where.name for where in run if where.closed.exists()}
        result = []
        for where, task, key in tasks:
            if key is None:
                result.append(
                    TaskStatus(
                        where.name, task, unqueued.state or State.CANCELLED, unqueued.reason, "", None,
                        closed=where.name in closed,
                    )
                )  # fmt: skip
                continue
            job_id = "_".join(str(part) for part in key if part is not None)
            said = seen.get(key, Seen(None, job_id=job_id))
            found = records[key]
            own = found if found and found.job_id == job_id else None  # else it is of an earlier attempt
            state, reason = (
                self._never_began(run, where, closed) if said.state is None and not own else settle(said, own)
            )
            # Before it runs again, what is known of it is the earlier attempt.
            start = said.start_estimate
            result.append(
                TaskStatus(where.name, task, state, reason, job_id, found, start, where.name in closed)
            )
        return result

    @staticmethod
    def _unqueued(
        run: RunDir, noted: Notes, refused: str, active: bool, seen: Mapping[tuple[str, int | None], Seen]
    ) -> Seen:
        """How tasks stand that were never queued; ``active`` says whether others of the run are under way."""
        if refused:
            if active:
                return Seen(State.WAITING, f"{refused} (the next aggregation tries again)")
            return Seen(State.CANCELLED, f"{refused} (`hpcflow resume {run.name}`)")
        if not noted.left:
            return Seen(State.CANCELLED, "was never queued")
        more_job = seen.get((noted.more, None), Seen(None)) if noted.more else Seen(None)
        return Seen(State.WAITING, _LEFT if more_job.state and more_job.state.active else _FORGOTTEN)

    @staticmethod
    def _never_began(run: RunDir, where: JobDir, closed: Collection[str]) -> tuple[State, str]:
        """Gone from the queue without a record. That it was cancelled is said only where something witnesses it: Slurm
        forgets a job whose script it could not start in the same way.
        """
        if where.name in closed:
            return State.CANCELLED, "the run went on without it"
        if where.cancelled.exists():
            return State.CANCELLED, "cancelled before it began"
        for after in run.graph[where.name].after:
            before = [record.read(task.record) for task in run.job(after.job)]
            if after.kind != "any" and not all(found and found.succeeded for found in before):
                return State.CANCELLED, f"left the queue before it began; it needs {after.job}"
        return (
            State.UNKNOWN,
            "left the queue without a record: cancelled by hand, or Slurm could not start it",
        )

    @staticmethod
    def _keys(where: JobDir) -> list[tuple[str, int | None] | None]:
        """Where Slurm has each task: the latest submission of it counts."""
        keys: list[tuple[str, int | None] | None] = [None] * (1 if where.tasks is None else where.tasks)
        for chunk in chunks(where):
            for task in chunk.tasks:
                keys[task] = (chunk.job_id, None if chunk.count is None else task - chunk.offset)
        return keys

    def cancel(self, run: RunDir) -> int:
        """Cancel what has not ended, by one scancel."""
        said = notes.read(run)
        if said.left:  # first, so that nothing queues more meanwhile
            notes.write(run, replace(said, left=False))
        current = self.statuses(run)
        active = [status for status in current if status.state.active or status.state is State.UNKNOWN]
        names = {status.job for status in active}
        for name in names:
            publish_text(run.job(name).cancelled, "")
        found = [chunk for where in run if where.name in names for chunk in chunks(where)]
        if said.more:
            found.append(Chunk(said.more, 0, None))
        if found:
            call(commands.scancel(found))
        unqueued = sum(not status.job_id for status in current) if said.left else 0
        return len(active) + unqueued


def _queue(
    run: RunDir,
    graph: JobGraph,
    said: Notes,
    current: Sequence[TaskStatus] = (),
    exclude: Sequence[str] = (),
) -> Queue:
    # Here: it imports submitit and the templates, and whoever looks at a run needs neither.
    from hpcflow.engines.slurm_queue import Queue

    return Queue(run, graph, said, current, exclude)


def _under_way(status: TaskStatus) -> bool:
    return status.state.active and bool(status.job_id)


def lost_nodes(statuses: Sequence[TaskStatus]) -> tuple[str, ...]:
    """The nodes that failed under a task, as far as it is clear which: of tasks on one node."""
    hosts = (
        status.record.host
        for status in statuses
        if status.reason == commands.NODE_FAILED
        and status.record
        and status.record.nodes == status.record.host
    )
    return tuple(dict.fromkeys(hosts))


def _by_job(statuses: Iterable[TaskStatus]) -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    for status in statuses:
        result.setdefault(status.job, []).append(status.task)
    return result


def _possible(graph: JobGraph, wanted: Wanted, statuses: Sequence[TaskStatus]) -> Wanted:
    """``wanted`` less the jobs that need one that did not end well: they would wait for ever."""
    bad = {status.job for status in statuses if not status.state.active and status.state is not State.DONE}
    needs_bad: set[str] = set()
    for job in graph:
        if any(after.kind != "any" and after.job in bad | needs_bad for after in job.after):
            needs_bad.add(job.name)
    return {name: tasks for name, tasks in wanted.items() if name not in needs_bad}
