"""`flow: federated`: rounds as jobs. Each is the jobs of the collaborators and, after them, one aggregation.

What a job does is in hpcflow.federation; here is only which jobs there are, what they ask for and what they wait for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hpcflow.errors import InputError
from hpcflow.experiment import Experiment, Loaded, dump
from hpcflow.experiment.schema import (
    OF_ITS_OWN,
    RANK_COUNTS,
    UNETS,
    Collaborator,
    Environment,
    Placement,
    Resources,
)
from hpcflow.federation.cast import BEGIN, NUMBER, Mould, Moulds, cast, job_name, queued_tasks
from hpcflow.federation.plan import Plan
from hpcflow.flows.confinement import OWN, confined, is_confined, mounts
from hpcflow.flows.target import Target
from hpcflow.flows.train import RANKMAP, THREADS, prepare_job, rank_map, train_job
from hpcflow.jobs.job import Allocation, Job, JobGraph
from hpcflow.jobs.rundir import RunDir
from hpcflow.jobs.script import render

PROGRAM = "hpcflow.federation"
LEARN = "learn"
MOULDS = "moulds.json"
# Beyond so many queued tasks a window is kept also where the site would take more: a queue that others can read.
MOST_QUEUED = 1000
S = TypeVar("S", Resources, Placement, Environment)


def federated(loaded: Loaded, target: Target) -> JobGraph:
    """The jobs of the first rounds, as many as are queued at a time; or one job that does it all."""
    experiment = loaded.experiment
    plan, confining = Plan(RunDir(Path()), experiment), is_confined(loaded)
    if plan.rules.execution != "chained":
        return JobGraph((learn_job(loaded, target),))
    if NUMBER in dump(experiment):
        raise loaded.problem(
            "name", f"`{NUMBER}` stands for the number of a round in scripts (write it otherwise)"
        )
    moulds = _moulds(loaded, target, plan, NUMBER if confining else None)
    window = rounds_at_a_time(loaded, target, plan)
    first = single(loaded, target, BEGIN, ("begin",), plan.round(0).path.name if confining else None)
    begin = _begin(first, Moulds(moulds, 0 if window >= plan.rules.rounds else window))
    rounds = range(1, min(window, plan.rules.rounds) + 1)
    return JobGraph((begin, *(job for _, job in cast(moulds, plan, rounds))))


def rounds_at_a_time(loaded: Loaded, target: Target, plan: Plan) -> int:
    """How many rounds are queued together: all, unless the user, the site or good manners bound them.

    While an aggregation runs, it queues the jobs of one more round: they count as well.
    """
    total = plan.rules.rounds
    may_extend = loaded.site.jobs_submit_jobs
    limit = target.max_submit
    if plan.rules.window is not None:
        window = plan.rules.window
        if window < total and not may_extend:
            raise loaded.problem(
                "federation.window",
                f"jobs may not submit jobs on {loaded.site.name}: all rounds are queued at once",
            )
    elif may_extend and target.scheduler == "slurm":
        most = min(MOST_QUEUED, limit or MOST_QUEUED)
        window = 1
        while window < total and queued_tasks(plan, window + 1) <= most:
            window += 1
    else:
        window = total
    queued = queued_tasks(plan, min(window, total))
    if limit is not None and queued > limit:
        what = f"{min(window, total)} rounds are {queued} jobs, and you may have {limit} in the queue"
        key = "federation.window" if plan.rules.window else "federation.rounds"
        raise loaded.problem(key, f"{what} (say execution: allocation, or a smaller window)")
    return window


def _begin(job: Job, moulds: Moulds) -> Job:
    scripts = {f"{mould.job.name}.sh": mould.script for mould in moulds.moulds}
    return replace(job, files={**job.files, MOULDS: moulds.to_json(), **scripts})


def _moulds(loaded: Loaded, target: Target, plan: Plan, confined_to: str | None) -> tuple[Mould, ...]:
    found = []
    for group, members in enumerate(alike(plan), 1):
        theirs = replace(loaded, experiment=of(loaded.experiment, plan.members[members[0]]))
        job = _client(theirs, target, job_name(NUMBER, "train", group), ("train",), confined_to)
        found.append(Mould(replace(job, tasks=len(members) if len(members) > 1 else None), members))
    found.append(Mould(_aggregation(loaded, target, plan, confined_to)))
    if plan.rules.evaluation.holdout or plan.rules.evaluation.aggregated:
        job = single(loaded, target, job_name(NUMBER, "evaluate"), ("evaluate",), confined_to)
        found.append(Mould(replace(job, tasks=1)))
    title = loaded.experiment.name
    return tuple(replace(mould, script=render(mould.job, f"{title}.{mould.job.name}")) for mould in found)


def alike(plan: Plan) -> list[tuple[str, ...]]:
    """Collaborators whose jobs are alike, so that an array holds them."""
    groups: dict[object, list[str]] = {}
    for name, member in plan.members.items():
        own = tuple(getattr(member, key) for key in OF_ITS_OWN)  # with dicts, hence the repr
        groups.setdefault(repr(own), []).append(name)
    return [tuple(names) for names in groups.values()]


def of(experiment: Experiment, member: Collaborator) -> Experiment:
    """The experiment as the jobs of one collaborator see it."""
    update = {key: getattr(member, key) or getattr(experiment, key) for key in OF_ITS_OWN}
    late = experiment.federation.stragglers if experiment.federation else None
    if late and late.policy == "cutoff" and late.after:
        update["resources"] = update["resources"].model_copy(update={"time": late.after})
    return experiment.model_copy(update=update)


def _client(
    loaded: Loaded, target: Target, name: str, command: tuple[str, ...], confined_to: str | None
) -> Job:
    """A collaborator's job: all its ranks where the model is trained by several."""
    if loaded.experiment.training.model.name not in UNETS:
        return single(loaded, target, name, command, confined_to)
    job = _of_ranks(loaded, target, name, command, confined_to)
    if loaded.experiment.training.strategy != "single":
        return job
    # Nothing places the one process, so there is no map that it could be compared with.
    return replace(job, launch=(), files={name: text for name, text in job.files.items() if name != RANKMAP})


