"""One file that several ranks write, each its own byte ranges, and that appears whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hpcflow.federation.ranks import Ranks
from hpcflow.federation.tensorfile import plan_header
from hpcflow.storage.publish import Entry, rename, sync_directory, temporary_name

Shapes = list[tuple[str, str, tuple[int, ...]]]


class Output:
    """A safetensors file in the making. All ranks make, write, and publish or discard it together."""

    def __init__(self, path: Path, shapes: Shapes, metadata: Mapping[str, str], ranks: Ranks) -> None:
        self.path, self._ranks = path, ranks
        self.header, self._text = plan_header(shapes, metadata)
        self._temporary: Path = ranks.share(temporary_name(path))[0]
        self._descriptor = -1

    def create(self) -> None:
        """Rank 0 makes the file at its full size under a temporary name. Raises OSError."""
        if self._ranks.rank == 0:
            self._descriptor = os.open(
                self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
            )
            os.pwrite(self._descriptor, self._text, 0)
            os.ftruncate(self._descriptor, self.header.size)

    def join(self) -> None:
        """Ranks other than 0 open the file, after rank 0 has made it. Raises OSError."""
        if self._ranks.rank:
            self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CLOEXEC)

    def write(self, array: NDArray[Any], begin: int) -> None:
        """Write a contiguous array at byte ``begin`` of the data. Threads may share this."""
        view, at = array.view("u1").data, self.header.start + begin
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], at + done)

    def flush(self) -> None:
        """Bring this rank's bytes to the disk and close the file; NFS and Lustre report a full quota here."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self, *, digest: bool) -> Entry | None:
        """On rank 0, after every rank flushed: give the file its name. Its manifest entry where asked for."""
        entry = None
        if digest:
            with self._temporary.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                entry = Entry(os.fstat(file.fileno()).st_size, sha256)
        rename(self._temporary, self.path)
        sync_directory(self.path.parent)
        return entry

    def discard(self) -> None:
        """Close it and remove what rank 0 made."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if self._ranks.rank == 0:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
