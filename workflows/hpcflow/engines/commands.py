"""Slurm's commands as pairs of pure functions: one builds the argument list, the other reads the output.

Nothing here runs anything. Formats are those of Slurm 22.05; the fields asked for exist since 17.11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcflow.engines.reasons import in_words
from hpcflow.engines.status import Seen, State
from hpcflow.jobs.job import After

# What a surrounding job or a user's shell left behind would override the script's directives (SBATCH_*) or steer
# the launcher (SLURM_CPU_BIND: a silent threefold slowdown in spd#955), or hide jobs from the commands that look for
# them and cancel them (SQUEUE_PARTITION, SCANCEL_STATE: a run would be queued a second time beside the first).
INHERITED = re.compile(
    r"^(SBATCH_|SLURM_(?!CONF$)|SLURMD_|SRUN_|SALLOC_|SQUEUE_|SCANCEL_|SACCT_|SINFO_|SCONTROL_|PMI|PMIX_|PRTE_|OMPI_|"
    r"HYDRA_|HPCFLOW_)"
)

STATES: dict[str, State] = {
    "PENDING": State.PENDING,
    "CONFIGURING": State.PENDING,
    "REQUEUED": State.PENDING,
    "REQUEUE_FED": State.PENDING,
    "REQUEUE_HOLD": State.PENDING,
    "RESV_DEL_HOLD": State.PENDING,
    "SPECIAL_EXIT": State.PENDING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "RESIZING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "STAGE_OUT": State.RUNNING,
    "STOPPED": State.RUNNING,
    "SUSPENDED": State.RUNNING,
    "COMPLETED": State.DONE,
    "FAILED": State.FAILED,
    "BOOT_FAIL": State.FAILED,
    "NODE_FAIL": State.FAILED,
    "OUT_OF_MEMORY": State.FAILED,
    "TIMEOUT": State.TIMEOUT,
    "DEADLINE": State.TIMEOUT,
    "CANCELLED": State.CANCELLED,
    "PREEMPTED": State.CANCELLED,
    "REVOKED": State.CANCELLED,
}

ENDED_REASONS = {
    "JobLaunchFailure": "its script was killed, or could not be started",
    "RaisedSignal": "killed by a signal",
    "NodeDown": "a node went down",
    "BadConstraints": "no node has what it asks for",
    "DependencyNeverSatisfied": "a job before it failed",
}
STATE_REASONS = {
    "NODE_FAIL": "a node failed",
    "OUT_OF_MEMORY": "used more memory than it asked for",
    "PREEMPTED": "preempted by another job",
    "TIMEOUT": "reached its time limit",
    "BOOT_FAIL": "its node did not boot",
}
NODE_FAILED = STATE_REASONS["NODE_FAIL"]


@dataclass(frozen=True)
class Chunk:
    """One call of sbatch: tasks ``offset`` to ``offset + count - 1`` of a job, queued as ``job_id``."""

    job_id: str
    offset: int
    count: int | None  # None: a single job, no array
    only: tuple[int, ...] = ()  # the tasks, where they are not all from the offset on

    @property
    def tasks(self) -> Sequence[int]:
        """The numbers of its tasks."""
        return self.only or range(self.offset, self.offset + (1 if self.count is None else self.count))

    def id_of(self, task: int) -> str:
        """Slurm's name of one task."""
        return self.job_id if self.count is None else f"{self.job_id}_{task - self.offset}"


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for Slurm's commands: the user's, less what would override the script."""
    kept = {name: value for name, value in environ.items() if not INHERITED.match(name)}
    # Unlimited: else squeue cuts the list of an array's task numbers after 64 characters.
    return {**kept, "SLURM_BITSTR_LEN": "0"}


def cut(tasks: int | None, longest: int) -> Iterator[tuple[int, int | None]]:
    """(offset, count) of each piece. MaxArraySize bounds the index, so every piece begins at 0 (slurm.conf(5))."""
    if tasks is None:
        yield 0, None
        return
    for offset in range(0, tasks, longest):
        yield offset, min(longest, tasks - offset)


def sbatch_flags(
    indices: int | Sequence[int] | None, max_parallel: int | None, dependencies: Sequence[str]
) -> list[str]:
    """Flags of one sbatch call beyond the script's own directives. ``indices``: those of an array, or their number."""
    flags = []
    if indices is not None:
        numbers = range(indices) if isinstance(indices, int) else indices
        flags.append(f"--array={ranges(numbers)}" + (f"%{max_parallel}" if max_parallel else ""))
    if dependencies:
        flags.append(f"--dependency={','.join(dependencies)}")
    return flags


