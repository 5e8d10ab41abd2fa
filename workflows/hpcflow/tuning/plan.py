"""A tuning as a run: `prepare`, and one job that tries the candidates one after another in its allocation.

    RUN/tune/plan.json                          the candidates and the rungs
    RUN/tune/candidates/NN/                     an ordinary run directory of one training each, as text
    RUN/tune/trials/RUNG-NN-REPEAT/             the same with the steps of the rung, as it was run
    RUN/tune/result.json  best.yaml             what came of it

Successive halving: all candidates run a few steps, the fastest third more of them, the fastest three of these four
times, in turn, so that what disturbs the node for a while meets all of them. Each run trains at least two epochs of
`limit_batches` steps; the first, which traces and warms up, does not count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hpcflow.errors import InputError
from hpcflow.experiment import Loaded
from hpcflow.experiment.sweep import Point, loaded_trial, trial_of
from hpcflow.flows.train import prepare_job, rank_map, train_job
from hpcflow.jobs.job import After, Allocation, Job, JobGraph
from hpcflow.jobs.layout import lay_out
from hpcflow.jobs.rundir import RunDir
from hpcflow.jobs.shell import Variable
from hpcflow.submission import Submission, absolute, prepare
from hpcflow.tuning.candidates import MOST, Candidate, candidates
from hpcflow.tuning.verdict import FINALISTS

FOLDER = "tune"
JOB = "tune"
EPOCHS = 3


@dataclass(frozen=True)
class Rung:
    """How long each run of a rung trains, how often a candidate runs, and which share goes on: one in ``share``, and
    FINALISTS at least.
    """

    steps: int
    repeats: int
    share: int


def rungs(steps: int, number: int) -> tuple[Rung, ...]:
    """From ``steps`` an epoch to nine times as many; of ``number`` candidates no more than FINALISTS come to the last,
    which is what the verdict's chance of an error stands on.
    """
    return Rung(steps, 1, 3), Rung(3 * steps, 1, max(3, number)), Rung(9 * steps, 4, 1)


def runs(plan: Mapping[str, Any]) -> int:
    """How many trainings the job runs at most; the experiment's own setting is one more where it is not the fastest."""
    left, total = len(plan["candidates"]), 0
    for rung in plan["rungs"]:
        total += rung["repeats"] * left
        left = min(left, max(FINALISTS, math.ceil(left / rung["share"])) + 1)
    return total


def prepare_tuning(
    config: Path,
    sets: Sequence[str],
    site: str | None,
    engine: str | None,
    now: datetime,
    *,
    steps: int = 4,
    most: int = MOST,
) -> Submission:
    """Plan a tuning. Raises InputError, SiteError."""
    planned = prepare(config, [*sets, "sweep=null"], site, engine, now)
    loaded, target = planned.loaded, planned.target
    if loaded.experiment.flow != "train":
        raise loaded.problem("flow", "only `flow: train` can be tuned")
    found = candidates(loaded.experiment, target.node, rank_map(loaded, target).size, most)
    made = [(one, laid) for one in found if (laid := _laid(planned, loaded, one)) is not None]
    experiment = loaded.experiment
    graph = JobGraph((prepare_job(experiment, target), _job(planned, [job for _, (job, _) in made])))
    layout = planned.layout
    about = json.loads(layout.files[planned.run.provenance])
    text = layout.files[planned.run.experiment]
    whole = lay_out(planned.run, graph, text, {**about, "tune": True}, experiment.name)
    plan = {
        "candidates": [{"number": one.number, "values": dict(one.values)} for one, _ in made],
        "rungs": [asdict(rung) for rung in rungs(steps, len(made))],
        "epochs": EPOCHS,
        "where": f"{target.node.source or 'this node'} with {target.launcher}",
    }
    files = {**whole.files, planned.run.path / FOLDER / "plan.json": json.dumps(plan, indent=1) + "\n"}
    for _, (_, more) in made:
        files |= more
    return replace(planned, layout=replace(whole, files=files))


def _laid(planned: Submission, loaded: Loaded, one: Candidate) -> tuple[Job, dict[Path, str]] | None:
    """The training of a candidate as files; None where it does not fit the node."""
    point = Point(one.values)
    experiment, _ = trial_of(loaded, point)
    if experiment is None:
        return None
    made = absolute(experiment, Path.cwd())
    try:
        job = train_job(loaded_trial(loaded, point, made), planned.target)
    except InputError:
        if one.number == 0:
            raise
        return None
    job = replace(job, after=())
    run = RunDir(planned.run.path / FOLDER / "candidates" / f"{one.number:02d}")
    text = json.dumps(made.model_dump(mode="json", exclude={"sweep"}), ensure_ascii=False) + "\n"
    laid = lay_out(run, JobGraph((job,)), text, {"engine": planned.engine.name}, made.name)
    return job, {**laid.files, run.graph_file: json.dumps(laid.graph.to_json()) + "\n"}


def _job(planned: Submission, jobs: Sequence[Job]) -> Job:
    """The job that tries them all: whole nodes, as many slots as the candidate with most ranks takes."""
    own, experiment = jobs[0], planned.loaded.experiment
    slots = max(job.allocation.tasks_per_node for job in jobs)
    cpus = max(job.allocation.tasks_per_node * job.allocation.cpus_per_task for job in jobs)
    allocation = Allocation(
        own.allocation.nodes, slots, max(1, cpus // slots), experiment.resources.time, own.allocation.flags
    )
    return Job(
        JOB,
        allocation,
        (f"{planned.target.prefix}/bin/python", "-m", "hpcflow.tuning", Variable("HPCFLOW_RUN")),
        after=(After("prepare"),),
    )
