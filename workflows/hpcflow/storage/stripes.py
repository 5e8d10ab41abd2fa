"""Lustre's stripes: over how many servers a file is laid, decided when it is created.

A folder is told before anything is written in it, because a file's layout cannot be changed afterwards without a copy.
Nothing happens where the file system is no Lustre, where `lfs` is absent (most containers), or where a site asks people
not to (progressive layouts; storage.stripes: off): the step then says so and goes on.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import which
from typing import Any, Literal

from hpcflow.storage import mounts
from hpcflow.storage.mounts import Mount

MIB, GIB = 2**20, 2**30
Policy = Literal["auto", "off"]
LFS_S = 20.0


@dataclass(frozen=True)
class Striped:
    """What was done for a folder: its stripe count (None: nothing) and why."""

    folder: str
    count: int | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """As it is recorded."""
        return asdict(self)


def count(size: int, readers: int) -> int:
    """Stripes for files of ``size`` bytes that ``readers`` clients read at once; -1 is every server.

    One for what is small, because each stripe costs a server's answer; several where one client can use them; all of
    them for what is large and read by many.
    """
    if size < MIB:
        return 1
    if size <= GIB:
        return 1 if readers <= 1 else 4
    if readers <= 1:
        return 4 if size <= 8 * GIB else 8
    return 8 if size <= 8 * GIB else -1


def words(folder: str, stripes: int) -> list[str]:
    """lfs's command for a folder's new files."""
    return ["lfs", "setstripe", "--stripe-count", str(stripes), folder]


def prepare(
    folder: Path, size: int, readers: int, policy: Policy = "auto", table: Sequence[Mount] | None = None
) -> Striped:
    """Lay out what will be written in ``folder``, which exists and is empty. Never raises: it is an improvement."""
    if policy == "off":
        return Striped(str(folder), None, "storage.stripes is off")
    mount = mounts.of(folder, table)
    if mount is None or mount.kind != "lustre":
        return Striped(
            str(folder), None, f"{mount.kind if mount else 'an unknown file system'} has no stripes"
        )
    if not mount.stripes:
        return Striped(str(folder), None, "the site's profile allows none there")
    if which("lfs") is None:
        return Striped(str(folder), None, "there is no lfs here")
    wanted = count(size, readers)
    try:
        done = subprocess.run(
            words(str(folder), wanted), capture_output=True, text=True, timeout=LFS_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Striped(str(folder), None, f"lfs did not answer: {error}")
    if done.returncode:
        return Striped(str(folder), None, f"lfs refused: {' '.join(done.stderr.split())[:200]}")
    return Striped(str(folder), wanted, f"{size} bytes a file, {readers} reader(s)")
