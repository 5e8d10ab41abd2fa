"""What trains and judges a model for a collaborator. A learner is named by `training.model.name` and is made inside
a job; those that need TensorFlow import it there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from hpcflow.experiment.schema import UNETS
from hpcflow.federation.client import Control
from hpcflow.federation.plan import Plan

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Learnt:
    """What came out of local training. ``steps`` is FedNova's |a|_1 where there is one; the controls are SCAFFOLD's."""

    weights: Arrays
    num_samples: int
    steps: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    control: Arrays | None = None
    control_change: Arrays | None = None


class Learner(Protocol):
    """One collaborator's model and data. Several ranks call the same methods in the same order."""

    @property
    def leads(self) -> bool:
        """Whether this rank writes."""

    def initial(self) -> Arrays:
        """The weights that the federation begins with: a function of the experiment."""

    def train(self, base: Arrays, round: int, control: Control | None) -> Learnt:
        """Train from ``base``, the same on all ranks: a function of it, the data and (seed, round, name)."""

    def evaluate(self, weights: Arrays) -> dict[str, float]:
        """Metrics of ``weights`` on the collaborator's validation data."""

    def agree(self, text: str) -> str:
        """The leading rank's ``text`` on every rank."""

    def close(self) -> None:
        """Leave the other ranks, once, at the end."""


def learner(plan: Plan, name: str, folder: Callable[[str], str], cache: str) -> Learner:
    """The learner of collaborator ``name``, or of HOLDOUT. ``folder`` tells the folder of somebody's data set (empty:
    phantoms), ``cache`` is that of packed data.
    """
    if plan.experiment.training.model.name in UNETS:
        from hpcflow.federation.learners.unet import UnetLearner

        return UnetLearner(plan, name, folder, cache)
    from hpcflow.federation.learners.plain import PlainLearner

    return PlainLearner(plan, name)
