"""The main job, as the README types it: the same configs/unet.yaml on this machine and on a real Slurm, to the CSV."""

import csv
import json
import os
from pathlib import Path

import pytest

from cluster import Cluster
from commands import CONFIGS, hpcflow

pytestmark = pytest.mark.train

# One core a rank: the dev cluster's nodes are made up, mpirun binds on the cores that there are. Fewer epochs: the
# path is what is tried here, tests/training/ sees that it learns.
SHORT = ["--set", "placement.cores_per_rank=1", "--set", "training.epochs=2", "--wait"]


def train(folder: Path, *arguments: str, env: dict[str, str]) -> tuple[Path, str, str]:
    result = hpcflow("submit", CONFIGS / "unet.yaml", *SHORT, *arguments, env=env, cwd=folder, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = (path for path in (folder / "runs" / "unet").iterdir())
    return run, result.stdout, result.stderr


def losses(run: Path) -> list[float]:
    lines = (run / "jobs" / "train" / "metrics.jsonl").read_text().splitlines()
    return [event["loss"] for event in map(json.loads, lines) if event["event"] == "epoch"]


def a_lustre(folder: Path) -> Path:
    """A site's profile that takes ``folder`` for a Lustre, and an `lfs` in it that agrees to everything."""
    (folder / "lfs").write_text("#!/bin/sh\n")
    (folder / "lfs").chmod(0o755)
    (folder / "site.yaml").write_text(json.dumps({"file_systems": {str(folder): {"type": "lustre"}}}))
    return folder / "site.yaml"


def row(path: Path) -> dict[str, str]:
    with path.open() as file:
        (only,) = csv.DictReader(file)
    return only


@pytest.mark.slurm
def test_the_same_experiment_here_and_on_two_nodes_of_slurm(cluster: Cluster, tmp_path: Path) -> None:
    cluster.cancel_all()
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    folders = [tmp_path / "here", tmp_path / "clus ter"]
    for folder in folders:
        folder.mkdir()
    lustre = ("--site", str(a_lustre(folders[0])))
    path = f"{folders[0]}:{os.environ['PATH']}"
    here, printed, _ = train(folders[0], "--engine", "local", *lustre, env={**state, "PATH": path})
    sent = ("--set", "storage.stage=sbcast")
    there, _, followed = train(folders[1], *sent, env={**state, **cluster.env})

    # The table and the place of the CSV are what the first command ends with.
    assert str(here / "results.csv") in printed
    assert "done" in printed
    assert "running" in followed

    first, second = row(here / "results.csv"), row(there / "results.csv")
    assert (first["state"], second["state"]) == ("done", "done")
    assert (first["nodes"], first["ranks"]) == ("1", "2")
    assert (second["nodes"], second["ranks"]) == ("2", "2")
    assert losses(here) == losses(there)
    assert len(losses(here)) == 2

    # The launch and its records are in the run directory.
    record = json.loads((there / "jobs/train/record.json").read_text())
    assert (record["exit_code"], record["signal"]) == (0, None)
    assert record["nodes"].startswith("n[")
    assert "mpirun" in (there / "jobs/train/script.sh").read_text()
    ranks = json.loads((there / "jobs/train/rankmap.json").read_text())["ranks"]
    assert [rank["node"] for rank in ranks] == [0, 1]
    assert "rank 1" in (there / "jobs/train/out.log").read_text()  # --report-bindings

    # Data came to the nodes by Slurm's broadcast.
    assert "were broadcast by sbcast" in (there / "jobs/train/out.log").read_text()

    # What was laid out over Lustre's servers is recorded: packed data that two ranks read, checkpoints that one writes.
    (packed,) = (here.parents[1] / ".cache").glob("packed-*/manifest.json")
    assert json.loads(packed.read_text())["about"]["stripes"] == 4
    ends = [
        json.loads((run / "jobs/train/metrics.jsonl").read_text().splitlines()[-1]) for run in (here, there)
    ]
    assert ends[0]["stripes"]["count"] == 1
    assert "staged_bytes" not in ends[0] and ends[1]["staged_bytes"] > 2**20
    assert ends[1]["stripes"]["count"] is None and "has no stripes" in ends[1]["stripes"]["why"]

    # A report of both, whatever the engine.
    table = tmp_path / "both.csv"
    assert hpcflow("report", here, there, "-o", table, env=state).returncode == 0
    with table.open() as file:
        assert [line["run"] for line in csv.DictReader(file)] == [here.name, there.name]


def test_a_training_that_fails_is_exit_1_and_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    arguments = [*SHORT, "--engine", "local", "--set", "storage.data=data"]
    result = hpcflow("submit", CONFIGS / "unet.yaml", *arguments, env=state, cwd=tmp_path)
    assert result.returncode == 1
    assert "prepare  failed" in result.stderr
    assert "train  cancelled" in result.stderr
    assert result.stderr.endswith("/prepare/out.log\n")
    log = hpcflow("logs", "last", env=state, cwd=tmp_path)
    assert "dataset.json" in log.stdout
    assert "Traceback" not in log.stdout
