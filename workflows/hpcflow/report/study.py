"""What a table of results says: its summary, the laws behind it, and the sentences that answer how many to use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hpcflow.report import aggregate, groups
from hpcflow.report.advice import THRESHOLD, Scaling, bounds, examine
from hpcflow.report.groups import RATE, WALL, Series
from hpcflow.report.intervals import Estimate
from hpcflow.report.recommend import Recommendation, by_deadline, by_efficiency, times
from hpcflow.report.results import Results

MOST_ANSWERS = 100
"""More sentences nobody reads, and each takes the fits of two laws."""
_COVERED = 6  # repeats from which on the range of the values holds the true median in more than 95 %


@dataclass(frozen=True)
class Question:
    """What is asked: against what, over which size, with which efficiency, within how many seconds."""

    baseline: tuple[str, ...] = ()
    over: str | None = None
    efficiency: float = THRESHOLD
    deadline: float | None = None
    weak: bool = False  # the work grows with the ranks
    currency: str = ""


@dataclass(frozen=True)
class Answer:
    """What is said of one series."""

    series: Series
    speed: Scaling | None
    wall: Scaling | None
    recommendations: tuple[Recommendation, ...]

    @property
    def sentences(self) -> list[str]:
        """The sentences, each with the title of the series where it has one."""
        head = f"{self.series.title}: " if self.series.title else ""
        return [f"{head}{recommendation.sentence}" for recommendation in self.recommendations]


@dataclass(frozen=True)
class Study:
    """A table and what follows from it."""

    results: Results
    question: Question
    series: tuple[Series, ...]
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def summary(self) -> Results:
        """One row a configuration."""
        return aggregate.summary(self.results, self.series)

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """One for each series that has anything to compare; of very many the first."""
        return tuple(_answer(one, self.question) for one in self.asked[:MOST_ANSWERS])

    @property
    def asked(self) -> list[Series]:
        """The series that have anything to compare."""
        return [one for one in self.series if len(one.groups) > 1]

    @property
    def sentences(self) -> list[str]:
        """What the answers say."""
        return [sentence for answer in self.answers for sentence in answer.sentences]

    def to_json(self) -> dict[str, Any]:
        """The whole as plain data."""
        return {
            "summary": self.summary.records(),
            "scaling": [_plain(answer) for answer in self.answers],
            "notes": list(self.notes),
        }


def study(found: Results, question: Question) -> Study:
    """Group, compare, fit. Raises InputError for a baseline that is none."""
    series = tuple(groups.series(found, question.baseline, question.over)) if found.rows else ()
    made = Study(found, question, series, tuple(_notes(series)))
    hidden = len(made.asked) - MOST_ANSWERS
    if hidden > 0:
        more = f"{hidden} more series have their rows, but no law and no sentence: a report answers {MOST_ANSWERS}."
        return replace(made, notes=(*made.notes, more))
    return made


def _answer(one: Series, question: Question) -> Answer:
    speed, wall = one.measured(RATE), None if question.weak else one.measured(WALL)
    if speed is None:
        return Answer(one, None, None, (*_fastest(one), *_no_deadline(question)))
    scaling = examine(speed)
    found = [by_efficiency(scaling, question.efficiency)]
    if scaling.refusal:
        found += _fastest(one)
    timed = None
    if question.deadline is not None:
        if wall is None:
            found.append(
                Recommendation("No size is recommended for a deadline: it needs the same work at every size.")
            )
        else:
            timed = examine(wall)
            found.append(by_deadline(timed, question.deadline, _price(one), question.currency))
    return Answer(one, scaling, timed, tuple(found))


def _fastest(one: Series) -> Iterator[Recommendation]:
    """What was measured, for where no law answers."""
    done = [group for group in one.groups if group.values(RATE)]
    if not done:
        yield Recommendation("Nothing has a result yet: no repeat ended well.")
        return
    if not one.base.values(RATE):
        yield Recommendation(
            "The baseline has no result, so that nothing can be compared with it (run it again, or name another with "
            "--baseline KEY=VALUE)."
        )
        return
    best = max(done, key=lambda group: group.middle(RATE) or 0.0)
    gain, kept = aggregate.speedup(best, one.base), aggregate.efficiency(best, one.base)
    if best is one.base or gain is None:
        yield Recommendation("Of what was measured, nothing was faster than the baseline.")
        return
    at = f" at {100 * kept.value:.0f} % parallel efficiency" if kept and best.size != one.base.size else ""
    yield Recommendation(
        f"Of what was measured, {_name(one, best)} was fastest: {times(gain)} the baseline{at}."
    )


def _no_deadline(question: Question) -> Iterator[Recommendation]:
    """Where there are no sizes to choose from."""
    if question.deadline is not None:
        yield Recommendation(
            "No size is recommended for a deadline: that needs a baseline with a result and sizes that differ, one "
            "configuration each."
        )


def _name(one: Series, group: groups.Group) -> str:
    if group.size is not None and group.size != one.base.size:
        return f"{group.size:g} {one.unit}"
    changed = [key for key in group.rows[0] if "." in key and group.get(key) != one.base.get(key)]
    return ", ".join(f"{key} = {group.get(key)}" for key in changed) or str(group.get("configuration"))


def _price(one: Series) -> float | None:
    """What one of the unit costs for an hour; None where nothing has a price."""
    rates = [
        row["cost"] / (group.size * row["wall_s"] / 3600)
        for group in one.groups
        for row in group.done
        if row.get("cost") and row.get("wall_s") and group.size
    ]
    return sum(rates) / len(rates) if rates else None


def _notes(series: Sequence[Series]) -> Iterator[str]:
    every = [group for one in series for group in one.groups]
    lost = sum(len(group.rows) - len(group.done) for group in every)
    if lost:
        yield f"{lost} of {sum(len(group.rows) for group in every)} rows did not end well, or have not ended: left out."
    fewest = min((len(group.done) for group in every if group.done), default=0)
    if fewest == 1:
        yield "Some configurations ran once: no interval can be given for them."
    elif 1 < fewest < _COVERED:
        chance = 100 * (1 - 2.0 ** (1 - fewest))
        yield (
            f"With {fewest} repeats no bootstrap interval can be wider than their range, which holds the true median "
            f"with {chance:.0f} %; {_COVERED} repeats make it 97 %."
        )


def _plain(answer: Answer) -> dict[str, Any]:
    made: dict[str, Any] = {
        "series": answer.series.title,
        "unit": answer.series.unit,
        "sentences": answer.sentences,
        "recommendations": [vars(one) for one in answer.recommendations],
    }
    for name, scaling in (("speed", answer.speed), ("wall", answer.wall)):
        if scaling is not None:
            made[name] = {
                "refusal": scaling.refusal,
                "chosen": scaling.chosen.law.name if scaling.fits else None,
                "parameters": {key: _ends(value) for key, value in scaling.parameters.items()}
                if scaling.fits
                else {},
                "laws": {
                    fit.law.name: {
                        "noise": fit.noise, **{key: _ends(value) for key, value in fit.parameters.items()},
                    }
                    for fit in scaling.fits
                },
            }  # fmt: skip
    return made


def _ends(estimate: Estimate) -> dict[str, float]:
    low, high = bounds(estimate)
    return {"value": estimate.value, "low": low, "high": high}
