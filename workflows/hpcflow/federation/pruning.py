"""What a federation may forget: `hpcflow fed prune`. Records, metrics and manifests always stay."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcflow.experiment.federation import Retention
from hpcflow.federation import rounds
from hpcflow.federation.arms import arms
from hpcflow.federation.plan import Plan, places, plan_of
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import leftovers

# The last round is what the next one begins with, and late updates are made from the one before it.
ALWAYS = 2
# A file that was begun so long ago and has no name yet is of a killed writer.
LEFT_S = 3600.0


@dataclass(frozen=True)
class Pruned:
    """Files that go, and their bytes."""

    files: tuple[Path, ...]
    bytes: int


def choose(run: RunDir, said: Mapping[str, int]) -> Pruned:
    """What may go of all federations of a run, by its retention with ``said`` over it; of a trial that an earlier run
    has done nothing does.
    """
    found: list[Path] = []
    for _, place in places(run):
        if not place.path.is_relative_to(run.path):
            continue
        plan = plan_of(place)
        retention = plan.rules.retention.model_copy(update=said)
        for one in arms(plan).values() if plan.experiment.flow == "comparison" else [plan]:
            found += _of(one, retention)
    return Pruned(tuple(found), sum(path.stat().st_size for path in found))


def _of(plan: Plan, retention: Retention) -> list[Path]:
    last = rounds.last_committed(plan)
    models, updates = _count(retention.models), _count(retention.updates)
    found: list[Path] = []
    wanted = _controls(plan, last)
    for number in range(last + 1):
        where = plan.round(number)
        age = last - number  # 0 is the last
        marked = bool(retention.every) and number % (retention.every or 1) == 0
        if models is not None and age >= models and not marked:
            found += [where.model, where.state]
        for folder in where.folders:
            found += leftovers(folder, LEFT_S, time.time())
        if updates is not None and age >= updates:
            found += _files(where.updates)
            found += [path for path in _files(where.controls) if path not in wanted]
    return [path for path in found if path.is_file()]


def prune(pruned: Pruned) -> None:
    """Remove the files."""
    for path in pruned.files:
        path.unlink(missing_ok=True)


def _count(said: int | str) -> int | None:
    return None if isinstance(said, str) else max(ALWAYS, said)


def _controls(plan: Plan, last: int) -> set[Path]:
    """The control variates that collaborators go on from: those of their last accepted updates."""
    kept: dict[str, Path] = {}
    for number in range(last, 0, -1):
        found = rounds.manifest(plan, number)
        for name, said in found.about["accepted"].items() if found else ():
            kept.setdefault(name, plan.round(said["round"]).control(name))
    return set(kept.values())


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if re.match(r"[^.]", path.name)]
    except OSError:
        return []
