"""Options that several commands share, so that they are spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpcflow.errors import InputError

Config = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file of the experiment.", show_default=False)
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, as in resources.nodes=4; repeatable.",
        show_default=False,
    ),
]
SiteName = Annotated[
    str | None,
    typer.Option("--site", metavar="NAME|FILE", help="Profile of the cluster.", show_default=False),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="slurm|local|auto",
        help="What runs the jobs; auto is Slurm where it answers.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def alone(context: typer.Context, name: str, *beside: str) -> None:
    """Refuse what was typed next to option ``name`` and would be ignored there. Raises InputError."""
    others = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in (name, *beside) and source is not None and source.name == "COMMANDLINE":
            option = parameter.param_type_name == "option"
            others.append(parameter.opts[0] if option else str(parameter.name).upper())
    if others:
        raise InputError(f"--{name} answers by itself (leave out {', '.join(others)})")
