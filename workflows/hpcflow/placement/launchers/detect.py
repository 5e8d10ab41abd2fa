"""Which launchers are on PATH, of which version, and which of them a plan takes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from hpcflow.errors import SiteError
from hpcflow.placement.launchers.base import Scheduler

SECONDS = 10.0  # mpirun --version takes 30 ms; on a login node with a cold file system some seconds

# name, the commands it may be called by, the option that tells its version, and how it says so
TOOLS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("openmpi", ("mpirun", "mpirun.openmpi"), "--version", r"\(Open MPI\) ([0-9][0-9.]*)"),
    ("intelmpi", ("mpirun", "mpiexec.hydra"), "-version", r"Intel\(R\) MPI Library.*Version ([0-9][0-9.]*)"),
    (
        "mpich",
        ("mpiexec", "mpiexec.hydra", "mpiexec.mpich", "mpirun"),
        "--version",
        r"HYDRA build details:\s+Version:\s+([0-9][0-9.]*)",
    ),
    ("srun", ("srun",), "--version", r"slurm(?:-wlm)? ([0-9][0-9.]*)"),
    # Its own --version imports TensorFlow, which takes seconds: its interpreter is asked instead.
    ("horovodrun", ("horovodrun",), "", r"^([0-9][0-9.]*)$"),
)
ORDER = ("openmpi", "intelmpi", "mpich")


@dataclass(frozen=True)
class Found:
    """A launcher that answered: the dialect's name, the command's path, its version."""

    name: str
    path: Path
    version: str


def ask(command: Sequence[str]) -> str:
    """What a command prints on both streams; nothing when it cannot be run."""
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "PMI", "OMPI_"))
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, env=clean, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr


def detect(
    path: str | None = None, run: Callable[[Sequence[str]], str] = ask, only: Collection[str] = ()
) -> tuple[Found, ...]:
    """Every launcher on ``path`` (the environment's PATH by default), once each; of ``only`` alone, where given.

    An mpirun is Open MPI's or Intel's: what it says decides, not its name.
    """
    said: dict[tuple[str, str], str] = {}
    found = []
    for name, commands, option, pattern in TOOLS:
        if only and name not in only:
            continue
        for command in commands:
            where = which(command, path=path)
            if where is None:
                continue
            key = (where, option)
            if key not in said:
                said[key] = run([where, option] if option else _ask_interpreter(Path(where)))
            match = re.search(pattern, said[key], re.MULTILINE)
            if match:
                found.append(Found(name, Path(where), match[1].rstrip(".")))
                break
    return tuple(found)


def _ask_interpreter(script: Path) -> list[str]:
    """The command by which the Python of a script's first line tells Horovod's version."""
    try:
        first = script.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        first = ""
    python = first.removeprefix("#!").strip() if first.startswith("#!/") else "python3"
    return [*python.split(), "-c", "import importlib.metadata as m; print(m.version('horovod'))"]


def called(name: str, found: Sequence[Found] | None = None) -> str | None:
    """The command by which a launcher answered, as in mpiexec.mpich beside another MPI's mpiexec; None where none did.

    ``found`` is what `detect` said; it is asked about that launcher alone without it.
    """
    return next((item.path.name for item in found or detect(only={name}) if item.name == name), None)


def choose(
    wanted: str,
    version: str | None,
    found: Sequence[Found],
    scheduler: Scheduler | None,
    site: Mapping[str, str] | None = None,
) -> tuple[str, str | None, str]:
    """The launcher to use, its version where known, and why in a sentence. horovodrun's is that of the MPI below it.

    ``wanted`` is placement.launcher, ``site`` the profile's launchers and their versions, which outrank what this
    machine has: the plan may be for another one. Raises SiteError when auto finds none.
    """
    versions = {item.name: item.version for item in reversed(found)}
    profile = dict(site or {})
    if wanted == "horovodrun":
        below = version or _below(profile, found)
        return (
            wanted,
            below,
            f"{wanted} is asked for" + ("" if below else "; the MPI below it is not known here"),
        )
    if wanted != "auto":
        told = version or profile.get(wanted) or versions.get(wanted)
        return wanted, told, f"{wanted} is asked for" + ("" if told else "; its version is not known here")
    for name in (*ORDER, "srun"):
        if name in profile:
            return name, version or profile[name], f"the site's profile has {name} {profile[name]}"
    for name in ORDER:
        if name in versions:
            return name, version or versions[name], f"{name} {versions[name]} is the mpirun on PATH"
    if "srun" in versions and scheduler == "slurm":
        return "srun", version or versions["srun"], f"no mpirun is on PATH, and srun {versions['srun']} is"
    raise SiteError(
        "launcher: auto finds no mpirun on PATH (load an MPI module, name placement.launcher and launcher_version, "
        "or a site profile)"
    )


def _below(profile: Mapping[str, str], found: Sequence[Found]) -> str | None:
    """The MPI that horovodrun would call, as in openmpi-5.0.11: the profile's, else whose `mpirun` is on PATH."""
    there = {
        item.name: item.version for item in found if item.name != "openmpi" or item.path.name == "mpirun"
    }
    for known in (profile, there):
        for name in ORDER:
            if name in known:
                return f"{name}-{known[name]}"
    return None
