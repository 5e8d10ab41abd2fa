"""A published folder copied to the node's own disk before it is read over and over.

One process of a node copies, the others wait for it. Who makes the claim, a folder on the node's own file system,
decides whether a copy is worth it, makes it, and publishes its verdict there; nobody else looks at the room. Size and
digest of every file are compared with the manifest while it is copied. Once every process has opened the copy its names
are removed; the kernel frees the blocks with the last mapping.

The claim is locked for as long as its maker lives (by flock, which the kernel of one node is to be trusted with). So
the others see at once that it died, and what a killed job left is removed by the next one that stages on the node.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hpcflow.errors import RunError
from hpcflow.storage import mounts
from hpcflow.storage.mounts import Mount
from hpcflow.storage.publish import (
    MANIFEST,
    Entry,
    Manifest,
    persistently,
    publish_json,
    publish_text,
    publishing,
    publishing_directory,
    temporary_name,
)
from hpcflow.storage.space import human

Stage = Literal["none", "auto", "local", "sbcast"]
SMALL = 64 * 2**20  # bytes that the page cache holds after the first epoch
SPARE = 1.1  # of the copy's size must be free
SLOWEST = 10 * 2**20  # bytes a second, below which the copying process is taken for stuck
PATIENCE_S = 600.0
LEFTOVERS_S = 24 * 3600.0
PREFIX = "hpcflow-stage-"
LOCK, VERDICT = "lock", "verdict.json"
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Readers:
    """Who reads the data: so many processes of this node, of so many in all, so many times."""

    here: int = 1
    all: int = 1
    epochs: int = 1

    @property
    def times(self) -> float:
        """How often the processes of this node read the whole together: an epoch deals the data to all."""
        return self.epochs * min(1.0, self.here / max(1, self.all))


@dataclass(frozen=True)
class Decision:
    """Whether to copy, and why."""

    copy: bool
    why: str


@dataclass(frozen=True)
class Staged:
    """Where to read from and why, what it cost this process to wait for it, and the claim if it is this one's."""

    path: Path
    why: str
    seconds: float = 0.0
    bytes: int = 0
    claim: Path | None = None

    def remove(self) -> None:
        """Remove the copy's names, once every process of the node has opened it."""
        if self.claim:
            shutil.rmtree(self.claim, ignore_errors=True)


def decide(
    wanted: Stage, size: int, readers: Readers, source: Mount | None, scratch: Mount | None, free: int
) -> Decision:
    """Whether ``size`` bytes that ``readers`` read shall be copied to the node's disk.

    ``source`` and ``scratch`` are the file systems of the two places, ``free`` the room in the second. Raises RunError
    where a copy is asked for and does not fit.
    """
    fits = free >= size * SPARE
    if wanted != "auto":
        if not fits:
            raise RunError(
                f"it needs {human(int(size * SPARE))} on the node, and {human(free)} are free there"
            )
        return Decision(True, "asked for")
    if source is not None and source.shared is False:
        return Decision(False, f"the data is on this node already ({source.kind})")
    if size < SMALL:
        return Decision(False, f"{human(size)} stay in memory after the first epoch")
    kind = source.kind if source else "an unknown file system"
    who = f"{readers.here} of {readers.all} rank(s) read {human(int(size * readers.times))} from {kind}"
    who += f" in {readers.epochs} epoch(s)"
    if readers.times <= 1:
        return Decision(False, f"{who}, and the copy alone would read {human(size)}")
    if scratch is not None and scratch.shared:
        return Decision(False, f"the node's TMPDIR is on {scratch.kind} too")
    if scratch is not None and scratch.kind in ("tmpfs", "ramfs") and free < 4 * size:
        return Decision(
            False, f"the node's TMPDIR is memory, and {human(size)} of {human(free)} is much of it"
        )
    if not fits:
        return Decision(False, f"{human(size)} do not fit into the {human(free)} of the node's TMPDIR")
    return Decision(True, f"{who}, the copy {human(size)}")


def scratch_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The node's own folder of this job."""
    return Path(environ.get("HPCFLOW_SCRATCH") or environ.get("TMPDIR") or "/tmp")


