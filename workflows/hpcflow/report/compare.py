"""`report A --against B`: what got slower, with its interval.

Configurations are the same if their digests are, else if they agree in all varied keys and in nodes, ranks and cores.
A column got worse if its geometric mean over repeats changed by more than the threshold, and the interval of the change
does not hold "no change". Intervals are Welch's (Biometrika 1947) of the logarithms, at 1 - 0.05 / m for m of them
(Bonferroni): all m together hold what is true in 95 % of comparisons, so that two equal sides are told apart in 5 % at
most, however many configurations there are. Fewer than three repeats on a side tell nothing of how much they scatter.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcflow.errors import InputError
from hpcflow.report import columns
from hpcflow.report.groups import Group, grouped, unit_of
from hpcflow.report.intervals import LEVEL, Estimate, Floats, t_quantile
from hpcflow.report.results import Results

THRESHOLD = 0.05
LEAST_REPEATS = 3
COLUMNS: Mapping[str, int] = {"images_per_s": 1, "wall_s": -1}
"""What is compared, and whether more (1) or less (-1) of it is better."""

_PLACES = ("nodes", "ranks", "cores_per_rank")


@dataclass(frozen=True)
class Change:
    """One column of one configuration, here and there. ``change`` is the share by which it grew, without an interval
    where too few repeats tell none.
    """

    group: Group
    other: Group
    column: str
    here: float
    there: float
    change: Estimate
    worse: bool

    @property
    def told(self) -> bool:
        """Whether it can be told how much of the change is chance."""
        return self.change.low is not None


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

    @property
    def told(self) -> tuple[Change, ...]:
        """What could be compared."""
        return tuple(change for change in self.changes if change.told)

    @property
    def passed(self) -> bool:
        """Whether something was compared, nothing got worse, and all that the other has is here too."""
        return bool(self.told) and not self.regressions and not self.only_there


def compare(here: Results, there: Results, threshold: float = THRESHOLD) -> Comparison:
    """Compare two tables."""
    unit = unit_of([*here.rows, *there.rows])
    mine, theirs = ([group for group in grouped(each.rows, unit) if group.done] for each in (here, there))
    names = _identity(here, there)
    by_digest = {str(group.get("configuration")): group for group in theirs}
    by_values = {_values(group, names): group for group in theirs}
    pairs: list[tuple[Group, Group]] = []
    alone: list[Group] = []
    for group in mine:
        other = by_digest.get(str(group.get("configuration"))) or by_values.get(_values(group, names))
        if other is None:
            alone.append(group)
        else:
            pairs.append((group, other))
    matched = {other.key for _, other in pairs}
    return Comparison(
        tuple(_changes(pairs, threshold)),
        tuple(alone),
        tuple(group for group in theirs if group.key not in matched),
    )


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
            "told": change.told,
            "worse": change.worse,
        }
        for change in found.changes
    ]
    counts = {"compared": len(found.told), "regressions": len(found.regressions)}
    alone = {"only_here": len(found.only_here), "only_there": len(found.only_there)}
    return {"threshold": threshold, "passed": found.passed, **counts, **alone, "changes": changes}


def _identity(here: Results, there: Results) -> list[str]:
    fixed = {field.name for field in columns.FIELDS}
    keys = [key for key in here.columns if key not in fixed and key in there.columns]
    return [*keys, *_PLACES]


def _values(group: Group, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(_number(str(group.get(name)))) for name in ("experiment", *names))


def _changes(pairs: Sequence[tuple[Group, Group]], threshold: float) -> Iterator[Change]:
    """The changes of all pairs; the more intervals there are, the wider is each."""
    columns_of = [
        (group, other, column, here, there)
        for group, other in pairs
        for column in COLUMNS
        if len(here := _logs(group, column)) and len(there := _logs(other, column))
    ]
    told = sum(min(len(here), len(there)) >= LEAST_REPEATS for *_, here, there in columns_of)
    level = 1 - (1 - LEVEL) / max(1, told)
    for group, other, column, here, there in columns_of:
        low, middle, high = (None if end is None else math.expm1(end) for end in _welch(here, there, level))
        change = Estimate(middle or 0.0, low, high)
        # Slower by the threshold: the time for the same work is 1 + threshold times as long.
        slower = (1 + change.value) ** -COLUMNS[column] - 1
        worse = low is not None and slower > threshold and not change.holds(0.0)
        means = (math.exp(float(here.mean())), math.exp(float(there.mean())))
        yield Change(group, other, column, *means, change, worse)


def _logs(group: Group, column: str) -> Floats:
    return np.log([value for value in group.values(column) if 0 < value < math.inf])


def _welch(here: Floats, there: Floats, level: float) -> tuple[float | None, float, float | None]:
    """The difference of two means between the ends of its interval; None where it has none."""
    middle = float(here.mean() - there.mean())
    if min(len(here), len(there)) < LEAST_REPEATS:
        return None, middle, None
    parts = [float(side.var(ddof=1)) / len(side) for side in (here, there)]
    below = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (here, there), strict=True))
    freedom = int(sum(parts) ** 2 / below + 1e-9) if below else len(here) + len(there) - 2
    half = t_quantile(level, freedom) * math.sqrt(sum(parts))
    return middle - half, middle, middle + half


def _number(text: str | None) -> Any:
    if text is None or text == "" or text == "None":
        return None
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "." not in text and "e" not in text.lower() else value
