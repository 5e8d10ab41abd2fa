"""`sweep`: the trials as array jobs, and what packs their data before them.

A trial is one job: a training, or a federation whose collaborators learn in turn (`execution: inprocess`), which packs
its own data.

- Trials that have the same script are one array, in the order in which they are to run; a task's own experiment
  says which trial it is. What ends up in a script is everything but `training`, `federation` and `description`.
- One `prepare` task packs each data set that the trials need. Trials wait for the task of their own data set where
  there are few of those, else for all.
- With `max_parallel` the arrays run one after another, each with at most so many tasks at once, so that the number
  holds for the whole sweep.
- A trial that an earlier run has done is no task (jobs/trials.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hpcflow.experiment import Experiment, Loaded
from hpcflow.experiment.fields import seconds
from hpcflow.experiment.schema import UNETS, Placement
from hpcflow.experiment.sweep import Trial, expand, loaded_trial
from hpcflow.experiment.sweep_section import Sweep
from hpcflow.flows.target import Target
from hpcflow.flows.train import prepare_job, rank_map, train_job
from hpcflow.flows.written import Written, yaml_text
from hpcflow.jobs import trials
from hpcflow.jobs.job import After, Job, JobGraph
from hpcflow.jobs.trials import TrialRow, Trials

# Beyond so many data sets, arrays are not split by them.
DATA_SETS = 16
# What of `training.data` the packer reads; the rest is chosen while training.
PACKED = ("format", "phantom", "modalities", "target", "crop")
# Sections that a task reads from its own experiment.
IN_NO_SCRIPT = ("training", "federation", "description")

Done = Callable[[Sequence[str]], Sequence[TrialRow | None]]
# What of an experiment ends up in its script: trials with the same are one array.
Shape = tuple[object, ...]


@dataclass(frozen=True)
class SweepPlan:
    """The graph of a sweep, the resolved experiment of each (job, task), the list of trials, and the experiments of those
    that are to be run.
    """

    graph: JobGraph
    experiments: Mapping[tuple[str, int], str]
    trials: Trials
    missing: tuple[Experiment, ...] = ()


@dataclass(frozen=True)
class _Script:
    """The job of all trials of a shape, and how it starts its ranks."""

    job: Job
    launched: str


@dataclass(frozen=True)
class _Planned:
    trial: Trial
    text: str  # of its experiment, in YAML
    shape: Shape
    data: tuple[str, str]  # what packs it and what is packed
    digest: str


def sweep(
    loaded: Loaded,
    target: Target,
    run: str,
    done: Done,
    adapt: Callable[[Experiment], Experiment] = lambda made: made,
) -> SweepPlan:
    """Plan the sweep of ``loaded``; ``run`` is the ID of the run it becomes. Raises InputError.

    ``done`` is given the digests of all trials and tells for each which task has done it already, if one has;
    ``adapt`` has the last word on every trial's experiment.
    """
    section = loaded.experiment.sweep or Sweep()
    counted: dict[tuple[int, Placement], int] = {}

    def ranks(trial: Loaded) -> int:
        if trial.experiment.federation is not None:
            return _one_job(trial)
        key = (trial.experiment.resources.nodes, trial.experiment.placement)
        if key not in counted:
            counted[key] = rank_map(trial, target).size
        return counted[key]

    shapes: dict[Shape, _Script] = {}
    written = Written()
    planned = [_plan(loaded, target, trial, shapes, written) for trial in expand(loaded, ranks, adapt)]
    reused = done([item.digest for item in planned])
    missing = [item for item, row in zip(planned, reused, strict=True) if row is None]
    packing = _Packing([item for item in missing if item.trial.experiment.federation is None], target)
    jobs, placed = _arrays(missing, section, shapes, packing)
    experiments = {**packing.experiments, **{place: item.text for item, place in placed}}
    places = {id(item): place for item, place in placed}
    rows = [
        _row(item, run, *places[id(item)]) if row is None else _row(item, row.run, row.job, row.task)
        for item, row in zip(planned, reused, strict=True)
    ]
    keys = dict.fromkeys(key for item in planned for key in (*item.trial.point.values, *item.trial.scaled))
    found = Trials(tuple(keys), section.scaling, section.repeats, tuple(rows))
    running = tuple(item.trial.experiment for item in missing)
    return SweepPlan(JobGraph((*packing.jobs, *jobs)), experiments, found, running)


def _one_job(trial: Loaded) -> int:
    """The ranks of a federation that is a trial. Raises InputError for one that takes more than one job."""
    rules = trial.experiment.federation
    if trial.experiment.flow != "federated":
        raise trial.problem(
            "flow", f"`{trial.experiment.flow}` cannot be swept over (train and federated can)"
        )
    if rules and rules.execution != "inprocess":
        text = f"a trial of a sweep is one job, and `{rules.execution}` takes several (say inprocess)"
        raise trial.problem("federation.execution", text)
    return 1


def _plan(
    loaded: Loaded, target: Target, trial: Trial, shapes: dict[Shape, _Script], written: Written
) -> _Planned:
    sections, training = written.sections(trial.experiment), trial.experiment.training
    kept = [section.text for name, section in sections.items() if name not in IN_NO_SCRIPT]
    key = (*kept, training.strategy, training.model.name in UNETS)
    if key not in shapes:
        job = _job(loaded_trial(loaded, trial.point, trial.experiment), target)
        shapes[key] = _Script(job, _launched(job, target))
    packer = "\n".join(sections[name].text for name in ("environment", "storage", "resources"))
    packed = json.dumps([sections["training"].plain["data"][name] for name in PACKED])
    parts = {name: section.decisive for name, section in sections.items()}
    digest = trials.digest(parts, shapes[key].launched)
    return _Planned(trial, yaml_text(sections), key, (packer, packed), digest)


def _job(trial: Loaded, target: Target) -> Job:
    if trial.experiment.federation is None:
        return train_job(trial, target)
    from hpcflow.flows.federated import learn_job  # its imports are no business of sweeps of trainings

    return learn_job(trial, target)


def _launched(job: Job, target: Target) -> str:
    """How the ranks are started, as far as it decides a result."""
    parts = (target.scheduler, target.launcher, target.launcher_version, target.prefix)
    return repr(
        (parts, job.launch, job.modules, sorted(job.variables.items()), job.files.get("rankmap.json"))
    )


class _Packing:
    """The `prepare` jobs: one for every script, with a task for every data set."""

    def __init__(self, needed: Sequence[_Planned], target: Target) -> None:
        # By what the script is made of: how many nodes train is nothing to it.
        self._made: dict[str, tuple[Job, str]] = {}
        by_script: dict[str, dict[str, _Planned]] = {}
        for item in needed:
            by_script.setdefault(self._script(item, target), {}).setdefault(item.data[1], item)
        self.jobs: list[Job] = []
        self.experiments: dict[tuple[str, int], str] = {}
        self._after: dict[tuple[str, str], After] = {}
        many = sum(map(len, by_script.values())) > DATA_SETS
        for number, (script, sets) in enumerate(by_script.items(), 1):
            name = "prepare" if number == 1 else f"prepare-{number}"
            job = self._made[next(iter(sets.values())).data[0]][0]
            self.jobs.append(replace(job, name=name, tasks=len(sets) if len(sets) > 1 else None))
            for index, (data, item) in enumerate(sets.items()):
                whole = many or len(sets) == 1
                self._after[script, data] = After(name) if whole else After(name, "ok", index)
                self.experiments[name, index] = item.text

    def _script(self, item: _Planned, target: Target | None = None) -> str:
        if target is not None and item.data[0] not in self._made:
            job = prepare_job(item.trial.experiment, target)
            self._made[item.data[0]] = job, repr(job)
        return self._made[item.data[0]][1]

    def after(self, item: _Planned) -> After | None:
        """What a trial waits for; None where it packs its own data."""
        return self._after.get((self._script(item), item.data[1])) if self.jobs else None


def _arrays(
    needed: Sequence[_Planned], section: Sweep, shapes: Mapping[Shape, _Script], packing: _Packing
) -> tuple[list[Job], list[tuple[_Planned, tuple[str, int]]]]:
    groups: dict[tuple[Shape, After | None], list[_Planned]] = {}
    for item in needed:
        groups.setdefault((item.shape, packing.after(item)), []).append(item)
    if section.order == "shortest":
        groups = dict(sorted(groups.items(), key=lambda group: _size(shapes[group[0][0]].job)))
    names = _names([shapes[key].job for key, _ in groups])
    jobs: list[Job] = []
    placed: list[tuple[_Planned, tuple[str, int]]] = []
    for name, ((key, after), items) in zip(names, groups.items(), strict=True):
        waits = [after] if after else []
        if section.max_parallel and jobs:
            waits.append(After(jobs[-1].name, "any"))
        job = replace(
            shapes[key].job,
            name=name,
            tasks=len(items),
            after=tuple(waits),
            max_parallel=section.max_parallel,
        )
        jobs.append(job)
        placed += [(item, (name, index)) for index, item in enumerate(items)]
    return jobs, placed


def _size(job: Job) -> tuple[float, int]:
    """Short jobs first, of these the small ones: they fit into the gaps of a queue."""
    limit = seconds(job.allocation.time)
    return float("inf") if limit is None else limit, job.allocation.cpus


def _names(jobs: Sequence[Job]) -> list[str]:
    """A name for each array: by its nodes where these tell them apart, by nodes and ranks, else numbered."""
    if len(jobs) == 1:
        return ["train"]
    nodes = [f"train-n{job.allocation.nodes}" for job in jobs]
    ranks = [
        f"{name}-r{job.allocation.nodes * job.allocation.tasks_per_node}"
        for name, job in zip(nodes, jobs, strict=True)
    ]
    for names in (nodes, ranks):
        if len(set(names)) == len(jobs):
            return names
    return [f"train-{number}" for number in range(1, len(jobs) + 1)]


def _row(item: _Planned, run: str, job: str, task: int) -> TrialRow:
    trial = item.trial
    return TrialRow(
        trial.number, trial.repeat, trial.baseline, trial.ranks, dict(trial.point.values), dict(trial.scaled),
        run, job, task, item.digest,
    )  # fmt: skip
