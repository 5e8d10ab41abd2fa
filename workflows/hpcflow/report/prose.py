"""The summary and the comparison on a terminal: a table, and what follows from it in sentences."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from hpcflow.cli.table import Column, Table, print_table
from hpcflow.report import aggregate
from hpcflow.report.advice import bounds
from hpcflow.report.compare import LEAST_REPEATS, Change, Comparison
from hpcflow.report.study import Study

INTERVALS = ("images_per_s", "speedup", "efficiency")
_SUMMARY_RANKS = {
    name: rank
    for rank, name in enumerate(
        ("not_done", "cost", "val_dice", "core_hours", "allreduce_share", "images_per_s_per_core", "cores_per_rank",
         "queue_s", "cpu_efficiency", "memory_efficiency"), 1)
}  # fmt: skip


def print_study(found: Study, out: TextIO | None = None) -> None:
    """Print the summary with its intervals, what follows from it, and what is to be kept in mind."""
    out = out or sys.stdout
    named = aggregate.names(found.series)
    shown = [
        field
        for field in aggregate.FIELDS
        if field.name == aggregate.KEYS
        or (field.title and (field.name not in ("experiment", "configuration") or field.name in named))
    ]
    keys = [name for name in found.summary.columns if "." in name]
    table: list[Column] = []
    for field in shown:
        names = keys if field.name == aggregate.KEYS else [field.name]
        table += [
            Column(name, field.title or name, right=True, rank=_SUMMARY_RANKS.get(name, 0)) for name in names
        ]
    rows = [{**row, **{name: with_interval(row, name) for name in INTERVALS}} for row in found.summary.rows]
    print_table(Table(table, [{**row, "not_done": row["not_done"] or None} for row in rows]), out)
    out.write(below(found))


def below(found: Study) -> str:
    """What stands below a summary: the sentences and the notes, a paragraph each."""
    return "".join(f"\n{text}\n" for text in (*found.sentences, *(f"Note: {note}" for note in found.notes)))


def print_comparison(found: Comparison, out: TextIO | None = None) -> None:
    """Print every change, those for the worse first, and a sentence."""
    out = out or sys.stdout
    ordered = sorted(found.changes, key=lambda change: not change.worse)
    rows = [
        {
            **{key: change.group.get(key) for key in change.group.rows[0] if "." in key},
            **{key: change.group.get(key) for key in ("experiment", "nodes", "ranks", "cores_per_rank")},
            "column": change.column, "here": change.here, "there": change.there,
            "change": percent_change(change),
            "verdict": "WORSE" if change.worse else "" if change.told else "cannot be told",
        }
        for change in ordered
    ]  # fmt: skip
    names = dict.fromkeys(name for row in rows for name in row)
    words = ("experiment", "column", "verdict")
    print_table(
        Table(
            [Column(name, name if "." in name else name.upper(), right=name not in words) for name in names],
            rows,
        ),
        out,
    )
    for side, groups in (("this report", found.only_here), ("the other", found.only_there)):
        if groups:
            out.write(f"\nOnly in {side}: {len(groups)} configuration{'' if len(groups) == 1 else 's'}.\n")
    if found.only_there:
        out.write("What has no repeat here that ended well is no better than what got worse: exit code 1.\n")
    untold = len(found.changes) - len(found.told)
    if untold:
        out.write(
            f"\n{untold} of {len(found.changes)} cannot be told: {LEAST_REPEATS} repeats that ended well are needed on "
            "each side.\n"
        )
    worse = len(found.regressions)
    if found.told:
        out.write(f"\n{worse or 'Nothing'} of {len(found.told)} compared got worse beyond the threshold.\n")
    else:
        out.write("\nNothing was compared, which is no pass: exit code 1.\n")


def percent_change(change: Change) -> str:
    """`+5.1 % (+3.9 to +6.4)`."""
    low, high = (f"{100 * bound:+.1f}" for bound in bounds(change.change))
    return f"{100 * change.change.value:+.1f} %" + (f" ({low} to {high})" if low != high else "")


def with_interval(row: Mapping[str, Any], name: str) -> str:
    """A median with its bootstrap interval, as in `4.02 (3.81 to 4.11)`."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    return _short(value) + (
        f" ({_short(low)} to {_short(high)})" if None not in (low, high) and low != high else ""
    )


def _short(value: Any) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
