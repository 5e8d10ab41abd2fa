"""Apptainer or Singularity: the command that runs images, under whichever name it is here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shutil import which

from hpcflow.errors import SiteError

NAMES = ("apptainer", "singularity")


@dataclass(frozen=True)
class Runtime:
    """A runtime that answered: its path and what it calls itself."""

    path: str
    name: str
    version: str

    def exec(self, image: str, options: Sequence[str] = ()) -> list[str]:
        """The words before a program's in ``image``; as root in a user namespace, as jobs do it."""
        userns = ["--userns"] if os.geteuid() == 0 else []
        return [self.path, "--quiet", "exec", "--no-eval", *userns, *options, image]


def find(wanted: str = "auto", path: str | None = None) -> Runtime:
    """The runtime on ``path`` (the environment's by default). Raises SiteError, naming what was looked for."""
    names = NAMES if wanted == "auto" else (wanted,)
    for name in names:
        found = which(name, path=path)
        if found is None:
            continue
        try:
            said = subprocess.run(
                [found, "--version"], capture_output=True, text=True, timeout=20, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        match = re.match(r"(\S+)(?: version)? (\S+)", said)
        return Runtime(found, match[1] if match else name, match[2] if match else "")
    raise SiteError(
        f"{' and '.join(names)} not found on the PATH (load the site's module; on Debian: scripts/install-apptainer)"
    )


def clean(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for asking an image: without what a surrounding job or launcher says, and without values that
    someone's shell would put into every image."""
    theirs = ("SLURM_", "PMI", "OMPI_", "HYDRA_", "APPTAINER", "SINGULARITY")
    kept = ("APPTAINER_CACHEDIR", "APPTAINER_TMPDIR", "SINGULARITY_CACHEDIR", "SINGULARITY_TMPDIR")
    return {name: value for name, value in environ.items() if name in kept or not name.startswith(theirs)}
