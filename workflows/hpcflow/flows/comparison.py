"""`flow: comparison` and `flow: evaluation`: an array of jobs that know nothing of each other, and a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpcflow.experiment import Loaded
from hpcflow.federation.arms import arms, judges
from hpcflow.federation.plan import Plan
from hpcflow.flows.confinement import is_confined
from hpcflow.flows.federated import single
from hpcflow.flows.target import Target
from hpcflow.jobs.job import After, JobGraph
from hpcflow.jobs.rundir import RunDir


def comparison(loaded: Loaded, target: Target) -> JobGraph:
    """`compare`, a task an arm (see hpcflow.federation.arms), and `table`."""
    number = len(arms(Plan(RunDir(Path()), loaded.experiment)))
    return _graph(loaded, target, "compare", "arm", number)


def evaluation(loaded: Loaded, target: Target) -> JobGraph:
    """`evaluate`, a task for each whose data the models are judged on, and `table`."""
    number = len(judges(Plan(RunDir(Path()), loaded.experiment)))
    return _graph(loaded, target, "evaluate", "evaluations", number)


def _graph(loaded: Loaded, target: Target, name: str, part: str, number: int) -> JobGraph:
    is_confined(loaded)  # raises where that is expected
    work = replace(single(loaded, target, name, (part,)), tasks=number)
    last = replace(single(loaded, target, "table", ("table",)), after=(After(name),))
    return JobGraph((work, last))
