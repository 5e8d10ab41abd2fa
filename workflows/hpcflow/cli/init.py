"""hpcflow init: start an experiment from a template."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hpcflow.errors import InputError


def command(
    template: Annotated[
        str | None, typer.Argument(help="Name of the template; left out: list them.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder to write into.", show_default=False)
    ] = None,
) -> None:
    """Start an experiment from a template: a commented YAML file and the schema for your editor."""
    from hpcflow.experiment import templates

    if template is None:
        print(templates.listing())
        return
    if folder is None:
        example = f"hpcflow init {shlex.quote(template)} my-experiment"
        raise InputError(f"which folder shall it be written into? (as in `{example}`)")
    config = shlex.quote(str(templates.start(template, folder)))
    print(f"{config} is written. Read it, then:\n")
    print(f"  hpcflow validate {config}\n  hpcflow submit {config} --wait")
