"""hpcflow validate: check experiments."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from hpcflow.cli.options import EngineName, Json, Sets, SiteName
from hpcflow.errors import InputError


def command(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="YAML files of experiments.", show_default=False)
    ],
    sets: Sets = None,
    site: SiteName = None,
    engine: EngineName = None,
    as_json: Json = False,
) -> None:
    """Check experiments: every error of every file at once, with its place; with --engine also whether they fit there."""
    from hpcflow.cli.table import print_json
    from hpcflow.experiment.check import check, problems
    from hpcflow.submission import notes

    now = datetime.now().astimezone()
    checked = check(configs, sets or (), site, lambda path: notes(path, sets or (), site, engine, now))
    for one in checked:
        for sentence in one.notes:
            print(f"note: {one.file}: {sentence}", file=sys.stderr)
    if as_json:
        print_json({"files": [one.to_json() for one in checked]})
    else:
        sys.stdout.write("".join(f"{one.file}: ok\n" for one in checked if not one.problems))
    if found := problems(checked):
        if as_json:
            raise typer.Exit(InputError.exit_code)
        sys.stdout.flush()
        raise InputError(found)
