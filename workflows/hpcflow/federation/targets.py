"""In how many rounds federations reach a target on the hold-out: what strategies are compared by.

McMahan et al. (2017, table 2) count the rounds until the best accuracy so far reaches a target; so does this. Of a sweep
each trial is a federation, and its repeats are other seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcflow.errors import RunError
from hpcflow.federation import rounds
from hpcflow.federation.plan import HOLDOUT, Plan, places, plan_of
from hpcflow.jobs.rundir import RunDir

# Metrics of which less is better.
FALLING = ("loss",)


@dataclass(frozen=True)
class Course:
    """One federation: in which round it reached the target (None: in none up to ``judged``), and its best value (None
    where no round was judged yet).
    """

    reached: int | None
    best: float | None
    judged: int


@dataclass(frozen=True)
class Compared:
    """The federations that differ in nothing but the seed. ``values`` are what the sweep gave them."""

    values: Mapping[str, Any]
    courses: Sequence[Course]

    @property
    def median(self) -> float | None:
        """The median round; None where fewer than half of them reached the target (its place is not known then)."""
        found = sorted(course.reached or float("inf") for course in self.courses)
        middle = statistics.median(found)
        return None if middle == float("inf") else middle

    @property
    def span(self) -> tuple[int | None, int | None]:
        """The earliest and the latest round; None where it was not reached."""
        found = [course.reached for course in self.courses]
        least = min((number for number in found if number is not None), default=None)
        return least, None if None in found else max(number for number in found if number is not None)


def compare(run: RunDir, metric: str, target: float) -> list[Compared]:
    """A run, or each trial of a sweep in its order. Raises RunError where a federation is judged by other metrics, and
    where none was judged at all.
    """
    found: dict[int, tuple[Mapping[str, Any], list[Course]]] = {}
    for row, place in places(run):
        number, values = (row.trial, row.values) if row else (1, {})
        found.setdefault(number, (values, []))[1].append(course(plan_of(place), metric, target))
    compared = [Compared(values, courses) for values, courses in found.values()]
    if not any(course.judged for item in compared for course in item.courses):
        raise RunError(
            f"{run.name}: no round was judged on a hold-out yet (federation.evaluation.holdout asks for it)"
        )
    return compared


def course(plan: Plan, metric: str, target: float) -> Course:
    """How one federation went. Raises RunError where its rounds were judged, and not by ``metric``."""
    values: dict[int, float] = {}
    known: set[str] = set()
    for number in range(1, rounds.last_committed(plan) + 1):
        judged = rounds.read_object(plan.round(number).evaluation(HOLDOUT)).get("metrics", {})
        known |= set(judged)
        if metric in judged:
            values[number] = float(judged[metric])
    if known and not values:
        raise RunError(
            f"{plan.run.path}: the hold-out was not judged by {metric} (but by {', '.join(sorted(known))})"
        )
    if not values:
        return Course(None, None, 0)
    sign = -1.0 if metric in FALLING else 1.0
    reached = next((number for number, value in values.items() if sign * value >= sign * target), None)
    return Course(reached, sign * max(sign * value for value in values.values()), max(values))
