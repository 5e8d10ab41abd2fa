"""hpcflow doctor: against real clusters, with none, with one that hangs; and what it makes of what it is told."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import pytest

import cluster as clusters
from cluster import Cluster
from hpcflow import doctor
from hpcflow.doctor.finding import Finding, text, worst
from hpcflow.doctor.launchers import libraries
from hpcflow.doctor.mpi import Mpi, identify, mismatch, srun_plugins
from hpcflow.doctor.places import folders
from hpcflow.doctor.scheduler import accounting, binding, controller, limits, nodes
from hpcflow.doctor.survey import Chosen, Survey
from hpcflow.engines.ask import Answer
from hpcflow.engines.slurm_site import Node, Partition, SlurmSite
from hpcflow.storage.mounts import Mount, parse, under

DATA = Path(__file__).parent / "data"


def run(
    *words: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hpcflow.cli", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=cwd, timeout=120)


def findings(result: "subprocess.CompletedProcess[str]", name: str) -> list[tuple[str, str]]:
    document = json.loads(result.stdout)
    return [(each["level"], each["what"]) for each in document["findings"] if each["name"] == name]


def without_slurm(folder: Path) -> dict[str, str]:
    """An environment whose PATH has everything but Slurm's commands."""
    folder.mkdir()
    for directory in os.environ["PATH"].split(os.pathsep):
        for command in Path(directory).glob("*") if Path(directory).is_dir() else ():
            slurm = command.name.startswith(("scontrol", "sinfo", "sacct", "srun", "sbatch", "squeue"))
            if not slurm and not (folder / command.name).exists():
                (folder / command.name).symlink_to(command)
    return {**os.environ, "PATH": str(folder)}


@pytest.mark.slurm
def test_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    result = run("--json", "--set", f"storage.runs={tmp_path}", env=cluster.env)
    assert result.stderr == ""
    assert [level for level, _ in findings(result, "scheduler")] == ["ok"]
    assert findings(result, "accounting") == [
        ("ok", "none kept here: states come from squeue and the jobs' own records")
    ]
    assert findings(result, "limits")[0][1].startswith("arrays of 1001 tasks")
    ((level, what),) = findings(result, "nodes")
    assert level == "ok"
    assert f"partition cpu (default): {cluster.nodes} x 2 sockets x 8 cores x 2 threads" in what
    assert findings(result, "engine")[0][1].startswith("auto is slurm: Slurm ")
    # Local to this machine, and so is every node of this cluster.
    assert [level for level, _ in findings(result, "storage.runs")] == ["ok"]
    assert result.returncode == (3 if json.loads(result.stdout)["level"] == "problem" else 0)


@pytest.mark.slurm
def test_with_accounting(accounting_cluster: Cluster) -> None:
    result = run("--json", env=accounting_cluster.env)
    assert findings(result, "accounting") == [("ok", "sacct answers")]
    assert len(findings(result, "limits")) >= 2
    assert any("account " in what for _, what in findings(result, "limits"))


def test_without_slurm(tmp_path: Path) -> None:
    result = run("--json", env=without_slurm(tmp_path / "bin"), cwd=tmp_path)
    assert findings(result, "scheduler") == [("ok", "no Slurm on this machine: jobs run here (engine local)")]
    assert findings(result, "engine") == [("ok", "auto is local: there is no Slurm here")]
    assert not findings(result, "nodes")
    ((level, what),) = findings(result, "storage.runs")
    assert level in ("ok", "warning")
    assert what.startswith(f"{tmp_path}/runs: ")


