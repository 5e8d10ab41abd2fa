"""What an earlier report read of a run, so that the next one reads only what has changed since.

A file a run in the user's cache folder, named by the digest of the run's path: never in the run, which has one writer
a file and may be another user's. Its first line is the digest of the rest; the rest is JSON. It holds for the code and
the path that made it, and each row for the files it was made of, known by size, time (ns) and inode. A file that was
changed less than 2 s before it was read may change again within its clock's tick: its row is not kept. Deleted,
damaged, or of other code, the cache is as if it had never been.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import publish_bytes

FRESH_S = 2.0
KEPT_S = 90 * 24 * 3600.0
_CODE = ("cache.py", "collect.py", "columns.py", "experiment.py", "metrics.py", "row.py", "trial.py")

Stamp = list[int]


@dataclass(frozen=True)
class Kept:
    """A row, its task's folder and experiment, the stamps of what it was made of, and what was wrong in the files."""

    folder: str
    experiment: str
    stamps: Sequence[Stamp]
    row: Mapping[str, Any]
    complaints: Sequence[str] = ()


@dataclass(frozen=True)
class Memory:
    """What is kept of a run: the files that all its rows hang on with their stamps, the keys that were overridden, and
    the rows; ``complete`` where these are all that the run has, in their order.
    """

    files: Sequence[str] = ()
    stamps: Sequence[Stamp] = ()
    overridden: Sequence[str] = ()
    complete: bool = False
    rows: Mapping[str, Kept] = field(default_factory=dict)


def stamp(path: str | Path) -> Stamp:
    """What tells one version of a file from another; empty where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path for each file takes longer than asking for it
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def fresh(stamps: Sequence[Stamp], now: float) -> bool:
    """Whether a file was changed so shortly before ``now`` that its stamp may not tell the next change."""
    return any(found and found[1] > (now - FRESH_S) * 1e9 for found in stamps)


def folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The user's folder of such files (XDG base directories); None where there is no home."""
    places = (Path(environ.get("XDG_CACHE_HOME", "")), Path(environ.get("HOME", ""), ".cache"))
    return next((place / "hpcflow" / "report" for place in places if place.is_absolute()), None)


def load(run: RunDir) -> Memory:
    """What is kept of ``run``; nothing where there is none that can be trusted."""
    path = _path(run)
    try:
        head, _, body = path.read_bytes().partition(b"\n") if path else (b"", b"", b"")
        if head.decode() != _digest(body):
            return Memory()
        data = json.loads(body)
        if data["about"] != _about(run):
            return Memory()
        names = data["columns"]
        rows = {
            key: Kept(folder, experiment, stamps, dict(zip(names, cells, strict=True)), complaints)
            for key, (folder, experiment, stamps, cells, complaints) in data["rows"].items()
        }
        return Memory(data["files"], data["stamps"], data["overridden"], data["complete"], rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Memory()


def save(run: RunDir, memory: Memory) -> None:
    """Keep it for the next time; where that fails, the next time reads everything."""
    path = _path(run)
    if path is None:
        return
    names = list(dict.fromkeys(name for kept in memory.rows.values() for name in kept.row))
    rows = {
        key: (
            kept.folder,
            kept.experiment,
            kept.stamps,
            [kept.row.get(name) for name in names],
            kept.complaints,
        )
        for key, kept in memory.rows.items()
    }
    data = {
        "about": _about(run), "files": memory.files, "stamps": memory.stamps, "overridden": memory.overridden,
        "complete": memory.complete, "columns": names, "rows": rows,
    }  # fmt: skip
    body = json.dumps(data, separators=(",", ":")).encode()
    with contextlib.suppress(OSError, ValueError, TypeError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        publish_bytes(path, _digest(body).encode() + b"\n" + body)
        _forget(path.parent)


def _path(run: RunDir) -> Path | None:
    where = folder()
    return where / f"{_digest(os.fsencode(_absolute(run)))[:32]}.json" if where else None


def _about(run: RunDir) -> list[str]:
    return [_code(), _absolute(run)]


def _absolute(run: RunDir) -> str:
    return os.path.abspath(run.path)  # noqa: PTH100 - resolve() would ask the file system for each part


@cache
def _code() -> str:
    here = Path(__file__).parent
    return _digest(b"".join((here / name).read_bytes() for name in _CODE if (here / name).is_file()))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _forget(where: Path) -> None:
    """Delete what nobody has written to for so long that its run is probably gone."""
    for path in where.glob("*.json"):
        if path.stat().st_mtime < time.time() - KEPT_S:
            path.unlink(missing_ok=True)
