"""hpcflow logs: what a task printed."""

from __future__ import annotations

from typing import Annotated

import typer

from hpcflow.cli.argument import RunName
from hpcflow.engines import engine
from hpcflow.jobs.logs import choose
from hpcflow.jobs.registry import find
from hpcflow.report.logs import show


def command(
    run: RunName = "last",
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB[/TASK]", help="A job, or one task of an array.", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task ends.")] = False,
    lines: Annotated[
        int | None, typer.Option("-n", min=0, help="The last lines only.", show_default=False)
    ] = None,
) -> None:
    """Print what a task printed: of several, the first that failed, else the one that began last.

    Whose log it is goes to stderr, and of an array's task what the scheduler itself had to say follows.
    """
    found = find(run)
    show(found, choose(found, job), lines, engine(found.engine) if follow else None)