@pytest.mark.slurm
def test_a_controller_that_hangs_or_is_gone() -> None:
    """A stopped slurmctld accepts connections and never answers: doctor ends by its deadline all the same."""
    clusters.require("slurmctld", "slurmd", "munged")
    up = clusters.start(nodes=1)
    try:
        pids = [int(path.read_text()) for path in up.directory.rglob("slurmctld.pid")]
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        result = run(env=up.env)
        took = time.monotonic() - begin
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert took < 90, took  # Slurm's own clients would wait for minutes
        assert result.returncode == 3, result.stdout
        assert "problem  scheduler" in result.stdout
        assert "the controller does not answer: no answer in time" in result.stdout
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        gone = run(env=up.env)
        assert time.monotonic() - begin < 60
        assert gone.returncode == 3
        assert "slurmctld is down, says `scontrol ping`: primary at " in gone.stdout
        assert "-> try again later or ask the site" in gone.stdout
    finally:
        clusters.stop(up)


def test_a_wrong_site_and_a_wrong_file_are_input_errors(tmp_path: Path) -> None:
    assert run("--site", "nowhere").returncode == 2
    (tmp_path / "a.yaml").write_text("nam: a\n")
    result = run(str(tmp_path / "a.yaml"))
    assert result.returncode == 2
    assert "did you mean `name`?" in result.stderr


def test_folders_that_are_no_good(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: a\nstorage: {runs: /proc/nowhere, data: $NO_SUCH_VARIABLE/data}\ntraining: {data: {phantom: {}}}\n"
    )
    result = run("--json", str(tmp_path / "a.yaml"))
    assert result.returncode == 3 or os.access("/proc", os.W_OK)
    assert findings(result, "storage.data") == [("warning", "its path holds a variable that is not set here")]


def test_the_page() -> None:
    page = text(
        [
            Finding("a", "ok", "good"),
            Finding("name", "problem", "bad", "mend it"),
            Finding("b", "warning", "x", "y"),
        ]
    )
    assert page == (
        "ok       a     good\n"
        "problem  name  bad\n"
        "               -> mend it\n"
        "warning  b     x\n"
        "               -> y\n"
        "\n"
        "1 problem, 1 warning\n"
    )
    assert text([Finding("a", "ok", "good")]).endswith("\nall is well\n")
    assert worst([]) == "ok"


# --- What the checks make of a survey. The survey is data; these are sites that cannot be had here.
MOUNTS = parse((DATA / "mountinfo.txt").read_text(encoding="utf-8"))
NODES = tuple(Node(f"n{n}", 2, 8, 2, 5000, 32, (), ("cpu",), "", "IDLE", f"n{n}") for n in (1, 2))
CLUSTER = SlurmSite(
    version=(23, 11, 4),
    ctld_up=True,
    cluster="big",
    task_plugins=("affinity", "cgroup"),
    nodes=NODES,
    partitions=(Partition("cpu", True, True, None, 0, 2, 0, 2, "n[1-2]"),),
)
OPENMPI = Mpi("openmpi", "4.1.8", "/env/bin/mpirun")


def survey(
    slurm: SlurmSite | None = CLUSTER, real: str = "/", launcher: str = "openmpi", **others: Any
) -> Survey:
    folder = {"real": real, "free": 10**12, "inodes": 10**6, "writable": True, **others.pop("folder", {})}
    said = {"folder storage.runs": folder, "folder $HOME": folder, **others.pop("said", {})}
    answers = {name: Answer(0, json.dumps(value)) for name, value in said.items()}
    made = Survey(
        loaded=doctor.here(),
        slurm=slurm,
        choice=Chosen("slurm" if slurm else "local", "", launcher, ""),
        answers={"plugins": Answer(0, "MPI plugin types are...\n\tnone\n\tpmi2\n"), **answers},
        launchers={"mpirun": OPENMPI},
        folders={"storage.runs": real, "$HOME": real},
        mounts=MOUNTS,
    )
    return replace(made, **others)


