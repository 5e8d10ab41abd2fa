"""`report --summary`: one row a configuration, its repeats aggregated and compared with the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcflow.report import columns
from hpcflow.report.groups import RATE, WALL, Group, Series
from hpcflow.report.intervals import Estimate, median, ratio
from hpcflow.report.results import Results


@dataclass(frozen=True)
class Field:
    """A column of the summary: its name, unit, meaning, and title in the printed table (empty: not printed)."""

    name: str
    meaning: str
    unit: str = ""
    title: str = ""


KEYS = "<key>"
_INTERVAL = "95 % bootstrap interval of it (of fewer than 6 repeats their range, see above)"
FIELDS = (
    Field("experiment", "`name` of the experiment.", title="EXPERIMENT"),
    Field("configuration", "What its repeats have in common (see above).", title="CONFIGURATION"),
    Field(KEYS, "One column for each key that was varied."),
    Field("nodes", "Nodes.", title="NODES"),
    Field("ranks", "MPI ranks.", title="RANKS"),
    Field("cores_per_rank", "Cores of a rank.", title="CORES/RANK"),
    Field("repeats", "Repeats that ended well: what all figures are made of.", title="N"),
    Field("not_done", "Repeats that did not end well, or have not ended.", title="NOT DONE"),
    Field("images_per_s", "Median over repeats.", "images/s", "IMAGES/S"),
    Field("images_per_s_min", "Smallest.", "images/s"),
    Field("images_per_s_max", "Largest.", "images/s"),
    Field("images_per_s_low", f"{_INTERVAL}, lower end.", "images/s"),
    Field("images_per_s_high", "Upper end.", "images/s"),
    Field("images_per_s_per_core", "`images_per_s` / (`ranks` x `cores_per_rank`).", "images/s", "PER CORE"),
    Field("speedup", "Median images/s over that of the baseline.", title="SPEED-UP"),
    Field("speedup_low", f"{_INTERVAL}, both medians resampled; lower end."),
    Field("speedup_high", "Upper end."),
    Field(
        "efficiency", "Parallel efficiency: `speedup` / (size / size of the baseline).", title="EFFICIENCY"
    ),
    Field("efficiency_low", f"{_INTERVAL}, lower end."),
    Field("efficiency_high", "Upper end."),
    Field("wall_s", "Median.", "s", "WALL S"),
    Field("wall_s_min", "Smallest.", "s"),
    Field("wall_s_max", "Largest.", "s"),
    Field("wall_s_low", f"{_INTERVAL}, lower end.", "s"),
    Field("wall_s_high", "Upper end.", "s"),
    Field("allreduce_s", "Median.", "s"),
    Field("allreduce_share", "Median of `allreduce_s` / `train_s`.", title="ALLREDUCE"),
    Field("input_share", "Median of `input_s` / `train_s`."),
    Field("startup_s", "Median.", "s"),
    Field("queue_s", "Median.", "s", "QUEUE S"),
    Field("core_hours", "Median.", "h", "CORE-HOURS"),
    Field("cost", "Median, in the currency of the site's profile.", title="COST"),
    Field("cpu_efficiency", "Median.", title="CPU EFF"),
    Field("memory_efficiency", "Median.", title="MEM EFF"),
    Field("peak_memory_mb", "Largest.", "MiB"),
    Field("val_dice", "Median of the last epoch's.", title="VAL DICE"),
    Field("baseline", "`configuration` that it is compared with."),
)
_SHARES = (("allreduce_share", "allreduce_s"), ("input_share", "input_s"))
_MEDIANS = (
    "allreduce_s", "startup_s", "queue_s", "core_hours", "cost", "cpu_efficiency", "memory_efficiency", "val_dice",
)  # fmt: skip


def summary(found: Results, series: Sequence[Series]) -> Results:
    """The table of the groups of ``series``."""
    fixed = {field.name for field in columns.FIELDS}
    keys = [key for key in found.columns if key not in fixed]
    names: list[str] = []
    for field in FIELDS:
        names += keys if field.name == KEYS else [field.name]
    return Results(tuple(names), [_row(group, one, keys) for one in series for group in one.groups])


def names(series: Sequence[Series]) -> list[str]:
    """What a printed summary names each row by, beside its keys: the experiment and the configuration, as far as series
    are told apart by them.
    """
    return [name for name in ("experiment", "configuration") if any(name in one.varied for one in series)]


def speedup(group: Group, base: Group, column: str = RATE) -> Estimate | None:
    """How many times as fast as the baseline a group is."""
    mine, theirs = group.values(column), base.values(column)
    if not mine or not theirs or 0 in mine or 0 in theirs:
        return None
    if group is base:
        return Estimate(1.0)
    return ratio(mine, theirs) if column == RATE else ratio(theirs, mine)


def efficiency(group: Group, base: Group, column: str = RATE) -> Estimate | None:
    """Parallel efficiency against the baseline."""
    found = speedup(group, base, column)
    return found.scaled(base.size / group.size) if found and group.size and base.size else None


def _row(group: Group, one: Series, keys: Sequence[str]) -> dict[str, Any]:
    rate, cores = group.middle(RATE), (group.get("ranks") or 0) * (group.get("cores_per_rank") or 0)
    same = ("experiment", "configuration", *keys, "nodes", "ranks", "cores_per_rank")
    made: dict[str, Any] = {name: group.get(name) for name in same}
    made |= {"repeats": len(group.done), "not_done": len(group.rows) - len(group.done)}
    for column in (RATE, WALL):
        made |= _spread(column, group.values(column))
    made["images_per_s_per_core"] = _rounded(rate / cores) if rate is not None and cores else None
    for name, estimate in (
        ("speedup", speedup(group, one.base)),
        ("efficiency", efficiency(group, one.base)),
    ):
        made |= _bounded(name, estimate)
    for name, part in _SHARES:
        made[name] = _rounded(_share(group, part))
    made |= {name: _rounded(group.middle(name)) for name in _MEDIANS}
    made["peak_memory_mb"] = max(group.values("peak_memory_mb"), default=None)
    made["baseline"] = one.base.get("configuration")
    return made


def _spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {}
    return _bounded(name, median(values)) | {f"{name}_min": min(values), f"{name}_max": max(values)}


def _bounded(name: str, estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {}
    low, high = _rounded(estimate.low), _rounded(estimate.high)
    return {name: _rounded(estimate.value), f"{name}_low": low, f"{name}_high": high}


def _share(group: Group, part: str) -> float | None:
    shares = [
        row[part] / row["train_s"] for row in group.done if row.get("train_s") and row.get(part) is not None
    ]
    return median(shares).value if shares else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def markdown() -> str:
    """The columns of the summary as a Markdown table."""
    rows = [f"| `{field.name}` | {field.unit} | {field.meaning} |" for field in FIELDS]
    return "\n".join(["| column | unit | meaning |", "|---|---|---|", *rows]) + "\n"
