"""Taking a federation up again: what stands in the way of its next round is put aside. The rest is the engine's."""

from __future__ import annotations

from collections.abc import Sequence

from hpcflow.engines.status import TaskStatus
from hpcflow.federation import rounds
from hpcflow.federation.cast import BEGIN, Moulds, parse
from hpcflow.federation.contribution import usable
from hpcflow.federation.extension import lay_out_missing
from hpcflow.federation.job import read_moulds
from hpcflow.federation.plan import Plan, plan_of
from hpcflow.jobs.rundir import JobDir, RunDir
from hpcflow.storage.publish import publish_text


def prepare(run: RunDir, statuses: Sequence[TaskStatus]) -> str:
    """Make ready for the engine's resume, and say where the federation goes on. Changes nothing that is committed,
    and nothing at all of a round that is still under way.
    """
    plan = plan_of(run)
    done, last = rounds.last_committed(plan), plan.rules.rounds
    chained = plan.rules.execution == "chained"
    if chained:
        _close_committed(run, done)
        lay_out_missing(plan, read_moulds(plan), max(done, 0))
    if done == last:
        return f"has committed all {last} rounds"
    next_jobs = {where.name for where in run if chained and _round(where) == done + 1} or {"learn"}
    if not any(status.state.active for status in statuses if status.job in next_jobs):
        _clear(plan, done + 1, [where for where in run if where.name in next_jobs])
    return f"goes on with round {max(done, 0) + 1} of {last}"


def _round(where: JobDir) -> int:
    try:
        return parse(where.name).round
    except ValueError:
        return 0 if where.name == BEGIN else -1


def _close_committed(run: RunDir, done: int) -> None:
    """An aggregation that was killed after its commit has done its work all the same."""
    for where in run:
        evaluates = where.name.endswith("-evaluate")
        if 0 <= _round(where) <= done and not evaluates and not where.closed.exists():
            publish_text(where.closed, "")


def _clear(plan: Plan, round: int, jobs: Sequence[JobDir]) -> None:
    """Reasons and releases of the attempt before. Whose update is not there, or is no use, is asked again."""
    if round > 0:
        where = plan.round(round)
        for name in plan.participants(round):
            where.failure(name).unlink(missing_ok=True)
        where.stopped.unlink(missing_ok=True)
        where.concluder.unlink(missing_ok=True)
    for job in jobs:
        job.released.unlink(missing_ok=True)
        if round < 1 or not job.name.startswith("r"):
            continue
        moulds: Moulds = read_moulds(plan)
        for task in job:
            if not _has_done(plan, moulds, job, task.index, round):
                task.record.unlink(missing_ok=True)


def _has_done(plan: Plan, moulds: Moulds, job: JobDir, task: int, round: int) -> bool:
    from hpcflow.federation.cast import whose

    if parse(job.name).part != "train":
        return False  # the round is not committed
    return usable(plan, round, whose(moulds.moulds, plan, job.name, task))
