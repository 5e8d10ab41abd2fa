"""`hpcflow render`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from hpcflow.cli.options import Config, EngineName, Sets, SiteName


def command(
    config: Config,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write the files there.", show_default=False),
    ] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Plan trials again that an earlier run has done.")
    ] = False,
    sets: Sets = None,
    site: SiteName = None,
    engine: EngineName = None,
) -> None:
    """Show everything that a submit would do, without doing it: each script, byte for byte, and how it is queued."""
    from hpcflow.cli import plan_text
    from hpcflow.submission import prepare

    submission = prepare(config, sets or [], site, engine, datetime.now().astimezone(), rerun=rerun)
    plan_text.notes(submission)
    if output:
        plan_text.write(submission, output)
    else:
        print(plan_text.scripts(submission), end="")
