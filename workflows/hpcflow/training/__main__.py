"""python -m hpcflow.training: one rank of a training job, started by a launcher."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402  # the clock above counts the imports
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402

from hpcflow.errors import HpcflowError  # noqa: E402
from hpcflow.jobs.ending import end_with  # noqa: E402
from hpcflow.training.prepare import add_job_arguments  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 trained, otherwise the error's, with one sentence on rank 0's stderr."""
    parser = argparse.ArgumentParser("python -m hpcflow.training", description="One rank of a training job.")
    add_job_arguments(parser)
    options = parser.parse_args(arguments)
    # TensorFlow's notes about its own build, once a rank, hide what a job has to say.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    from hpcflow.experiment import load_resolved
    from hpcflow.jobs.rundir import RunDir
    from hpcflow.placement.binding import check_in_job
    from hpcflow.training.job import Place, run_job

    try:
        job = RunDir(options.run).job(options.job)
        task = job.task(options.task)
        # Before TensorFlow: a rank that is not where it was planned is told in a second, not in a minute.
        ranks = check_in_job(job.rankmap, task.bindings)
        experiment = load_resolved(task.experiment)
        place = Place(
            options.data,
            options.cache,
            task.metrics,
            task.checkpoints,
            experiment.storage.stage,
            experiment.storage.stripes,
        )
        run_job(experiment.training, place, STARTED, ranks)
    except HpcflowError as error:
        print(f"hpcflow: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    end_with(main)
