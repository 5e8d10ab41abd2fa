"""What every engine can do. It knows job graphs and run directories, nothing of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hpcflow.engines.status import TaskStatus
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.rundir import RunDir


class Engine(Protocol):
    """Runs job graphs."""

    @property
    def name(self) -> str:
        """As --engine spells it."""

    def preflight(self, scripts: Mapping[str, str]) -> dict[str, str]:
        """Ask whether each script (job -> text) could ever start; job -> expected start, empty where it cannot be told.

        Nothing is queued. Raises SiteError with the scheduler's reason.
        """

    def submit(self, run: RunDir, graph: JobGraph) -> None:
        """Queue every job of a run directory that is laid out. Raises SiteError; then nothing is left queued."""

    def top_up(self, run: RunDir, statuses: Sequence[TaskStatus] | None = None) -> int:
        """Queue what could not be queued before and can now; the number of tasks. Cheap where there is nothing."""

    def resume(self, run: RunDir) -> int:
        """Queue again every task that has neither ended well nor is under way; the number of tasks."""

    def statuses(self, run: RunDir) -> Sequence[TaskStatus]:
        """Every task of the run, by one query of the scheduler whatever their number."""

    def cancel(self, run: RunDir) -> int:
        """Cancel what has not ended; the number of tasks that were told to."""
