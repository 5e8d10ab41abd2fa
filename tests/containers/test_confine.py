"""On the real runtime: a collaborator's training code looks for another's data, and the aggregator for anyone's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from containers.conftest import CODE, Image
from hpcflow.containers.confine import confine
from hpcflow.errors import InputError
from hpcflow.experiment.container import Container
from hpcflow.jobs import shell

pytestmark = pytest.mark.train

# What training code could try. Prints what it got at, by what it tried.
SPY = r"""
import glob, json, os, sys
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
attempt("writing to the own data", lambda: open(own + "/new", "w").write("x"))
attempt("by the node's /tmp", lambda: open("/tmp/" + os.path.basename(secret) + ".txt").read())
sees = {"own": os.path.exists(own + "/patients.csv"), "public": open(os.environ["HPCFLOW_PUBLIC"] + "/model").read(),
        "secret variable": os.environ.get("MY_TOKEN", ""), "passed": os.environ.get("GREETING", "")}
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
        data="HPCFLOW_DATA" if data else None,
        public=("HPCFLOW_PUBLIC",),
        work=("HPCFLOW_WORK",),
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
        "MY_TOKEN": "secret",
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
    assert found["sees"] == {"own": True, "public": "weights", "secret variable": "", "passed": "hello"}
    assert (place / "work" / "out").read_text() == "done"
    assert not (place / "data" / "A" / "new").exists()


def test_the_aggregator_sees_nobodys_data(image: Image, place: Path) -> None:
    found = spy(image, place, None)
    assert found["got"] == {}
    assert found["sees"]["own"] is False


def test_two_confined_ranks_find_each_other(image: Image, place: Path) -> None:
    """No shared /tmp, /dev/shm or processes: MPI goes by TCP."""
    prefix = Path(sys.prefix)
    made = confine(
        Container(image=str(image.path)),
        package=str(CODE),
        data="HPCFLOW_DATA",
        public=("HPCFLOW_PUBLIC",),
        work=("HPCFLOW_WORK",),
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
            data="D",
            public=(),
            work=("W",),
            mpi_prefix=None,
        )
