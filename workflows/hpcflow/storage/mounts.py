"""File systems, from /proc/self/mountinfo (proc(5)): which one a path is on, and what that means for runs.

What a site's profile says of them (`file_systems`) lies over the mount table. Jobs, which know no profile, find it in
the environment, where their scripts put it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hpcflow.errors import RunError
from hpcflow.jobs import shell

# Every node sees these; on the local ones a job of another node finds an empty folder.
_SHARED = (
    "lustre nfs nfs4 gpfs beegfs ceph fuse.ceph fuse.ceph-fuse panfs wekafs pvfs2 orangefs glusterfs "
    "fuse.glusterfs afs cifs smb3 fuse.juicefs daos fuse.dfuse"
)
_LOCAL = "ext2 ext3 ext4 xfs btrfs zfs f2fs bcachefs tmpfs ramfs devtmpfs overlay fuse.fuse-overlayfs aufs squashfs vfat"
SHARED = frozenset(_SHARED.split())
LOCAL = frozenset(_LOCAL.split())
NFS = frozenset({"nfs", "nfs4"})
VARIABLE = "HPCFLOW_FILE_SYSTEMS"
Said = Mapping[str, Mapping[str, Any]]
"""A profile's `file_systems`: by folder what is said of it, as experiment/site.py has it."""


@dataclass(frozen=True)
class Mount:
    """One mounted file system. ``options`` are those of the mount and of the file system together; ``cache`` (seconds)
    and ``stripes`` are what a site's profile says.
    """

    point: str
    kind: str
    source: str
    options: dict[str, str] = field(default_factory=dict)
    cache: int | None = None
    stripes: bool = True

    @property
    def shared(self) -> bool | None:
        """Whether other nodes see it; None when it is not known."""
        return True if self.kind in SHARED else False if self.kind in LOCAL else None

    @property
    def attribute_cache(self) -> int | None:
        """Seconds for which another client may not see a new file (nfs(5); 60 by default); None where neither the
        profile nor NFS's options say."""
        if self.cache is not None:
            return self.cache
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


def over(said: Said, mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """``mounts`` and the folders of ``said``, with what is said of the nearest folder above each."""
    folders = dict(_expanded(said))
    points = [replace(under(point, mounts) or Mount(point, "", ""), point=point) for point in folders]
    return tuple(_told(mount, folders) for mount in (*mounts, *points))


def _expanded(said: Said) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for folder, about in said.items():
        try:
            yield os.path.normpath(shell.expand(folder)), about
        except RunError:
            continue  # a variable that is not set here: nothing is there under this name


def _told(mount: Mount, folders: Said) -> Mount:
    above = [folder for folder in folders if PurePosixPath(mount.point).is_relative_to(folder)]
    if not above:
        return mount
    about = folders[max(above, key=len)]
    cache, kind = about.get("attribute_cache"), about.get("type")
    return replace(mount, kind=kind or mount.kind, cache=cache, stripes=about.get("stripes", True))


def here(said: Said | None = None) -> tuple[Mount, ...]:
    """The mounts that this process sees; none where the kernel does not tell. ``said`` left out: by the environment."""
    try:
        found = parse(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        found = ()
    if said is None:
        said = json.loads(os.environ.get(VARIABLE, "{}"))
    return over(said, found) if said else found


def of(path: Path, mounts: Sequence[Mount] | None = None) -> Mount | None:
    """The mount that the nearest folder of ``path`` that exists is on, links followed."""
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return under(str(folder.resolve()), here() if mounts is None else mounts)
