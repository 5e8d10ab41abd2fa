"""`report A --against B`: what got slower, with its interval.

Configurations are the same if their digests are, else if they agree in all varied keys and in nodes, ranks and cores.
A column got worse if its median changed by more than the threshold, and the bootstrap interval of the change, where
repeats give one, does not hold "no change".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcflow.errors import InputError
from hpcflow.report import columns
from hpcflow.report.groups import Group, grouped, unit_of
from hpcflow.report.intervals import Estimate, ratio
from hpcflow.report.results import Results

THRESHOLD = 0.05
COLUMNS: Mapping[str, int] = {"images_per_s": 1, "wall_s": -1}
"""What is compared, and whether more (1) or less (-1) of it is better."""

_PLACES = ("nodes", "ranks", "cores_per_rank")


@dataclass(frozen=True)
class Change:
    """One column of one configuration, here and there. ``change`` is the share by which it grew."""

    group: Group
    other: Group
    column: str
    here: float
    there: float
    change: Estimate
    worse: bool


@dataclass(frozen=True)
class Comparison:
    """All changes, and what one of the two lacks."""

    changes: tuple[Change, ...]
    only_here: tuple[Group, ...]
    only_there: tuple[Group, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What got worse beyond the threshold."""
        return tuple(change for change in self.changes if change.worse)


def compare(here: Results, there: Results, threshold: float = THRESHOLD) -> Comparison:
    """Compare two tables."""
    unit = unit_of([*here.rows, *there.rows])
    mine, theirs = ([group for group in grouped(each.rows, unit) if group.done] for each in (here, there))
    names = _identity(here, there)
    by_digest = {str(group.get("configuration")): group for group in theirs}
    by_values = {_values(group, names): group for group in theirs}
    changes: list[Change] = []
    matched: list[Group] = []
    alone: list[Group] = []
    for group in mine:
        other = by_digest.get(str(group.get("configuration"))) or by_values.get(_values(group, names))
        if other is None:
            alone.append(group)
            continue
        matched.append(other)
        changes += [made for column in COLUMNS if (made := _change(group, other, column, threshold))]
    return Comparison(tuple(changes), tuple(alone), tuple(group for group in theirs if group not in matched))


def load(path: Path) -> Results:
    """A table that `report -o` wrote as CSV or JSON. Raises InputError for anything else."""
    try:
        text = path.read_bytes().decode()
        if path.suffix.lower() == ".json":
            rows: Any = json.loads(text)
        else:
            rows = [
                {key: _number(value) for key, value in row.items()}
                for row in csv.DictReader(io.StringIO(text))
            ]
        names = tuple(dict.fromkeys(name for row in rows for name in row))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read as a report: {error}") from None
    if not {"experiment", "configuration", "state"} <= set(names):
        raise InputError(f"{path} is no report: it lacks the columns of `hpcflow report -o FILE.csv`")
    return Results(names, rows)


def to_json(found: Comparison, threshold: float) -> dict[str, Any]:
    """The comparison as plain data."""
    changes = [
        {
            **{key: value for key, value in change.group.rows[0].items() if "." in key or key in _PLACES},
            "experiment": change.group.key[0],
            "configuration": change.group.key[1],
            "column": change.column,
            "here": change.here,
            "there": change.there,
            "change": change.change.value,
            "change_low": change.change.low,
            "change_high": change.change.high,
            "worse": change.worse,
        }
        for change in found.changes
    ]
    alone = {"only_here": len(found.only_here), "only_there": len(found.only_there)}
    return {"threshold": threshold, "regressions": len(found.regressions), **alone, "changes": changes}


def _identity(here: Results, there: Results) -> list[str]:
    fixed = {field.name for field in columns.FIELDS}
    keys = [key for key in here.columns if key not in fixed and key in there.columns]
    return [*keys, *_PLACES]


def _values(group: Group, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(_number(str(group.get(name)))) for name in ("experiment", *names))


def _change(group: Group, other: Group, column: str, threshold: float) -> Change | None:
    here, there = group.values(column), other.values(column)
    if not here or not there or 0 in here or 0 in there:
        return None
    quotient = ratio(here, there)
    bounds = (None if bound is None else bound - 1 for bound in (quotient.low, quotient.high))
    change = Estimate(quotient.value - 1, *bounds)
    # Slower by the threshold: the time for the same work is 1 + threshold times as long.
    slower = quotient.value if COLUMNS[column] < 0 else 1 / quotient.value
    worse = slower - 1 > threshold and not change.holds(0.0)
    middle = (group.middle(column) or 0.0, other.middle(column) or 0.0)
    return Change(group, other, column, *middle, change, worse)


def _number(text: str | None) -> Any:
    if text is None or text == "" or text == "None":
        return None
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "." not in text and "e" not in text.lower() else value
