"""The arms of a comparison: the same data, model and local training, put together in other ways.

    centralised     one that has everybody's training data
    federated       the federation as it is configured
    alone.NAME      one institution with its own data
    incremental     one model that is trained to the end at one institution after the other (Sheller et al.'s IIL)
    cyclic          one model that goes round and round, a round's training at each (their CIIL)

Each trains the local epochs of a round `rounds` times: a centralised round sees as many samples as a federated one,
a cycle of the cyclic arm is `members` of its rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hpcflow.federation import rounds
from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.jobs.rundir import RunDir

CENTRALISED, FEDERATED, INCREMENTAL, CYCLIC = "centralised", "federated", "incremental", "cyclic"
ALONE = "alone."
# The metric that a table is made of: the first that the model has. Of a loss less is better.
METRICS = ("dice", "accuracy", "loss")


def arms(plan: Plan) -> dict[str, Plan]:
    """The plan of each arm, in the order of the table."""
    names = list(plan.members)
    return {
        CENTRALISED: replace(plan, arm=CENTRALISED, pooled=True),
        FEDERATED: replace(plan, arm=FEDERATED),
        **{ALONE + name: replace(plan, arm=ALONE + name, only=name) for name in names},
        INCREMENTAL: replace(plan, arm=INCREMENTAL, turns="blocks"),
        CYCLIC: replace(plan, arm=CYCLIC, turns="cycle"),
    }


@dataclass(frozen=True)
class Row:
    """One arm's final model: its metric on every institution's validation data, and on the hold-out."""

    arm: str
    metric: str
    own: Mapping[str, float]
    holdout: float | None

    @property
    def mean(self) -> float:
        """Over institutions."""
        return sum(self.own.values()) / len(self.own)


def judges(plan: Plan) -> tuple[str, ...]:
    """On whose data the models are judged."""
    return (*plan.members, *((HOLDOUT,) if plan.rules.evaluation.holdout else ()))


def read_rows(run: RunDir, plan: Plan) -> list[Row]:
    """The arms that have been judged whole. ``plan`` is that of the run."""
    found = []
    for arm, own in arms(plan).items():
        where = own.round(own.rounds)
        told = {name: rounds.read_object(where.evaluation(name)).get("metrics", {}) for name in judges(plan)}
        if not all(told.values()):
            continue
        metric = next(key for key in METRICS if all(key in metrics for metrics in told.values()))
        values = {name: float(metrics[metric]) for name, metrics in told.items()}
        found.append(Row(arm, metric, {name: values[name] for name in plan.members}, values.get(HOLDOUT)))
    return found


@dataclass(frozen=True)
class Gains:
    """What the federation gains over training alone, as a share of the latter: for each institution on its own
    validation data, and on the hold-out against the mean of those alone (Sheller et al. 2020 report 0.026, in the mean
    over institutions, and 0.17). An institution whose own model is worth nothing has no share.
    """

    own: Mapping[str, float]
    holdout: float | None

    @property
    def mean(self) -> float:
        """Over institutions."""
        return sum(self.own.values()) / len(self.own) if self.own else 0.0


def gains(rows: Sequence[Row]) -> Gains | None:
    """None where an arm is missing."""
    by_arm = {row.arm: row for row in rows}
    federated = by_arm.get(FEDERATED)
    alone = {row.arm.removeprefix(ALONE): row for row in rows if row.arm.startswith(ALONE)}
    if federated is None or set(alone) != set(federated.own):
        return None
    sign = -1.0 if federated.metric == "loss" else 1.0
    own = {
        name: sign * (federated.own[name] - row.own[name]) / row.own[name]
        for name, row in alone.items()
        if row.own[name]
    }
    held = [row.holdout for row in alone.values() if row.holdout is not None]
    if federated.holdout is None or not held or not sum(held):
        return Gains(own, None)
    before = sum(held) / len(held)
    return Gains(own, sign * (federated.holdout - before) / before)


def to_csv(rows: Sequence[Row], found: Gains | None) -> str:
    """A line an arm; then the gains."""
    names = list(rows[0].own) if rows else []
    lines = [",".join(["arm", "metric", *names, "mean", HOLDOUT])]
    for row in rows:
        values = [*row.own.values(), row.mean, row.holdout]
        lines.append(",".join([row.arm, row.metric, *map(_cell, values)]))
    if found:
        shares = [*(found.own.get(name) for name in names), found.mean, found.holdout]
        lines.append(",".join(["gain of federated over alone", "share", *map(_cell, shares)]))
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
