"""Folders of files, looked at from outside: cheaply, to see that nothing was touched, or byte by byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Summary:
    """What a file or a folder is at a glance: how many files it has, their bytes, the newest change in it.

    No file is opened. A file that comes, goes or is renamed changes its folder's time; one that is written, its own.
    """

    files: int
    size: int
    mtime_ns: int


def summary(path: Path) -> Summary:
    """The summary of a file, or of a folder with all that is in it. Raises OSError where there is nothing."""
    top = path.stat()
    if not path.is_dir():
        return Summary(1, top.st_size, top.st_mtime_ns)
    files, size, newest = 0, 0, top.st_mtime_ns
    for entry in _entries(str(path)):
        found = entry.stat(follow_symlinks=False)
        newest = max(newest, found.st_mtime_ns)
        if not entry.is_dir(follow_symlinks=False):
            files, size = files + 1, size + found.st_size
    return Summary(files, size, newest)


def _entries(top: str) -> Iterator[os.DirEntry[str]]:
    """Everything below ``top``; a folder that may not be read (a system's own, in a sandbox) is left closed."""
    try:
        with os.scandir(top) as found:
            inside = list(found)
    except PermissionError:
        return
    for entry in inside:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names, modes and bytes of all files in a folder. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted([*files, *folders]):
            item = Path(folder, name)
            says = str(item.readlink()) if item.is_symlink() else digest(item) if item.is_file() else ""
            fact = f"{item.relative_to(path)}\0{item.lstat().st_mode:o}\0{says}\0"
            whole.update(fact.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
