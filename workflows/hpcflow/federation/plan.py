"""The plan of a federation: who takes part in which round, how many are enough. A function of the experiment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from hpcflow.errors import InputError
from hpcflow.experiment import Experiment, load_resolved
from hpcflow.experiment.federation import needed, quorum, selected
from hpcflow.experiment.schema import Collaborator, Federation
from hpcflow.federation.seeds import sample
from hpcflow.jobs import shell, trials
from hpcflow.jobs.rundir import RoundDir, RunDir, TaskDir
from hpcflow.jobs.trials import TrialRow

HOLDOUT = "holdout"


@dataclass(frozen=True)
class Plan:
    """The federation of a run, or of one arm of a comparison (``arm``), which then is another one of the same
    people: see arms.py.
    """

    run: RunDir
    experiment: Experiment
    arm: str = ""
    turns: Literal["", "cycle", "blocks"] = ""  # a round asks one alone: each in turn, or each to its end
    only: str = ""  # the one institution that learns alone
    pooled: bool = False  # one that has everybody's data

    @property
    def rules(self) -> Federation:
        """The section `federation`."""
        assert self.experiment.federation is not None
        return self.experiment.federation

    @cached_property
    def members(self) -> dict[str, Collaborator]:
        """All collaborators by name, in the order of the file."""
        found = {member.name: member for member in self.rules.members}
        if self.pooled:
            return {self.arm: Collaborator(name=self.arm)}
        return {self.only: found[self.only]} if self.only else found

    @property
    def single(self) -> bool:
        """Whether a round asks one alone, so that there is nothing to merge."""
        return bool(self.turns or self.only or self.pooled)

    @property
    def rounds(self) -> int:
        """How many there are; where one is asked at a time, each gets as many as the federation has."""
        return self.rules.rounds * (len(self.members) if self.turns else 1)

    def participants(self, round: int) -> tuple[str, ...]:
        """Who is asked in a round: a function of (seed, round, names)."""
        names = list(self.members)
        if self.turns:
            return (
                names[
                    (round - 1) % len(names) if self.turns == "cycle" else (round - 1) // self.rules.rounds
                ],
            )
        rules = self.rules.participation
        if selected(self.rules, len(names)) == len(names):
            return tuple(names)  # 100,000 draws of 1,000 rounds are seconds
        return tuple(sample(names, rules.fraction, rules.minimum or 1, self.rules.seed, round))

    def quorum(self, round: int) -> int:
        """How many reports release the aggregation."""
        return quorum(self.rules, len(self.participants(round)))

    def needed(self, round: int) -> int:
        """How many updates commit the round."""
        if self.single:
            return len(self.participants(round))
        return needed(self.rules, len(self.participants(round)))

    def round(self, number: int) -> RoundDir:
        """Its directory."""
        return self.run.round(number, self.arm)

    def own_data(self, name: str) -> str | None:
        """The folder that the experiment names for ``name``, or HOLDOUT, alone; None: the shared one, or phantoms."""
        held = self.rules.evaluation.holdout
        if name == HOLDOUT:
            return held.data if held else None
        return self._said(name).data

    def has_data(self, name: str) -> bool:
        """Whether ``name`` has a data set, rather than phantoms."""
        made = name != HOLDOUT and self._said(name).phantom is not None
        return not made and bool(self.own_data(name) or self.experiment.storage.data)

    def _said(self, name: str) -> Collaborator:
        return next(member for member in self.rules.members if member.name == name)

    @property
    def institutions(self) -> Path:
        """The CSV of subject and institution; a confined task's view has a copy of it."""
        copy = self.run.institutions
        return copy if copy.exists() else Path(shell.expand(str(self.rules.partition.file)))

    def at_work(self, name: str) -> dict[str, Any]:
        """What a collaborator's optimizer is told: the client's rules with what they leave to others filled in."""
        client, training = self.rules.client, self.experiment.training
        mu = client.mu
        if mu is None:
            from hpcflow.federation.strategies import make, plain

            prox = plain(self.rules.strategy) == "fedprox" and not self.single
            mu = float(getattr(make(self.rules.strategy, self.rules.options), "mu", 0.0)) if prox else 0.0
        return {
            "epochs": client.epochs,
            "batch_size": client.batch_size or training.batch_size,
            "learning_rate": client.learning_rate or training.learning_rate,
            "momentum": client.momentum if client.optimizer == "momentum" else 0.0,
            "mu": mu,
        }


def plan_of(place: RunDir | TaskDir) -> Plan:
    """The plan of the federation that lies there: a run, or, of a trial of a sweep, its task. Raises InputError where it
    is none.
    """
    run, experiment = RunDir(place.path), load_resolved(place.experiment)
    if experiment.federation is None:
        raise InputError(f"{run.name} is no federation (its flow is {experiment.flow})")
    return Plan(run, experiment)


def places(run: RunDir) -> Iterator[tuple[TrialRow | None, RunDir | TaskDir]]:
    """Where the federations of a run lie: of a sweep one for each trial and repeat, else the run itself."""
    swept = trials.read(run)
    if swept is None:
        yield None, run
        return
    for row in swept.rows:
        yield row, row.task_dir(run)


def place_of(run: RunDir, job: str, task: int) -> RunDir | TaskDir:
    """Where the federation of a task lies: in its run, or, of a trial of a sweep, in its own folder."""
    return run.task(job, task) if run.trials.exists() else run
