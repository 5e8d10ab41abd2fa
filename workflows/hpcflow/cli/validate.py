"""hpcflow validate: check experiments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpcflow.cli.options import Json, Sets, SiteName
from hpcflow.errors import InputError


def command(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="YAML files of experiments.", show_default=False)
    ],
    sets: Sets = None,
    site: SiteName = None,
    as_json: Json = False,
) -> None:
    """Check experiments: every error of every file at once, with its place."""
    from hpcflow.cli.table import print_json
    from hpcflow.experiment.check import check, problems

    checked = check(configs, sets or (), site)
    if as_json:
        print_json({"files": [one.to_json() for one in checked]})
    else:
        sys.stdout.write("".join(f"{one.file}: ok\n" for one in checked if not one.problems))
    if found := problems(checked):
        if as_json:
            raise typer.Exit(InputError.exit_code)
        sys.stdout.flush()
        raise InputError(found)
