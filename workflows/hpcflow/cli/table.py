"""How a table is printed: by rich on a terminal, as aligned plain text otherwise, as one JSON document for
--json."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_GAP = "  "
_RICH_GAP = 2
_FOLDED = 24  # columns of a terminal in which a longer cell is folded, if there is no room for it


def text_of(value: Any) -> str:
    """A value as a reader wants it: nothing for None and NaN, numbers to four figures, no control
    characters."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


@dataclass(frozen=True)
class Column:
    """A column: the key of its values, its title, and how a value becomes text.

    On a terminal that is too narrow for all, those of the highest ``rank`` are left out first; 0 always stays.
    """

    key: str
    title: str
    right: bool = False
    text: Callable[[Any], str] = text_of
    rank: int = 0
    style: Callable[[Any], str] = lambda value: ""


@dataclass(frozen=True)
class Table:
    """Rows of raw values under columns; columns that are empty throughout are left out when printed."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    @property
    def used(self) -> list[tuple[Column, list[str]]]:
        """The columns that hold anything, with their cells as text."""
        cells = [(column, [column.text(row.get(column.key)) for row in self.rows]) for column in self.columns]
        return [(column, texts) for column, texts in cells if any(texts)]

    def plain(self) -> str:
        """Aligned text, two blanks between columns, no blanks at the ends of lines."""
        columns = [
            [text.rjust(width) if column.right else text.ljust(width) for text in (column.title, *texts)]
            for column, texts in self.used
            for width in [max(map(len, (column.title, *texts)))]
        ]
        return "".join(_GAP.join(line).rstrip() + "\n" for line in zip(*columns, strict=True))

    def rich(self, width: int) -> RichTable:
        """The same for a terminal of ``width`` columns."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _RICH_GAP - 1, 0, 0)
        )
        fitting = self._fitting(width)
        for column, _ in fitting:
            table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
        for number, row in enumerate(self.rows):
            table.add_row(*(Text(cells[number], c.style(row.get(c.key))) for c, cells in fitting))
        return table

    def _fitting(self, width: int) -> list[tuple[Column, list[str]]]:
        """The used columns less as many of high rank as it takes for the rest to fit."""
        left = self.used
        while left:
            needed = sum(min(_FOLDED, max(map(len, (c.title, *cells)))) + _RICH_GAP for c, cells in left)
            last = max(left, key=lambda pair: pair[0].rank)
            if needed - _RICH_GAP <= width or not last[0].rank:
                break
            left = [pair for pair in left if pair is not last]
        return left


def print_table(table: Table, out: TextIO | None = None) -> None:
    """Print a table to ``out`` (standard output)."""
    out = out or sys.stdout
    if out.isatty():
        from rich.console import Console

        console = Console(file=out)
        console.print(table.rich(console.width))
    else:
        out.write(table.plain())


def print_json(document: Any, out: TextIO | None = None) -> None:
    """Print one JSON document, with null where there is no number."""
    json.dump(_finite(document), out or sys.stdout, indent=1, allow_nan=False, default=str)
    (out or sys.stdout).write("\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [_finite(item) for item in value]
    return value
