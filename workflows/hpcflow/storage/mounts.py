"""File systems, from /proc/self/mountinfo (proc(5)): which one a path is on, and what that means for runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# Every node sees these; on the local ones a job of another node finds an empty folder.
_SHARED = (
    "lustre nfs nfs4 gpfs beegfs ceph fuse.ceph fuse.ceph-fuse panfs wekafs pvfs2 orangefs glusterfs "
    "fuse.glusterfs afs cifs smb3 fuse.juicefs daos fuse.dfuse"
)
_LOCAL = "ext2 ext3 ext4 xfs btrfs zfs f2fs bcachefs tmpfs ramfs devtmpfs overlay fuse.fuse-overlayfs aufs squashfs vfat"
SHARED = frozenset(_SHARED.split())
LOCAL = frozenset(_LOCAL.split())
NFS = frozenset({"nfs", "nfs4"})


@dataclass(frozen=True)
class Mount:
    """One mounted file system. ``options`` are those of the mount and of the file system together."""

    point: str
    kind: str
    source: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def shared(self) -> bool | None:
        """Whether other nodes see it; None when it is not known."""
        return True if self.kind in SHARED else False if self.kind in LOCAL else None

    @property
    def attribute_cache(self) -> int | None:
        """Seconds for which another client may not see a new file (nfs(5); 60 by default); None but on NFS."""
        if self.kind not in NFS:
            return None
        if "noac" in self.options:
            return 0
        both = [self.options.get(key, self.options.get("actimeo", "60")) for key in ("acregmax", "acdirmax")]
        return max(int(value) for value in both if value.isdecimal())


def parse(text: str) -> tuple[Mount, ...]:
    """The mounts of a mountinfo file, in its order (a later one hides an earlier one at the same place)."""
    return tuple(mount for line in text.splitlines() if (mount := _mount(line)))


def _mount(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(rest) < 3:
        return None
    options = (option.partition("=") for option in f"{fields[5]},{rest[2]}".split(","))
    return Mount(_plain(fields[4]), rest[0], _plain(rest[1]), {key: value for key, _, value in options})


def _plain(text: str) -> str:
    """Blanks, tabs, newlines and backslashes stand in mountinfo as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def under(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that ``path`` (absolute, no links in it) is on: the longest that leads to it, the latest of equals."""
    found: Mount | None = None
    for mount in mounts:
        inside = PurePosixPath(path).is_relative_to(mount.point)
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def here() -> tuple[Mount, ...]:
    """The mounts that this process sees; none where the kernel does not tell."""
    try:
        return parse(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return ()


def of(path: Path, mounts: Sequence[Mount] | None = None) -> Mount | None:
    """The mount that the nearest folder of ``path`` that exists is on, links followed."""
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return under(str(folder.resolve()), here() if mounts is None else mounts)
