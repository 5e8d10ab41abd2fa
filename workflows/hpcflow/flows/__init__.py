"""Flows: functions from an experiment to the graph of its jobs. They know nothing of Slurm's commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcflow.experiment import Experiment, Loaded
from hpcflow.flows.target import Target
from hpcflow.flows.train import train
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.trials import TrialRow, Trials


def _federated(loaded: Loaded, target: Target) -> JobGraph:
    from hpcflow.flows.federated import federated

    return federated(loaded, target)


def _comparison(loaded: Loaded, target: Target) -> JobGraph:
    from hpcflow.flows.comparison import comparison

    return comparison(loaded, target)


def _evaluation(loaded: Loaded, target: Target) -> JobGraph:
    from hpcflow.flows.comparison import evaluation

    return evaluation(loaded, target)


FLOWS: dict[str, Callable[[Loaded, Target], JobGraph]] = {
    "train": train,
    "federated": _federated,
    "comparison": _comparison,
    "evaluation": _evaluation,
}


@dataclass(frozen=True)
class Plan:
    """The jobs of an experiment and the experiments that are learnt; of a sweep also its trials, and the experiment of
    each (job, task).
    """

    graph: JobGraph
    learning: tuple[Experiment, ...]
    experiments: Mapping[tuple[str, int], str] = field(default_factory=dict)
    trials: Trials | None = None


def plan(
    loaded: Loaded,
    target: Target,
    run: str,
    done: Callable[[Sequence[str]], Sequence[TrialRow | None]],
    adapt: Callable[[Experiment], Experiment],
) -> Plan:
    """The jobs of an experiment, or of the trials that it says to sweep over (see flows/sweep.py for the last three).

    Raises InputError, with its place, for what does not fit the target.
    """
    experiment = loaded.experiment
    if experiment.sweep is None:
        return Plan(graph(loaded, target), (experiment,))
    from hpcflow.flows.sweep import sweep

    planned = sweep(loaded, target, run, done, adapt)
    return Plan(planned.graph, planned.missing, planned.experiments, planned.trials)


def graph(loaded: Loaded, target: Target) -> JobGraph:
    """The jobs of an experiment. Raises InputError, with its place, for what does not fit the target."""
    return FLOWS[loaded.experiment.flow](loaded, target)
