"""hpcflow doctor: say what this site has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpcflow.cli.options import Json, Sets, SiteName
from hpcflow.errors import EXIT_SITE


def command(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG]", help="YAML file whose storage and placement are meant.", show_default=False
        ),
    ] = None,
    sets: Sets = None,
    site: SiteName = None,
    as_json: Json = False,
) -> None:
    """Say what this site has, and what to mend. Ends with 3 if there is a problem."""
    from hpcflow import doctor
    from hpcflow.cli.table import print_json
    from hpcflow.doctor.finding import text, worst
    from hpcflow.experiment import load

    loaded = load(config, sets or (), site) if config else doctor.here(site, sets or ())
    findings = doctor.examine(loaded)
    if as_json:
        print_json({"level": worst(findings), "findings": [finding.to_json() for finding in findings]})
    else:
        print(text(findings), end="")
    if worst(findings) == "problem":
        raise typer.Exit(EXIT_SITE)
