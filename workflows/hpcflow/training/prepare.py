"""python -m hpcflow.training.prepare: what one process does before the ranks start.

Makes the phantoms where the experiment asks for them and no data folder is named, then the packed cache,
once; the next run with the same data and preprocessing finds it. Needs no TensorFlow and may run on a login
node.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcflow.errors import HpcflowError
from hpcflow.experiment.schema import Data
from hpcflow.storage.stripes import Policy


def prepare(
    data: Data,
    named: str,
    cache: Path,
    say: Callable[[str], None] = lambda _: None,
    stripes: Policy = "auto",
    readers: int = 1,
) -> Path:
    """Make sure that the packed cache of ``data`` is there, and return its folder.

    ``named``: the data set's folder, or empty for phantoms. ``say`` gets one line for each thing that was
    done. ``readers``: how many processes are going to map it at once. Raises InputError for what is wrong with
    the data set.
    """
    from hpcflow.training.data.cache import build_packed
    from hpcflow.training.data.decathlon import open_decathlon
    from hpcflow.training.data.source import ensure_phantoms

    start = time.perf_counter()
    dataset = open_decathlon(ensure_phantoms(data, named, cache, _progress("phantoms")))
    dataset.target(data.target)
    channels = dataset.channels(data.modalities)
    path, built = build_packed(
        cache, dataset, channels, data.crop, _progress("subjects packed"), stripes, readers
    )
    kind = "PHANTOM subjects" if dataset.phantom else "subjects"
    what = f"{len(dataset.subjects)} {kind} of {dataset.name}"
    verb = "packed" if built else "found packed"
    say(f"{what}: {verb} in {time.perf_counter() - start:.1f} s at {path}")
    return path


def _progress(what: str) -> Callable[[int, int], None]:
    """Count on stderr when it is a terminal; be silent otherwise."""

    def show(done: int, of: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{of} {what}", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return show


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 prepared, otherwise the error's, with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        "python -m hpcflow.training.prepare", description="Pack a run's data set, once."
    )
    add_job_arguments(parser)
    options = parser.parse_args(arguments)

    from hpcflow.experiment import load_resolved
    from hpcflow.jobs.rundir import RunDir

    try:
        run = RunDir(options.run)
        experiment = load_resolved(run.task(options.job, options.task).experiment)
        prepare(
            experiment.training.data,
            options.data,
            options.cache,
            say=lambda line: print(line, flush=True),
            stripes=experiment.storage.stripes,
            # Every rank of a training maps the whole set.
            readers=max(job.allocation.nodes * job.allocation.tasks_per_node for job in run.graph),
        )
    except HpcflowError as error:
        print(f"hpcflow: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every process of a training job takes."""
    parser.add_argument("--data", default="", help="folder of the data set; empty: the experiment's phantoms")
    parser.add_argument("--cache", type=Path, required=True, help="folder of packed data")
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("job", metavar="JOB", help="name of the job")
    parser.add_argument("task", type=int, metavar="TASK", help="array index, 0 for a single job")


if __name__ == "__main__":
    sys.exit(main())
