"""Runs of small shell programs, laid out and queued as any run is, for tests of what looks at runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcflow.engines.base import Engine
from hpcflow.engines.status import TaskStatus
from hpcflow.jobs.job import Allocation, Job, JobGraph
from hpcflow.jobs.layout import lay_out
from hpcflow.jobs.rundir import RunDir

# Writes metrics and prints as the training does, one epoch each 0.2 s.
TRAIN = r"""
for epoch in $(seq "${EPOCHS:-3}"); do
  sleep "${EPOCH_S:-0.2}"
  printf '{"event": "epoch", "epoch": %d, "loss": 0.%d, "dice": 0.5, "val_loss": 0.%d, "val_dice": 0.%d, ' \
    "$epoch" $((9 - epoch)) $((8 - epoch)) $((3 + epoch)) >>"$HPCFLOW_TASK_DIR/metrics.jsonl"
  printf '"images_per_s": %d, "allreduce_s": 0.25, "train_s": 1.5, "ranks": 4}\n' \
    $((100 * epoch)) >>"$HPCFLOW_TASK_DIR/metrics.jsonl"
  echo "epoch $epoch of task $HPCFLOW_TASK"
done
echo '{"event": "end", "epoch": 3, "startup_s": 2.5, "input_s": 0.5}' >>"$HPCFLOW_TASK_DIR/metrics.jsonl"
"""

RANKMAP = {
    "launcher": "openmpi",
    "ranks": [{"rank": r, "node": r // 2, "cores": [2 * (r % 2), 2 * (r % 2) + 1]} for r in range(4)],
}


def job(name: str, script: str, **more: Any) -> Job:
    """A job that runs a line of shell for ten minutes at most."""
    return Job(name, Allocation(time="00:10:00"), ("bash", "-c", script), **more)


def training(name: str = "train", script: str = TRAIN, **more: Any) -> Job:
    """A job that looks like a training, with a rank map of 2 nodes x 2 ranks x 2 cores."""
    return job(name, script, files={"rankmap.json": json.dumps(RANKMAP)}, **more)


def lay(
    folder: Path,
    jobs: Sequence[Job],
    engine: str = "local",
    *,
    name: str = "unet",
    run_id: str = "20260101-000000-aaaa",
    experiment: Mapping[str, Any] | None = None,
    overridden: Sequence[str] = (),
) -> RunDir:
    """A run directory as a submission writes it; nothing is queued."""
    run = RunDir(folder / name / run_id)
    settings = {"name": name, "training": {"epochs": 3}, **(experiment or {})}
    about = {"engine": engine, "submitted": "2026-01-01T00:00:00+00:00", "overridden": list(overridden)}
    lay_out(run, JobGraph(tuple(jobs)), json.dumps(settings), about, name).write()  # JSON is YAML
    return run


def wait_until(what: Callable[[], bool], timeout: float = 60.0) -> None:
    """Return as soon as ``what`` holds; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


def ended(engine: Engine, run: RunDir, timeout: float = 60.0) -> Sequence[TaskStatus]:
    """The tasks of a run once none is active."""
    wait_until(lambda: not any(status.state.active for status in engine.statuses(run)), timeout)
    return engine.statuses(run)


def command(
    *arguments: str | Path, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """`hpcflow ARGUMENTS` as a user runs it, with no terminal."""
    return subprocess.run(
        [sys.executable, "-m", "hpcflow.cli", *map(str, arguments)],
        **{
            "env": {**os.environ, **(env or {})},
            "capture_output": True,
            "text": True,
            "timeout": 120,
            **more,
        },
    )
