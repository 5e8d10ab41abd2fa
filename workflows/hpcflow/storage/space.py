"""Room for a run before it is queued: what it will write at most, what is free, what a quota leaves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from hpcflow.storage import mounts
from hpcflow.storage.mounts import Mount

QUOTA_S = 10.0


@dataclass(frozen=True)
class Room:
    """Bytes and files that may still be written below ``folder``; None where nobody says. ``whose`` limits them."""

    folder: str
    bytes: int | None
    files: int | None
    whose: str


def room(folder: Path, table: Sequence[Mount] | None = None) -> Room:
    """The least of the file system's free space and, on Lustre, of the user's quota. Raises OSError."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    space = os.statvfs(folder)
    free = Room(
        str(folder), space.f_bavail * space.f_frsize, space.f_favail if space.f_files else None, "free space"
    )
    mount = mounts.of(folder, table)
    if mount is None or mount.kind != "lustre" or which("lfs") is None:
        return free
    try:
        said = subprocess.run(
            quota_words(str(folder)), capture_output=True, text=True, timeout=QUOTA_S, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return free
    left, files = parse_quota(said)
    by_quota = left is not None and (free.bytes is None or left < free.bytes)
    few = [number for number in (free.files, files) if number is not None]
    return Room(
        str(folder),
        left if by_quota else free.bytes,
        min(few) if few else None,
        "your quota" if by_quota else "free space",
    )


def quota_words(folder: str) -> list[str]:
    """lfs's question for the calling user's quota, without headings."""
    return ["lfs", "quota", "-q", "-u", str(os.getuid()), folder]


def parse_quota(text: str) -> tuple[int | None, int | None]:
    """Bytes and files left, from `lfs quota -q`: path, KiB used, soft, hard, grace, files used, soft, hard, grace.

    A limit of 0 is none; a star marks what is over its soft limit. The path may hold blanks, so fields count from the
    end.
    """
    fields = [field.strip("*[]") for field in text.split()[-8:]]
    if len(fields) < 8 or not all(field.isdigit() for field in (*fields[:3], *fields[4:7])):
        return None, None
    used, soft, hard = map(int, fields[:3])
    files, few, most = map(int, fields[4:7])
    limit, number = hard or soft, most or few
    return (max(0, limit - used) * 1024 if limit else None), (max(0, number - files) if number else None)


def human(number: int) -> str:
    """Bytes for a sentence."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