def _of_ranks(
    loaded: Loaded, target: Target, name: str, command: tuple[str, ...], confined_to: str | None
) -> Job:
    if confined_to is None:
        return train_job(loaded, target, name, (PROGRAM, *command), ())
    job = train_job(loaded, target, name, (PROGRAM, *command, *OWN), (), mounts(command[0]))
    return confined(job, loaded.experiment, target, PROGRAM, command[0], confined_to)


def single(
    loaded: Loaded,
    target: Target,
    name: str,
    command: tuple[str, ...],
    confined_to: str | None = None,
) -> Job:
    """A job of one process; of a confined one the folder of the round that it is confined to."""
    experiment = loaded.experiment
    if confined_to is None:
        job = prepare_job(experiment, target, name, (PROGRAM, *command))
    else:
        job = prepare_job(experiment, target, name, (PROGRAM, *command, *OWN), mounts(command[0]))
        job = confined(job, experiment, target, PROGRAM, command[0], confined_to)
    cores = 1
    if experiment.training.model.name in UNETS and command[0] not in ("aggregate", "table"):
        one = experiment.model_copy(
            update={
                "placement": experiment.placement.model_copy(
                    update={**dict.fromkeys(RANK_COUNTS), "ranks": 1}
                ),
                "resources": experiment.resources.model_copy(update={"nodes": 1}),
            }
        )
        cores = len(rank_map(replace(loaded, experiment=one), target).ranks[0].cores)
    elif isinstance(experiment.placement.cores_per_rank, int):
        cores = experiment.placement.cores_per_rank
    threads = dict(zip(THREADS, (str(cores), str(cores), "1"), strict=True))
    allocation = Allocation(cpus_per_task=cores, time=experiment.resources.time, flags=job.allocation.flags)
    return replace(job, allocation=allocation, variables={**job.variables, **threads})


