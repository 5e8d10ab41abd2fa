"""scripts/dev-cluster: real daemons, in a directory of their own, gone afterwards."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import DEV_CLUSTER, Cluster, require, start, stop

pytestmark = pytest.mark.slurm


def dev_cluster(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([DEV_CLUSTER, *arguments], capture_output=True, text=True, timeout=180, check=False)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie: in a container often nobody reaps those."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_of(directory: Path) -> list[int]:
    """Running processes that name the directory in their arguments or have a file open below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            named = str(directory).encode() in (process / "cmdline").read_bytes()
            opened = any(fd.readlink().is_relative_to(directory) for fd in (process / "fd").iterdir())
        except OSError:
            continue
        if (named or opened) and is_running(int(process.name)):
            found.append(int(process.name))
    return found


@pytest.fixture
def directory() -> Iterator[Path]:
    require("slurmctld", "slurmd", "munged")
    started = start("--max-array-size", "50", "--conf", "MinJobAge=77", nodes=2)
    yield started.directory
    stop(started)


def test_up_again_prints_the_same_and_other_settings_are_refused(directory: Path) -> None:
    same = ["--nodes", "2", "--max-array-size", "50", "--conf", "MinJobAge=77"]
    again = dev_cluster("up", "--dir", directory, *same)
    assert (again.returncode, again.stdout) == (0, f"export SLURM_CONF={directory}/slurm.conf\n")
    other = dev_cluster("up", "--dir", directory, "--nodes", "3")
    assert other.returncode == 2
    assert "other settings" in other.stderr


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_directory_of_somebody_elses_things_is_not_touched(verb: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    (tmp_path / "lock").touch()
    refused = dev_cluster(verb, "--dir", tmp_path)
    assert refused.returncode == 2
    assert "nothing in it is touched" in refused.stderr
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


def test_options_reach_the_controller(directory: Path) -> None:
    config = Cluster(directory, 2).run("scontrol", "show", "config").stdout
    settings = {
        key.strip(): value.strip() for key, _, value in (line.partition("=") for line in config.splitlines())
    }
    assert settings["MaxArraySize"] == "50"
    assert settings["MinJobAge"] == "77 sec"
    assert settings["SLURM_CONF"] == str(directory / "slurm.conf")


def test_down_ends_jobs_and_daemons_and_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    up = Cluster(directory, 2)
    pid_file = tmp_path / "pid"
    up.run(
        "sbatch",
        "--output=/dev/null",
        f"--wrap=trap '' TERM; echo $$ >'{pid_file}'; while :; do sleep 1; done",
    )
    deadline = time.monotonic() + 30
    while not pid_file.exists() or not pid_file.read_text().strip():
        assert time.monotonic() < deadline, "the job did not start"
        time.sleep(0.1)
    assert processes_of(directory)
    assert dev_cluster("down", "--dir", directory).returncode == 0
    assert not directory.exists()
    assert processes_of(directory) == []
    assert not is_running(int(pid_file.read_text()))
    assert dev_cluster("status", "--dir", directory).returncode == 3
    assert dev_cluster("down", "--dir", directory).returncode == 0, "down is idempotent"


def test_up_replaces_a_cluster_whose_controller_died(directory: Path) -> None:
    for line in (directory / "processes").read_text().splitlines():
        pid, _, name = line.split()
        if name == "slurmctld":
            os.kill(int(pid), 9)
    time.sleep(0.5)
    same = ["--nodes", "2", "--max-array-size", "50", "--conf", "MinJobAge=77"]
    assert dev_cluster("up", "--dir", directory, *same).returncode == 0
    assert Cluster(directory, 2).run("srun", "-N2", "true").returncode == 0


def test_two_clusters_live_side_by_side(cluster: Cluster, directory: Path) -> None:
    for up in (cluster, Cluster(directory, 2)):
        names = up.run("srun", f"-N{up.nodes}", "printenv", "SLURMD_NODENAME").stdout.split()
        assert sorted(names) == [f"n{n + 1}" for n in range(up.nodes)]


def test_accounting_answers(accounting_cluster: Cluster) -> None:
    submitted = accounting_cluster.run(
        "sbatch", "--parsable", "--output=/dev/null", "--wait", "--wrap=exit 7", check=False
    )
    job = submitted.stdout.strip()
    deadline = time.monotonic() + 30
    while True:
        rows = accounting_cluster.run("sacct", "-nXPj", job, "-o", "State,ExitCode").stdout.split()
        if rows == ["FAILED|7:0"]:
            break
        assert time.monotonic() < deadline, rows
        time.sleep(0.5)


def test_srun_starts_ranks_through_pmix(cluster: Cluster) -> None:
    program = "from mpi4py import MPI; print(MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)"
    python = DEV_CLUSTER.parent.parent / ".venv" / "bin" / "python"
    ranks = cluster.run("srun", "-N2", "-n2", "--mpi=pmix", python, "-c", program).stdout
    assert sorted(ranks.splitlines()) == ["0 2", "1 2"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nodes", "0"], "--nodes wants a number from 1, not '0'"),
        (["--nodes"], "--nodes wants a number from 1, not ''"),
        (["--dir", "/tmp/with blank"], "not '/tmp/with blank'"),
        (["--conf", "nonsense"], "--conf wants one 'Key=Value', not 'nonsense'"),
        (["--max-submit-jobs", "3"], "--max-submit-jobs needs --accounting"),
        (["--frobnicate"], "does not know '--frobnicate'"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(arguments: list[str], sentence: str) -> None:
    never = f"/tmp/hpcflow-never-{os.getpid()}"
    refused = dev_cluster("up", "--dir", never, *arguments)
    assert not Path(never).exists()
    assert refused.returncode == 2
    assert sentence in refused.stderr
