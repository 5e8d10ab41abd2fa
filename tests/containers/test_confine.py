"""On the real runtime: a collaborator's training code looks for another's data, and the aggregator for anyone's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from containers.conftest import CODE, Image
from federation.federations import about
from hpcflow.containers.confine import confine
from hpcflow.containers.mount import Mount
from hpcflow.errors import InputError
from hpcflow.experiment.container import Container
from hpcflow.jobs import shell
from hpcflow.training.data.phantom import PhantomSpec, write_phantoms

pytestmark = pytest.mark.train

ROUND = [Mount("HPCFLOW_PUBLIC"), Mount("HPCFLOW_WORK", writable=True)]
# What a submitter's shell may export.
SHELL = {
    "MY_TOKEN": "secret",
    "APPTAINERENV_SECRET": "secret",
    "HPCFLOW_TOKEN": "secret",
    "SLURM_JWT": "secret",
}

# What training code could try. Prints what it got at, by what it tried.
SPY = r"""
import ctypes, glob, json, os, sys
secret, own = sys.argv[1], sys.argv[2]
got = {}

def attempt(name, what):
    try:
        got[name] = repr(what())[:200]
    except OSError:
        pass

attempt("by its path", lambda: open(secret + "/patients.csv").read())
attempt("by a link in the own data", lambda: open(own + "/link/patients.csv").read())
attempt("by dot dot", lambda: open(own + "/../B/patients.csv").read())
attempt("by listing", lambda: os.listdir(own + "/../B"))
for root in glob.glob("/proc/[0-9]*/root") + glob.glob("/proc/[0-9]*/cwd"):
    attempt("by " + root, lambda: open(root + secret + "/patients.csv").read())
attempt("by a device", lambda: open("/dev/vda", "rb").read(1))
ctypes.CDLL(None).mount(None, own.encode(), None, 0x1020, None)  # mount -o remount,rw,bind
attempt("writing to the own data", lambda: open(own + "/new", "w").write("x"))
attempt("by the node's /tmp", lambda: open("/tmp/" + os.path.basename(secret) + ".txt").read())
sees = {"own": os.path.exists(own + "/patients.csv"), "public": open(os.environ["HPCFLOW_PUBLIC"] + "/model").read(),
        "secrets": [name for name in os.environ if "secret" in os.environ[name]],
        "passed": os.environ.get("GREETING", "")}
with open(os.environ["HPCFLOW_WORK"] + "/out", "w") as file:
    file.write("done")
print(json.dumps({"got": got, "sees": sees}))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("A", "B"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "patients.csv").write_text(f"of {name}")
    (tmp_path / "data" / "A" / "link").symlink_to(tmp_path / "data" / "B")
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "model").write_text("weights")
    (tmp_path / "work").mkdir()
    (tmp_path / "spy.py").write_text(SPY)
    return tmp_path


