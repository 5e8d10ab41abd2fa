"""`hpcflow resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from hpcflow.cli.argument import RunName
from hpcflow.cli.options import Json


def command(
    run: RunName,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the run ends and print its results.")
    ] = False,
    json: Json = False,
) -> None:
    """Queue again what has not ended well; what is done stays done, what is under way is left alone.

    Trainings go on from their last checkpoint, federations with the first round that is not committed. A node that
    failed under a task is left out.
    """
    from hpcflow.cli.table import print_json
    from hpcflow.engines import engine
    from hpcflow.jobs.registry import find
    from hpcflow.report import overview

    found = find(run)
    runner = engine(found.engine)
    goes_on = ""
    if any(job.name in ("begin", "learn") for job in found.graph):
        from hpcflow.federation.resumption import prepare

        goes_on = f"; it {prepare(found, runner.statuses(found))}"
        found = find(str(found.path))  # with the rounds that may have been added
    number = runner.resume(found)
    statuses = runner.statuses(found)
    if json and not wait:
        counted = {"run": found.name, "path": str(found.path), "engine": found.engine, "queued": number}
        print_json({**counted, "state": overview.verdict(statuses)})
    else:
        what = (
            f"{number} task{'' if number == 1 else 's'} queued again" if number else "nothing to queue again"
        )
        print(f"{found.name}: {what} ({overview.counts(statuses) or 'no tasks'}){goes_on}")
    if wait:
        from hpcflow.cli import wait as waiting

        raise typer.Exit(waiting.until_end(found, runner, json=json))
