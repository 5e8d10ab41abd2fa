"""queue.json: what the Slurm engine must know of a run to queue more of it later, from wherever.

Written when the run is submitted, and again whenever more of it was queued. `left` says that tasks were held back (see
engines/queueing.py) and `more` names the job that will queue them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from hpcflow.errors import SiteError
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import publish_json, read_published

CLAIM_S = 300.0  # a process that queues is done with it by then, or dead: sbatch is given up after a minute


@dataclass(frozen=True)
class Notes:
    """``max_submit``: jobs that the user may have in the queue, None without a limit; ``by_jobs``: jobs may call
    sbatch.
    """

    max_array_size: int = 1001
    max_submit: int | None = None
    by_jobs: bool = True
    left: bool = False
    more: str | None = None


def read(run: RunDir) -> Notes:
    """The notes of a run; Slurm's defaults where there are none."""
    try:
        return Notes(**json.loads(read_published(run.queue, patience_s=0)))
    except (OSError, ValueError, TypeError):
        return Notes()


def write(run: RunDir, notes: Notes) -> None:
    """Publish the notes."""
    publish_json(run.queue, asdict(notes))


def unextended(run: RunDir) -> str:
    """That a federation's next rounds could not be queued, and why, in a sentence; empty where they could."""
    try:
        said = json.loads(run.unextended.read_bytes())
        return f"the chain could not be extended after round {said['round']}: {said['reason']}"
    except (OSError, ValueError, TypeError, KeyError):
        return ""


@contextlib.contextmanager
def claimed(run: RunDir) -> Iterator[None]:
    """Only one process at a time queues more of a run: two would queue the same tasks.

    The claim is a file that only one can make. It is nothing that anybody waits for: who finds one does not queue. One
    that is older than CLAIM_S is of a killed process and is removed. Raises SiteError (transient).
    """
    text = f"{socket.gethostname()} {os.getpid()}\n".encode()
    with contextlib.suppress(FileNotFoundError):
        if time.time() - run.queue_claim.stat().st_mtime > CLAIM_S:
            run.queue_claim.unlink()
    try:
        descriptor = os.open(run.queue_claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        message = f"another process is queueing tasks of {run.name} (if none is, remove {run.queue_claim})"
        raise SiteError(message, transient=True) from None
    try:
        os.write(descriptor, text)
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            run.queue_claim.unlink()
