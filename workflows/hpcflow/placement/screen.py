"""Pictures on the screen: coloured on a terminal, plain text otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from shutil import get_terminal_size

from hpcflow.placement import drawing

NARROWEST = 40


def paint(lines: Sequence[drawing.Line]) -> None:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        print(drawing.plain(lines), end="")
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in drawing.coloured(lines):
        console.print(line)


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return max(NARROWEST, get_terminal_size((100, 24)).columns)
