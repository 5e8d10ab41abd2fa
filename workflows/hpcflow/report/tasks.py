"""The columns in which tasks are shown by `status` and `watch`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from hpcflow.cli.table import Column, Table
from hpcflow.engines.status import State
from hpcflow.report.overview import Row
from hpcflow.report.progress import Progress

STYLES = {
    State.WAITING: "dim",
    State.PENDING: "yellow",
    State.RUNNING: "cyan",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.TIMEOUT: "bold red",
    State.CANCELLED: "magenta",
    State.UNKNOWN: "bold red",
}
_BAR = 10


def duration(seconds: float | None) -> str:
    """Seconds as H:MM:SS."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def starts(estimate: str, now: float) -> str:
    """Slurm's estimate of a start (local time, 2026-01-31T12:00:00) as `12:00, in 0:05:00`; with the day if that is
    another one; empty where there is none.
    """
    try:
        at = datetime.fromisoformat(estimate)
    except ValueError:
        return ""
    left = at.timestamp() - now
    day = "" if at.date() == datetime.fromtimestamp(now).date() else "%a %d %b "
    return at.strftime(f"{day}%H:%M") + (f", in {duration(left)}" if left > 0 else ", any moment")


def bar(progress: Progress | None) -> str:
    """A bar of the epochs done, and their number."""
    if progress is None:
        return ""
    if not progress.epochs:
        return progress.count
    done = round(_BAR * min(1.0, progress.epoch / progress.epochs))
    return f"{'━' * done}{'─' * (_BAR - done)} {progress.count}"


COLUMNS = (
    Column("label", "TASK"),
    Column("trial", "TRIAL", rank=5),
    Column("state", "STATE", style=lambda state: STYLES[state]),
    Column("job_id", "JOB", rank=10),
    Column("host", "HOST", rank=6),
    Column("elapsed", "ELAPSED", right=True, text=duration, rank=2),
    Column("progress", "EPOCH", text=bar),
    Column("images_per_s", "IMAGES/S", right=True, rank=7),
    Column("loss", "LOSS", right=True, rank=4),
    Column("val_dice", "VAL DICE", right=True, rank=3),
    Column("exit_code", "EXIT", right=True, rank=9),
    Column("start_estimate", "STARTS", rank=8),
    Column("reason", "REASON", rank=1),
)


def table(
    rows: Iterable[Row], now: float, progress: Mapping[tuple[str, int], Progress | None] | None = None
) -> Table:
    """The rows as a table; with ``progress``, by the key of a row, how far the training is."""
    return Table(COLUMNS, [_cells(row, now, (progress or {}).get(row.key)) for row in rows])


def _cells(row: Row, now: float, progress: Progress | None) -> dict[str, Any]:
    numbers = {name: getattr(progress, name, None) for name in ("images_per_s", "loss", "val_dice")}
    estimate = {"start_estimate": starts(row.start_estimate, now)}
    return {**vars(row), **estimate, "elapsed": row.elapsed(now), "progress": progress, **numbers}
