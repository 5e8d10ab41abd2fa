"""Definition files, and all that an image is made from: gathered in one folder, and digested, so that an image that
would come out the same is not built again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import hpcflow
from hpcflow.errors import InputError

_PACKAGE = Path(hpcflow.__file__).parent
_CHECKOUT = _PACKAGE.parents[1]
SUFFIX = ".def"
HOST = "host"
"""Folder of what the building machine lends: uv and certificates. No part of what the image is."""

# What the definitions of hpcflow copy into the image; in the wheel all of it lies beside them.
SOURCES = {
    "packages.sh": "singularity/packages.sh",
    "pyproject.toml": "pyproject.toml",
    "requirements.lock": "requirements.lock",
    "environment.bash": "scripts/lib/environment.bash",
    "horovod-cmake": "scripts/lib/horovod-cmake",
}


@dataclass(frozen=True)
class Definition:
    """A definition file. ``own``: one of hpcflow's, which needs SOURCES beside it and takes the arguments below."""

    name: str
    path: Path
    own: bool

    @property
    def needs_mirror(self) -> bool:
        """Whether it is hpcflow's own and begins with debootstrap, which must be told a Debian mirror."""
        return self.own and "{{ MIRROR }}" in self.path.read_text(encoding="utf-8")

    def inputs(self, arguments: Mapping[str, str]) -> str:
        """A digest of everything that makes the image what it is: the text, the sources, the arguments."""
        digest = hashlib.sha256(self.path.read_bytes())
        for name, path in sources().items() if self.own else ():
            digest.update(f"\0{name}\0".encode() + _part(name, path.read_bytes()))
        digest.update(repr(sorted(arguments.items())).encode())
        return digest.hexdigest()

    def gather(self, folder: Path, lent: Mapping[str, Path]) -> Path:
        """Copy it and its sources into ``folder``, with the files of ``lent`` in HOST; the definition's path there."""
        target = folder / self.path.name
        shutil.copyfile(self.path, target)
        (folder / HOST).mkdir()
        for name, path in lent.items():
            shutil.copy(path, folder / HOST / name)
        for name, path in sources().items() if self.own else ():
            shutil.copy(path, folder / name)
        return target


def _part(name: str, content: bytes) -> bytes:
    """What of a source reaches the image: a new test option in pyproject.toml is no reason to build again."""
    if name == "pyproject.toml":
        whole = tomllib.loads(content.decode())
        project = whole["project"]
        kept = (project["dependencies"], project["optional-dependencies"]["train"], whole["tool"]["uv"])
        return json.dumps(kept, sort_keys=True).encode()
    if name == "environment.bash":
        return b" ".join(re.findall(rb"uv==[0-9.]+", content))
    return content


def sources() -> dict[str, Path]:
    """Where the files of SOURCES are: in a checkout, or beside the definitions in an installed package."""
    if (_CHECKOUT / "requirements.lock").is_file():
        return {name: _CHECKOUT / place for name, place in SOURCES.items()}
    return {name: _PACKAGE / "singularity" / name for name in SOURCES}


def definitions() -> dict[str, Path]:
    """hpcflow's own definitions by name."""
    folder = next((f for f in (_CHECKOUT / "singularity", _PACKAGE / "singularity") if f.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))} if folder else {}


def find(name: str) -> Definition:
    """The definition ``name``: one of hpcflow's, or a file. Raises InputError."""
    own = definitions()
    if name in own:
        return Definition(name, own[name], True)
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{name}: there is no such definition file (hpcflow's own: {', '.join(own)})")
    return Definition(path.stem, path.absolute(), False)