_KINDS = {"ok": "afterok", "any": "afterany", "task": "aftercorr"}


def dependency(after: After, offset: int, chunks: Sequence[Chunk]) -> str:
    """One term of --dependency: on all pieces of the other job, on one task, or task by task on the piece of equal
    offset.
    """
    if after.task is not None:
        chunk = next(chunk for chunk in reversed(chunks) if after.task in chunk.tasks)
        return f"{_KINDS[after.kind]}:{chunk.id_of(after.task)}"
    if after.kind == "task":
        return "aftercorr:" + next(chunk.job_id for chunk in chunks if chunk.offset == offset)
    return ":".join([_KINDS[after.kind], *(chunk.job_id for chunk in chunks)])


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as sbatch reads them: `0-3,5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" for first, last in parts)


def refusal(stderr: str) -> str:
    """Slurm's reason in what a refused sbatch printed."""
    rows = [re.sub(r"^(sbatch|allocation failure|error):\s*", "", row).strip() for row in stderr.splitlines()]
    for _ in range(2):
        rows = [
            re.sub(r"^(error|allocation failure|Batch job submission failed):\s*", "", row) for row in rows
        ]
    return "; ".join(dict.fromkeys(filter(None, rows))) or "sbatch gave no reason"


def expected_start(stderr: str) -> str:
    """When a `sbatch --test-only` says that the job would start; empty where it says nothing."""
    found = re.search(r"to start at (\S+)", stderr)
    return found[1] if found else ""


SQUEUE = ("squeue", "--me", "--noheader", "--states=all", "--format=%F|%K|%A|%T|%r|%S")
SACCT = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State")


# The working directory goes last: it may hold anything.
JOBS = ("squeue", "--me", "--noheader", "--format=%F|%Z")


def jobs_of(text: str, folder: str) -> list[str]:
    """The jobs (an array is one) that were queued from ``folder`` and have not ended."""
    rows = (row.partition("|") for row in text.splitlines())
    return list(dict.fromkeys(job_id.strip() for job_id, _, where in rows if where == folder))


def squeue(text: str) -> dict[tuple[str, int | None], Seen]:
    """(array or job id, task index) -> what Slurm says. A folded row of an array speaks for each of its tasks."""
    seen: dict[tuple[str, int | None], Seen] = {}
    for row in text.splitlines():
        fields = row.split("|")
        if len(fields) != 6:
            continue
        base, index, job_id, state, reason, start = (field.strip() for field in fields)
        value = _seen(state, reason, job_id if index == "N/A" else f"{base}_{index}", start)
        for number in _indices(index):
            task = (
                value
                if number is None
                else Seen(value.state, value.reason, f"{base}_{number}", value.start_estimate)
            )
            seen[base, number] = task
    return seen


def sacct(text: str) -> dict[tuple[str, int | None], Seen]:
    """The same from accounting, for jobs that left the controller's memory."""
    seen: dict[tuple[str, int | None], Seen] = {}
    for row in text.splitlines():
        job_id, _, state = row.partition("|")
        base, _, index = job_id.partition("_")
        for number in _indices(index.strip("[]") or "N/A"):
            seen[base, number] = _seen(state.split(" ")[0], "", job_id, "")
    return seen


def _seen(word: str, reason: str, job_id: str, start: str) -> Seen:
    state = STATES.get(word)
    # Reasons come with details at times: "ReqNodeNotAvail, UnavailableNodes:n3", "(Resources)". A job that has ended
    # keeps the one that it last waited for, which says nothing any more.
    key = reason.strip("()").split(",")[0]
    waits = state is State.PENDING
    text = STATE_REASONS.get(word) or (in_words(reason) if waits else ENDED_REASONS.get(key, ""))
    if waits and key == "Dependency":
        state = State.WAITING
    return Seen(state, text, job_id, start if state is State.PENDING and start != "N/A" else "")


def _indices(text: str) -> Iterator[int | None]:
    """The task numbers in "3", "0-9,12%4" or "0-8:2"; None alone for "N/A"."""
    if text == "N/A":
        yield None
        return
    for part in text.split("%")[0].split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def scancel(chunks: Iterable[Chunk]) -> list[str]:
    """One scancel for all of ``chunks``."""
    return ["scancel", *(chunk.job_id for chunk in chunks)]
