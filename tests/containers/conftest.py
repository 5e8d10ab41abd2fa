"""A real image, built once by `hpcflow container build` and kept outside of the checkout for the next time."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from commands import hpcflow

CODE = Path(__file__).parents[2] / "workflows" / "hpcflow"


@dataclass(frozen=True)
class Image:
    """The image, and what building it said."""

    path: Path
    new: bool
    seconds: float
    note: dict[str, object] = field(default_factory=dict)


def require(*commands: str) -> None:
    """Skips where a tool is missing; under CI=true that is a failure."""
    absent = [
        name for name in commands if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    ]
    if absent:
        reason = f"{', '.join(absent)} not installed; as root, scripts/test installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def image() -> Image:
    """singularity/unet.def as a SIF: TensorFlow, Horovod, Open MPI. Two to five minutes where it is not kept yet."""
    require("apptainer", "debootstrap", "mksquashfs")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpcflow-tests"
    begun = time.monotonic()
    built = hpcflow("container", "build", "unet", "-o", kept / "unet.sif", "--json", timeout=1200)
    assert built.returncode == 0, built.stderr[-3000:]
    note = json.loads(built.stdout)
    return Image(Path(note["image"]), note["new"], time.monotonic() - begun, note)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of a shell and a few commands of this machine: a base from which images are built in a second."""
    require("apptainer", "mksquashfs")
    root = tmp_path_factory.mktemp("system")
    for folder in ("bin", "etc", "lib", "lib64", "proc", "dev", "sys", "tmp", "root", "var/tmp", "usr/bin"):
        (root / folder).mkdir(parents=True)
    for name in ("sh", "mkdir", "cat", "ls", "cp", "rm"):
        command = str(shutil.which(name, path="/bin:/usr/bin"))
        linked = subprocess.run(["ldd", command], capture_output=True, text=True, check=True).stdout
        needed = [word for word in linked.split() if word.startswith("/")]
        for source, target in [(command, f"/bin/{name}"), *zip(needed, needed, strict=True)]:
            (root / target[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root / target[1:])
    return root


@pytest.fixture(scope="session")
def mpich(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment whose mpi4py uses MPICH: what a container of another MPI family has inside.

    Made by the image's own Python, whose version may be another than that of this machine.
    """
    uv, folder = Path(sys.prefix) / ".uv" / "bin" / "uv", tmp_path_factory.mktemp("mpich")
    certificates = Path("/etc/ssl/certs")
    binds = [
        word for path in (uv.parent, folder, certificates) if path.exists() for word in ("--bind", str(path))
    ]
    userns = ["--userns"] if os.geteuid() == 0 else []
    env_of_uv = {"UV_SYSTEM_CERTS": "1", **os.environ}  # as scripts/lib/environment.bash has it
    inside = ["apptainer", "--quiet", "exec", *userns, *binds, str(image.path), str(uv)]
    env = folder / "env"
    for words in (
        ["venv", "--quiet", "--python", "/usr/bin/python3", str(env)],
        ["pip", "install", "--quiet", "--python", str(env), "mpi4py", "mpich==5.0.2"],
    ):
        done = subprocess.run(
            [*inside, *words], env=env_of_uv, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
    return env
