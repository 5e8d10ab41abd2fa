"""What the rounds say of a federation's task: the columns that a training takes from its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hpcflow.errors import HpcflowError
from hpcflow.federation import history, rounds
from hpcflow.federation.cast import BEGIN, Moulds, parse, whose
from hpcflow.federation.plan import HOLDOUT, Plan, place_of, plan_of
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import Manifest

NAMES = ("loss", "dice", "accuracy")


@dataclass
class Federations:
    """Those of a run; each file is read once."""

    run: RunDir
    _rounds: dict[int, Manifest | None] = field(default_factory=dict)

    @cached_property
    def _plan(self) -> Plan:
        return plan_of(self.run)

    @cached_property
    def _moulds(self) -> Moulds:
        from hpcflow.federation.job import read_moulds

        return read_moulds(self._plan)

    def tell(self, job: str, task: int) -> dict[str, Any]:
        """`round`, `collaborator`, `samples` and metrics of a task, as far as there are any."""
        try:
            return self._tell(job, task)
        except HpcflowError:  # what is damaged has nothing to say, and its state is told all the same
            return {}

    def _tell(self, job: str, task: int) -> dict[str, Any]:
        if job == BEGIN:
            return {"round": 0}
        try:
            part = parse(job)
        except ValueError:
            return _whole(plan_of(place_of(self.run, job, task)))
        where = self._plan.round(part.round)
        if part.part == "aggregate":
            return {"round": part.round, **judged(where.evaluation(HOLDOUT))}
        name = whose(self._moulds.moulds, self._plan, job, task)
        made = {"round": part.round, "collaborator": name}
        if part.part == "evaluate":
            return made | judged(where.evaluation(name))
        found = self._manifest(part.round)
        took = found.about["accepted"].get(name) if found else None
        if took is None or took["round"] != part.round:
            return made
        metrics = took["metrics"]
        tuned = {key: metrics.get(f"tuned/{key}") for key in NAMES}
        return {**made, "samples": took["samples"], "loss": metrics.get("train/loss"), **_validated(tuned)}

    def _manifest(self, number: int) -> Manifest | None:
        if number not in self._rounds:
            self._rounds[number] = rounds.manifest(self._plan, number)
        return self._rounds[number]


def judged(path: Path) -> dict[str, Any]:
    """What an evaluation came to."""
    return _validated(rounds.read_object(path).get("metrics", {}))


def _whole(plan: Plan) -> dict[str, Any]:
    """A federation that is one task: its last round, and what that model is worth."""
    last = rounds.last_committed(plan)
    if last < 0:
        return {}
    told = history.tell(plan, last)
    return {"round": last, **_validated(told.holdout or told.aggregated)}


def _validated(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {f"val_{key}": metrics.get(key) for key in NAMES}
