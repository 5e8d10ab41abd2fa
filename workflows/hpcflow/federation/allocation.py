"""`execution: allocation`: all rounds in one job, whose workers stay up between them.

One process of the allocation aggregates; every collaborator is a worker that holds its model and data and looks into
the run directory for the round that comes next. They tell each other nothing but by the files that chained jobs
write as well. The figures: who waits looks again after 2 ms at first, then after a fiftieth of the time that it has
waited already, at most 0.25 s. A round of an hour costs each worker some 14,000 looks at one name, one of a second
about 200.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcflow.errors import HpcflowError, RunError
from hpcflow.federation import job, rounds
from hpcflow.federation.cast import evaluated
from hpcflow.federation.conclusion import conclude
from hpcflow.federation.contribution import Contribution
from hpcflow.federation.plan import HOLDOUT
from hpcflow.federation.quorum import Quorum

FIRST_S, SHARE, LONGEST_S = 0.002, 0.02, 0.25
STOP_S = 20.0
# A worker that ends so often, with no update in between, has used up its chances.
MOST_CRASHES = 5
# A new worker may need so long to begin (TensorFlow), however short the rounds are.
LONG_BEGIN_S = 120.0


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
    crashes: dict[str, int] = field(default_factory=dict)  # since the last update
    since: dict[str, float] = field(default_factory=dict)  # when it began, or made its last update

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
        self.since[name] = time.monotonic()
        self.running[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def note_updates(self, names: Sequence[str]) -> None:
        """Whoever made an update is well."""
        for name in names:
            self.since[name] = time.monotonic()
            self.crashes.pop(name, None)

    def ended(self, name: str) -> str | None:
        """How a worker ended, in words; None while it runs."""
        process = self.running.get(name)
        if process is None:
            return f"its worker ended {MOST_CRASHES} times without an update (see the log of {self.here.job})"
        code = process.poll()
        return None if code is None else f"its worker ended with {code}"

    def replace(self, name: str) -> None:
        """Start a worker anew."""
        self.stop(name)
        self.start(name)

    def revive(self, name: str) -> None:
        """Start a worker anew that ended by itself, unless it has had its chances."""
        self.stop(name)
        self.crashes[name] = self.crashes.get(name, 0) + 1
        if self.crashes[name] < MOST_CRASHES:
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
            conclude(plan, round, another=functools.partial(wait_for_another, workers, round))
            print(f"round {round}: committed: {job.summary(plan, round)}", flush=True)
            workers.note_updates(rounds.answered(plan, round)[0])
            for name in hopeless(workers, round):
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
        how = workers.ended(name)
        if how is not None and not done():
            raise RunError(f"{name}: {how}, before the first round (see the log above)")


def wait_for_quorum(workers: Workers, round: int) -> None:
    """Until enough have answered."""
    quorum = Quorum(workers.here.plan, round)
    for _ in looks():
        if quorum.complete():
            return
        note_ends(workers, round)


def wait_for_another(workers: Workers, round: int, late: Sequence[str]) -> bool:
    """Until one of ``late`` has answered; False where there are none. Updates of the others proved no use."""
    for _ in looks() if late else ():
        note_ends(workers, round)
        updates, failed = rounds.answered(workers.here.plan, round)
        if set(late) & {*updates, *failed}:
            return True
    return False


def note_ends(workers: Workers, round: int) -> None:
    """Whose worker has ended is recorded as failed, and gets a new one for the next round."""
    plan = workers.here.plan
    updates, failed = rounds.answered(plan, round)
    for name in set(plan.participants(round)) - {*updates, *failed}:
        how = workers.ended(name)
        if how is not None and name not in rounds.answered(plan, round)[0]:
            rounds.fail(plan, round, name, how)
            workers.revive(name)


def hopeless(workers: Workers, round: int) -> list[str]:
    """Who was late in ``round`` and is at work on the round before it still: it would go on with what nobody uses. One
    that is late by less than a round, or has hardly begun, is there again before another worker would be.
    """
    plan, now = workers.here.plan, time.monotonic()
    if plan.rules.stragglers.late == "next" or round < 2:
        return []
    there, _ = rounds.answered(plan, round - 1)
    found = [rounds.manifest(plan, number) for number in (round - 1, round)]
    late = set.intersection(*(set(one.about["late"]) if one else set() for one in found)) - set(there)
    return [name for name in plan.members if name in late and now - workers.since[name] > LONG_BEGIN_S]


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
