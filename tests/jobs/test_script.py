"""Scripts are golden files: read them as shell. `--update-golden` writes them anew."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcflow.experiment import load
from hpcflow.flows import graph
from hpcflow.flows.target import Target
from hpcflow.jobs.job import Allocation, Job
from hpcflow.jobs.script import directive_value, render, warning
from hpcflow.placement.topology import Topology

CONFIGS = Path(__file__).parents[2] / "configs"
CLUSTER = Target(
    "slurm", "/env", True, Topology.from_counts(2, 8, 2), "openmpi", "4.1.8", scheduler_version="22.05.8"
)
HERE = dataclasses.replace(CLUSTER, scheduler="local", node=Topology.from_counts(1, 4))
SRUN = dataclasses.replace(
    CLUSTER, launcher="srun", launcher_version="22.05.8", mpi_plugin="pmix", own_mpi=False
)

HOSTILE = [
    "environment.modules=[gcc/12, 'odd;$(module)']",
    "environment.variables={GREETING: 'it''s \"$(touch /tmp/x)\"; `id`', EMPTY: ''}",
    "storage.data='/data/${USER}/a b;$(touch x)`id`/\"it''s\"'",
    "resources={nodes: 2, partition: cpu, account: proj, qos: high, constraint: 'a&b', gres: 'gpu:2',"
    " exclude: 'n[3-4]', memory: 16G, reservation: r1, extra: ['--mail-user=a b@c \"d\"', --requeue]}",
]

CONTAINER = [
    "container={image: $WORK/unet.sif, cleanenv: true, nv: true, env: {GREETING: hello}, flags: [--no-home],"
    " binds: ['/opt/licence;$(touch x):/licence:ro']}",
    "storage.data=/data/set",
]


CONFINED = [
    "container={image: unet.sif}",
    "federation.collaborators=[{name: a, data: /data/a}, {name: b, data: $B}]",
    "federation.rounds=1",
    "federation.evaluation={aggregated: false}",
]


def scripts(target: Target, *sets: str, config: str = "unet") -> dict[str, str]:
    loaded = load(CONFIGS / f"{config}.yaml", sets)
    return {job.name: render(job, f"{config}.{job.name}") for job in graph(loaded, target)}


@pytest.mark.parametrize(
    ("name", "target", "sets"),
    [
        ("openmpi", CLUSTER, []),
        ("srun", SRUN, ["placement.launcher=srun"]),
        ("local", HERE, []),
        ("hostile", CLUSTER, HOSTILE),
        ("container", dataclasses.replace(CLUSTER, code="/code/hpcflow"), CONTAINER),
    ],
)
def test_the_scripts_of_a_training(
    name: str, target: Target, sets: list[str], golden: Callable[[str, str], None]
) -> None:
    for job, text in scripts(target, *sets).items():
        golden(f"scripts/{name}/{job}.sh", text)


def test_the_scripts_of_a_confined_federation(golden: Callable[[str, str], None]) -> None:
    """The one that trains shows all that a collaborator is given; see tests/containers/test_confine.py."""
    target = dataclasses.replace(CLUSTER, code="/code/hpcflow")
    for job, text in scripts(target, *CONFINED, config="federated_unet").items():
        golden(f"scripts/confined/{job}.sh", text)


def test_an_array_script(golden: Callable[[str, str], None]) -> None:
    job = Job("sweep", Allocation(time="00:10:00"), ("python", "trial.py"), tasks=2500, max_parallel=8)
    golden("scripts/array.sh", render(job, "x.sweep"))


@pytest.mark.parametrize(
    ("time", "seconds"), [("00:01:00", 6), ("00:05:00", 30), ("1-00:00:00", 60), ("UNLIMITED", 60)]
)
def test_a_short_job_is_not_warned_at_its_start(time: str, seconds: int) -> None:
    assert warning(time) == seconds


def test_every_golden_script_passes_shellcheck_and_bash() -> None:
    files = sorted((Path(__file__).parents[1] / "golden" / "scripts").rglob("*.sh"))
    assert len(files) >= 9
    shellcheck = Path(sys.executable).with_name("shellcheck")
    checked = subprocess.run([shellcheck, *files], capture_output=True, text=True, check=False)
    assert checked.stdout == ""
    for file in files:
        assert subprocess.run(["bash", "-n", file], check=False).returncode == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("n[1-2],n4", "n[1-2],n4"),
        ("a b", '"a b"'),
        ('say "x"', '"say \\"x\\""'),
        ("a\\b", '"a\\\\b"'),
        ("$(id)", '"$(id)"'),
    ],
)
def test_directives_are_quoted_as_sbatch_reads_them(value: str, text: str) -> None:
    assert directive_value(value) == text
