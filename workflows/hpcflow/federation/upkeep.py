"""What an aggregation does for the other jobs of its run: it waits for some, ends some, and queues more."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcflow.engines.poll import Poll
from hpcflow.engines.status import State
from hpcflow.errors import SiteError
from hpcflow.experiment.fields import seconds
from hpcflow.federation import rounds
from hpcflow.federation.cast import parse, whose
from hpcflow.federation.extension import lay_out_missing
from hpcflow.federation.plan import Plan
from hpcflow.jobs import record
from hpcflow.jobs.rundir import JobDir
from hpcflow.storage.publish import publish_json, publish_text

if TYPE_CHECKING:
    from hpcflow.federation.job import Here

# What an aggregation that has waited in vain needs of its time limit, to say so and to end.
MARGIN_S = 60
_BEGUN = time.monotonic()


def jobs_of(plan: Plan, round: int, part: str) -> list[JobDir]:
    """The jobs of a round that are laid out."""
    found = []
    for where in plan.run:
        with contextlib.suppress(ValueError):
            task = parse(where.name)
            if (task.round, task.part) == (round, part):
                found.append(where)
    return found


def note_lost_jobs(here: Here, round: int) -> None:
    """Whose job has ended without an update and without a word was killed: nobody needs to wait for it."""
    plan = here.plan
    updates, failed = rounds.answered(plan, round)
    silent = set(plan.participants(round)) - {*updates, *failed}
    if not silent or plan.rules.stragglers.policy == "wait":
        return
    moulds = here.moulds.moulds
    for where in jobs_of(plan, round, "train"):
        for index, state in here.chain.over(where).items():
            name = whose(moulds, plan, where.name, index)
            if name in silent and not plan.round(round).update(name).exists():
                found = record.read(where.task(index).record)
                on = f" on {found.host}" if found else " before it began"
                why = f"its job was killed or cancelled{on}"
                if state is State.TIMEOUT and plan.rules.stragglers.policy == "cutoff":
                    why = f"its job ran into the cut-off of {plan.rules.stragglers.after}{on}"
                elif state is State.TIMEOUT:
                    why = f"its job reached its time limit{on}"
                rounds.fail(plan, round, name, why)


def wait_for_another(here: Here, round: int, late: Sequence[str]) -> bool:
    """Until one of ``late`` has answered, or its job has ended; False where none of them will while this job may run.

    The aggregation begins before all have ended because a quorum was complete, and then an update proves no use. To
    wait for the others here costs a core or two for a while; to stop would cost a night.
    """
    if not late:
        return False
    limit = (seconds(here.plan.rules.aggregation.time) or math.inf) - MARGIN_S
    print(f"round {round}: too few updates can be used: waits for {', '.join(late)}", flush=True)
    for delay in Poll.of(here.plan.run.engine):
        note_lost_jobs(here, round)
        updates, failed = rounds.answered(here.plan, round)
        if set(late) & {*updates, *failed}:
            return True
        if time.monotonic() - _BEGUN + delay > limit:
            return False
        time.sleep(delay)
    raise AssertionError("polls for ever")


def close(here: Here, round: int) -> None:
    """Nobody needs the jobs of a committed round any more, however they end."""
    for where in jobs_of(here.plan, round, "train"):
        publish_text(where.closed, "")


def end_late_jobs(here: Here, round: int) -> None:
    """Cancel those who had not answered, unless their updates are used in the next round."""
    plan = here.plan
    done = rounds.manifest(plan, round)
    late = set(done.about.get("late", ())) if done else set()
    if not late or plan.rules.stragglers.late == "next":
        return
    moulds = here.moulds.moulds
    for where in jobs_of(plan, round, "train"):
        tasks = [task.index for task in where if whose(moulds, plan, where.name, task.index) in late]
        here.chain.cancel(where, [index for index in tasks if not ended(where, index)])


def ended(where: JobDir, index: int) -> bool:
    """Whether a task has recorded its end."""
    found = record.read(where.task(index).record)
    return bool(found and found.ended)


def extend(here: Here, round: int) -> None:
    """Keep the window: when round r is committed, queue what is missing up to round r + window.

    What a scheduler refuses now (a drained partition, a full queue, no answer) the next aggregation asks for again. So
    this one ends well all the same, or those that are queued would be cancelled for it.
    """
    run = here.plan.run
    jobs = lay_out_missing(here.plan, here.moulds, round)
    missing = [job for job in jobs if not here.chain.has(run.job(job))]
    try:
        here.chain.extend(run, missing)
    except SiteError as error:
        publish_json(run.unextended, {"round": round, "reason": str(error)})
        print(f"hpcflow: the next rounds could not be queued: {error} (the next aggregation tries again; "
              f"after the last one, `hpcflow resume {run.name}`)", file=sys.stderr)  # fmt: skip
        return
    run.unextended.unlink(missing_ok=True)


def set_cutoff(here: Here, round: int) -> None:
    """Of a round that is open now: the time counts from here, also that which a collaborator's job spends in the queue.
    Where jobs may not call scontrol the time limit of that job, counted from its start, is what is left.
    """
    late = here.plan.rules.stragglers
    if late.policy == "cutoff" and late.after and (limit := seconds(late.after)):
        here.chain.begin_in(jobs_of(here.plan, round, "aggregate"), limit)
