"""This machine as an engine: the same scripts, run by one detached process that keeps the order of the graph.

It exists so that a laptop does the whole of it. The runner (local_runner.py) is started in a session of its own and
needs no terminal; all that it knows is in the run directory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcflow.engines.commands import INHERITED
from hpcflow.engines.status import Seen, State, TaskStatus, settle
from hpcflow.errors import RunError, SiteError
from hpcflow.jobs import record
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.record import Record
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import publish_json

CLOCK_S = 2.0  # by so much a clock that is set may have moved since a task began
STOP_S = 30  # after SIGTERM, as Slurm's KillWait: time for the ranks to end and for the record


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one of the same number: its start time tells them apart."""

    pid: int
    start: str
    host: str

    @classmethod
    def here(cls, pid: int) -> Process | None:
        """The running process ``pid`` of this machine, None if there is none."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            return None
        return None if fields[0] == "Z" else cls(pid, fields[19], socket.gethostname())

    @property
    def began(self) -> float:
        """When it began, in seconds since the epoch."""
        since_boot = float(self.start) / os.sysconf("SC_CLK_TCK")
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as this machine can tell."""
        return Process.here(self.pid) == self


class LocalEngine:
    """Runs job graphs on this machine."""

    name = "local"

    def __init__(self, max_jobs: int | None = None) -> None:
        self._max_jobs = max_jobs

    def preflight(self, scripts: Mapping[str, str]) -> dict[str, str]:
        """Nothing to ask: the plan was made for this machine."""
        return dict.fromkeys(scripts, "")

    def submit(self, run: RunDir, graph: JobGraph) -> None:
        """Start the runner and return at once. Raises SiteError when it does not come up."""
        environment = {name: value for name, value in os.environ.items() if not INHERITED.match(name)}
        argv = [sys.executable, "-m", "hpcflow.engines.local_runner", str(run.path)]
        if self._max_jobs:
            argv += ["--jobs", str(self._max_jobs)]
        with run.local_log.open("ab") as log:
            runner = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
                cwd="/",
            )
        process = Process.here(runner.pid)
        deadline = time.monotonic() + 30
        while not (state := read_state(run)) or state["runner"]["pid"] != runner.pid:
            if runner.poll() is not None or process is None or time.monotonic() > deadline:
                raise SiteError(f"the local runner did not start (see {run.local_log})")
            time.sleep(0.01)

    def top_up(self, run: RunDir, statuses: Sequence[TaskStatus] | None = None) -> int:
        """Nothing: the runner takes all tasks at once."""
        return 0

    def resume(self, run: RunDir) -> int:
        """Start a new runner for what has not ended well, unless one is at it; the number of tasks.

        Tasks that live on after their runner was killed are left to end, and the new runner waits for them.
        """
        state = read_state(run)
        runner = Process(**state["runner"]) if state else None
        while runner and runner.alive:
            if any(status.state.active for status in self.statuses(run)):
                return 0
            time.sleep(0.02)  # it is about to leave
        statuses = self.statuses(run)
        again = [status for status in statuses if not (status.well or status.state is State.RUNNING)]
        if again:
            self._max_jobs = self._max_jobs or (state or {}).get("max_jobs")
            self.submit(run, run.graph)
        return len(again)

    def statuses(self, run: RunDir) -> list[TaskStatus]:
        """Every task, from the runner's file and the tasks' records."""
        state = read_state(run)
        alive = state is not None and Process(**state["runner"]).alive
        tasks = state["tasks"] if state else {}
        result = []
        for where in run:
            closed = where.closed.exists()
            for task in where:
                entry = tasks.get(key(where.name, task.index), {"state": "waiting", "reason": ""})
                found = record.read(task.record)
                seen = _seen(entry, found, alive)
                settled, reason = settle(seen, found)
                pid = str(entry.get("pid", ""))
                result.append(TaskStatus(where.name, task.index, settled, reason, pid, found, closed=closed))
        return result

    def cancel(self, run: RunDir) -> int:
        """Tell the runner to end its tasks; where the runner is gone, end what it left running."""
        active = [status for status in self.statuses(run) if status.state.active]
        state = read_state(run)
        if state and Process(**state["runner"]).alive:
            os.kill(state["runner"]["pid"], signal.SIGTERM)
        else:
            for status in active:
                if status.record and runs(status.record):
                    os.killpg(status.record.pid, signal.SIGTERM)
        return len(active)


def key(job: str, task: int) -> str:
    """A task's name in the runner's file."""
    return f"{job}/{task}"


def read_state(run: RunDir) -> dict[str, Any] | None:
    """What the runner published last; None before it did. Raises RunError where it is damaged."""
    try:
        data: dict[str, Any] = json.loads(run.local_state.read_text())
        Process(**data["runner"])
        for entry in data["tasks"].values():
            State(entry["state"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run.local_state} is damaged: {error!r}") from None
    return data


def write_state(run: RunDir, runner: Process, tasks: Mapping[str, Any], max_jobs: int | None = None) -> None:
    """Publish the runner's file."""
    publish_json(run.local_state, {"runner": vars(runner), "tasks": tasks, "max_jobs": max_jobs})


def runs(found: Record) -> bool:
    """Whether the script that wrote a record still runs here: a process of its number that began before the record."""
    process = Process.here(found.pid)
    if found.ended is not None or process is None or found.host != process.host:
        return False
    return process.began <= found.started + CLOCK_S


def _seen(entry: Mapping[str, Any], found: Record | None, alive: bool) -> Seen:
    state = State(entry["state"])
    if alive or not state.active:
        return Seen(state, entry["reason"])
    if state is State.RUNNING and found is not None:
        # The runner was killed and its task lives on by itself: the record will tell its end.
        return Seen(State.RUNNING) if runs(found) else Seen(None if found.ended else State.FAILED, "killed")
    return Seen(State.CANCELLED, "the local runner was ended before this task began")
