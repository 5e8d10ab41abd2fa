"""hpcflow watch: a run as it goes on."""

from __future__ import annotations

import typer

from hpcflow.cli.argument import RunName
from hpcflow.engines import engine
from hpcflow.errors import EXIT_FAILED
from hpcflow.jobs.registry import find
from hpcflow.report.overview import Verdict
from hpcflow.report.watching import watch


def command(run: RunName = "last") -> None:
    """Follow a run until it ends: a live table on a terminal, a line for each change elsewhere.

    Asks the scheduler once a tick: after 0.2 s, then ever more seldom, at most every 15 s on Slurm and every
    second on this machine. Ctrl-C ends the watching, not the jobs. Ends with 0 if the run is done, with 1 if
    any of it failed.
    """
    found = find(run)
    if watch(found, engine(found.engine)) is not Verdict.DONE:
        raise typer.Exit(EXIT_FAILED)
