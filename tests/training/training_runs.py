"""Making and running real training jobs in tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hpcflow.experiment import dump, load_resolved
from hpcflow.experiment.schema import Experiment
from hpcflow.jobs.job import Allocation, Job, JobGraph
from hpcflow.jobs.rundir import RunDir, TaskDir

SMALL: dict[str, Any] = {
    "strategy": "horovod",
    "model": {"name": "unet2d", "filters": 4, "depth": 3, "dropout": 0.1},
    "data": {
        "phantom": {"subjects": 5, "shape": [24, 24, 16], "seed": 3},
        "modalities": ["FLAIR", "t1gd"],
        "crop": [16, 16, 8],
        "validation_fraction": 0.3,
        "augment": {"flip": True, "rotate90": True, "noise": 0.1},
    },
    "epochs": 3,
    "batch_size": 3,
}
"""A training of a few seconds: five PHANTOM brains, a net of two thousand weights."""


def make_run(
    path: Path, training: dict[str, Any], job: str = "train", allocation: Allocation = Allocation()
) -> tuple[Path, TaskDir]:
    """A run directory with one job whose resolved experiment is written, as a submit would leave it."""
    experiment = Experiment.model_validate({"name": "test", "training": training})
    path.mkdir(parents=True)
    run = RunDir(path)
    run.graph_file.write_text(json.dumps(JobGraph((Job(job, allocation, ()),)).to_json()))
    task = run.task(job, 0)
    task.experiment.parent.mkdir(parents=True)
    task.experiment.write_text(dump(experiment))
    assert load_resolved(task.experiment) == experiment
    return path, task


def launch(ranks: int | None) -> list[str]:
    """The words before the program: none, or mpirun with ``ranks`` ranks."""
    if ranks is None:
        return []
    mpirun = Path(sys.executable).parent / "mpirun"
    return [str(mpirun), "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]


def environment() -> dict[str, str]:
    """One thread a rank, as the job script sets it for one core."""
    return {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def run_module(module: str, *arguments: object, ranks: int | None = None) -> subprocess.CompletedProcess[str]:
    """``python -m module arguments``, under mpirun where ``ranks`` is given."""
    command = [*launch(ranks), sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def metrics(task: TaskDir) -> list[dict[str, Any]]:
    """The lines of a task's metrics."""
    return [json.loads(line) for line in task.metrics.read_text().splitlines()]
