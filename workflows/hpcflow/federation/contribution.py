"""A collaborator's part of a round: judge the aggregate, train from it, publish the update.

It knows the run directory and its own name. Killed at any moment and begun again it writes the same bytes; an update
that is there already, whole and made from this round's base, is kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hpcflow.errors import RunError
from hpcflow.federation import rounds
from hpcflow.federation.client import Control, zeros_like
from hpcflow.federation.learners import Arrays, Learner, Learnt
from hpcflow.federation.plan import Plan
from hpcflow.federation.rounds import Base
from hpcflow.federation.statistics import trained
from hpcflow.federation.strategies import make
from hpcflow.federation.tensorfile import BadFile, TensorFile, publish_tensors
from hpcflow.federation.update import (
    CONTROL,
    Expected,
    Update,
    UpdateInfo,
    complaint,
    damage,
    delta,
    write_update,
)
from hpcflow.storage.publish import publish_json


@dataclass(frozen=True)
class Contribution:
    """One collaborator in one round."""

    plan: Plan
    round: int
    name: str
    learner: Learner

    def make(self, patience_s: float | None = 0.0) -> bool:
        """Publish the update; False where it was there. Raises RunError or InputError, and BadFile where what came
        out of training cannot be handed over.
        """
        begun = time.time()
        base = rounds.base_of(self.plan, self.round, patience_s)
        if (
            self.learner.agree("there" if self.learner.leads and self._is_there(base) else "missing")
            == "there"
        ):
            return False
        where = self.plan.round(self.round)
        for folder in (where.updates, where.timings, where.controls):
            folder.mkdir(parents=True, exist_ok=True)
        where.failure(self.name).unlink(missing_ok=True)
        weights = base.weights()
        metrics = self._judged("aggregated", weights, self.plan.rules.evaluation.aggregated)
        control = self._control(base, weights)
        started = time.time()
        learnt = self.learner.train(weights, self.round, control)
        ended = time.time()
        metrics |= {f"train/{key}": value for key, value in learnt.metrics.items()}
        metrics |= self._judged("tuned", learnt.weights, self.plan.rules.evaluation.tuned)
        if self.learner.leads:
            self._publish(base, weights, learnt, metrics)
            times = {"begun": begun, "started": started, "trained": ended, "ended": time.time()}
            publish_json(where.timing(self.name), {**times, "host": os.uname().nodename})
        self.learner.agree("published")  # no rank leaves before the update is there
        return True

    def _judged(self, what: str, weights: Arrays, wanted: bool) -> dict[str, float]:
        if not wanted:
            return {}
        return {f"{what}/{key}": value for key, value in self.learner.evaluate(weights).items()}

    def _is_there(self, base: Base) -> bool:
        return _is_usable(self.plan, self.round, self.name, base)

    def _control(self, base: Base, weights: Arrays) -> Control | None:
        if not keeps_control(self.plan):
            return None
        zeros = zeros_like(trained(weights))
        server = rounds.read_tensors(base.where.state, CONTROL) if base.where.state.exists() else zeros
        found = last_control(self.plan, self.round, self.name)
        own = rounds.read_tensors(self.plan.round(found[1]).control(self.name)) if found else zeros
        return Control(own, server)

    def _publish(self, base: Base, weights: Arrays, learnt: Learnt, metrics: Mapping[str, float]) -> None:
        where = self.plan.round(self.round)
        if learnt.control is not None:
            publish_tensors(where.control(self.name), learnt.control, {"round": str(self.round)})
        info = UpdateInfo(
            num_samples=Fraction(learnt.num_samples),
            collaborator=self.name,
            round=self.round,
            base=base.digest,
            steps=learnt.steps,
            metrics={key: value for key, value in metrics.items() if np.isfinite(value)},
        )
        try:
            write_update(where.update(self.name), delta(learnt.weights, weights), info, learnt.control_change)
        except BadFile as error:
            raise RunError(f"the update of {self.name} in round {self.round} {error}") from None


def usable(plan: Plan, round: int, name: str) -> bool:
    """Whether the update of ``name`` in ``round`` is there, whole and made from what the round begins with."""
    try:
        return _is_usable(plan, round, name, rounds.base_of(plan, round))
    except RunError:
        return False


def _is_usable(plan: Plan, round: int, name: str, base: Base) -> bool:
    try:
        with Update(plan.round(round).update(name), links=False) as update:
            return complaint(update, expected(plan, round, name, base)) is None and damage(update) is None
    except (OSError, BadFile):
        return False


def last_control(plan: Plan, round: int, name: str) -> tuple[int, int] | None:
    """The round before ``round`` that last used an update of ``name``, be it a late one, and the round that it is of: a
    variate whose change was refused never was.
    """
    for number in range(round - 1, 0, -1):
        found = rounds.manifest(plan, number)
        if found and name in found.about["accepted"]:
            return number, int(found.about["accepted"][name]["round"])
    return None


def keeps_control(plan: Plan) -> bool:
    """Whether collaborators keep control variates."""
    return not plan.single and make(plan.rules.strategy, plan.rules.options).control


def expected(plan: Plan, round: int, name: str, base: Base) -> Expected:
    """What an update of ``name`` in ``round`` must be."""
    with TensorFile(base.where.model) as file:
        model = file.header
    return Expected(
        model=model,
        base=frozenset({base.digest}),
        round=frozenset({round}),
        collaborator=name,
        kind="delta",
        control=keeps_control(plan),
        digest=True,
    )
