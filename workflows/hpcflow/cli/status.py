"""hpcflow status: the tasks of a run."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from hpcflow.cli.argument import RunName
from hpcflow.cli.options import Json
from hpcflow.cli.table import print_json, print_table
from hpcflow.engines import engine
from hpcflow.errors import EXIT_FAILED
from hpcflow.jobs.registry import find
from hpcflow.report import overview, tasks, trial


def command(
    run: RunName = "last",
    every: Annotated[bool, typer.Option("--all", help="One row a task, however many.")] = False,
    json: Json = False,
) -> None:
    """Show the state of a run's tasks, those of large arrays folded by state.

    Ends with 0 if all is well so far, with 1 if a task failed, was cancelled or is unknown.
    """
    found = find(run)
    statuses = engine(found.engine).statuses(found)
    now = time.time()
    if json:
        print_json(
            {
                "run": found.name,
                "path": str(found.path),
                "engine": found.engine,
                "state": overview.verdict(statuses),
                "tasks": [overview.to_json(status, now) for status in statuses],
            }
        )
    else:
        print(f"{found.name} on {found.engine}: {overview.counts(statuses)}\n{found.path}\n")
        few = len(statuses) if every else overview.FEW
        print_table(tasks.table(overview.rows(found.graph, statuses, few, trial.titles(found)), now))
    if overview.failed(statuses):
        raise typer.Exit(EXIT_FAILED)