def _aggregation(loaded: Loaded, target: Target, plan: Plan, confined_to: str | None) -> Job:
    merging = plan.rules.aggregation
    name = job_name(NUMBER, "aggregate")
    experiment = loaded.experiment
    own = experiment.model_copy(
        update={
            "resources": experiment.resources.model_copy(update={"nodes": 1, "time": merging.time}),
            "placement": Placement(
                ranks=merging.ranks,
                cores_per_rank=1,
                launcher=experiment.placement.launcher,
                launcher_version=experiment.placement.launcher_version,
                verify="off",
            ),
        }
    )
    theirs = replace(loaded, experiment=own)
    if merging.ranks == 1:
        return single(theirs, target, name, ("aggregate",), confined_to)
    try:
        return _of_ranks(theirs, target, name, ("aggregate",), confined_to)
    except InputError as error:
        text = error.problems[0].message if error.problems else str(error)
        raise loaded.problem("federation.aggregation.ranks", text) from None


def learn_job(loaded: Loaded, target: Target) -> Job:
    """One job for all rounds: of one process, or with a place for every collaborator of a round."""
    plan = Plan(RunDir(Path()), loaded.experiment)
    is_confined(loaded)  # raises where that is expected
    job = single(loaded, target, LEARN, (plan.rules.execution,))
    if plan.rules.execution == "inprocess":
        return job
    nodes = loaded.experiment.resources.nodes if target.scheduler == "slurm" else 1
    places = max(len(plan.participants(round)) for round in range(1, min(plan.rules.rounds, 100) + 1))
    # Slurm deals whole cores to steps and counts their hardware threads.
    cpus = job.allocation.cpus_per_task * target.node.threads_per_core
    allocation = replace(
        job.allocation, nodes=nodes, tasks_per_node=math.ceil(places / nodes), cpus_per_task=cpus
    )
    return replace(job, allocation=allocation)


def settled(experiment: Experiment, absolute: Callable[[str], str]) -> Experiment:
    """``experiment`` with paths of its federation made absolute, and of each collaborator's own sections all keys
    said: those that it leaves out are the experiment's. Of profiles nothing is left to be asked for.
    """
    rules = experiment.federation
    if rules is None:
        return experiment
    update: dict[str, object] = {"models": tuple(map(absolute, rules.models))}
    if not isinstance(rules.collaborators, int):
        update["collaborators"] = tuple(_settled(experiment, item, absolute) for item in rules.collaborators)
    if rules.partition.file:
        update["partition"] = rules.partition.model_copy(update={"file": absolute(rules.partition.file)})
    held = rules.evaluation.holdout
    if held and held.data:
        held = held.model_copy(update={"data": absolute(held.data)})
        update["evaluation"] = rules.evaluation.model_copy(update={"holdout": held})
    return experiment.model_copy(update={"federation": rules.model_copy(update=update)})


def _settled(experiment: Experiment, member: Collaborator, absolute: Callable[[str], str]) -> Collaborator:
    update: dict[str, object] = {"data": absolute(member.data) if member.data else None, "site": None}
    if member.resources:
        update["resources"] = _over(experiment.resources, member.resources)
    if member.placement:
        said = member.placement.model_fields_set
        below = experiment.placement
        if said & set(RANK_COUNTS):
            below = below.model_copy(update=dict.fromkeys(RANK_COUNTS))
        update["placement"] = _over(below, member.placement)
    if member.environment:
        own = _over(experiment.environment, member.environment)
        variables = {**experiment.environment.variables, **own.variables}
        update["environment"] = own.model_copy(update={"variables": variables})
    return member.model_copy(update=update)


def _over(below: S, above: S) -> S:
    said = {key: getattr(above, key) for key in above.model_fields_set}
    return type(below).model_validate({**below.model_dump(), **said})
