"""Room for a run before it is queued: what it will write at most, what is free, what a quota leaves."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from hpcflow.storage import mounts
from hpcflow.storage.mounts import Mount

QUOTA_S = 5.0


# path, KiB used, soft, hard, grace, files used, soft, hard, grace; a star or brackets mark a number.
_QUOTA = re.compile(r"(?<!\S)" + r"\s+".join([*[r"\[?(\d+)\]?\*?"] * 3, r"\S+"] * 2) + r"(?!\S)")


@dataclass(frozen=True)
class Room:
    """Bytes and files that may still be written below ``folder``; None where nobody says. ``whose`` and ``whose_files``
    limit them.
    """

    folder: str
    bytes: int | None
    files: int | None
    whose: str
    whose_files: str


def room(folder: Path, table: Sequence[Mount] | None = None) -> Room:
    """The least of the file system's free space and of all quotas that count there. Raises OSError."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    space = os.statvfs(folder)
    left: list[tuple[str, int | None, int | None]] = [
        ("free space", space.f_bavail * space.f_frsize, space.f_favail if space.f_files else None)
    ]
    mount = mounts.of(folder, table)
    for whose, words in questions(folder, mount) if mount else ():
        left.append((whose, *parse_quota(_answer(words))))
    some = [(number, whose) for whose, number, _ in left if number is not None]
    few = [(number, whose) for whose, _, number in left if number is not None]
    bytes_, whose = min(some, default=(None, "free space"), key=lambda item: item[0] or 0)
    files, whose_files = min(few, default=(None, "free space"), key=lambda item: item[0] or 0)
    return Room(str(folder), bytes_, files, whose, whose_files)


def questions(folder: Path, mount: Mount) -> Iterator[tuple[str, list[str]]]:
    """Whose quotas count for new files in ``folder``, and what asks for each of them. None where no command would."""
    status = folder.stat()
    group = status.st_gid if status.st_mode & stat.S_ISGID else os.getegid()
    owners = [("your quota", "-u", os.getuid()), ("your group's quota", "-g", group)]
    if mount.kind == "lustre" and which("lfs"):
        said = _answer(["lfs", "project", "-d", str(folder)]).split()
        if said and said[0].isdigit() and said[0] != "0":
            owners.append((f"the quota of project {said[0]}", "-p", int(said[0])))
        for whose, flag, number in owners:
            yield whose, ["lfs", "quota", "-q", flag, str(number), str(folder)]
    elif mount.kind != "lustre" and which("quota"):
        for whose, flag, number in owners:
            # A line for a file system, and a number where there is no grace time.
            name = [str(number)] if flag == "-g" else []
            yield whose, ["quota", "-w", "-p", flag, "-f", mount.point, *name]


def _answer(words: Sequence[str]) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=QUOTA_S, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def parse_quota(text: str) -> tuple[int | None, int | None]:
    """Bytes and files left, as `lfs quota -q` and `quota -w -p` say it: see _QUOTA. What else they say is passed over.

    A limit of 0 is none. What is used beyond a soft limit may still grow to the hard one.
    """
    match = _QUOTA.search(text)
    if match is None:
        return None, None
    used, soft, hard, files, few, most = map(int, match.groups())
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
