"""The results of runs as a reader wants them: a readable choice of the columns."""

from __future__ import annotations

from typing import Any, TextIO

from hpcflow.cli.table import Column, Table, print_json, print_table
from hpcflow.engines.base import Engine
from hpcflow.engines.status import State
from hpcflow.jobs.rundir import RunDir
from hpcflow.report import collect, columns, results
from hpcflow.report.results import Results
from hpcflow.report.tasks import STYLES

_LEAVE_OUT = (
    "host",
    "cpu_efficiency",
    "job_id",
    "queue_s",
    "allreduce_s",
    "job",
    "epochs",
    "cores_per_rank",
    "nodes",
    "loss",
    "wall_s",
    "reason",
    "best_val_dice",
)
"""What a narrow terminal does without, the first of them first."""


def view(found: Results) -> Table:
    """The columns that are shown, with those of overridden keys; RUN, TASK and TRIAL only where they tell rows apart."""
    shown = {field.name: field.title for field in columns.FIELDS}
    alike = {name for name in ("run", "job", "task", "trial", "repeat") if len(set(found.values(name))) <= 1}
    if any(found.values("trial")):
        alike |= {"job", "task"}
    # Last, since it is the longest.
    order = [*(name for name in found.columns if name != "reason"), "reason"]
    chosen = [
        _column(name, shown.get(name, name)) for name in order if shown.get(name, name) and name not in alike
    ]
    return Table(chosen, found.rows)


def print_readable(found: Results, out: TextIO | None = None) -> None:
    """Print the readable table of a report."""
    print_table(view(found), out)


def print_results(run: RunDir, engine: Engine, *, json: bool = False) -> None:
    """Write a run's results.csv, and print its readable table and where the file is; or every row as JSON."""
    found = collect.table([run], {run: engine.statuses(run)})
    results.write(found, run.results)
    if json:
        print_json({"run": run.name, "path": str(run.path), "results": found.records()})
    else:
        print_readable(found)
        print(f"\n{run.results}")


def _column(name: str, title: str) -> Column:
    words = ("run", "job", "state", "reason", "job_id", "host")
    style = _state_style if name == "state" else lambda _: ""
    rank = len(_LEAVE_OUT) - _LEAVE_OUT.index(name) if name in _LEAVE_OUT else 0
    return Column(name, title, right=name not in words, rank=rank, style=style)


def _state_style(value: Any) -> str:
    return STYLES[State(value)]
