"""Everything that the checks look at, asked at once: no slower than the slowest answer, nor than the deadline."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from hpcflow import engines
from hpcflow.doctor.mpi import Mpi, identify
from hpcflow.engines import slurm_limits, slurm_site
from hpcflow.engines.ask import Answer, ask_all
from hpcflow.engines.slurm_site import SlurmSite
from hpcflow.engines.target import target
from hpcflow.errors import HpcflowError, RunError
from hpcflow.experiment import Loaded
from hpcflow.jobs import shell
from hpcflow.storage import mounts
from hpcflow.storage.mounts import Mount

TIMEOUT_S = 5.0
PROBES = str(Path(__file__).with_name("probes.py"))
CONTAINERS = ("apptainer", "singularity")


@dataclass(frozen=True)
class Chosen:
    """What `auto` stands for here and why; a name is empty where there is none, and ``why`` says so."""

    engine: str
    why_engine: str
    launcher: str
    why_launcher: str


@dataclass(frozen=True)
class Survey:
    """What was answered. ``folders`` are paths by the key that names them."""

    loaded: Loaded
    slurm: SlurmSite | None
    choice: Chosen
    answers: Mapping[str, Answer]
    launchers: Mapping[str, Mpi]
    folders: Mapping[str, str]
    mounts: tuple[Mount, ...]

    def probe(self, name: str) -> Mapping[str, Any]:
        """What a probe printed; an `error` where it did not."""
        answer = self.answers[name]
        try:
            return dict(json.loads(answer.out))
        except ValueError:
            return {"installed": True, "error": answer.complaint}


def launcher_paths() -> dict[str, str]:
    """The commands that start ranks, by name: this environment's own mpirun before the one on the PATH."""
    own = Path(sys.prefix, "bin", "mpirun")
    found = {"mpirun of this environment": str(own)} if own.exists() else {}
    other = which("mpirun")
    if other and not (own.exists() and os.path.realpath(other) == os.path.realpath(own)):
        found["mpirun"] = other
    hydra = which("mpiexec.hydra")
    return {**found, "mpiexec.hydra": hydra} if hydra else found


def survey(loaded: Loaded, timeout: float = TIMEOUT_S) -> Survey:
    """Ask everything about the place that ``loaded`` would run at."""
    paths = launcher_paths()
    folders = _folders(loaded)
    probe = (sys.executable, "-P", PROBES)
    questions: dict[str, tuple[str, ...]] = {
        "userns": ("unshare", "--user", "true"),
        "mpi4py": (*probe, "mpi4py"),
        "horovod": (*probe, "horovod"),
        **{name: (path, "--version") for name, path in paths.items()},
        **{name: (name, "--version") for name in CONTAINERS},
        **{f"folder {key}": (*probe, "folder", path) for key, path in folders.items()},
    }
    of_slurm = {**slurm_limits.queries(_user()), "plugins": ("srun", "--mpi=list")}
    environ = slurm_site.scrubbed(os.environ)
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(ask_all, questions, timeout, environ)
        chosen = pool.submit(_chosen, loaded)
        slurm = slurm_site.probe(timeout)
        answers = ask_all(of_slurm, timeout, environ) if slurm and slurm.ctld_up else {}
        answers |= asked.result()
    identified = {name: identify(answers[name].out, os.path.realpath(path)) for name, path in paths.items()}
    return Survey(
        loaded=loaded,
        slurm=slurm,
        choice=chosen.result(),
        answers=answers,
        launchers={name: mpi for name, mpi in identified.items() if mpi},
        folders=folders,
        mounts=mounts.here(loaded.site.said),
    )


def _chosen(loaded: Loaded) -> Chosen:
    try:
        choice = engines.choose("auto", loaded.site)
    except HpcflowError as error:
        return Chosen("", str(error), "", "")
    try:
        place = target(loaded, choice.slurm)
    except HpcflowError as error:
        return Chosen(choice.engine.name, choice.why, "", str(error))
    return Chosen(choice.engine.name, choice.why, place.launcher, place.why_launcher)


def _folders(loaded: Loaded) -> dict[str, str]:
    """The folders that matter, absolute; one whose variables are not set here is left out (a check says so)."""
    wanted = {"storage.runs": loaded.experiment.storage.runs, "$HOME": "$HOME"}
    if loaded.experiment.storage.data:
        wanted["storage.data"] = loaded.experiment.storage.data
    found = {}
    for key, text in wanted.items():
        try:
            # Not resolve(): a link may lead to a file system that hangs.
            found[key] = str(Path.cwd() / shell.expand(text))
        except RunError:
            continue
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        return str(os.getuid())
