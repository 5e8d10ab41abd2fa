"""What Slurm's accounting knows of jobs: sacct as two pure functions, and its use where it answers.

Fields and formats are those of Slurm 22.05; `sacct` prints times by SLURM_TIME_FORMAT since 15.08.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

FIELDS = ("JobID", "Submit", "Start", "End", "TotalCPU", "MaxRSS")
TIMEOUT_S = 30.0
_AT_ONCE = 1000  # job ids in one command line: far below every ARG_MAX
_UNITS = {"": 1 / 2**20, "K": 1 / 2**10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}


@dataclass(frozen=True)
class Usage:
    """What one task used. Times are seconds since the epoch; None is what accounting does not tell."""

    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    cpu_s: float | None = None
    peak_memory_mb: float | None = None


def sacct(job_ids: Iterable[str]) -> list[str]:
    """The command that asks for these jobs and their steps; array tasks that began have rows of their own."""
    ids = ",".join(dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids))
    return [
        "sacct",
        "--noheader",
        "--parsable2",
        "--noconvert",
        f"--jobs={ids}",
        f"--format={','.join(FIELDS)}",
    ]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment, with times as seconds since the epoch and no SACCT_* that changes the output."""
    kept = {name: value for name, value in environ.items() if not name.startswith("SACCT_")}
    return {**kept, "SLURM_TIME_FORMAT": "%s"}


def usages(text: str) -> dict[str, Usage]:
    """Job id (of an array: ID_INDEX) -> what it used, from what `sacct` printed.

    The job's own row has its times and the CPU time of all its steps; memory is in the rows of the steps
    (ID.batch, ID.0), and the largest counts. Rows of another form are passed over.
    """
    jobs: dict[str, Usage] = {}
    peaks: dict[str, float] = {}
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) != len(FIELDS):
            continue
        job_id, submit, start, end, cpu, rss = (cell.strip() for cell in cells)
        base, _, _step = job_id.partition(".")
        if (memory := megabytes(rss)) is not None:
            peaks[base] = max(memory, peaks.get(base, 0.0))
        if job_id == base:
            jobs[base] = Usage(_time(submit), _time(start), _time(end), seconds(cpu))
    return {
        job_id: Usage(u.submitted, u.started, u.ended, u.cpu_s, peaks.get(job_id))
        for job_id, u in jobs.items()
    }


def seconds(text: str) -> float | None:
    """Slurm's duration, [DD-[HH:]]MM:SS[.mmm], in seconds."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text)
    if not found:
        return None
    days, hours, minutes = (int(part or 0) for part in found.groups()[:3])
    return ((days * 24 + hours) * 60 + minutes) * 60 + float(found[4])


def megabytes(text: str) -> float | None:
    """Slurm's memory (123456K, 1.5G, bytes without a unit) in MiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return float(found[1]) * _UNITS[found[2]] if found else None


def ask(job_ids: Sequence[str], environ: Mapping[str, str] = os.environ) -> dict[str, Usage]:
    """What accounting says of these jobs; nothing where there is none, as on clusters without slurmdbd."""
    from hpcflow.engines import ask as question

    found: dict[str, Usage] = {}
    for some in _pieces(sorted({job_id.partition("_")[0] for job_id in job_ids if job_id[:1].isdigit()})):
        answer = question.ask(sacct(some), TIMEOUT_S, environment(environ))
        if not answer.ok:
            return found
        found |= usages(answer.out)
    return found


def _pieces(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def _time(text: str) -> float | None:
    return float(text) if text.isdigit() else None  # "Unknown", "None"
