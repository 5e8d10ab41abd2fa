"""`render` and `submit`, by the command itself, without training: what is asked for is refused, shown or queued."""

import json
import re
from pathlib import Path

import pytest

from cluster import Cluster
from commands import CONFIGS, hpcflow

UNET = CONFIGS / "unet.yaml"


def sets(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def test_render_writes_nothing_and_shows_what_submit_would_queue(tmp_path: Path) -> None:
    shown = hpcflow("render", UNET, "--engine", "local", *sets(f"storage.runs={tmp_path}/r"))
    assert shown.returncode == 0
    assert "mpirun" in shown.stdout
    assert list(tmp_path.iterdir()) == []
    folder = tmp_path / "out"
    written = hpcflow("render", UNET, "--engine", "local", "-o", folder, *sets(f"storage.runs={tmp_path}/r"))
    assert written.returncode == 0
    assert (folder / "jobs/train/script.sh").read_text() in shown.stdout
    assert {"experiment.yaml", "provenance.json"} < {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("override", "place", "sentence"),
    [
        ("placement.ranks_per_node=4000", "--set:1:26: placement.ranks_per_node: ", "asked 8000 ranks on"),
        ("placement.cores_per_rank=4000", "--set:1:26: placement.cores_per_rank: ", "4000"),
        ("resources.time=1:99", "--set:1:16: resources.time: ", "no time that Slurm reads"),
        ("name=a/b", "--set:1:6: name: ", "is no name"),
        ('storage.runs="a\\nb"', "--set:1:14: storage.runs: ", "control character"),
        ("storage.runs=$NOT_SET_ANYWHERE/runs", "--set:1:14: storage.runs: ", "NOT_SET_ANYWHERE is not set"),
        ("storage.data=nowhere", "--set:1:14: storage.data: ", "leave the key out to train on phantoms"),
        ("resource.nodes=2", "--set:1:1: resource: ", "did you mean `resources`"),
        ("resources.nodes=two", "--set:1:17: resources.nodes: ", "expected a whole number"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(
    override: str, place: str, sentence: str, tmp_path: Path
) -> None:
    result = hpcflow("submit", UNET, "--engine", "local", "--set", override, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(place)
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_errors_at_once_are_two_lines(tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("name: x\nresources: {nodes: two}\ntraning: {epochs: 1}\n")
    result = hpcflow("submit", config)
    assert result.returncode == 2
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [f"{config}:2:20", f"{config}:3:1"]


def test_slurm_that_is_not_there_is_exit_3(tmp_path: Path) -> None:
    nowhere = {"SLURM_CONF": str(tmp_path / "none")}
    result = hpcflow("submit", UNET, "--engine", "slurm", env=nowhere, cwd=tmp_path)
    assert result.returncode == 3
    assert result.stderr.startswith("--engine slurm: ")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_engine_is_exit_2(tmp_path: Path) -> None:
    result = hpcflow("submit", UNET, "--engine", "slrum", cwd=tmp_path)
    assert result.returncode == 2
    assert "known: slurm, local, auto" in result.stderr


def test_dry_run_prints_one_json_document(tmp_path: Path) -> None:
    result = hpcflow("submit", UNET, "--engine", "local", "--dry-run", "--json", cwd=tmp_path)
    assert result.returncode == 0
    assert [job["job"] for job in json.loads(result.stdout)["jobs"]] == ["prepare", "train"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slurm
def test_a_job_that_can_never_start_is_exit_3_with_slurms_reason_and_nothing_queued(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.cancel_all()
    result = hpcflow("submit", UNET, *sets("resources.nodes=99"), env=cluster.env, cwd=tmp_path)
    assert result.returncode == 3
    assert re.search(r"Slurm would refuse the job train: .*node", result.stderr)
    assert cluster.run("squeue", "--me", "--noheader").stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slurm
def test_a_partition_that_slurm_does_not_have_is_told_with_its_place(
    cluster: Cluster, tmp_path: Path
) -> None:
    result = hpcflow("submit", UNET, *sets("resources.partition=gpu"), env=cluster.env, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "--set:1:21: resources.partition: Slurm has no nodes in it (it has cpu)\n"


@pytest.mark.slurm
def test_submit_returns_at_once_with_the_runs_name_and_queues_what_render_showed(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.cancel_all()
    env = {**cluster.env, "XDG_STATE_HOME": str(tmp_path / "state"), "SBATCH_PARTITION": "nonsense"}
    hold = sets("resources.extra=[--hold]", "resources.nodes=2")
    folder = tmp_path / "out"
    assert hpcflow("render", UNET, *hold, "-o", folder, env=env, cwd=tmp_path).returncode == 0
    result = hpcflow("submit", UNET, *hold, "--json", env=env, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = Path(json.loads(result.stdout)["path"])
    for job in ("prepare", "train"):
        queued = json.loads((run / "jobs" / job / "queued.json").read_text())["chunks"][0]["job_id"]
        held = cluster.run("scontrol", "write", "batch_script", queued, "-").stdout
        assert held.rstrip("\n") == (folder / "jobs" / job / "script.sh").read_text().rstrip("\n")
    assert hpcflow("status", "last", env=env, cwd=tmp_path).returncode == 0
    cancelled = hpcflow("cancel", "last", env=env, cwd=tmp_path)
    assert cancelled.returncode == 0
    assert "2" in cancelled.stdout
    status = json.loads(hpcflow("status", "last", "--json", env=env, cwd=tmp_path).stdout)
    assert "cancelled" in json.dumps(status)
    assert cluster.run("squeue", "--me", "--noheader").stdout == ""
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["engine"] == "slurm"
    assert provenance["overridden"] == ["resources.extra", "resources.nodes"]
    assert Path(provenance["config"]) == UNET
