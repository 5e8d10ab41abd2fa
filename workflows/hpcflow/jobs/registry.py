"""Which run a user means by a word.

A run is named by NAME (the newest run of that experiment), NAME/ID, ID, its path, or `last` (the newest of
all). Known are the runs in the user's index, to which every submission appends one line, and those below
./runs, which need no index. Paths in the index that are gone are passed over.

The index is a convenience, not a record: it may be deleted, and on a home directory where appending is not
atomic (NFS, from two hosts at once) a line may be lost. A broken line is passed over.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcflow.errors import InputError
from hpcflow.jobs.rundir import RunDir

LAST = "last"
_NEAREST = 3
_log = logging.getLogger("hpcflow")


@dataclass(frozen=True)
class Known:
    """A run that was submitted once, and when (seconds since the epoch). It may be gone."""

    path: Path
    at: float

    @property
    def name(self) -> str:
        """NAME/ID."""
        return RunDir(self.path).name

    def answers_to(self, word: str) -> bool:
        """Whether ``word`` means this run."""
        return word in (LAST, self.name, self.path.name, self.path.parent.name)


def index_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The user's index; None where there is no home to keep it in."""
    folders = (Path(environ.get("XDG_STATE_HOME", "")), Path(environ.get("HOME", ""), ".local", "state"))
    # The XDG specification has relative ones ignored.
    return next((folder / "hpcflow" / "runs.jsonl" for folder in folders if folder.is_absolute()), None)


def remember(run: RunDir, *, environ: Mapping[str, str] = os.environ) -> None:
    """Append a run to the index, by one write. Where that fails it is a warning: nothing depends on it."""
    path = index_file(environ)
    line = json.dumps({"path": str(_absolute(run.path)), "at": round(time.time(), 3)}) + "\n"
    try:
        if path is None:
            raise OSError("HOME is not set")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _append(path, line.encode())
    except OSError as error:
        why = error.strerror or str(error)
        _log.warning("the run is not in the index %s (%s), name it by its path: %s", path, why, run.path)


def find(word: str, *, environ: Mapping[str, str] = os.environ, below: Path = Path("runs")) -> RunDir:
    """The run that ``word`` means. Raises InputError that names the known runs nearest to it."""
    if word != LAST:
        given = RunDir(_absolute(Path(word)))
        if _is_run(given.path):
            return given
    runs = known(environ=environ, below=below)
    meant = [run for run in runs if run.answers_to(word.rstrip("/"))]
    for run in meant:
        if _is_run(run.path):
            return RunDir(run.path)
    if meant and word != LAST:
        raise InputError(f"the run {word} is gone: {meant[0].path} is no run directory any more")
    raise InputError(_unknown(word, [run for run in runs if _is_run(run.path)]))


def known(*, environ: Mapping[str, str] = os.environ, below: Path = Path("runs")) -> Sequence[Known]:
    """Every run in the index or below ``below``, the newest first. Those of the index may be gone."""
    found: dict[Path, tuple[float, int, Known]] = {}
    for place, run in enumerate((*_below(below), *_indexed(index_file(environ)))):
        found[run.path] = (run.at, place, run)
    return [run for _, _, run in sorted(found.values(), key=lambda item: item[:2], reverse=True)]


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # by a full disk: ours must not go with it
        os.write(descriptor, b"\n" + line if torn else line)
    finally:
        os.close(descriptor)


def _indexed(path: Path | None) -> Iterator[Known]:
    try:
        lines = path.read_bytes().splitlines() if path else []
    except OSError:
        return
    for line in lines:
        try:
            item = json.loads(line)
            run = Known(Path(item["path"]), float(item["at"]))
        except (ValueError, KeyError, TypeError):
            continue
        if run.path.is_absolute():
            yield run


def _below(folder: Path) -> Iterator[Known]:
    for name in _folders(_absolute(folder)):
        for path in _folders(name):
            try:
                yield Known(path, RunDir(path).graph_file.stat().st_mtime)
            except OSError:
                continue


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would show users a path they never typed


def _is_run(path: Path) -> bool:
    return RunDir(path).graph_file.is_file()


def _unknown(word: str, runs: Sequence[Known]) -> str:
    if not runs:
        return f"no run {word!r} is known, nor any other (`hpcflow submit` makes one; or give a run's path)"
    texts = [(run, (run.path.name, run.path.parent.name, run.name)) for run in reversed(runs)]
    names = {text: run.name for run, words in texts for text in words}
    near = difflib.get_close_matches(word, names, n=_NEAREST, cutoff=0.5)
    shown = list(dict.fromkeys(names[text] for text in near)) or [run.name for run in runs[:_NEAREST]]
    kind = "nearest" if near else "newest"
    return f"there is no run {word!r} ({kind}: {', '.join(shown)}; `last` is the newest; or give its path)"
