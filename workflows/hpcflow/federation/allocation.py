"""`execution: allocation`: all rounds in one job, whose workers stay up between them.

One process of the allocation aggregates; every collaborator is a worker that holds its model and data and looks into
the run directory for the round that comes next. They tell each other nothing but by the files that chained jobs
write as well. The figures: who waits looks again after 2 ms at first, then after a fiftieth of the time that it has
waited already, at most 0.25 s. A round of an hour costs each worker some 14,000 looks at one name, one of a second
about 200.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hpcflow.errors import HpcflowError, RunError
from hpcflow.federation import job, rounds
from hpcflow.federation.cast import evaluated
from hpcflow.federation.conclusion import conclude
from hpcflow.federation.contribution import Contribution
from hpcflow.federation.plan import HOLDOUT

FIRST_S, SHARE, LONGEST_S = 0.002, 0.02, 0.25
STOP_S = 20.0
# A worker that is ended by a signal every time it begins has used up its chances.
MOST_STARTS = 5


def looks() -> Iterator[None]:
    """Yield at once and then after ever longer pauses (see above)."""
    begun = time.monotonic()
    while True:
        yield
        time.sleep(min(LONGEST_S, max(FIRST_S, SHARE * (time.monotonic() - begun))))


@dataclass
class Workers:
    """The workers' processes."""

    here: job.Here
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start the worker of ``name``, as a step of its own under Slurm."""
        here = self.here
        argv = [sys.executable, "-m", "hpcflow.federation", "worker", "--name", name, "--cache", here.cache]
        argv += ["--data", here.data, str(here.plan.run.path), here.job, str(here.task)]
        if "SLURM_JOB_ID" in os.environ:
            cores = os.environ.get("SLURM_CPUS_PER_TASK", "1")
            # srun of 22.05 does not read SLURM_CPUS_PER_TASK.
            step = ["srun", "--exact", "--nodes=1", "--ntasks=1", f"--cpus-per-task={cores}", "--input=none"]
            argv = [*step, "--kill-on-bad-exit=0", *argv]
        self.starts[name] = self.starts.get(name, 0) + 1
        self.running[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def ended(self, name: str) -> int | None:
        """The exit code of a worker that runs no more."""
        process = self.running.get(name)
        return -1 if process is None else process.poll()

    def replace(self, name: str) -> None:
        """Start a worker anew, unless it has had its chances."""
        self.stop(name)
        if self.starts.get(name, 0) < MOST_STARTS:
            self.start(name)

    def stop(self, *names: str) -> None:
        """End workers: SIGTERM, and SIGKILL after a while."""
        mine = [self.running.pop(name) for name in names if name in self.running]
        for process in mine:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in mine:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def learn(here: job.Here) -> None:
    """Commit round after round. Raises RunError where one stops."""
    plan, workers = here.plan, Workers(here)
    signal.signal(signal.SIGTERM, _end)
    held = [HOLDOUT] if plan.rules.evaluation.holdout else []
    try:
        for name in [*plan.members, *held]:
            workers.start(name)
        wait(workers, lambda: rounds.manifest(plan, 0) is not None, next(iter(plan.members)))
        for round in range(max(1, rounds.last_committed(plan) + 1), plan.rules.rounds + 1):
            wait_for_quorum(workers, round)
            conclude(plan, round)
            print(f"round {round}: committed: {job.summary(plan, round)}", flush=True)
            done = rounds.manifest(plan, round)
            late = done.about["late"] if done else []
            for name in late if plan.rules.stragglers.late == "cancel" else []:
                workers.replace(name)
        for name in [*plan.members, *held]:
            if name in evaluated(plan, plan.rules.rounds) and name in workers.running:
                workers.running[name].wait()
    finally:
        workers.stop(*list(workers.running))


def _end(_number: int, _frame: Any) -> None:
    raise SystemExit(143)


def wait(workers: Workers, done: Callable[[], bool], name: str) -> None:
    """Until ``done``. Raises RunError when the worker that should do it has ended."""
    for _ in looks():
        if done():
            return
        code = workers.ended(name)
        if code is not None and not done():
            raise RunError(
                f"the worker of {name} ended with {code} before the first round (see the log above)"
            )


def wait_for_quorum(workers: Workers, round: int) -> None:
    """Until enough have answered. Whose worker has ended is recorded as failed, and gets a new one for the next
    round.
    """
    plan = workers.here.plan
    for _ in looks():
        updates, failed = rounds.answered(plan, round)
        asked = plan.participants(round)
        if len(updates) >= plan.quorum(round) or len(updates) + len(failed) == len(asked):
            return
        for name in set(asked) - {*updates, *failed}:
            code = workers.ended(name)
            if code is not None and name not in rounds.answered(plan, round)[0]:
                rounds.fail(plan, round, name, f"its worker ended with {code}")
                workers.replace(name)


def work(here: job.Here) -> None:
    """A worker: take part in every round that asks for it, until the last one is committed."""
    plan, name, parent = here.plan, here.name, os.getppid()
    mine = here.learner(name)
    if name == next(iter(plan.members)):
        rounds.begin(plan, mine)
    for round in range(plan.rules.rounds + 1):
        committed = plan.round(round)
        if round and name in plan.participants(round) and not (committed.path / "manifest.json").exists():
            try:
                with job.reported(plan, round, name):
                    Contribution(plan, round, name, mine).make()
            except HpcflowError as error:
                print(f"hpcflow: {error}", file=sys.stderr, flush=True)
        for _ in looks():
            if rounds.manifest(plan, round) is not None:
                break
            if os.getppid() != parent:
                raise RunError(f"the allocation of {name} has ended")
        if round and name in evaluated(plan, round):
            job.judge(plan, round, name, mine)
    mine.close()
