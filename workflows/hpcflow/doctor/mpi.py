"""MPI libraries and launchers: how each says what it is, and which belong together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

# What a library (MPI_Get_library_version) or `mpirun --version` says -> family. In this order: Intel MPI's mpirun
# is a Hydra too.
FAMILIES = (
    ("openmpi", r"Open MPI\)? v?(\d[\w.]*)"),
    ("intelmpi", r"Intel\(R\) MPI Library.*?(\d{4}\.[\d.]*\d)"),
    ("mvapich", r"MVAPICH\d? Version\s*:\s*(\d[\w.]*)"),
    ("mpich", r"MPICH Version\s*:\s*(\d[\w.]*)"),
    ("craympich", r"CRAY MPICH version\s+(\d[\w.]*)"),
    ("mpich", r"HYDRA build details:\s+Version:\s+(\d[\w.]*)"),
)
TITLES = {
    "openmpi": "Open MPI",
    "intelmpi": "Intel MPI",
    "mpich": "MPICH",
    "mvapich": "MVAPICH",
    "craympich": "Cray MPICH",
}
# Families whose libraries and launchers are interchangeable: libmpi.so.12 and PMI-1 (the MPICH ABI initiative).
ABI = {"openmpi": "openmpi", **dict.fromkeys(("intelmpi", "mpich", "mvapich", "craympich"), "mpich")}
# Which plugins of srun start which ABI's ranks.
PLUGINS = {"openmpi": ("pmix", "pmi2"), "mpich": ("pmi2", "pmix", "cray_shasta")}


@dataclass(frozen=True)
class Mpi:
    """An MPI: a library or a launcher (``path``) of a family and a version."""

    family: str
    version: str
    path: str = ""

    def __str__(self) -> str:
        return f"{TITLES[self.family]} {self.version}"

    @property
    def abi(self) -> str:
        """What it can be mixed with."""
        return ABI[self.family]

    @property
    def prefix(self) -> str:
        """Where it is installed: the folder above its bin or lib."""
        return str(PurePath(self.path).parent.parent)


def identify(text: str, path: str = "") -> Mpi | None:
    """The MPI that calls itself ``text``; None for one that is not known here."""
    for family, pattern in FAMILIES:
        if match := re.search(pattern, text, re.DOTALL):
            return Mpi(family, match[1].rstrip("."), path)
    return None


def mismatch(library: Mpi, launcher: Mpi) -> str:
    """Why ranks that use ``library`` would not find each other under ``launcher``; empty where they would."""
    if library.abi != launcher.abi:
        return f"{library} cannot be started by {launcher}: every rank would be rank 0 of 1"
    mine, theirs = library.version.split("."), launcher.version.split(".")
    # Open MPI 4 and 5 differ in how ranks reach their launcher; 4.0 and 4.1 in shared-memory layout.
    if library.abi == "openmpi" and mine[:2] != theirs[:2]:
        return f"{library} under the mpirun of {launcher}: a mix of versions fails at MPI_Init"
    return ""


def srun_plugins(out: str) -> tuple[str, ...]:
    """`srun --mpi=list`: a plugin a line, with "srun: " before it up to 21.08; versions of pmix are left out."""
    names = [line.removeprefix("srun: ").strip() for line in out.splitlines()]
    return tuple(name for name in names if re.fullmatch(r"[a-z][a-z0-9_]*", name))
