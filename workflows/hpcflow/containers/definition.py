"""Definition files, and all that an image is made from: gathered, and digested, so that an image that would come out
the same is not built again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import hpcflow
from hpcflow.containers.tree import digest, summary
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
        whole = hashlib.sha256(self.path.read_bytes())
        for name, path in sources().items() if self.own else ():
            whole.update(f"\0{name}\0".encode() + _part(name, path.read_bytes()))
        for path in self.reads(arguments):
            whole.update(f"\0{path}\0{digest(path)}".encode())
        for path in self.bases(arguments):
            # A base is a whole system: its files are counted and dated, not read.
            whole.update(f"\0{path}\0{summary(path) if path.exists() else None}".encode())
        whole.update(repr(sorted(arguments.items())).encode())
        return whole.hexdigest()

    def reads(self, arguments: Mapping[str, str]) -> list[Path]:
        """Files and folders of this machine that a user's definition names in %files."""
        named = () if self.own else _copied(self._filled(arguments))
        # Not Path.glob: it knows neither absolute patterns nor ".".
        folder = self.path.parent
        return [folder / found for name in named for found in sorted(glob(name, root_dir=folder))]  # noqa: PTH207

    def bases(self, arguments: Mapping[str, str]) -> list[Path]:
        """Images and folders of this machine that it starts from."""
        text = "" if self.own else self._filled(arguments)
        local = re.search(r"^bootstrap:\s*localimage\s*$", text, re.IGNORECASE | re.MULTILINE)
        names = re.findall(r"^from:[^\S\n]*(\S.*?)\s*$", text, re.IGNORECASE | re.MULTILINE) if local else ()
        return [self.path.parent / name for name in names]

    def _filled(self, arguments: Mapping[str, str]) -> str:
        """Its text with `{{ NAME }}` replaced as Apptainer does it."""
        text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        values = dict(line.split("=", 1) for line in _section(text, "arguments") if "=" in line)
        values |= arguments
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: values.get(found[1], found[0]), text)

    def gather(self, folder: Path, lent: Mapping[str, Path], labels: Mapping[str, str]) -> tuple[Path, Path]:
        """Copy it into ``folder`` with ``labels`` added; the copy, and the folder that a build of it begins in.

        What a user's definition names lies where it lay. hpcflow's own find their sources beside them, and the files
        of ``lent`` in HOST.
        """
        target = folder / self.path.name
        added = "".join(f"    {name} {value}\n" for name, value in labels.items())
        target.write_bytes(self.path.read_bytes() + f"\n%labels\n{added}".encode())
        if not self.own:
            return target, self.path.parent
        (folder / HOST).mkdir()
        for name, path in lent.items():
            shutil.copy(path, folder / HOST / name)
        for name, path in sources().items():
            shutil.copy(path, folder / name)
        return target, folder


def _section(text: str, name: str) -> Iterator[str]:
    """The lines of the sections %``name`` of a definition, without blank ones and comments."""
    inside = False
    for line in map(str.strip, text.splitlines()):
        if header := re.match(r"%(\w+)\s*(.*)", line):
            # What %files takes from another stage is in the image, not on this machine.
            inside = header[1].lower() == name and not header[2].startswith("from ")
        elif re.match(r"bootstrap:", line, re.IGNORECASE):
            inside = False
        elif inside and line and not line.startswith("#"):
            yield line


def _copied(text: str) -> Iterator[str]:
    """The sources in %files: the first word of a line, which may be quoted."""
    for line in _section(text, "files"):
        found = re.match(r""" "([^"]*)" | '([^']*)' | ((?:\\.|[^\s\\])+) """, line, re.VERBOSE)
        if found:
            yield found[1] or found[2] or re.sub(r"\\(.)", r"\1", found[3] or "")


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
