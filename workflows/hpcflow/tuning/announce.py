"""What a tuning is going to do, in words: its settings, its runs, and the time that each of them may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcflow.cli.table import Column, Table
from hpcflow.report.tasks import duration
from hpcflow.tuning.plan import runs

SHORT_S = 60.0
"""A training that takes less, its start and two epochs included, is one of the smallest."""


def announce(plan: Mapping[str, Any], limit: float | None) -> str:
    """The settings as a table, and what the job does in its ``limit`` of seconds."""
    names = list(dict.fromkeys(name for one in plan["candidates"] for name in one["values"]))
    columns = [Column("number", "SETTING", right=True), *(Column(name, name, right=True) for name in names)]
    table = Table(columns, [{"number": one["number"], **one["values"]} for one in plan["candidates"]])
    return f"{table.plain()}\nSetting 0 is the experiment as it is.\n{budget(plan, limit)}\n"


def budget(plan: Mapping[str, Any], limit: float | None) -> str:
    """How many runs share the time limit (None: there is none), and a warning where that is little for each."""
    number = runs(plan)
    steps = " then ".join(f"{rung['steps']}" for rung in plan["rungs"])
    said = f"At most {number} runs of {plan['epochs']} epochs of {steps} steps"
    if limit is None:
        return f"{said}, without a time limit."
    each = limit / number
    said += f" share {duration(limit)} (resources.time): {each:.0f} s each, its start included."
    if each >= SHORT_S:
        return said
    return f"{said} That is little: where the time runs out, `hpcflow resume` goes on from what is measured."
