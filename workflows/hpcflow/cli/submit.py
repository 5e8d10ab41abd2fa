"""`hpcflow submit`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from hpcflow.cli.options import Config, EngineName, Json, Sets, SiteName


def command(
    config: Config,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the run ends and print its results.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the jobs and ask Slurm, but queue nothing.")
    ] = False,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run trials again that an earlier run has done.")
    ] = False,
    sets: Sets = None,
    site: SiteName = None,
    engine: EngineName = None,
    json: Json = False,
) -> None:
    """Queue an experiment on Slurm, or run it on this machine where there is none."""
    from hpcflow.cli import plan_text
    from hpcflow.submission import prepare

    submission = prepare(config, sets or [], site, engine, datetime.now().astimezone(), rerun=rerun)
    plan_text.notes(submission)
    if dry_run:
        plan_text.dry_run(submission, json=json)
        return
    submission.submit()
    plan_text.queued(submission, json=json and not wait)
    if wait:
        from hpcflow.cli import wait as waiting

        raise typer.Exit(waiting.until_end(submission.run, submission.engine, json=json))
