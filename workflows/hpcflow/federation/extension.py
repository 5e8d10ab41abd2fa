"""Rounds that a run gets after it was submitted: written into its directory as the first ones were."""

from __future__ import annotations

import json

from hpcflow.federation.cast import NUMBER, Moulds, cast, job_name, parse
from hpcflow.federation.plan import Plan
from hpcflow.jobs.job import Job, JobGraph
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import publish_text


def lay_out_rounds(plan: Plan, moulds: Moulds, numbers: range) -> list[Job]:
    """Write the scripts of ``numbers`` and put their jobs into the graph; those that are there already are
    written again, to the same bytes. Returns the jobs, in order.
    """
    run, jobs = plan.run, []
    for mould, job in cast(moulds.moulds, plan, numbers):
        where, number = run.job(job), f"{parse(job.name).round:04d}"
        where.path.mkdir(parents=True, exist_ok=True)
        for name, text in job.files.items():
            publish_text(where.path / name, text.replace(NUMBER, number))
        publish_text(where.script, mould.script.replace(NUMBER, number), mode=0o755)
        jobs.append(job)
    fresh = {job.name for job in jobs}
    kept = [job for job in RunDir(run.path).graph if job.name not in fresh]
    graph = JobGraph((*kept, *jobs))
    publish_text(run.graph_file, json.dumps(graph.to_json(), indent=1) + "\n")
    return jobs


def lay_out_missing(plan: Plan, moulds: Moulds, committed: int) -> list[Job]:
    """Write the rounds that should be there once round ``committed`` is and are not. Returns the jobs of all rounds up
    to there that come after it, in order: which of them are queued the engine knows.

    An aggregation that was killed between its commit and the last sbatch of its extension left a gap so, written or
    not, which the next one fills.
    """
    if not moulds.window:
        return []
    known = {where.name for where in RunDir(plan.run.path)}
    numbers = range(committed + 1, min(plan.rules.rounds, committed + moulds.window) + 1)
    unwritten = [number for number in numbers if job_name(number, "aggregate") not in known]
    if unwritten:
        lay_out_rounds(plan, moulds, range(unwritten[0], numbers.stop))
    return [job for _, job in cast(moulds.moulds, plan, numbers)]
