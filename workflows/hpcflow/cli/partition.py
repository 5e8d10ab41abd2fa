"""hpcflow data partition: who gets which item of a data set."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcflow.cli.options import Json
from hpcflow.errors import InputError

if TYPE_CHECKING:
    from hpcflow.federation.partition import Partition


class By(StrEnum):
    """How a data set is shared."""

    institution = "institution"
    iid = "iid"
    dirichlet = "dirichlet"
    labels = "labels"
    sizes = "sizes"


@dataclass(frozen=True)
class Items:
    """Names, and a label of each where there is one."""

    names: tuple[str, ...]
    labels: tuple[str, ...] | None


def command(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder in the Decathlon layout, a CSV file with an item a row, or the word digits.",
            metavar="DATA",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV file to write.", metavar="FILE")],
    by: Annotated[By, typer.Option(help="How the items are shared.")] = By.iid,
    collaborators: Annotated[int, typer.Option("-n", "--collaborators", min=1, help="How many.")] = 2,
    alpha: Annotated[float, typer.Option(help="dirichlet: small is uneven.")] = 0.5,
    labels_each: Annotated[int, typer.Option(min=1, help="labels: how many a collaborator has.")] = 2,
    sizes: Annotated[
        str | None,
        typer.Option(help="sizes: numbers of items, or shares of 1.", metavar="N,N,...", show_default=False),
    ] = None,
    institutions: Annotated[
        Path | None,
        typer.Option(help="institution: CSV of subject and institution.", metavar="FILE", show_default=False),
    ] = None,
    label_column: Annotated[str, typer.Option(help="Column of the labels in a CSV of items.")] = "label",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same shares.")] = 0,
    as_json: Json = False,
) -> None:
    """Share a data set among collaborators: a CSV file of item and collaborator, and a table of how many."""
    from hpcflow.federation import partition
    from hpcflow.storage.publish import publish_text

    items = _items(source, label_column)
    if by is By.institution:
        if institutions is None:
            raise InputError("--by institution needs --institutions FILE (a CSV of subject and institution)")
        parts = partition.by_institution(items.names, partition.read_institutions(institutions))
    elif by is By.iid:
        parts = partition.iid(len(items.names), collaborators, seed)
    elif by is By.sizes:
        parts = partition.by_sizes(len(items.names), _numbers(sizes), seed)
    elif by is By.labels:
        parts = partition.by_labels(_labels(items, source, label_column), collaborators, labels_each, seed)
    else:
        parts = partition.dirichlet(_labels(items, source, label_column), collaborators, alpha, seed)
    try:
        publish_text(out, table(items.names, parts))
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from None
    counts = {name: len(part) for name, part in parts.items()}
    if as_json:
        print(json.dumps({"out": str(out), "items": counts}, indent=1))
    else:
        print("\n".join(f"{name}\t{count}" for name, count in counts.items()))


def table(names: Sequence[str], parts: Partition) -> str:
    """The CSV text of a partition: item and collaborator, by collaborator."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["item", "collaborator"])
    for collaborator, part in parts.items():
        writer.writerows((names[index], collaborator) for index in part)
    return text.getvalue()


def _items(source: str, label_column: str) -> Items:
    from hpcflow.federation import partition

    if source == "digits":
        from hpcflow.federation.models.digits import load_digits

        labels = tuple(str(label) for label in load_digits().labels.tolist())
        return Items(tuple(str(index) for index in range(len(labels))), labels)
    path = Path(source)
    if path.is_dir():
        from hpcflow.training.data.decathlon import open_decathlon

        return Items(tuple(subject.name for subject in open_decathlon(path).subjects), None)
    rows, columns = partition.read_csv(path)
    key = partition.column(path, columns, None, partition.SUBJECT_COLUMNS, "item")
    found = tuple(row[label_column] for row in rows) if label_column in columns else None
    return Items(tuple(row[key] for row in rows), found)


def _labels(items: Items, source: str, label_column: str) -> tuple[str, ...]:
    if items.labels is None:
        raise InputError(f"{source} has no labels (a CSV file of items with a column {label_column} has)")
    return items.labels


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(part) for part in (text or "").split(",")]
    except ValueError:
        raise InputError(f"--sizes: {text!r} are no sizes (for example 500,300,200 or 0.5,0.3,0.2)") from None
