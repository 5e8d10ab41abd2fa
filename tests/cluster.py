"""Real Slurm clusters for the tests, started by scripts/dev-cluster when the first test asks for one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEV_CLUSTER = ROOT / "scripts" / "dev-cluster"
# Debian keeps the daemons where an ordinary user's PATH does not look.
DAEMON_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up. Give `env` to whatever shall talk to it."""

    directory: Path
    nodes: int

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.directory / "slurm.conf")}

    def run(
        self, *command: str | Path, check: bool = True, timeout: float = 120, **options: object
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command against the cluster and returns its output as text."""
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [str(word) for word in command],
            **{"env": self.env, "capture_output": True, "text": True, "check": check, "timeout": timeout}
            | options,
        )

    def cancel_all(self) -> None:
        """Leaves the queue empty for the next test."""
        self.run("scancel", "--state=PENDING", "--me", check=False)
        self.run("scancel", "--full", "--signal=KILL", "--me", check=False)
        self.run("scancel", "--me", check=False)


def missing(*commands: str) -> list[str]:
    return [name for name in commands if not shutil.which(name, path=DAEMON_PATH)]


def require(*commands: str) -> None:
    """Skips the test where Slurm is not installed; under CI=true that is a failure."""
    if absent := missing(*commands):
        reason = f"{', '.join(absent)} not installed; as root, scripts/test installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def start(*options: str, nodes: int = 4) -> Cluster:
    """A cluster of its own; end it with stop()."""
    # Below the directory that scripts/test clears, so that a killed pytest leaves none; and short, because a
    # socket's address ends at 107 characters.
    parent = os.environ.get("HPCFLOW_TEST_CLUSTERS")
    directory = Path(
        tempfile.mkdtemp(prefix="c", dir=parent) if parent else tempfile.mkdtemp(prefix="hpcflow-")
    )
    started = subprocess.run(
        [DEV_CLUSTER, "up", "--dir", directory, "--nodes", str(nodes), *options],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if started.returncode:
        stop(Cluster(directory, nodes))
        pytest.fail(
            f"scripts/dev-cluster up: exit code {started.returncode}\n{started.stderr}", pytrace=False
        )
    return Cluster(directory, nodes)


def stop(cluster: Cluster) -> None:
    subprocess.run([DEV_CLUSTER, "down", "--dir", cluster.directory], timeout=120, check=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Four nodes of 2 sockets x 8 cores x 2 threads, the partition `cpu`, Slurm's defaults, no accounting."""
    require("slurmctld", "slurmd", "munged")
    up = start()
    yield up
    stop(up)


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """The same with slurmdbd and MariaDB behind it: sacct answers, and slurmctld itself forgets jobs at once."""
    require("slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd")
    up = start("--accounting", "--conf", "MinJobAge=2", nodes=2)
    yield up
    stop(up)
