"""`hpcflow fed rounds`: in how many rounds federations reach a target. Registered by cli/fed.py."""

from __future__ import annotations

import json as jsons
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcflow.cli.argument import RunName
from hpcflow.cli.options import Json

if TYPE_CHECKING:
    from hpcflow.federation.targets import Compared


def rounds(
    run: RunName,
    target: Annotated[float, typer.Option(help="The value that is to be reached on the hold-out.")],
    metric: Annotated[str, typer.Option(help="Of what: accuracy, dice or loss.")] = "accuracy",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write it: .csv, .json, .md or .parquet.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Count the rounds that federations need to reach a target: of a sweep, a row a trial, over its repeats."""
    from hpcflow.cli.table import Column, Table, print_json, print_table
    from hpcflow.federation.targets import compare
    from hpcflow.jobs.registry import find
    from hpcflow.report.results import Results, write

    found = find(run)
    compared = compare(found, metric, target)
    if json:
        told = [_plain(item) for item in compared]
        print_json({"run": found.name, "metric": metric, "target": target, "trials": told})
        return
    rows = [_row(item, metric) for item in compared]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if output:
        write(Results(tuple(keys), rows), output)
        print(f"{len(rows)} row{'' if len(rows) == 1 else 's'} in {output}")
        return
    print(f"{found.name}: rounds to {metric} {target:g} on the hold-out\n")
    swept = {key for item in compared for key in item.values}
    print_table(
        Table(
            [Column(key, key if key in swept else key.upper(), right=key not in swept) for key in keys], rows
        )
    )


def _plain(item: Compared) -> dict[str, Any]:
    courses = [vars(course) for course in item.courses]
    return {"values": dict(item.values), "median": item.median, "courses": courses}


def _row(item: Compared, metric: str) -> dict[str, Any]:
    judged = min(course.judged for course in item.courses)
    never = f"> {judged}" if judged else "under way"
    best = [course.best for course in item.courses if course.best is not None]
    first, last = (never if number is None else str(number) for number in item.span)
    return {
        **{key: _cell(value) for key, value in item.values.items()},
        "seeds": len(item.courses),
        "rounds": never if item.median is None else f"{item.median:g}",
        "from-to": first if first == last else f"{first} to {last}",
        f"best {metric}": f"{statistics.median(best):.4f}" if best else "",
    }


def _cell(value: Any) -> str:
    """`dirichlet, alpha 0.3` for {method: dirichlet, alpha: 0.3}: a mapping with a leading name reads like that."""
    if not isinstance(value, dict):
        return str(value) if isinstance(value, (str, int, float)) else jsons.dumps(value)
    words = [str(item) if key in ("method", "name") else f"{key} {item}" for key, item in value.items()]
    return ", ".join(words)
