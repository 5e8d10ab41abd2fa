"""hpcflow cancel: end what a run has not ended yet."""

from __future__ import annotations

from hpcflow.cli.argument import RunName
from hpcflow.engines import engine
from hpcflow.jobs.registry import find


def command(run: RunName) -> None:
    """Cancel every task of a run that has not ended. What is done stays done."""
    found = find(run)
    number = engine(found.engine).cancel(found)
    if number:
        print(f"{found.name}: {number} task{'s' if number > 1 else ''} cancelled")
    else:
        print(f"{found.name}: nothing to cancel, every task has ended")
