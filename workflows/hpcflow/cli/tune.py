"""`hpcflow tune`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from hpcflow.cli.options import Config, EngineName, Json, Sets, SiteName


def command(
    config: Config,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until it ends and print the settings to paste.")
    ] = False,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Steps an epoch of the first, shortest runs.")
    ] = 4,
    most: Annotated[int, typer.Option("--settings", min=2, help="How many settings are tried at most.")] = 24,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings, but queue nothing.")] = False,
    sets: Sets = None,
    site: SiteName = None,
    engine: EngineName = None,
    json: Json = False,
) -> None:
    """Find the ranks and threads that train fastest, in one allocation, by runs of a few steps.

    Tries ranks per socket x cores per rank x operations at once x KMP_BLOCKTIME; the fastest third goes on with more
    steps, the fastest three of these run four times. Says so where no setting can be told from the experiment's own.
    """
    import json as json_format
    import sys

    from hpcflow.cli import plan_text
    from hpcflow.cli.table import print_json
    from hpcflow.experiment.fields import seconds
    from hpcflow.tuning.announce import announce, budget
    from hpcflow.tuning.plan import FOLDER, prepare_tuning

    planned = prepare_tuning(
        config, sets or [], site, engine, datetime.now().astimezone(), steps=steps, most=most
    )
    folder = planned.run.path / FOLDER
    text = planned.layout.files[folder / "plan.json"]
    plan, limit = json_format.loads(text), seconds(planned.loaded.experiment.resources.time)
    if dry_run:
        print(text if json else announce(plan, limit), end="")
        return
    print(budget(plan, limit), file=sys.stderr)
    planned.submit()
    plan_text.queued(planned, json=json and not wait)
    if not wait:
        if not json:
            print("  result   hpcflow logs last tune")
        return
    from hpcflow.report.overview import Verdict
    from hpcflow.report.watching import watch

    done = watch(planned.run, planned.engine, sys.stderr) is Verdict.DONE
    if done and json:
        print_json(json_format.loads((folder / "result.json").read_text()))
    elif done:
        print((folder / "best.yaml").read_text(), end="")
    if not done:
        print(f"see {planned.run.task('tune', 0).log}", file=sys.stderr)
        raise typer.Exit(1)
