"""The NumPy models as learners: one process, data dealt from one set."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import InputError
from hpcflow.federation import partition
from hpcflow.federation.blas import one_thread
from hpcflow.federation.client import Control
from hpcflow.federation.learners import Arrays, Learnt
from hpcflow.federation.local import LocalPlan, train
from hpcflow.federation.models.bowl import Bowl, Targets
from hpcflow.federation.models.digits import DigitsModel, split_digits
from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.federation.seeds import generator

BOWL_SAMPLES = 100


class PlainLearner:
    """Digits or a bowl."""

    leads = True

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan, self.name = plan, name
        model = plan.experiment.training.model
        self.model: Any = (
            Bowl(model.parameters) if model.name == "bowl" else DigitsModel(model.kind, model.width)
        )

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """(training, validation) data."""
        seed = self.plan.rules.seed
        names = [member.name for member in self.plan.rules.members]
        if isinstance(self.model, Bowl):
            whose = names if self.plan.pooled or self.name == HOLDOUT else [self.name]
            found = [self.model.targets(seed, name, BOWL_SAMPLES).target for name in whose]
            targets = Targets(np.mean(found, axis=0, dtype=np.float32), BOWL_SAMPLES * len(found))
            return targets, targets
        held = self.plan.rules.evaluation.holdout
        kept, out = split_digits(round(held.fraction * 1797) if held else 0, seed)
        if self.name == HOLDOUT:
            return out, out
        dealt = deal(self.plan, [str(label) for label in kept.labels], names)
        if self.plan.pooled:
            split = [self._split(dealt[name], name) for name in names]
            mine, validation = (np.concatenate(part) for part in zip(*split, strict=True))
        else:
            mine, validation = self._split(dealt[self.name], self.name)
        return kept.take(np.sort(mine)), kept.take(np.sort(validation))

    def _split(self, items: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = generator(self.plan.rules.seed, "validation", name).permutation(items)
        fraction = self.plan.experiment.training.data.validation_fraction
        held = min(len(order) - 1, max(1, round(fraction * len(order))))
        if held < 1:
            raise InputError(f"{name} has {len(order)} samples: one to train and one to validate are needed")
        return order[held:], order[:held]

    def initial(self) -> Arrays:
        """By the federation's seed."""
        weights: Arrays = self.model.initial(self.plan.rules.seed)
        return weights

    def train(self, base: Arrays, round: int, control: Control | None) -> Learnt:
        """See hpcflow.federation.local."""
        given = self.plan.at_work(self.name)
        training, _ = self.parts
        result = train(
            self.model,
            base,
            training,
            LocalPlan(**given),
            seed=self.plan.rules.seed,
            round=round,
            collaborator=self.name,
            control=control,
        )
        metrics = {"loss": result.loss}
        return Learnt(
            result.weights, result.samples, result.normaliser, metrics, result.control, result.control_change
        )

    def evaluate(self, weights: Arrays) -> dict[str, float]:
        """On the validation data, in one thread: the last bits must not depend on their number."""
        with one_thread():
            found: dict[str, float] = self.model.evaluate(weights, self.parts[1])
        return found

    def agree(self, text: str) -> str:
        """There is one rank."""
        return text

    def close(self) -> None:
        """Nobody else is there."""


def deal(plan: Plan, labels: list[str], names: list[str]) -> dict[str, NDArray[np.int64]]:
    """The positions of each collaborator's items. Raises InputError."""
    rules = plan.rules
    said, number = rules.partition, len(names)
    seed = rules.seed if said.seed is None else said.seed
    if said.method == "institution":
        table = partition.read_institutions(plan.institutions)
        found = partition.by_institution([str(index) for index in range(len(labels))], table)
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError(f"{said.file} names no items of {', '.join(missing)}")
        return found
    if said.method == "dirichlet":
        dealt = partition.dirichlet(labels, number, said.alpha, seed, minimum=2)
    elif said.method == "labels":
        dealt = partition.by_labels(labels, number, said.labels, seed)
    elif said.method == "sizes":
        total = sum(said.sizes)
        dealt = partition.by_sizes(len(labels), [size / total for size in said.sizes], seed)
    else:
        dealt = partition.iid(len(labels), number, seed)
    return dict(zip(names, dealt.values(), strict=True))
