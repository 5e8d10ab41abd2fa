"""The process behind the local engine: starts the tasks of a run in order, as many at once as there are cores.

Run as `python -m hpcflow.engines.local_runner RUN [--jobs N]`, in a session of its own. It waits for its children and
for nothing else, so it costs nothing while they run; SIGTERM cancels the run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcflow.engines.local import STOP_S, Process, key, runs, write_state
from hpcflow.engines.status import State
from hpcflow.jobs import record
from hpcflow.jobs.job import After, Job
from hpcflow.jobs.rundir import RunDir

ADOPTED_POLL_S = 0.5  # nobody tells of the end of a process that is not our child


class _Cancelled(Exception):
    pass


@dataclass
class _Task:
    job: Job
    index: int
    state: State = State.WAITING
    reason: str = ""
    process: subprocess.Popen[bytes] | None = None
    adopted: record.Record | None = None  # it lives on from a runner that was killed

    def to_json(self) -> dict[str, Any]:
        pid = {"pid": self.process.pid} if self.process else {}
        return {"state": str(self.state), "reason": self.reason, **pid}


@dataclass
class Runner:
    """Runs one run."""

    run: RunDir
    max_jobs: int | None = None
    tasks: dict[str, _Task] = field(default_factory=dict)
    cancelled: bool = False
    waiting: bool = False
    seen: int = 0  # when the graph that was taken up was written

    def __post_init__(self) -> None:
        self.seen = self.run.graph_file.stat().st_mtime_ns
        self._take_up(self.run)

    def _take_up(self, run: RunDir) -> None:
        """The tasks of the graph that are not known yet: a task of the run may have added some."""
        for job in run.graph:
            for index in job.indices:
                if key(job.name, index) in self.tasks:
                    continue
                task = _Task(job, index)
                found = record.read(self.run.task(job, index).record)
                if found and found.succeeded:  # resumed: what ended well is not run again
                    task.state = State.DONE
                elif found and runs(found):
                    task.state, task.adopted = State.RUNNING, found
                elif run.job(job).closed.exists():
                    task.state, task.reason = State.CANCELLED, "the run went on without it"
                self.tasks[key(job.name, index)] = task

    def go(self) -> None:
        """Run until nothing is left that could."""
        signal.signal(signal.SIGTERM, self._on_term)
        self._publish()
        try:
            while self._start_what_may() or self._running():
                self._wait_for_one()
        except _Cancelled:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._stop()
        self._publish()

    def _on_term(self, _number: int, _frame: object) -> None:
        # Only while nothing is half done: an exception out of Popen would lose sight of the child.
        self.cancelled = True
        if self.waiting:
            raise _Cancelled

    def _running(self) -> list[_Task]:
        return [task for task in self.tasks.values() if task.state is State.RUNNING]

    def _start_what_may(self) -> int:
        started = 0
        if (changed := self.run.graph_file.stat().st_mtime_ns) != self.seen:
            self.seen = changed
            self.run = RunDir(self.run.path)
            self._take_up(self.run)
        for task in self.tasks.values():
            if task.state not in (State.WAITING, State.PENDING):
                continue
            verdict = self._dependencies(task)
            if verdict is None and self._has_room(task):
                self._start(task)
                started += 1
            elif verdict is None:
                task.state, task.reason = State.PENDING, "waits for free cores"
            elif verdict:
                task.state, task.reason = State.CANCELLED, verdict
            else:
                task.reason = "waits for the jobs before it"
        self._publish()
        return started

    def _dependencies(self, task: _Task) -> str | None:
        """None: may start; empty: not yet; else why it never will."""
        if self.run.job(task.job).released.exists():
            return None
        for after in task.job.after:
            if self.run.job(after.job).closed.exists():
                continue
            before = self._before(task, after)
            if any(other.state.active for other in before):
                return ""
            if after.kind != "any" and any(other.state is not State.DONE for other in before):
                return f"needs {after.job}, which did not end well"
        return None

    def _before(self, task: _Task, after: After) -> list[_Task]:
        if after.kind == "task" or after.task is not None:
            return [self.tasks[key(after.job, task.index if after.task is None else after.task)]]
        return [other for other in self.tasks.values() if other.job.name == after.job]

    def _has_room(self, task: _Task) -> bool:
        running = self._running()
        if not running:
            return True  # a job larger than the machine runs alone
        if self.max_jobs and len(running) >= self.max_jobs:
            return False
        limit = task.job.max_parallel
        if limit and sum(other.job is task.job for other in running) >= limit:
            return False
        used = sum(other.job.allocation.cpus for other in running)
        return used + task.job.allocation.cpus <= len(os.sched_getaffinity(0))

    def _start(self, task: _Task) -> None:
        where = self.run.job(task.job)
        log = where.task(task.index).log if task.job.tasks is None else where.scheduler_log
        with log.open("ab") as out:
            task.process = subprocess.Popen(
                ["bash", str(where.script), str(task.index)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=self.run.path,
                env={**os.environ, "HPCFLOW_QUEUED": f"{_queued(self.run):.3f}"},
            )  # fmt: skip
        task.state, task.reason = State.RUNNING, ""

    def _wait_for_one(self) -> None:
        self.waiting = True
        if self.cancelled:
            raise _Cancelled
        pid, status = self._next_end()
        self.waiting = False
        for task in self._running():
            if task.process and task.process.pid == pid:
                self._ended(task, os.waitstatus_to_exitcode(status))
            elif task.adopted and not runs(task.adopted):
                found = record.read(self.run.task(task.job, task.index).record)
                task.state = State.DONE if found and found.succeeded else State.FAILED
                task.reason = "" if found and found.ended else "killed"

    def _next_end(self) -> tuple[int, int]:
        """Wait for the next child, or until an adopted process has ended: then no child's number."""
        adopted = [task.adopted for task in self._running() if task.adopted]
        while adopted:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid:
                    return pid, status
            if not all(map(runs, adopted)):
                return 0, 0
            time.sleep(ADOPTED_POLL_S)
        return os.waitpid(-1, 0)

    @staticmethod
    def _ended(task: _Task, code: int) -> None:
        task.state = State.DONE if code == 0 else State.FAILED
        task.reason = f"killed by signal {-code}" if code < 0 else ""

    def _stop(self) -> None:
        """SIGTERM to the scripts, which pass it on and write their records; SIGKILL to what is left after STOP_S."""
        for task in self.tasks.values():
            if task.state in (State.WAITING, State.PENDING):
                task.state, task.reason = State.CANCELLED, "cancelled before it began"
        self._publish()
        running = self._running()
        for task in running:
            _signal(_pid(task), signal.SIGTERM, group=False)
        deadline = time.monotonic() + STOP_S
        for task in running:
            if task.process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    task.process.wait(max(0.0, deadline - time.monotonic()))
            while task.adopted and runs(task.adopted) and time.monotonic() < deadline:
                time.sleep(ADOPTED_POLL_S)
            _signal(_pid(task), signal.SIGKILL, group=True)
            if task.process:
                task.process.wait()
            task.state, task.reason = State.CANCELLED, "cancelled"

    def _publish(self) -> None:
        me = Process.here(os.getpid())
        assert me is not None
        write_state(self.run, me, {name: task.to_json() for name, task in self.tasks.items()}, self.max_jobs)


def _pid(task: _Task) -> int:
    if task.process:
        return task.process.pid
    assert task.adopted is not None
    return task.adopted.pid


def _queued(run: RunDir) -> float:
    return run.graph_file.stat().st_mtime


def _signal(pid: int, number: int, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, number)


def main() -> None:
    """Entry of the detached process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--jobs", type=int)
    arguments = parser.parse_args()
    Runner(RunDir(arguments.run), arguments.jobs).go()


if __name__ == "__main__":
    main()
