"""Sweeps whose trials were never run: their files are as a job writes them whose speed follows a known law."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpcflow.engines.local import Process, key, write_state
from hpcflow.experiment import dump, load
from hpcflow.jobs.job import Allocation, Job, JobGraph
from hpcflow.jobs.layout import lay_out
from hpcflow.jobs.rundir import RunDir, TaskDir
from hpcflow.jobs.trials import TrialRow, Trials

CONFIG = Path(__file__).parents[2] / "configs" / "unet.yaml"
EPOCHS = 6
IMAGES = 1000  # of an epoch
SPEED = 50.0  # images/s of one node
LONG_AGO = 1_770_000_000.0  # seconds since the epoch: files that no clock's tick can change again


def sweep(
    folder: Path,
    *,
    sizes: Sequence[int] = (1, 2, 4, 8, 16),
    repeats: int = 3,
    sigma: float = 0.05,
    kappa: float = 0.0,
    noise: float = 0.02,
    seed: int = 0,
    slower: float = 1.0,
    name: str = "unet",
    run_id: str = "20260101-000000-aaaa",
) -> RunDir:
    """A run of ``sizes`` nodes x ``repeats``, all done an hour after they began; ``slower`` divides every speed."""
    random = np.random.default_rng(seed)
    run = RunDir(folder / name / run_id)
    experiment = load(CONFIG, [f"name={name}", "resources.memory=4G"]).experiment
    jobs = [
        Job(f"train-n{n}", Allocation(n, 1, 4), ("true",), tasks=repeats, files=_rankmap(n)) for n in sizes
    ]
    about = {
        "engine": "local", "overridden": [], "submitted": "2026-02-02T02:38:00+00:00", "hpcflow": "0.1.0",
        "launcher": {"name": "openmpi", "version": "4.1.8"}, "python": "3.11.7",
        "command": ["/x/bin/hpcflow", "submit", "unet.yaml"],
        "prices": {"core_hour": 0.02, "node_hour": 0.0, "currency": "EUR"}, "packages": {"numpy": "2.0.2"},
    }  # fmt: skip
    lay_out(run, JobGraph(tuple(jobs)), dump(experiment), about, name).write()
    rows = []
    for number, n in enumerate(sizes, 1):
        load_of = 1 + sigma * (n - 1) + kappa * n * (n - 1)
        for repeat in range(repeats):
            speed = SPEED * n / load_of * float(np.exp(random.normal(0, noise))) / slower
            values = {"resources.nodes": n}
            rows.append(
                TrialRow(
                    number, repeat, 1, n, values, {}, run_id, f"train-n{n}", repeat, f"{number}-{repeat}"
                )
            )
            _fill(run.task(f"train-n{n}", repeat), n, speed, 1 - 1 / load_of, repeat)
    run.trials.write_text(Trials(("resources.nodes",), None, repeats, tuple(rows)).to_json())
    runner = Process.here(os.getpid())
    assert runner is not None
    done = {key(where.name, task.index): {"state": "done", "reason": ""} for where in run for task in where}
    write_state(run, runner, done)
    settle(run.path)
    return run


def settle(folder: Path) -> None:
    """Make every file below ``folder`` an old one."""
    for where, _, names in os.walk(folder):
        for name in names:
            os.utime(f"{where}/{name}", (LONG_AGO, LONG_AGO))


def touch(path: Path, seconds: float) -> None:
    """Say that a file was changed so long ago."""
    os.utime(path, (time.time() - seconds,) * 2)


def _rankmap(nodes: int) -> dict[str, str]:
    ranks = [{"rank": rank, "node": rank, "cores": [0, 1, 2, 3]} for rank in range(nodes)]
    return {"rankmap.json": json.dumps({"launcher": "openmpi", "ranks": ranks})}


def _fill(task: TaskDir, nodes: int, speed: float, waiting: float, repeat: int) -> None:
    train_s = IMAGES / speed
    wall = 20.0 + EPOCHS * train_s * 1.2
    lines = [
        {
            "event": "epoch", "epoch": epoch, "loss": 0.8 / epoch, "dice": 1 - 0.8 / epoch, "val_loss": 0.9 / epoch,
            "val_dice": round(1 - 0.9 / epoch + 0.01 * repeat, 4), "images_per_s": round(speed, 3),
            "train_s": round(train_s, 3), "allreduce_s": round(train_s * waiting * 0.8, 4),
            "epoch_s": round(train_s * 1.2, 3), "learning_rate": 0.001, "ranks": nodes,
        }
        for epoch in range(1, EPOCHS + 1)
    ]  # fmt: skip
    end = {
        "event": "end", "epoch": EPOCHS, "startup_s": 12.0, "input_s": 0.05 * train_s, "cpu_s": 3.2 * nodes * wall,
        "peak_memory_mb": 1500.0 * nodes,
    }  # fmt: skip
    task.path.mkdir(exist_ok=True)  # as its script does
    task.metrics.write_text("".join(json.dumps(line) + "\n" for line in [*lines, end]))
    record = {
        "job_id": f"{nodes}_{repeat}", "attempt": 0, "host": "n1", "nodes": "n1", "pid": 1, "queued": LONG_AGO,
        "started": LONG_AGO + 5, "ended": LONG_AGO + 5 + wall, "exit_code": 0, "signal": None,
        "cpu": f"{3.2 * wall // 60:.0f}m{3.2 * wall % 60:.3f}s 0m0.000s",
    }  # fmt: skip
    task.record.write_text(json.dumps(record))