@pytest.mark.parametrize(
    ("real", "slurm", "level", "says"),
    [
        ("/lustre/me/runs", CLUSTER, "ok", "lustre, 931 GiB free; without flock (hpcflow does not lock)"),
        ("/home/me/runs", CLUSTER, "ok", "nfs4, 931 GiB free; other nodes see new files within 60 s"),
        ("/sw/x", CLUSTER, "ok", "other nodes see new files within 10 s"),
        (
            "/home/me/a b/x",
            CLUSTER,
            "problem",
            "/home/me/a b/x: tmpfs, 931 GiB free; it is local to this machine",
        ),
        ("/tmp/runs", CLUSTER, "problem", "it is local to this machine, the compute nodes do not see it"),
        (
            "/odd/runs",
            CLUSTER,
            "warning",
            "fuse.sshfs, 931 GiB free; whether the compute nodes see it is not known",
        ),
        ("/tmp/runs", None, "ok", "ext4, 931 GiB free"),
    ],
)
def test_where_runs_go(real: str, slurm: SlurmSite | None, level: str, says: str) -> None:
    runs, home = folders(survey(slurm, real))
    assert (runs.name, runs.level, home.level) == ("storage.runs", level, "ok")
    assert says in runs.what


def test_runs_without_room_or_right() -> None:
    assert next(folders(survey(None, folder={"free": 10**9}))).level == "warning"
    assert next(folders(survey(None, folder={"writable": False}))).level == "problem"
    hanging = survey(None)
    hanging = replace(hanging, answers={**hanging.answers, "folder storage.runs": Answer(None, late=True)})
    found = next(folders(hanging))
    assert (found.level, found.what) == ("problem", "/: no answer in time")


def test_mounts() -> None:
    assert under("/home/me/a b", MOUNTS) == Mount(
        "/home/me/a b", "tmpfs", "tmp fs", {"rw": "", "relatime": "", "size": "1g"}
    )
    assert under("/home/me/a bc", MOUNTS) == under("/home", MOUNTS)
    assert under("/x", ()) is None
    home, late = under("/home", MOUNTS), under("/lustre", MOUNTS)
    assert home is not None
    assert home.attribute_cache == 60
    assert late is not None
    assert (late.kind, late.attribute_cache) == ("lustre", None)  # the later of two mounts at one place
    assert under("/sw", MOUNTS).attribute_cache == 10  # type: ignore[union-attr]
    assert under("/noac", MOUNTS).attribute_cache == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("said", "family", "version"),
    [
        ("mpirun (Open MPI) 4.1.8\n\nReport bugs to", "openmpi", "4.1.8"),
        ("Open MPI v5.0.11, package: Open MPI x Distribution, ident: 5.0.11", "openmpi", "5.0.11"),
        ("Open MPI v5.0.0rc2, package", "openmpi", "5.0.0rc2"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.14 Build 20241121", "intelmpi", "2021.14"),
        ("Intel(R) MPI Library 2021.14 for Linux* OS\n", "intelmpi", "2021.14"),
        ("HYDRA build details:\n    Version:                                 4.2.3\n", "mpich", "4.2.3"),
        ("MPICH Version:      4.2.3\nMPICH Release date:", "mpich", "4.2.3"),
        ("MVAPICH2 Version      :\t2.3.7\n", "mvapich", "2.3.7"),
    ],
)
def test_what_an_mpi_says_of_itself(said: str, family: str, version: str) -> None:
    assert identify(said, "/x/lib/libmpi.so") == Mpi(family, version, "/x/lib/libmpi.so")


def test_an_mpi_that_is_not_known() -> None:
    assert identify("some wrapper") is None


def test_the_real_mpirun_says_what_it_is() -> None:
    command = which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert command, "no mpirun: the environment brings one (extra `train`)"
    out = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert identify(out) is not None


