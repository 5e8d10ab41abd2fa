"""The U-Net trains in an image that the tests built, with two Horovod ranks: on this machine and on a Slurm."""

import json
from pathlib import Path

import pytest

from cluster import Cluster
from commands import hpcflow
from containers.conftest import Image
from containers.test_check import config

pytestmark = pytest.mark.train


def run_of(folder: Path) -> Path:
    (found,) = (folder / "runs" / "inside").iterdir()
    return found


def trained(run: Path, ranks: int) -> None:
    """Both ranks were in the image, where the plan put them, and trained together."""
    task = run / "jobs" / "train"
    last = json.loads((task / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "end" and last["ranks"] == ranks
    record = json.loads((task / "record.json").read_text())
    assert record["exit_code"] == 0
    assert "2 rank(s)" in (task / "out.log").read_text()
    about = json.loads((run / "provenance.json").read_text())["container"]
    assert len(about["sha256"]) == 64 and about["definition"] == "unet"


@pytest.mark.parametrize(
    ("more", "launcher"),
    [("", "openmpi"), (", cleanenv: true", "openmpi"), (", mpi: bind", "openmpi"), ("", "horovodrun")],
    ids=["hybrid", "cleanenv", "bind", "horovodrun"],
)
def test_on_this_machine(image: Image, tmp_path: Path, more: str, launcher: str) -> None:
    path = config(tmp_path, image, more)
    words = ("--engine", "local", "--wait", "--set", f"placement.launcher={launcher}")
    done = hpcflow("submit", path, *words, cwd=tmp_path, timeout=400)
    log = (run_of(tmp_path) / "jobs" / "train" / "out.log").read_text()
    assert done.returncode == 0, done.stderr + log
    trained(run_of(tmp_path), 2)


def test_data_is_staged_into_the_image_of_a_job(image: Image, tmp_path: Path) -> None:
    """Through a TMPDIR that is no other folder inside; nothing of the copy is left."""
    scratch = tmp_path / "scratch a'b"
    scratch.mkdir()
    path = config(tmp_path, image)
    sets = ("--set", "storage.stage=local")
    # What else the submitter's shell says to the runtime is no business of a job's.
    env = {"TMPDIR": str(scratch), "APPTAINER_BIND": "/nowhere/at/all"}
    done = hpcflow("submit", path, "--engine", "local", "--wait", *sets, cwd=tmp_path, env=env, timeout=400)
    log = (run_of(tmp_path) / "jobs" / "train" / "out.log").read_text()
    assert done.returncode == 0, done.stderr + log
    trained(run_of(tmp_path), 2)
    last = json.loads((run_of(tmp_path) / "jobs/train/metrics.jsonl").read_text().splitlines()[-1])
    assert last["staged_bytes"] > 0 and last["stage_s"] >= 0
    assert "data copied in " in log and ": asked for" in log
    assert not list(scratch.glob("hpcflow-stage-*"))


@pytest.mark.slurm
@pytest.mark.parametrize("launcher", ["openmpi", "srun"])
def test_on_slurm(image: Image, cluster: Cluster, tmp_path: Path, launcher: str) -> None:
    """Two nodes, a rank each, started by mpirun and by srun's PMIx."""
    path = config(tmp_path, image)
    said: tuple[str, ...] = ("resources.nodes=2", "placement.ranks_per_node=1", "placement.cores_per_rank=1")
    said += ("placement.verify=warn", f"placement.launcher={launcher}")
    sets = [word for text in said for word in ("--set", text)]
    done = hpcflow(
        "submit", path, "--engine", "slurm", "--wait", *sets, cwd=tmp_path, env=cluster.env, timeout=400
    )
    log = run_of(tmp_path) / "jobs" / "train" / "out.log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    trained(run_of(tmp_path), 2)