def spy(image: Image, place: Path, data: Path | None) -> dict[str, dict[str, str]]:
    """What the code sees when it is started by the very words of a job."""
    made = confine(
        Container(image=str(image.path), env={"GREETING": "hello"}),
        package=str(CODE),
        mounts=[*([Mount("HPCFLOW_DATA")] if data else []), *ROUND],
        variables=("HPCFLOW_PUBLIC", "HPCFLOW_WORK"),
        mpi_prefix=None,
        as_root=os.geteuid() == 0,
    )
    job = place / "job"
    job.mkdir(exist_ok=True)
    for name, text in made.files.items():
        (job / name).write_text(text)
        (job / name).chmod(0o755)
    own = str(data or place / "data" / "A")
    arguments = ["-c", SPY, str(place / "data" / "B"), own]
    line = " ".join(map(shell.word, [*made.words, *arguments]))
    env = {
        **os.environ,
        **made.paths,
        **made.variables,
        "HPCFLOW_RUNTIME": "apptainer",
        "HPCFLOW_JOB_DIR": str(job),
        "HPCFLOW_DATA": own,
        "HPCFLOW_PUBLIC": str(place / "public"),
        "HPCFLOW_WORK": str(place / "work"),
        **SHELL,
        "APPTAINER_BIND": str(place / "data" / "B"),
        "SINGULARITY_BINDPATH": str(place / "data" / "B"),
    }
    done = subprocess.run(
        ["bash", "-c", line], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_collaborator_sees_its_own_data_and_the_round_and_nothing_else(image: Image, place: Path) -> None:
    (Path("/tmp") / "B.txt").write_text("of B")
    try:
        found = spy(image, place, place / "data" / "A")
    finally:
        (Path("/tmp") / "B.txt").unlink()
    assert found["got"] == {}
    assert found["sees"] == {"own": True, "public": "weights", "secrets": [], "passed": "hello"}
    assert (place / "work" / "out").read_text() == "done"
    assert not (place / "data" / "A" / "new").exists()


def test_the_aggregator_sees_nobodys_data(image: Image, place: Path) -> None:
    found = spy(image, place, None)
    assert found["got"] == {}
    assert found["sees"]["own"] is False


FEDERATION = """\
name: fed
flow: federated
resources: {{time: "00:10:00"}}
placement: {{ranks_per_node: 1, cores_per_rank: 1}}
container: {{image: '{image}'}}
training:
  strategy: horovod
  model: {{name: unet2d, filters: 4, depth: 2}}
  data: {{modalities: [FLAIR], crop: [32, 32, 16]}}
  batch_size: 8
  limit_batches: 1
federation:
  rounds: 1
  collaborators: [{{name: A, data: data/A}}, {{name: B, data: $DATA_OF_B/B b}}]
  strategy: user
  options: {{function: 'hpcflow.hostile:merge'}}
  participation: {{minimum: 1}}
  evaluation: {{aggregated: false, tuned: false}}
"""


def test_no_code_of_a_federation_gets_at_the_data_of_others(image: Image, tmp_path: Path) -> None:
    """By the command, with the U-Net: hostile training code and a hostile aggregation, in a copy of hpcflow's package.
    B then leaves a link in the place of its update."""
    package = tmp_path / "code" / "workflows" / "hpcflow"
    shutil.copytree(CODE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "code" / "sbatch_templates").symlink_to(CODE.parents[1] / "sbatch_templates")
    shutil.copy(Path(__file__).with_name("hostile.py"), package)
    with (package / "federation" / "contribution.py").open("a") as file:
        file.write(HOOK.format(place=str(tmp_path)))
    for seed, name in enumerate(("A", "B b")):
        (tmp_path / "data" / name).mkdir(parents=True)
        write_phantoms(tmp_path / "data" / name, 4, PhantomSpec(shape=(32, 32, 16)), seed)
    (tmp_path / "data" / "A" / "link").symlink_to(tmp_path / "data" / "B b")
    (tmp_path / "c.yaml").write_text(FEDERATION.format(image=image.path))
    env = {
        **os.environ,
        **SHELL,
        "PYTHONPATH": str(package.parent),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "DATA_OF_B": str(tmp_path / "data"),
        "APPTAINER_BIND": str(tmp_path / "data"),
        "SINGULARITY_BINDPATH": str(tmp_path / "data"),
    }
    words = ["-m", "hpcflow.cli", "submit", "c.yaml", "--engine", "local", "--wait"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    (run,) = (tmp_path / "runs" / "fed").iterdir()
    logs = "".join(path.read_text() for path in sorted(run.rglob("out.log")))
    told = [json.loads(line.removeprefix("SPY ")) for line in logs.splitlines() if line.startswith("SPY ")]
    assert {item["who"]: item["own"] for item in told} == {"A": True, "B": True, "aggregate": False}, logs
    assert [item["got"] for item in told] == [{}] * len(told)
    said = about(run, 1)
    assert set(said["accepted"]) == {"A"}, done.stderr + logs
    assert said["refused"] == {"B": "updates/B.safetensors is no regular file"}
    assert not list(run.rglob("view"))
    assert not list((tmp_path / "data").rglob("new"))


# Of the copy: every collaborator's training looks around first.
HOOK = """

from hpcflow.hostile import leave_a_link, spy

_make = Contribution.make


def _spied(self, patience_s=0.0):
    spy(self.name, {place!r}, str(self.plan.run.path))
    made = _make(self, patience_s)
    if self.name == "B":
        leave_a_link(self.plan.round(self.round).update("B"), {place!r})
    return made


Contribution.make = _spied
"""


def test_two_confined_ranks_find_each_other(image: Image, place: Path) -> None:
    """No shared /tmp, /dev/shm or processes: MPI goes by TCP."""
    prefix = Path(sys.prefix)
    made = confine(
        Container(image=str(image.path)),
        package=str(CODE),
        mounts=[Mount("HPCFLOW_DATA"), *ROUND],
        mpi_prefix=str(prefix),
        as_root=os.geteuid() == 0,
    )
    for name, text in made.files.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    words = map(shell.word, [*made.words, "/opt/hpcflow/code/hpcflow/containers/probe.py", "size"])
    root = "--allow-run-as-root" if os.geteuid() == 0 else ""
    line = f"mpirun -np 2 -H localhost:2 --bind-to none {root} {' '.join(words)}"
    env = {
        **os.environ,
        **made.paths,
        **made.variables,
        **made.settings,
        "HPCFLOW_RUNTIME": "apptainer",
        "HPCFLOW_JOB_DIR": str(place),
        "HPCFLOW_DATA": str(place / "data" / "A"),
        "HPCFLOW_PUBLIC": str(place / "public"),
        "HPCFLOW_WORK": str(place / "work"),
        "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(prefix / "lib"),
    }
    done = subprocess.run(
        ["bash", "-c", line], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f'mpi {{"rank": {rank}, "size": 2}}' for rank in (0, 1)]


def test_without_confinement_the_same_code_gets_at_it(image: Image, place: Path) -> None:
    """The spy is able: what keeps it out above is the confinement."""
    words = [
        "apptainer",
        "--quiet",
        "exec",
        *(["--userns"] if os.geteuid() == 0 else []),
        "--bind",
        str(place),
    ]
    words += [str(image.path), "python3", "-c", SPY, str(place / "data" / "B"), str(place / "data" / "A")]
    env = {**os.environ, "HPCFLOW_PUBLIC": str(place / "public"), "HPCFLOW_WORK": str(place / "work")}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=True)
    assert {"by its path", "by a link in the own data", "by dot dot"} <= set(json.loads(done.stdout)["got"])


@pytest.mark.parametrize(
    "more", [{"binds": ["/lustre"]}, {"flags": ["--overlay=x.img"]}, {"flags": ["--home=/root"]}]
)
def test_what_would_let_in_more_is_refused(more: dict[str, list[str]]) -> None:
    with pytest.raises(InputError, match=r"container\.(binds|flags)"):
        confine(
            Container(image="x.sif", **more),  # type: ignore[arg-type]
            package="/code",
            mounts=[Mount("D")],
            mpi_prefix=None,
        )