def token(environ: Mapping[str, str] = os.environ) -> str:
    """What the processes of this start of this job have in common on a node, and nothing else has."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "PMIX_NAMESPACE", "PMI_ID")
    said = [environ[name] for name in names if environ.get(name)] or [str(os.getpid())]
    return "".join(c if c.isalnum() else "-" for c in f"{os.getuid()}-{'-'.join(said)}")


def readers_here(environ: Mapping[str, str] = os.environ) -> int:
    """How many ranks of this job are on this node, as the launcher tells them; 1 where it does not."""
    for name in ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"):
        if environ.get(name, "").isdigit():
            return int(environ[name])
    return 1


def stage(
    source: Path,
    manifest: Manifest,
    wanted: Stage,
    readers: Readers,
    *,
    brought: str = "",
    scratch: Path | None = None,
    name: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    table: Sequence[Mount] | None = None,
) -> Staged:
    """The folder ``source`` or a copy of it on this node, whichever `decide` says; ``brought`` is what the paths of its
    files begin with where they have been broadcast to the node.

    Raises RunError where a copy is asked for and cannot be made; with `auto` the original is read then.
    """
    if wanted == "none":
        return Staged(source, "not asked for")
    begun, place = time.monotonic(), scratch or scratch_folder()
    home, near = place / f"{PREFIX}{name or token()}", mounts.of(place, table)
    local = near is not None and near.shared is False
    size = sum(entry.size for entry in manifest.files.values())

    def make() -> Decision:
        there = {name: Path(brought + name) for name in manifest.files if brought}
        try:
            free = shutil.disk_usage(place).free + sum(p.stat().st_size for p in there.values() if p.exists())
            decision = decide(wanted, size, readers, mounts.of(source, table), near, free)
            if decision.copy:
                _copy(source, manifest, home / source.name, there, say)
        finally:
            for path in there.values():
                path.unlink(missing_ok=True)
        return decision

    try:
        if local:
            remove_leftovers(place)
        mine = _claim(home)
    except OSError as error:
        mine, said = False, Verdict(False, f"{place}: {error.strerror}", True)
    else:
        said = _lead(home, make) if mine else _follow(home, PATIENCE_S + size / SLOWEST, local)
    if said.failed and wanted != "auto":
        raise RunError(f"storage.stage: the copy to {place} failed: {said.why}")
    claim = home if mine else None
    if not said.copied:
        return Staged(source, f"the copy failed: {said.why}" if said.failed else said.why, claim=claim)
    return Staged(home / source.name, said.why, round(time.monotonic() - begun, 3), size, claim)


@dataclass(frozen=True)
class Verdict:
    """What became of a copy, as its maker publishes it."""

    copied: bool
    why: str
    failed: bool = False


def _claim(home: Path) -> bool:
    """Make ``home``, locked; False where another process has. The descriptor is meant to stay open: the lock ends with
    the process, or with the claim's names.
    """
    made = temporary_name(home)
    made.mkdir(mode=0o700)
    try:
        descriptor = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks; there nobody asks for it
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        made.rename(home)  # onto a folder that is not empty, as every claim is, this fails
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if not os.path.lexists(home):
            raise
        found = home.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            # In a folder that all may write, a name that can be guessed may be anybody's, and so may the data in it.
            raise PermissionError(errno.EACCES, f"{home.name} is somebody else's (remove it)") from None
        return False
    return True


def _abandoned(home: Path) -> bool:
    """Whether the process that made the claim ``home`` has ended. Of a node's own file systems alone: what another node
    locks on shared storage may look free here.
    """
    try:
        descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove_leftovers(place: Path) -> None:
    """Remove what killed processes of this user left in ``place``, a folder of the node's own. A broadcast file is
    nobody's until it is moved, nor is a claim that has no name yet: they go when they are old.
    """
    for path in (*place.glob(f"{PREFIX}*"), *place.glob(f".{PREFIX}*")):
        with contextlib.suppress(OSError):
            found = path.lstat()
            claim = stat.S_ISDIR(found.st_mode) and path.name.startswith(PREFIX)
            left = _abandoned(path) if claim else time.time() - found.st_mtime > LEFTOVERS_S
            if found.st_uid == os.getuid() and left:
                shutil.rmtree(path, ignore_errors=True) if stat.S_ISDIR(found.st_mode) else path.unlink()


def _lead(home: Path, make: Callable[[], Decision]) -> Verdict:
    """Decide and copy, and publish what became of it, whatever it is: the others would wait for nothing."""
    verdict = Verdict(False, "it was interrupted", True)
    try:
        decision = make()
        verdict = Verdict(decision.copy, decision.why)
    except (OSError, RunError, MemoryError) as error:
        verdict = Verdict(False, str(error) or type(error).__name__, True)
    finally:
        try:
            publish_json(home / VERDICT, asdict(verdict))
        except OSError:
            (home / LOCK).unlink()  # to the others it looks like a maker that has ended
    return verdict


def _follow(home: Path, patience_s: float, local: bool) -> Verdict:
    """What the maker of the claim says, once it says it."""
    deadline, pause = time.monotonic() + patience_s, 0.01
    while True:
        ended = local and _abandoned(home)  # asked first: a verdict may be its last word
        try:
            return Verdict(**json.loads((home / VERDICT).read_bytes()))
        except FileNotFoundError:
            if ended:
                return Verdict(False, "the process that copied for this node has ended without a word", True)
        if time.monotonic() > deadline:
            return Verdict(False, f"there is no copy after {patience_s:.0f} s", True)
        time.sleep(pause)
        pause = min(0.5, 2 * pause)


def _copy(
    source: Path,
    manifest: Manifest,
    target: Path,
    there: Mapping[str, Path],
    say: Callable[[str], None],
) -> None:
    """Copy and compare; what is ``there`` on the node already is moved. Raises OSError, and RunError for what is not as
    the manifest says; nothing is left then.
    """
    with publishing_directory(target) as made:
        for number, (name, entry) in enumerate(sorted(manifest.files.items()), 1):
            say(f"staging {name}, {human(entry.size)} ({number} of {len(manifest.files)})")
            if name in there and _is_whole(there[name], entry):
                there[name].rename(made / name)
            elif _copy_file(source / name, made / name) != entry:
                raise RunError(f"{source / name} is not what its manifest says")
        publish_text(made / MANIFEST, manifest.to_json())


def _is_whole(path: Path, entry: Entry) -> bool:
    try:
        with path.open("rb") as file:
            return entry == Entry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return False


def _copy_file(source: Path, target: Path) -> Entry:
    with persistently(lambda path: path.open("rb"), source) as file, publishing(target) as publication:
        while block := file.read(_BLOCK):
            publication.write(block)
    return publication.entry