@pytest.mark.parametrize(
    ("library", "level", "says"),
    [
        ("Open MPI v4.1.8, x", "ok", "as its launcher does"),
        ("Open MPI v4.1.4, x", "warning", "the launcher is Open MPI 4.1.8"),
        ("Open MPI v5.0.11, x", "problem", "a mix of versions fails at MPI_Init"),
        ("Intel(R) MPI Library 2021.14 for Linux* OS", "problem", "every rank would be rank 0 of 1"),
    ],
)
def test_a_library_against_its_launcher(library: str, level: str, says: str) -> None:
    answer = {"installed": True, "library": "/x/lib/libmpi.so.40", "version": library}
    horovod, mpi4py = libraries(survey(said={"horovod": answer, "mpi4py": {"installed": False}}))
    assert (horovod.name, horovod.level, mpi4py.level) == ("Horovod", level, "warning")
    assert says in horovod.what


def test_libraries_that_cannot_be_loaded_or_started() -> None:
    lost = {"installed": True, "error": "libmpi.so.40 is not found"}
    fine = {"installed": True, "library": "/x/lib/libmpi.so.40", "version": "Open MPI v5.0.11, x"}
    found = list(libraries(survey(said={"horovod": lost, "mpi4py": fine}, launcher="srun")))
    assert [(each.name, each.level) for each in found] == [("Horovod", "problem"), ("mpi4py", "ok")]
    none = survey(said={"horovod": lost, "mpi4py": fine}, launcher="srun")
    none = replace(none, answers={**none.answers, "plugins": Answer(0, "MPI plugin types are...\n\tnone\n")})
    assert [each.level for each in libraries(none) if each.name == "launcher"] == ["problem"]


def test_mixes() -> None:
    assert not mismatch(Mpi("mpich", "4.2.3"), Mpi("intelmpi", "2021.14"))
    assert mismatch(Mpi("mpich", "4.2.3"), OPENMPI)


def test_plugins_of_srun() -> None:
    recorded = (DATA / "slurm-22.05.8" / "plugins.txt").read_text(encoding="utf-8")
    assert {"pmix", "none", "pmi2"} <= set(srun_plugins(recorded))
    assert "pmix_v4" not in srun_plugins(recorded)
    assert srun_plugins("srun: MPI types are...\nsrun: none\nsrun: pmi2\n") == ("none", "pmi2")


def levels(check: Any, slurm: SlurmSite | None, **others: Any) -> list[str]:
    return [finding.level for finding in check(survey(slurm, **others))]


def test_schedulers() -> None:
    assert levels(controller, None) == levels(controller, CLUSTER) == ["ok"]
    assert levels(controller, replace(CLUSTER, version=(19, 5, 0))) == ["warning"]
    backup = (("primary at a", False), ("backup at b", True))
    assert levels(controller, replace(CLUSTER, controllers=backup)) == ["ok", "warning"]
    assert levels(controller, SlurmSite((), False, "Could not establish a configuration source")) == [
        "warning"
    ]
    assert levels(controller, SlurmSite((22, 5, 8), False, "Unable to contact slurm controller")) == [
        "problem"
    ]
    assert levels(accounting, replace(CLUSTER, accounting_storage="slurmdbd")) == ["warning"]
    assert levels(accounting, replace(CLUSTER, min_job_age=2)) == ["ok", "warning"]
    assert levels(limits, replace(CLUSTER, max_array_size=0)) == ["problem"]
    assert levels(nodes, replace(CLUSTER, partitions=())) == ["problem"]
    closed = replace(CLUSTER.partitions[0], up=False)
    assert levels(nodes, replace(CLUSTER, partitions=(closed,))) == ["warning"]
    down = tuple(replace(node, state="DOWN*") for node in NODES)
    assert levels(nodes, replace(CLUSTER, nodes=down)) == ["warning"]
    other = replace(CLUSTER.partitions[0], default=False)
    assert levels(nodes, replace(CLUSTER, partitions=(other,))) == ["ok", "warning"]
    assert levels(binding, CLUSTER) == []
    assert levels(binding, replace(CLUSTER, task_plugins=())) == ["ok"]
    assert levels(binding, replace(CLUSTER, task_plugins=()), launcher="srun") == ["problem"]
    for check in (accounting, limits, nodes, binding):
        assert levels(check, None) == levels(check, SlurmSite((), False, "x")) == []
