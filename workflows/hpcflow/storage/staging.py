"""A published folder copied to the node's own disk before it is read over and over.

One process of a node copies, the others wait for it: who creates the claim, a folder on the node's own file system,
copies. Size and digest of every file are compared with the manifest while it is copied. Once every process has opened
the copy its names are removed, so that nothing stays behind whatever ends the job; the kernel frees the blocks with the
last mapping.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcflow.errors import RunError
from hpcflow.storage import mounts
from hpcflow.storage.mounts import Mount
from hpcflow.storage.publish import MANIFEST, Manifest, publish_text, publishing, publishing_directory
from hpcflow.storage.space import human

Stage = Literal["none", "auto", "local"]
SMALL = 64 * 2**20  # bytes that the page cache holds after the first epoch
SPARE = 1.1  # of the copy's size must be free
SLOWEST = 10 * 2**20  # bytes a second, below which the copying process is taken for stuck
PATIENCE_S = 600.0
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Decision:
    """Whether to copy, and why."""

    copy: bool
    why: str


@dataclass(frozen=True)
class Staged:
    """Where to read from, what it cost this process to wait for it, and whether the names are this one's to remove."""

    path: Path
    why: str
    seconds: float = 0.0
    bytes: int = 0
    mine: bool = False

    def remove(self) -> None:
        """Remove the copy's names, once every process of the node has opened it."""
        if self.mine:
            shutil.rmtree(self.path.parent, ignore_errors=True)


def decide(
    wanted: Stage, size: int, readers: int, source: Mount | None, scratch: Mount | None, free: int
) -> Decision:
    """Whether ``size`` bytes that ``readers`` processes of a node read each epoch shall be copied to its disk.

    ``source`` and ``scratch`` are the file systems of the two places, ``free`` the room in the second. Raises RunError
    where a copy is asked for and does not fit.
    """
    if wanted == "none":
        return Decision(False, "not asked for")
    fits = free >= size * SPARE
    if wanted == "local":
        if not fits:
            raise RunError(
                f"storage.stage: local needs {human(int(size * SPARE))} on the node, and {human(free)} are free there"
            )
        return Decision(True, "asked for")
    if source is not None and source.shared is False:
        return Decision(False, f"the data is on this node already ({source.kind})")
    if size < SMALL:
        return Decision(False, f"{human(size)} stay in memory after the first epoch")
    if scratch is not None and scratch.shared:
        return Decision(False, f"the node's TMPDIR is on {scratch.kind} too")
    if scratch is not None and scratch.kind in ("tmpfs", "ramfs") and free < 4 * size:
        return Decision(
            False, f"the node's TMPDIR is memory, and {human(size)} of {human(free)} is much of it"
        )
    if not fits:
        return Decision(False, f"{human(size)} do not fit into the {human(free)} of the node's TMPDIR")
    kind = source.kind if source else "an unknown file system"
    return Decision(True, f"{readers} rank(s) of the node would read {human(size)} from {kind} every epoch")


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
    readers: int,
    *,
    scratch: Path | None = None,
    name: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    table: Sequence[Mount] | None = None,
) -> Staged:
    """The folder ``source`` or a copy of it on this node, whichever `decide` says.

    Raises RunError where a copy is asked for and cannot be made; with `auto` the original is read then.
    """
    if wanted == "none":
        return Staged(source, "not asked for")
    place = scratch or scratch_folder()
    size = sum(entry.size for entry in manifest.files.values())
    decision = decide(
        wanted,
        size,
        readers,
        mounts.of(source, table),
        mounts.of(place, table),
        shutil.disk_usage(place).free,
    )
    if not decision.copy:
        return Staged(source, decision.why)
    begun = time.monotonic()
    home = place / f"hpcflow-stage-{name or token()}"
    target = home / source.name
    try:
        home.mkdir(mode=0o700)
        mine = True
    except FileExistsError:
        mine = False
    patience = PATIENCE_S + size / SLOWEST
    failure = _copy(source, manifest, target, say) if mine else _wait(target, patience)
    if failure:
        if wanted == "local":
            raise RunError(f"storage.stage: the copy to {place} failed: {failure}")
        return Staged(source, f"the copy failed: {failure}")
    return Staged(target, decision.why, round(time.monotonic() - begun, 3), size, mine)


def _copy(source: Path, manifest: Manifest, target: Path, say: Callable[[str], None]) -> str:
    """Copy and compare; what went wrong, which the others are told too."""
    try:
        with publishing_directory(target) as made:
            for number, (name, entry) in enumerate(sorted(manifest.files.items()), 1):
                say(f"staging {name}, {human(entry.size)} ({number} of {len(manifest.files)})")
                size, digest = _copy_file(source / name, made / name)
                if (size, digest) != (entry.size, entry.sha256):
                    raise RunError(f"{source / name} is not what its manifest says")
            publish_text(made / MANIFEST, manifest.to_json())
    except (OSError, RunError) as error:
        failure = str(error)
        publish_text(_failed(target), failure)
        return failure
    return ""


def _copy_file(source: Path, target: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file, publishing(target) as publication:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            publication.write(block)
    return size, digest.hexdigest()


def _wait(target: Path, patience_s: float) -> str:
    """Until the copy is there whole, or its maker says that there will be none."""
    deadline = time.monotonic() + patience_s
    pause = 0.01
    while not (target / MANIFEST).exists():
        if _failed(target).exists():
            return _failed(target).read_text(encoding="utf-8")
        if time.monotonic() > deadline:
            return f"no copy after {patience_s:.0f} s"
        time.sleep(pause)
        pause = min(0.5, 2 * pause)
    return ""


def _failed(target: Path) -> Path:
    return target.with_name(target.name + ".failed")
