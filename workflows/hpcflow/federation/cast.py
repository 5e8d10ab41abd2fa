"""The jobs of a round, cast from moulds: a round's jobs differ from those of any other in its number alone.

    rNNNN-train[-G]   the collaborators of group G who are asked: an array of those whose jobs are alike, or one job
    rNNNN-aggregate   once they have ended, or the one that completes the quorum has released it
    rNNNN-evaluate    where the aggregate is evaluated on data that no next round looks at

Moulds are planned once, at the submit, with all that a script needs. What extends the chain from inside it, or takes
it up again, plans nothing anew: it writes the same scripts with other numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.jobs.job import After, Allocation, Job

# Stands for the number in a mould's script.
NUMBER = "@ROUND@"
BEGIN = "begin"
Part = Literal["train", "aggregate", "evaluate"]
_NAME = re.compile(r"r(\d{4,})-(train|aggregate|evaluate)(?:-(\d+))?")


@dataclass(frozen=True)
class Task:
    """Which part of which round a job is; ``group`` counts from 1."""

    round: int
    part: Part
    group: int = 1


def job_name(round: int | str, part: Part, group: int = 1) -> str:
    """The job's name. ``round`` is a number, or NUMBER."""
    number = round if isinstance(round, str) else f"{round:04d}"
    return f"r{number}-{part}" + (f"-{group}" if group > 1 else "")


def parse(name: str) -> Task:
    """The reverse. Raises ValueError for other jobs' names."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is no job of a round")
    return Task(int(match[1]), match[2], int(match[3] or 1))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Mould:
    """A job named with NUMBER, whom it is for (of `train`), and its script."""

    job: Job
    members: tuple[str, ...] = ()
    script: str = ""

    @property
    def part(self) -> Part:
        """What the job does."""
        return parse(self.job.name.replace(NUMBER, "0000")).part

    def to_json(self) -> dict[str, Any]:
        """All but the script, which lies beside it."""
        allocation = self.job.allocation
        return {
            "name": self.job.name,
            "array": self.job.tasks is not None,
            "members": list(self.members),
            "allocation": [
                allocation.nodes,
                allocation.tasks_per_node,
                allocation.cpus_per_task,
                allocation.time,
            ],
            "files": dict(self.job.files),
        }

    @classmethod
    def from_json(cls, item: Mapping[str, Any], script: str) -> Mould:
        """The reverse."""
        job = Job(
            item["name"],
            Allocation(*item["allocation"]),
            (),
            tasks=1 if item["array"] else None,
            files=item["files"],
        )
        return cls(job, tuple(item["members"]), script)


@dataclass(frozen=True)
class Moulds:
    """All moulds of a run, and how many rounds are queued at a time (0: all)."""

    moulds: tuple[Mould, ...]
    window: int = 0

    def to_json(self) -> str:
        """For RunDir's moulds.json."""
        return (
            json.dumps(
                {"window": self.window, "moulds": [mould.to_json() for mould in self.moulds]}, indent=1
            )
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str, scripts: Mapping[str, str]) -> Moulds:
        """The reverse."""
        data = json.loads(text)
        found = tuple(Mould.from_json(item, scripts[item["name"]]) for item in data["moulds"])
        return cls(found, int(data["window"]))


def evaluated(plan: Plan, round: int) -> tuple[str, ...]:
    """Whose data the aggregate of ``round`` is evaluated on by a job of its own. The next round's participants judge
    it when they begin; after the last round nobody is left who would.
    """
    if plan.arm:
        return ()  # an arm is judged when it has ended
    last = round == plan.rules.rounds
    held = plan.rules.evaluation.holdout
    names = tuple(plan.members) if last and plan.rules.evaluation.aggregated else ()
    return names + ((HOLDOUT,) if held and (last or round % held.every == 0) else ())


def cast(moulds: Sequence[Mould], plan: Plan, rounds: range) -> Iterator[tuple[Mould, Job]]:
    """The jobs of ``rounds``, in order, and what each is cast from."""
    for round in rounds:
        asked = set(plan.participants(round))
        before = After(job_name(round - 1, "aggregate") if round > 1 else BEGIN)
        trained = []
        for mould in moulds:
            if mould.part == "train" and (count := len(asked & set(mould.members))):
                trained.append(_job(mould, round, count, (before,)))
                yield mould, trained[-1]
        for mould in moulds:
            if mould.part == "aggregate":
                # Without the first the aggregation would begin, and fail, where the chain has broken before.
                after = (before, *(After(job.name, "any") for job in trained))
                yield mould, _job(mould, round, None, after)
            elif mould.part == "evaluate" and (names := evaluated(plan, round)):
                yield mould, _job(mould, round, len(names), (After(job_name(round, "aggregate")),))


def _job(mould: Mould, round: int, count: int | None, after: tuple[After, ...]) -> Job:
    job, number = mould.job, f"{round:04d}"
    return replace(
        job,
        name=job.name.replace(NUMBER, number),
        tasks=count if job.tasks is not None else None,
        after=after,
        paths={key: path.replace(NUMBER, number) for key, path in job.paths.items()},
    )


def whose(moulds: Sequence[Mould], plan: Plan, name: str, task: int) -> str:
    """The collaborator, or HOLDOUT, that task ``task`` of job ``name`` is for."""
    found = parse(name)
    if found.part == "evaluate":
        return evaluated(plan, found.round)[task]
    members = next(m.members for m in moulds if m.job.name == job_name(NUMBER, found.part, found.group))
    return [member for member in plan.participants(found.round) if member in members][task]


def queued_tasks(plan: Plan, rounds: int) -> int:
    """The largest number of tasks in the queue when ``rounds`` rounds are at a time: an aggregation that queues one
    more round is still there, and the last round may have evaluations of its own.
    """
    last = len(evaluated(plan, plan.rules.rounds))
    held = plan.rules.evaluation.holdout
    other = 1 if held and plan.rules.rounds > 1 else 0
    return 1 + rounds * (len(plan.participants(1)) + 1) + (rounds - 1) * other + last
