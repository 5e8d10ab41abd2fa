"""Publishing files on storage that many nodes share (Lustre, NFS) without locks.

What others wait for is written under a temporary name in the same directory, flushed with fsync, closed with
the close checked (NFS and Lustre report a full quota there), renamed, and the directory is flushed. A reader
so sees the whole file or none. Several files that belong together are committed by a manifest of their sizes
and SHA-256 digests, which is published last; a whole directory is built beside its place and renamed into it.

A reader on another node may not see a new name for as long as its client caches attributes and absent names:
up to 60 s on NFS by default (acdirmax, nfs(5)). ``open`` revalidates where ``stat`` may not (close-to-open),
so :func:`read_published` opens first and retries, for as long as the file system that it reads from may need.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hpcflow.errors import RunError
from hpcflow.storage import mounts

T = TypeVar("T")
ATTRIBUTE_CACHE_S = 60.0
"""How long a client may go on not seeing a new name where nobody says (acdirmax's default, nfs(5))."""
STALE_S = 5.0
"""How long a name is tried that leads to a file which was replaced meanwhile: it is there, only another one."""

MANIFEST = "manifest.json"
_TEMPORARY_SUFFIX = ".tmp"
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Entry:
    """One file of a manifest: size in bytes and SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a directory that are committed, and what their writer says ``about`` them (plain JSON)."""

    files: Mapping[str, Entry]
    about: Mapping[str, Any]

    def to_json(self) -> str:
        files = {name: {"size": e.size, "sha256": e.sha256} for name, e in sorted(self.files.items())}
        return json.dumps({"files": files, "about": dict(self.about)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises ValueError where the text is no manifest."""
        try:
            raw = json.loads(text)
            files = {str(name): Entry(int(e["size"]), str(e["sha256"])) for name, e in raw["files"].items()}
            if any("/" in name or name in ("", ".", "..") for name in files):
                raise ValueError("a name in it leaves the directory")
            return cls(files, dict(raw["about"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a manifest: {error}") from error


class Publication:
    """A file that is being written; counts and digests what passes. Made by :func:`publishing`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data`` (any contiguous buffer), all of it, and return its length in bytes."""
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self.size += len(view)
        done = 0
        while done < len(view):
            done += os.write(self._descriptor, view[done : done + _BLOCK])
        return len(view)

    @property
    def entry(self) -> Entry:
        return Entry(self.size, self._digest.hexdigest())


def temporary_name(path: Path) -> Path:
    """A hidden name in the directory of ``path`` that no other process of any host takes."""
    host = socket.gethostname().split(".")[0][:32]
    return path.parent / f".{path.name[:120]}.{host}.{os.getpid()}.{os.urandom(4).hex()}{_TEMPORARY_SUFFIX}"


def sync_directory(path: Path) -> None:
    """Flush a directory's names to the disk; file systems that cannot (EINVAL, ENOTSUP) are left in peace."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def rename(temporary: Path, path: Path) -> None:
    """Give a file that is whole its name. Raises OSError."""
    ours = temporary.stat()
    try:
        temporary.rename(path)
    except FileNotFoundError:
        # An NFS server that had done the rename and lost its answer is asked again, and has no such name any more.
        try:
            there = path.stat()
        except OSError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise


@contextlib.contextmanager
def publishing(path: Path, *, mode: int = 0o666) -> Iterator[Publication]:
    """Write ``path`` so that it appears whole or not at all; an exception in the block leaves nothing behind.

    ``mode`` is what a new file gets before the umask. Raises OSError, also for what only fsync or close
    report.
    """
    temporary = temporary_name(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            publication = Publication(descriptor)
            yield publication
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def publish_bytes(path: Path, data: bytes | memoryview, *, mode: int = 0o666) -> Entry:
    """Publish one buffer as ``path`` and return its manifest entry."""
    with publishing(path, mode=mode) as publication:
        publication.write(data)
    return publication.entry


def publish_text(path: Path, text: str, *, mode: int = 0o666) -> Entry:
    """Publish ``text`` as UTF-8."""
    return publish_bytes(path, text.encode(), mode=mode)


def publish_json(path: Path, value: Any, *, mode: int = 0o666) -> Entry:
    """Publish ``value`` as indented JSON with sorted keys, so that equal values are equal bytes."""
    return publish_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode=mode)


def publish_manifest(directory: Path, files: Mapping[str, Entry], about: Mapping[str, Any]) -> Manifest:
    """Commit ``files``, published before in ``directory``: its manifest goes last."""
    manifest = Manifest(dict(files), dict(about))
    publish_text(directory / MANIFEST, manifest.to_json())
    return manifest


@contextlib.contextmanager
def publishing_directory(path: Path) -> Iterator[Path]:
    """Build a directory beside its place and rename it there when the block ends.

    Yields the directory to fill; fill it with the functions above, which flush. Where another process was
    faster (rename onto a directory that is not empty fails on every POSIX system), theirs stays and ours is
    removed: two racing builders both end with one whole directory at ``path``. The loser cannot tell and need
    not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        sync_directory(temporary)
        try:
            temporary.rename(path)
        except OSError as error:
            # ENOENT: an NFS server that had done the rename and lost its answer is asked again.
            lost = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
            if not (lost and path.is_dir()):
                raise
        sync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(directory: Path, older_than_s: float, now: float, of: str = "") -> list[Path]:
    """Remove temporary names that killed writers left in ``directory``; ``now`` in seconds since the epoch.

    Only names older than ``older_than_s`` go, because a writer on another host cannot be asked whether it
    lives. ``of`` is how the names that they were to get begin.
    """
    removed = []
    for item in leftovers(directory, older_than_s, now, of):
        with contextlib.suppress(OSError):
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
            removed.append(item)
    return removed


def leftovers(directory: Path, older_than_s: float, now: float, of: str = "") -> list[Path]:
    """What :func:`remove_leftovers` would remove."""
    found = []
    for item in directory.glob(f".{glob.escape(of)}*{_TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            if now - item.lstat().st_mtime > older_than_s:
                found.append(item)
    return found


def patience(path: Path) -> float:
    """Seconds for which a name that another node published at ``path`` may not be seen here: what the site's profile
    or NFS's options say, none where only this node writes, else ATTRIBUTE_CACHE_S.
    """
    mount = mounts.of(path)
    if mount is None:
        return ATTRIBUTE_CACHE_S
    if mount.attribute_cache is not None:
        return float(mount.attribute_cache)
    return 0.0 if mount.shared is False else ATTRIBUTE_CACHE_S


def persistently(read: Callable[[Path], T], path: Path, patience_s: float | None = None) -> T:
    """``read(path)``, tried again while ``path`` is not seen, for up to ``patience_s`` seconds (None: `patience`).

    Tries at once, then after 0.05 s, doubling to 2 s; between tries the directory is listed, which makes an NFS client
    drop a cached "no such file". What names the file must promise that it is there, or the time is lost. Raises what
    ``read`` raises, FileNotFoundError when the time is over.
    """
    begun, pause = time.monotonic(), 0.05
    while True:
        try:
            return read(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            if patience_s is None:
                patience_s = patience(path)
            # ESTALE: the name was replaced on the server between our lookup and our read.
            limit = max(patience_s, STALE_S) if error.errno == errno.ESTALE else patience_s
            # One try more when a cached answer has just run out.
            if time.monotonic() - begun > limit:
                raise
        time.sleep(pause)
        pause = min(2.0, 2 * pause)
        with contextlib.suppress(OSError):
            list(path.parent.iterdir())


def read_published(path: Path, *, patience_s: float | None = None) -> bytes:
    """Read a file that another node published, waiting for its name (see `persistently`)."""

    return persistently(Path.read_bytes, path, patience_s)


def read_manifest(directory: Path, *, patience_s: float | None = 0.0) -> Manifest | None:
    """The manifest of ``directory``, None where none is committed; ``patience_s`` is `persistently`'s. Raises RunError
    where it is damaged.
    """
    try:
        return Manifest.from_json(read_published(directory / MANIFEST, patience_s=patience_s).decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunError(f"{directory / MANIFEST} is {error}; remove the directory and start again") from error


def damage(
    directory: Path, manifest: Manifest, *, digests: bool = True, patience_s: float | None = None
) -> str | None:
    """What is wrong with the files of a manifest, in words, or None. Without ``digests`` only sizes are
    compared. The manifest promises its files, so one that is not seen is waited for (see `persistently`).
    """
    for name, entry in manifest.files.items():
        try:
            size, sha256 = persistently(lambda path: _measure(path, digests), directory / name, patience_s)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if size != entry.size:
            return f"{name} holds {size} bytes instead of {entry.size}"
        if digests and sha256 != entry.sha256:
            return f"the digest of {name} is not the one in the manifest"
    return None


def _measure(path: Path, digests: bool) -> tuple[int, str]:
    with path.open("rb") as file:
        if not digests:
            return os.fstat(file.fileno()).st_size, ""
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
