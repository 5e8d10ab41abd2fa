"""Rows that are repeats of one another, and series of such groups that are compared with one baseline.

Repeats are rows of the same `experiment` and `configuration`. The baseline of a group is that of its trial, if it is
one. With ``--baseline KEY=VALUE`` the groups with these values are baselines, and where there is no sweep, those of the
smallest size (where all have one size, the first); each group is compared with the one that agrees with it in most of
the varied keys.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpcflow.errors import InputError
from hpcflow.report import columns
from hpcflow.report.advice import Measured
from hpcflow.report.results import Results

Row = Mapping[str, Any]

SIZES = ("nodes", "ranks", "cores")
"""What is counted, the first of them that differs between rows; `cores` are ranks x cores_per_rank."""

RATE = "images_per_s"
WALL = "wall_s"


@dataclass(frozen=True)
class Group:
    """Repeats of one configuration; ``rows`` also those that did not end well."""

    key: tuple[str, str]
    rows: tuple[Row, ...]
    size: float | None

    @cached_property
    def done(self) -> tuple[Row, ...]:
        """The repeats that ended well: what figures are made of."""
        return tuple(row for row in self.rows if row.get("state") == "done")

    def values(self, column: str) -> list[float]:
        """The numbers of the repeats that ended well."""
        return [float(value) for row in self.done if isinstance(value := row.get(column), (int, float))]

    def middle(self, column: str) -> float | None:
        """Their median."""
        values = self.values(column)
        return statistics.median(values) if values else None

    def get(self, column: str) -> Any:
        """What is the same in all its rows."""
        return self.rows[0].get(column)


@dataclass(frozen=True)
class Series:
    """Groups that are compared with one baseline, the smallest first. ``unit`` is what `size` counts."""

    unit: str
    base: Group
    groups: tuple[Group, ...]
    varied: tuple[str, ...]

    @property
    def title(self) -> str:
        """What tells it from other series: its experiment, and the values of its baseline that are no sizes."""
        return ", ".join(
            str(self.base.get(key)) if key == "experiment" else f"{key} = {self.base.get(key)}"
            for key in self.varied
        )

    def measured(self, column: str) -> Measured | None:
        """Times for the same work by size; None where sizes do not differ, or several groups have one."""
        sizes = [group.size for group in self.groups]
        if None in sizes or len(set(sizes)) < len(sizes) or len(sizes) < 2 or self.base.size is None:
            return None
        pairs = [
            (group.size, 1 / value if column == RATE else value)
            for group in self.groups
            for value in group.values(column)
            if value > 0 and group.size is not None
        ]
        if not pairs or not self.base.values(column):
            return None
        return Measured(self.unit, tuple(s for s, _ in pairs), tuple(t for _, t in pairs), self.base.size)


def series(found: Results, baseline: Sequence[str] = (), over: str | None = None) -> list[Series]:
    """The series of a table. ``baseline`` are texts KEY=VALUE, ``over`` what is counted. Raises InputError."""
    unit = over or unit_of(found.rows)
    groups = grouped(found.rows, unit)
    fixed = {field.name for field in columns.FIELDS}
    keys = [key for key in found.columns if key not in fixed]
    chosen = _baselines(groups, keys, baseline)
    by_base: dict[tuple[str, str], list[Group]] = {}
    for group, base in _bases(groups, chosen, keys, bool(baseline)):
        by_base.setdefault(base.key, []).append(group)
    bases = {group.key: group for group in groups}
    varied = _telling([bases[base] for base in by_base], ("experiment", *keys))
    result = []
    for key, mine in by_base.items():
        ordered = sorted(mine, key=lambda group: (group.size is None, group.size or 0))
        result.append(Series(unit, bases[key], tuple(ordered), varied))
    return result


def _telling(bases: Sequence[Group], keys: Sequence[str]) -> tuple[str, ...]:
    """The keys by which baselines differ; the configuration too, where these do not tell them apart."""
    varied = tuple(key for key in keys if len({str(base.get(key)) for base in bases}) > 1)
    told = {tuple(str(base.get(key)) for key in varied) for base in bases}
    return varied if len(told) == len(bases) else (*varied, "configuration")


def unit_of(rows: Iterable[Row]) -> str:
    """What is counted."""
    every = list(rows)
    for unit in SIZES:
        if len({size_of(row, unit) for row in every} - {None}) > 1:
            return unit
    return SIZES[0]


def size_of(row: Row, unit: str) -> float | None:
    """How many of the unit a row has."""
    if unit == "cores":
        ranks, cores = row.get("ranks"), row.get("cores_per_rank")
        return float(ranks * cores) if ranks and cores else None
    value = row.get(unit)
    return float(value) if isinstance(value, (int, float)) else None


def grouped(rows: Iterable[Row], unit: str) -> list[Group]:
    """The groups in the order in which the first of each comes."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((str(row.get("experiment")), str(row.get("configuration"))), []).append(row)
    return [Group(key, tuple(mine), size_of(mine[0], unit)) for key, mine in found.items()]


def _baselines(groups: Sequence[Group], keys: Sequence[str], said: Sequence[str]) -> list[Group]:
    if said:
        wanted = [text.partition("=") for text in said]
        for key, equals, _ in wanted:
            if not equals or (key not in keys and key not in SIZES):
                known = ", ".join([*SIZES, *keys])
                raise InputError(f"--baseline {key}: expected KEY=VALUE with one of the keys {known}")
        chosen = [g for g in groups if all(_text(_value(g, key)) == value for key, _, value in wanted)]
        if not chosen:
            raise InputError(f"--baseline {' '.join(said)}: no row has these values")
        return chosen
    return [
        group for name in dict.fromkeys(group.key[0] for group in groups) for group in _smallest(groups, name)
    ]


def _smallest(groups: Sequence[Group], experiment: str) -> list[Group]:
    """Those of the smallest size in an experiment; where all have one size, the first."""
    mine = [group for group in groups if group.key[0] == experiment]
    sizes = {group.size for group in mine}
    smallest = min((size for size in sizes if size is not None), default=None)
    return mine[:1] if len(sizes) == 1 else [group for group in mine if group.size == smallest]


def _bases(
    groups: Sequence[Group], chosen: Sequence[Group], keys: Sequence[str], said: bool
) -> Iterator[tuple[Group, Group]]:
    """Each group with its baseline."""
    by_trial = {
        (group.key[0], row.get("run"), row.get("trial")): group for group in groups for row in group.rows
    }
    own = {group.key for group in chosen}
    for group in groups:
        number = None if said else group.get("baseline")
        named = by_trial.get((group.key[0], group.get("run"), number)) if number is not None else None
        if named is None and group.key not in own:
            alike = [other for other in chosen if other.key[0] == group.key[0]] or list(chosen)
            named = max(alike, key=lambda other: _agreement(group, other, keys))
        yield group, named or group


def _agreement(group: Group, other: Group, keys: Sequence[str]) -> int:
    return sum(_text(other.get(key)) == _text(group.get(key)) for key in keys)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _value(group: Group, key: str) -> Any:
    return size_of(group.rows[0], key) if key in SIZES else group.get(key)
