"""The record that a job's script writes of itself: what is left when the scheduler has forgotten the job."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from hpcflow.storage.publish import read_published


@dataclass(frozen=True)
class Record:
    """One task's record; ``attempt`` counts from 0, and records of earlier ones are kept beside it.

    Times are seconds since the epoch, ``cpu_seconds`` those of the script's host alone.
    """

    job_id: str
    attempt: int
    host: str
    nodes: str
    pid: int
    queued: float | None
    started: float
    ended: float | None
    exit_code: int | None
    signal: str | None
    cpu_seconds: float | None

    @property
    def succeeded(self) -> bool:
        """Whether the script reached its end and its command ended with 0."""
        return self.ended is not None and self.exit_code == 0


def read(path: Path) -> Record | None:
    """The record at ``path``; None where there is none (not started, or not visible here yet) or it is damaged."""
    try:
        data = json.loads(read_published(path, patience_s=0))
        return Record(
            job_id=str(data["job_id"]),
            attempt=int(data["attempt"]),
            host=str(data["host"]),
            nodes=str(data["nodes"]),
            pid=int(data["pid"]),
            queued=data.get("queued"),
            started=float(data["started"]),
            ended=None if data["ended"] is None else float(data["ended"]),
            exit_code=data["exit_code"],
            signal=data["signal"],
            cpu_seconds=_cpu_seconds(data["cpu"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cpu_seconds(times: str | None) -> float | None:
    """Seconds in the last line of bash's `times` ("0m1.500s 0m0.250s": user and system time of the children)."""
    parts = re.findall(r"(\d+)m(\d+)[.,](\d+)s", times or "")
    return sum(60 * int(m) + float(f"{s}.{f}") for m, s, f in parts) if parts else None
