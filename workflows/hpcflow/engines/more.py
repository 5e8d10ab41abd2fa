"""The job that queues what MaxSubmitJobs left: no daemon, but a small job that Slurm itself starts in time.

It waits (`afterany`) for the oldest piece of the run that is still queued; when that has ended there is room. It then
runs `python -m hpcflow.engines.more RUN` on its node, which queues as much as fits and, if something is left still,
the next one of its kind. If there is no room after all (other jobs of the user took it), the next one begins five
minutes later.

Where jobs may not call sbatch (site profile, `jobs_submit_jobs: false`), or where the job was lost, `submit --wait` and
`watch` queue what is left while they look, and `hpcflow resume` does it once.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hpcflow.engines.poll import Poll
from hpcflow.errors import SiteError
from hpcflow.jobs.job import Allocation, Job
from hpcflow.jobs.rundir import RunDir
from hpcflow.jobs.script import render
from hpcflow.jobs.shell import Variable
from hpcflow.storage.publish import publish_text

NAME = "queue"
TIME = "00:15:00"
PATIENCE_S = 600  # within the time limit
BEGIN_AGAIN = "now+5minutes"
# Of the run's own directives: where it may run and who pays.
_INHERITED = ("partition", "account", "qos", "reservation")


def job(like: str) -> Job:
    """The job; ``like`` is a script of the run, whose partition and account it takes."""
    found = {name: re.search(rf"^#SBATCH --{name}=(\S+)$", like, re.MULTILINE) for name in _INHERITED}
    flags = tuple((name, match[1].strip('"')) for name, match in found.items() if match)
    program = (sys.executable, "-m", "hpcflow.engines.more", Variable("HPCFLOW_RUN"))
    return Job(NAME, Allocation(time=TIME, flags=flags), program)


def write(run: RunDir, like: str) -> Path:
    """Write its script; the path."""
    plan = job(like)
    where = run.job(plan)
    where.path.mkdir(parents=True, exist_ok=True)
    publish_text(where.script, render(plan, f"{run.path.parent.name}.{NAME}"))
    return where.script


def main() -> None:
    """Entry of the job. Slurm that does not answer is asked again for a while."""
    import time

    from hpcflow.engines.slurm import SlurmEngine

    run, end = RunDir(Path(sys.argv[1])), time.monotonic() + PATIENCE_S
    for delay in Poll():
        try:
            print(f"{SlurmEngine().top_up(run)} tasks queued", flush=True)
            return
        except SiteError as error:
            print(f"hpcflow: {error}", file=sys.stderr, flush=True)
            if not error.transient or time.monotonic() + delay > end:
                sys.exit(error.exit_code)
            time.sleep(delay)


if __name__ == "__main__":
    main()
