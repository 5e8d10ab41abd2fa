"""Sweeps by the command itself: what is shown, refused, run and not run again."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster
from commands import CONFIGS, hpcflow

SMALL = """\
name: small
training:
  strategy: single
  model: {filters: 4, depth: 2}
  data: {phantom: {subjects: 4, shape: [16, 16, 8]}, crop: [16, 16, 8]}
  epochs: 1
  learning_rate: 0.001
placement: {cores_per_rank: 1}
sweep:
  matrix: {training.learning_rate: [0.001, 1e-2]}
"""


def plan(folder: Path, *arguments: str) -> dict[str, Any]:
    shown = hpcflow(
        "submit", "small.yaml", "--engine", "local", "--dry-run", "--json", *arguments, cwd=folder
    )
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)  # type: ignore[no-any-return]


@pytest.mark.slurm
def test_a_dry_run_shows_trials_jobs_core_hours_and_slurms_estimate(cluster: Cluster, tmp_path: Path) -> None:
    shown = hpcflow("submit", CONFIGS / "unet_scaling.yaml", "--dry-run", env=cluster.env, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("3 trials, each 2 times: 6 tasks\n")
    assert "train-n4" in shown.stdout
    assert "expected start" in shown.stdout
    assert "core-hours at most: 113; nothing was queued" in shown.stderr
    assert list(tmp_path.iterdir()) == []
    document = json.loads(
        hpcflow(
            "submit", CONFIGS / "unet_scaling.yaml", "--dry-run", "--json", env=cluster.env, cwd=tmp_path
        ).stdout
    )
    assert [trial["values"].get("training.batch_size") for trial in document["trials"][:3]] == [None, 8, 4]
    assert [trial["baseline"] for trial in document["trials"]] == [1] * 6
    assert all(job["expected_start"] for job in document["jobs"])


def test_every_problem_of_every_trial_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    text = SMALL.replace("1e-2]", "-1, x]").replace("matrix: {", "matrix: {training.epoch: [1], ")
    (tmp_path / "small.yaml").write_text(text)
    result = hpcflow("submit", "small.yaml", "--engine", "local", cwd=tmp_path)
    assert result.returncode == 2
    assert [line.split(" [trial")[0] for line in result.stderr.splitlines()] == [
        "small.yaml:10:29: training.epoch: there is no such key (did you mean `epochs`?)",
        "small.yaml:10:65: training.learning_rate: expected more than 0.0, not -1",
        "small.yaml:10:69: training.learning_rate: expected a number, not 'x'",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_trial_that_does_not_fit_the_machine_is_named(tmp_path: Path) -> None:
    text = SMALL.replace(
        "matrix: {training.learning_rate: [0.001, 1e-2]}", "matrix: {placement.cores_per_rank: [1, 4000]}"
    )
    (tmp_path / "small.yaml").write_text(text)
    result = hpcflow("submit", "small.yaml", "--engine", "local", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("small.yaml:10:42: placement.cores_per_rank: ")
    assert "[trial 2: placement.cores_per_rank = 4000]" in result.stderr


@pytest.mark.train
def test_trials_run_are_reported_and_not_run_again(tmp_path: Path) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    (tmp_path / "small.yaml").write_text(SMALL)
    first = hpcflow(
        "submit", "small.yaml", "--engine", "local", "--wait", env=state, cwd=tmp_path, timeout=300
    )
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "runs" / "small").iterdir()
    rates = [
        json.loads((run / f"jobs/train/experiments/{task:04d}.yaml").read_text())["training"]
        for task in (0, 1)
    ]
    assert [rate["learning_rate"] for rate in rates] == [0.001, 0.01]
    assert "training.learning_rate" in json.loads((run / "provenance.json").read_text())["overridden"]

    # A time limit, or another account, makes no other experiment; a value does.
    more = [
        "--set",
        "resources.time=30",
        "--set",
        "sweep.matrix={training.learning_rate: [0.001, 0.01, 0.1]}",
    ]
    document = plan(tmp_path, *more)
    assert [trial["done_in"] for trial in document["trials"]] == [run.name, run.name, None]
    assert [(job["job"], job["tasks"]) for job in document["jobs"]] == [("prepare", 1), ("train", 1)]
    assert [trial["done_in"] for trial in plan(tmp_path, *more, "--rerun")["trials"]] == [None] * 3
    other = plan(tmp_path, "--set", "training.epochs=2")
    assert [trial["done_in"] for trial in other["trials"]] == [None, None]

    # All done: a run of nothing, that reports them all the same.
    again = hpcflow("submit", "small.yaml", "--engine", "local", "--wait", env=state, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "all of them done before (--rerun runs them again)" in again.stderr

    # A repeat is one more experiment, the first of them is done.
    assert [t["done_in"] for t in plan(tmp_path, "--set", "sweep.repeats=2")["trials"]] == [run.name] * 2 + [
        None
    ] * 2
