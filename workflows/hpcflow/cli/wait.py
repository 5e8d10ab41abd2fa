"""The rest of `submit --wait`: stay until the run ends, then print its results."""

from __future__ import annotations

import sys

from hpcflow.engines.base import Engine
from hpcflow.engines.status import State
from hpcflow.errors import EXIT_DONE, EXIT_FAILED
from hpcflow.jobs.rundir import RunDir

WRONG = (State.FAILED, State.TIMEOUT, State.UNKNOWN)


def until_end(run: RunDir, engine: Engine, *, json: bool) -> int:
    """Follow the run, write and print its results; the exit code. Ctrl-C leaves the run running."""
    from hpcflow.report.overview import Verdict
    from hpcflow.report.watching import watch

    try:
        verdict = watch(run, engine, sys.stderr)
    except KeyboardInterrupt:
        print(f"\nnot waiting any longer; the run goes on: hpcflow watch {run.name}", file=sys.stderr)
        raise
    from hpcflow.report import summary

    summary.print_results(run, engine, json=json)
    if verdict is Verdict.DONE:
        return EXIT_DONE
    failed = next((status for status in engine.statuses(run) if status.state in WRONG), None)
    if failed:
        task = run.task(failed.job, failed.task)
        print(f"{failed.job} {failed.state}: {failed.reason}; its log: {task.log}", file=sys.stderr)
    return EXIT_FAILED
