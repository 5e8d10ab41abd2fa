"""python -m hpcflow.federation PART RUN JOB TASK: what a job of a federation runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from hpcflow.errors import HpcflowError
from hpcflow.federation import enclosure, job
from hpcflow.federation.plan import place_of, plan_of
from hpcflow.jobs.ending import end_with
from hpcflow.jobs.rundir import RunDir
from hpcflow.placement.binding import check_in_job
from hpcflow.training.prepare import add_job_arguments

PARTS: dict[str, Callable[[job.Here], None]] = {
    "begin": job.begin,
    "train": job.train,
    "aggregate": job.aggregate,
    "evaluate": job.evaluate,
    "inprocess": job.inprocess,
    "allocation": job.allocation,
    "worker": job.worker,
    "arm": job.arm,
    "evaluations": job.evaluations,
    "table": job.table,
    "enter": enclosure.enter,
    "leave": enclosure.leave,
}

# What a script runs before and after its ranks.
OUTSIDE = ("enter", "leave")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, otherwise the error's, with one sentence on stderr."""
    parser = argparse.ArgumentParser("python -m hpcflow.federation", description="One part of a round.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--name", default="", help="of a worker or a confined task: its collaborator")
    parser.add_argument(
        "--confined", action="store_true", help="data is its own, and RUN the view of its task"
    )
    add_job_arguments(parser)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        run = RunDir(options.run)
        if options.confined:
            enclosure.check_in(run, options.job)
        elif options.part not in OUTSIDE:
            check_in_job(run.job(options.job).rankmap, run.task(options.job, options.task).bindings)
        plan = plan_of(place_of(run, options.job, options.task))
        here = job.Here(
            plan,
            options.job,
            options.task,
            options.data,
            str(options.cache),
            options.name,
            options.confined,
        )
        PARTS[options.part](here)
    except HpcflowError as error:
        print(f"hpcflow: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    end_with(main)
