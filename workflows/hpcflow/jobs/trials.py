"""trials.json: which task of a run is which trial of its sweep, and which trials other runs have done already.

    {"keys": [...], "scaling": ..., "repeats": N, "trials": [
        {"trial": 3, "repeat": 0, "baseline": 1, "ranks": 4, "values": {"resources.nodes": 4}, "scaled": {},
         "run": "20260101-000000-aaaa", "job": "train-n4", "task": 0, "digest": "..."}, ...]}
``run``, ``job`` and ``task`` say where its files are: ``run`` is the ID of this run, or of an earlier one of the same
name in which the trial was done with the same digest. The digest is over all that decides the results of a trial:
its resolved experiment, and the launch line and variables that it runs with.

Looking up what is done reads this one file of every earlier run of the name, and the records of the trials with a
digest that is looked for: two small files a trial, whatever the number of runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcflow.jobs import record
from hpcflow.jobs.job import Allocation, Job
from hpcflow.jobs.rundir import JobDir, RunDir, TaskDir

# What changes no result: where a run lies, who pays for it, and how long it may take.
NO_RESULT = {
    "": ("name", "description", "sweep"),
    "resources": ("time", "account", "qos", "reservation", "exclude", "extra"),
    "storage": ("runs", "cache"),
}
# Made once: json.dumps makes one for each call that says anything else than its defaults.
_PLAIN = json.JSONEncoder(default=str).encode
_SORTED = json.JSONEncoder(sort_keys=True, default=str).encode


@dataclass(frozen=True)
class TrialRow:
    """One trial in one repeat, and the task that runs or has run it."""

    trial: int
    repeat: int
    baseline: int
    ranks: int
    values: Mapping[str, Any]
    scaled: Mapping[str, Any]
    run: str
    job: str
    task: int
    digest: str

    def job_dir(self, run: RunDir) -> JobDir:
        """The array that it is a task of; ``run`` is the run whose trials.json this row is of."""
        return RunDir(run.path.parent / self.run).job(Job(self.job, Allocation(), (), tasks=self.task + 1))

    def task_dir(self, run: RunDir) -> TaskDir:
        """Its files."""
        return self.job_dir(run).task(self.task)


@dataclass(frozen=True)
class Trials:
    """The trials of a run, in the order in which they were to run."""

    keys: tuple[str, ...]
    scaling: str | None
    repeats: int
    rows: tuple[TrialRow, ...] = field(default=())

    def reused(self, run: RunDir) -> tuple[TrialRow, ...]:
        """Those that earlier runs have done."""
        return tuple(row for row in self.rows if row.run != run.path.name)

    def to_json(self) -> str:
        """The text of trials.json: one row a line."""
        head = {"keys": self.keys, "scaling": self.scaling, "repeats": self.repeats}
        rows = ",\n".join(_PLAIN(vars(row)) for row in self.rows)
        return f'{json.dumps(head)[:-1]}, "trials": [\n{rows}\n]}}\n'


def read(run: RunDir) -> Trials | None:
    """The trials of ``run``; None where it is no sweep, or the file is damaged."""
    try:
        data = json.loads(run.trials.read_bytes())
        rows = tuple(TrialRow(**row) for row in data["trials"])
        return Trials(tuple(data["keys"]), data["scaling"], int(data["repeats"]), rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def decisive(name: str, section: Any) -> str | None:
    """What of a section (plain data) of an experiment decides a result, as text; None where nothing does."""
    if name in NO_RESULT[""]:
        return None
    if name in NO_RESULT and isinstance(section, Mapping):
        section = {key: value for key, value in section.items() if key not in NO_RESULT[name]}
    return _SORTED(section)


def digest(sections: Mapping[str, str | None], launched: str) -> str:
    """The digest of a resolved experiment, by what of its sections is ``decisive``, that is ``launched`` so."""
    kept = ", ".join(f'"{name}": {text}' for name, text in sorted(sections.items()) if text is not None)
    return hashlib.sha256(f"[{{{kept}}}, {_SORTED(launched)}]".encode()).hexdigest()[:32]


def done_before(folder: Path, wanted: Iterable[str]) -> dict[str, list[TrialRow]]:
    """For each digest, the tasks below ``folder`` (RUNS/NAME) that have done it, those of the newest run first.

    Done is a task whose record says that it ended well. A run that reused a trial counts for the run that did it.
    """
    looked_for = set(wanted)
    found: dict[str, list[TrialRow]] = {}
    seen: set[tuple[str, str, int]] = set()
    arrays: dict[tuple[str, str], tuple[JobDir, set[str]]] = {}
    for run in _runs(folder):
        trials = read(run)
        for row in trials.rows if trials else ():
            place = (row.run, row.job, row.task)
            if row.digest not in looked_for or place in seen:
                continue
            seen.add(place)
            if place[:2] not in arrays:
                job = row.job_dir(run)
                arrays[place[:2]] = job, _names(job.path)
            job, begun = arrays[place[:2]]
            task = job.task(row.task)
            if task.in_array and task.path.name not in begun:
                continue
            if (ended := record.read(task.record)) and ended.succeeded:
                found.setdefault(row.digest, []).append(row)
    return found


def take(digests: Sequence[str], done: Mapping[str, Sequence[TrialRow]]) -> Iterator[TrialRow | None]:
    """What has done each of ``digests`` already: nothing is taken twice."""
    left = {key: list(rows) for key, rows in done.items()}
    for key in digests:
        yield left[key].pop(0) if left.get(key) else None


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


def _runs(folder: Path) -> list[RunDir]:
    try:
        return [
            RunDir(path) for path in sorted(folder.iterdir(), reverse=True) if not path.name.startswith(".")
        ]
    except OSError:
        return []
