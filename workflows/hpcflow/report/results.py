"""Results as columns and rows of plain data, and the files that they become.

No pandas here: importing it takes longer than reading ten thousand rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcflow.errors import InputError, SiteError
from hpcflow.storage.publish import publish_bytes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """A table: a row may lack columns, and None is what nobody knows."""

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, column: str) -> list[Any]:
        """A column, None where a row has nothing."""
        return [row.get(column) for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        """The rows, each with every column."""
        return [{column: row.get(column) for column in self.columns} for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """The table for pandas, with types that can hold nothing beside numbers."""
        import pandas as pd

        return pd.DataFrame(self.records(), columns=list(self.columns)).convert_dtypes()


def to_csv(results: Results) -> bytes:
    """RFC 4180 but for its line ends, UTF-8, empty cells for what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(results.columns)
    writer.writerows(list(map(row.get, results.columns)) for row in results.rows)
    return out.getvalue().encode()


def to_markdown(results: Results) -> bytes:
    """A table of GitHub's Markdown: text that would end a cell or begin a tag is written as an entity."""
    lines = [results.columns, ["---"] * len(results.columns)]
    lines += [[_cell(row.get(column)) for column in results.columns] for row in results.rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines).encode()


def to_parquet(results: Results) -> bytes:
    """Apache Parquet; a column of mixed types is text."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise SiteError(
            "Parquet needs pyarrow (pip install 'hpcflow-batch[parquet]'), or write .csv"
        ) from None
    columns = {}
    for name in results.columns:
        values = results.values(name)
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def to_json(results: Results) -> bytes:
    """One JSON document, a list of rows."""
    from hpcflow.cli.table import print_json

    out = io.StringIO()
    print_json(results.records(), out)
    return out.getvalue().encode()


FORMATS: dict[str, Callable[[Results], bytes]] = {
    ".csv": to_csv, ".json": to_json, ".md": to_markdown, ".parquet": to_parquet,
}  # fmt: skip


def write(results: Results, path: Path, below: str = "") -> None:
    """Publish the table in the format that the file's name ends with, Markdown with the text ``below`` it. Raises
    InputError for another, SiteError where the file cannot be written.
    """
    encode = FORMATS.get(path.suffix.lower())
    if encode is None:
        raise InputError(f"{path}: the name must end with {', '.join(FORMATS)}, which says the format")
    publish(path, encode(results) + (below.encode() if encode is to_markdown else b""))


def publish(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises SiteError where it cannot be written."""
    try:
        publish_bytes(path, data)
    except OSError as error:
        raise SiteError(f"{path} cannot be written: {error.strerror}") from None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = " ".join(str(value).split())
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
        text = text.replace(character, entity)
    return text
