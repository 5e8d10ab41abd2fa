"""The arguments that name runs, spelt and explained once."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = "A run's name (NAME, NAME/ID or ID), its path, or `last`."

RunName = Annotated[str, typer.Argument(metavar="RUN", help=_HELP)]
RunNames = Annotated[list[str], typer.Argument(metavar="RUN", help=_HELP, show_default=False)]
