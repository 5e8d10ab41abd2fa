"""How the trials of a sweep are shown before they run."""

from __future__ import annotations

import json
from typing import Any

from hpcflow.cli.table import Column, Table
from hpcflow.jobs.rundir import RunDir
from hpcflow.jobs.trials import TrialRow, Trials

FEW = 24  # rows that are shown; --json has them all


def headline(trials: Trials, run: RunDir) -> str:
    """`6 trials, each 2 times: 12 tasks, 4 of them done before`."""
    number, tasks = len({row.trial for row in trials.rows}), len(trials.rows)
    times = f", each {trials.repeats} times: {tasks} tasks" if trials.repeats > 1 else ""
    done = len(trials.reused(run))
    before = (
        f", {'all' if done == tasks else done} of them done before (--rerun runs them again)" if done else ""
    )
    return f"{number} trial{'' if number == 1 else 's'}{times}{before}"


def lines(trials: Trials, run: RunDir) -> list[str]:
    """The headline and the first trials as a table, repeats folded."""
    shown: dict[int, dict[str, Any]] = {}
    for each in trials.rows:
        line = shown.setdefault(each.trial, {**_cells(each), "done": 0, "tasks": 0})
        line["tasks"] += 1
        line["done"] += each.run != run.path.name
    rows = [
        {**line, "done": f"{line['done']} of {line['tasks']}" if line["done"] else ""}
        for line in shown.values()
    ]
    columns = [Column("trial", "TRIAL", right=True)]
    columns += [Column(key, key, right=True) for key in trials.keys]
    columns += [Column("ranks", "RANKS", right=True), Column("baseline", "BASELINE", right=True)]
    columns += [Column("job", "JOB"), Column("done", "DONE BEFORE")]
    text = Table(columns, rows[:FEW]).plain().splitlines()
    more = [f"... and {len(rows) - FEW} more (--dry-run --json lists them all)"] if len(rows) > FEW else []
    return [headline(trials, run), *text, *more]


def row(trial: TrialRow, run: RunDir) -> dict[str, Any]:
    """One trial in one repeat as --json prints it."""
    return {
        "trial": trial.trial,
        "repeat": trial.repeat,
        "baseline": trial.baseline,
        "ranks": trial.ranks,
        "values": {**trial.values, **trial.scaled},
        "job": trial.job,
        "task": trial.task,
        "done_in": None if trial.run == run.path.name else trial.run,
    }


def _cells(trial: TrialRow) -> dict[str, Any]:
    values = {**trial.values, **trial.scaled}
    cells = {
        key: value if isinstance(value, (int, float, str)) else json.dumps(value)
        for key, value in values.items()
    }
    return {"trial": trial.trial, "ranks": trial.ranks, "baseline": trial.baseline, "job": trial.job, **cells}
