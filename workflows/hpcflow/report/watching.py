"""A run while it goes on: a live table on a terminal, a line for each change elsewhere.

Figures: one scheduler query a tick (delays in engines/poll.py), whatever the number of tasks; between ticks
the table is drawn anew every 0.5 s and the metrics of running tasks are looked at again, at most once a second
(report/progress.py). Nothing that is done here reaches the jobs.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from hpcflow.engines.base import Engine
from hpcflow.engines.observe import Tick, observe
from hpcflow.engines.status import State, TaskStatus
from hpcflow.jobs.rundir import RunDir
from hpcflow.report import overview, trial
from hpcflow.report.overview import Row, Verdict
from hpcflow.report.progress import Progress, Reader
from hpcflow.report.tasks import starts

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REDRAW_S = 0.5
METRICS_S = 1.0
_OTHER_LINES = 6
_CANNOT_MOVE = ("dumb", "unknown")

Shown = tuple[Row, Progress | None]


def watch(run: RunDir, engine: Engine, out: TextIO | None = None) -> Verdict:
    """Show the run on ``out`` (standard output) until it ends; what became of it."""
    out = out or sys.stdout
    if isinstance(out, io.TextIOWrapper):  # bars and names that an ASCII terminal cannot show end nothing
        out.reconfigure(errors="replace")
    # rich draws nothing live on a terminal that cannot move its cursor.
    live = out.isatty() and os.environ.get("TERM", "").lower() not in _CANNOT_MOVE
    return (_live if live else _lines)(run, engine, out)


def _live(run: RunDir, engine: Engine, out: TextIO) -> Verdict:
    from rich.console import Console
    from rich.live import Live

    statuses: Sequence[TaskStatus] = ()
    with Live(console=Console(file=out), auto_refresh=False) as live:
        view = _View(run, engine.name, live.console)

        def pause(seconds: float) -> None:
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                live.update(view.drawn(), refresh=True)
                time.sleep(min(left, REDRAW_S))

        for tick in observe(run, engine, pause):
            statuses = view.show(tick)
            live.update(view.drawn(), refresh=True)
    return overview.verdict(statuses)


class _View:
    """What the live table shows now."""

    def __init__(self, run: RunDir, engine: str, console: Console) -> None:
        self._run, self._engine, self._console = run, engine, console
        self._tick = Tick(())
        self._rows: list[Row] = []
        self._progress: dict[tuple[str, int], Progress | None] = {}
        self._read_at = float("-inf")
        self._reader, self._titles = Reader(), trial.titles(run)

    def show(self, tick: Tick) -> Sequence[TaskStatus]:
        """Take a new tick."""
        room = self._console.height - _OTHER_LINES
        few = min(overview.FEW, max(1, room - len(self._run.graph.jobs)))
        rows = overview.rows(self._run.graph, tick.statuses, few, self._titles)
        if len(rows) > room:  # what does not fit is cut off below
            rows.sort(key=lambda row: row.state is not State.RUNNING)
        self._tick, self._rows = tick, rows
        self._read_at = float("-inf")
        return tick.statuses

    def drawn(self) -> RenderableType:
        """The table as it is at this moment."""
        from rich.console import Group
        from rich.text import Text

        from hpcflow.report.tasks import table

        if time.monotonic() - self._read_at > METRICS_S:
            shown = with_progress(self._run, self._rows, self._reader)
            self._progress = {row.key: made for row, made in shown}
            self._read_at = time.monotonic()
        head = f"{self._run.name} on {self._engine}: {overview.counts(self._tick.statuses)}"
        drawn = table(self._rows, time.time(), self._progress).rich(self._console.width)
        parts: list[RenderableType] = [Text(head, "bold"), drawn]
        if self._tick.note:
            parts.append(Text(f"as of the last answer: {self._tick.note}", "yellow"))
        if self._tick.active:
            parts.append(Text("Ctrl-C ends the watching, not the jobs", "dim"))
        return Group(*parts)


def _lines(run: RunDir, engine: Engine, out: TextIO) -> Verdict:
    statuses: Sequence[TaskStatus] = ()
    changes = Changes(run)
    for tick in observe(run, engine):
        statuses = tick.statuses
        for line in changes.of(tick):
            print(f"{datetime.now():%H:%M:%S}  {line}", file=out, flush=True)
    return overview.verdict(statuses)


class Changes:
    """Plain lines for what a tick has that the one before it had not."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._said: dict[str, object] = {}
        self._reader, self._titles = Reader(), trial.titles(run)

    def of(self, tick: Tick) -> Iterator[str]:
        """The lines of a tick; none if nothing changed."""
        if self._news("note", tick.note) and tick.note:
            yield f"no answer: {tick.note}"
        rows = overview.rows(self._run.graph, tick.statuses, titles=self._titles)
        for row, made in with_progress(self._run, rows, self._reader):
            lines = []
            if self._news(f"state of {row.label}", (row.state, row.reason)):
                lines.append("  ".join(filter(None, (row.label, str(row.state), row.reason, _where(row)))))
            about = (
                row.label if len(row.tasks) == 1 else row.job
            )  # the label of folded tasks changes with their number
            if made and self._news(f"epoch of {about}", int(made.epoch)):
                lines.append(f"{row.label}  {made.line}")
            # It ran before it trained, and trained before it ended.
            yield from lines if row.state.active else reversed(lines)

    def _news(self, about: str, what: object) -> bool:
        if self._said.get(about, "") == what:
            return False
        self._said[about] = what
        return True


def with_progress(run: RunDir, rows: Iterable[Row], reader: Reader) -> Iterator[Shown]:
    """Each row with how far its tasks are: one task that has begun, or all the running ones of an array together."""
    for row in rows:
        begun = row.state not in (State.WAITING, State.PENDING)
        shown = begun if len(row.tasks) == 1 else row.state is State.RUNNING
        where = run.job(row.job) if shown else None
        yield row, (reader.of_all([where.task(index) for index in row.tasks]) if where else None)


def _where(row: Row) -> str:
    about = [f"job {row.job_id}" if row.job_id else "", f"on {row.host}" if row.host else ""]
    start = starts(row.start_estimate, time.time())
    notes = [" ".join(filter(None, about)), row.trial, f"starts {start}" if start else ""]
    return f"({'; '.join(filter(None, notes))})" if any(notes) else ""
