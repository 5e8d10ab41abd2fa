"""The U-Net as a learner: TensorFlow, and Horovod where a launcher started several ranks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hpcflow.experiment.schema import Collaborator, Data
from hpcflow.federation.client import Control, nova_steps
from hpcflow.federation.learners import Arrays, Learnt
from hpcflow.federation.learners.plain import deal
from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.federation.seeds import generator
from hpcflow.training.checkpoint import arrays_of, assign
from hpcflow.training.data.batches import Augmentation, Samples
from hpcflow.training.data.cache import Packed, open_packed
from hpcflow.training.data.decathlon import TARGETS
from hpcflow.training.data.split import Split, split_subjects
from hpcflow.training.job import agreed, configure_tensorflow
from hpcflow.training.loop import Loop, Settings
from hpcflow.training.losses import LOSSES
from hpcflow.training.models.unet import build_model
from hpcflow.training.prepare import prepare
from hpcflow.training.schedule import LearningRate
from hpcflow.training.steps import Steps
from hpcflow.training.strategies import Strategy, load_strategy

# What launchers tell a rank that it is one. Ranks that are not told so never get here (placement/binding.py).
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK")


@cache
def _strategy(name: str, deterministic: bool) -> Strategy:
    """One for the process, whoever learns in it."""
    configure_tensorflow(deterministic)
    return load_strategy(name if any(key in os.environ for key in _LAUNCHED) else "single")


class FederatedSteps(Steps):
    """Steps with FedProx's proximal term and SCAFFOLD's correction of the gradients."""

    def __init__(self, *arguments: Any, mu: float, scaffold: bool) -> None:
        self._mu, self._scaffold = mu, scaffold
        super().__init__(*arguments)
        self._base = self._twins() if mu else []
        self._shift = self._twins() if scaffold else []

    def _twins(self) -> list[Any]:
        variables = self.model.trainable_variables
        return [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]

    def prepare(self, base: Arrays, control: Control | None) -> None:
        """What the terms are made of in a round."""
        names = [variable.name.removesuffix(":0") for variable in self.model.trainable_variables]
        for variable, name in zip(self._base, names, strict=bool(self._base)):
            variable.assign(base[name])
        for variable, name in zip(self._shift, names, strict=bool(self._shift)):
            assert control is not None
            variable.assign(control.server[name] - control.ours[name])

    def corrected(self, gradients: list[Any], variables: list[Any]) -> list[Any]:
        """g + mu (w - base) - c_i + c."""
        if self._mu:
            terms = zip(gradients, variables, self._base, strict=True)
            gradients = [g + self._mu * (w - base) for g, w, base in terms]
        if self._scaffold:
            gradients = [g + shift for g, shift in zip(gradients, self._shift, strict=True)]
        return gradients


class UnetLearner:
    """Slices or volumes of one's own data set, or of one's share of the one that all have."""

    def __init__(self, plan: Plan, name: str, folder: Callable[[str], str], cache: str) -> None:
        from hpcflow.federation.contribution import keeps_control

        self.plan, self.name = plan, name
        training = plan.experiment.training
        self.strategy = _strategy(training.strategy, training.deterministic)
        packed, split = self._data(folder, Path(cache))
        target = (
            TARGETS[training.data.target] if isinstance(training.data.target, str) else training.data.target
        )
        flat = training.model.name == "unet2d"
        samples = Samples(packed, target, 2 if flat else 3)
        self.model, noise = build_model(training.model, samples.shape, plan.rules.seed)
        self.given = plan.at_work(name)
        self.scaffold = keeps_control(plan)
        steps = FederatedSteps(
            self.model,
            self._optimizer(),
            noise,
            LOSSES[training.loss],
            self.strategy,
            mu=self.given["mu"],
            scaffold=self.scaffold,
        )
        augment = training.data.augment
        seed = int(generator(plan.rules.seed, "order", name).integers(2**31))
        settings = Settings(
            self.given["batch_size"],
            seed,
            flat and training.data.slices == "tumor",
            Augmentation(augment.flip, augment.rotate90, augment.noise),
            training.limit_batches,
        )
        self.steps, self.loop = steps, Loop(samples, split, steps, self.strategy, settings)
        rate, scale = self.given["learning_rate"], training.scale_learning_rate
        self.rates = LearningRate(rate, self.strategy.size, scale, 0.0)

    @property
    def leads(self) -> bool:
        """Rank 0."""
        return self.strategy.rank == 0

    def _optimizer(self) -> Any:
        rate, client = self.given["learning_rate"], self.plan.rules.client
        if client.optimizer == "adam":
            return keras.optimizers.Adam(rate, jit_compile=False)
        return keras.optimizers.SGD(rate, momentum=self.given["momentum"], jit_compile=False)

    def _data(self, folder: Callable[[str], str], cache: Path) -> tuple[Packed, Split]:
        if self.plan.pooled:
            names = [member.name for member in self.plan.rules.members]
            return _joined([self._own(name, folder(name), cache) for name in names])
        return self._own(self.name, folder(self.name), cache)

    def _own(self, name: str, folder: str, cache: Path) -> tuple[Packed, Split]:
        plan, training = self.plan, self.plan.experiment.training
        members = {member.name: member for member in plan.rules.members}
        held = plan.rules.evaluation.holdout
        member = members.get(name, Collaborator(name=name, data=held.data if held else None))
        data: Data = training.data
        if member.phantom:
            data = data.model_copy(update={"phantom": member.phantom})
        others = [m.name for m in members.values() if not (m.data or m.phantom)]
        together = 1 if member.data or member.phantom else max(1, len(others))
        stripes, readers = plan.experiment.storage.stripes, together * self.strategy.size

        def path() -> str:
            return str(prepare(data, folder, cache, stripes=stripes, readers=readers))

        packed = open_packed(Path(agreed(self.strategy, path)), patience_s=None)
        fraction, seed = training.data.validation_fraction, plan.rules.seed
        if member.data or member.phantom:
            if name == HOLDOUT:
                everything = tuple(range(len(packed.subjects)))
                return packed, Split(everything, everything)
            return packed, split_subjects(packed.subjects, fraction, seed)
        mine = self._dealt(packed.subjects, name, others)
        if name == HOLDOUT:
            return packed, Split(mine, mine)
        inner = split_subjects([packed.subjects[index] for index in mine], fraction, seed)
        return packed, Split(
            tuple(mine[index] for index in inner.training), tuple(mine[index] for index in inner.validation)
        )

    def _dealt(self, subjects: Sequence[str], name: str, names: list[str]) -> tuple[int, ...]:
        """Positions of the subjects of ``name`` in the set that is dealt to ``names``, less the hold-out's."""
        plan, rules = self.plan, self.plan.rules
        if not names:
            return tuple(range(len(subjects)))
        held = rules.evaluation.holdout
        out: tuple[int, ...] = ()
        if held and not held.data:
            out = split_subjects(subjects, held.fraction, rules.seed).validation
        if name == HOLDOUT:
            return out
        kept = [index for index in range(len(subjects)) if index not in out]
        dealt = deal(plan, [subjects[index] for index in kept], names)
        return tuple(kept[int(index)] for index in dealt[name])

    def initial(self) -> Arrays:
        """By the federation's seed."""
        return arrays_of(self.model.variables)

    def train(self, base: Arrays, round: int, control: Control | None) -> Learnt:
        """Epochs are counted on over the rounds, so that each has its own order."""
        self._assign(base)
        for variable in self.steps.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        self.steps.prepare(base, control)
        # The rate that trains: with several ranks a multiple of the one that was said.
        epochs, rate = self.given["epochs"], self.rates.at(0)
        for epoch in range((round - 1) * epochs + 1, round * epochs + 1):
            done = self.loop.train(epoch, self.rates)
        after, steps = arrays_of(self.model.variables), self.loop.steps_per_epoch * epochs
        momentum, mu = self.given["momentum"], self.given["mu"]
        normaliser = nova_steps(steps, momentum=momentum, mu=mu, learning_rate=rate)
        following, change = None, None
        if control is not None:
            from hpcflow.federation.client import scaffold_control

            following, change = scaffold_control(control.ours, control.server, base, after, steps, rate)
        metrics = {"loss": float(done.loss), "dice": float(done.dice)}
        return Learnt(after, done.samples, normaliser, metrics, following, change)

    def evaluate(self, weights: Arrays) -> dict[str, float]:
        """Loss, and Dice over whole volumes, of the validation subjects."""
        self._assign(weights)
        found = self.loop.validate()
        return {"loss": found.loss, "dice": found.dice}

    def _assign(self, weights: Mapping[str, Any]) -> None:
        assign(self.model.variables, weights, self.plan.run.path)

    def agree(self, text: str) -> str:
        """Rank 0's on all."""
        return self.strategy.agree(text)

    def close(self) -> None:
        """Horovod leaves with the process: another learner of it may go on."""


def _joined(parts: Sequence[tuple[Packed, Split]]) -> tuple[Packed, Split]:
    """Several sets as one, in memory; sets that several share are taken once."""
    packs: dict[Path, int] = {}
    training: list[int] = []
    validation: list[int] = []
    kept: list[Packed] = []
    total = 0
    for packed, split in parts:
        if packed.path not in packs:
            packs[packed.path] = total
            total += len(packed.subjects)
            kept.append(packed)
        offset = packs[packed.path]
        training += [offset + index for index in split.training]
        validation += [offset + index for index in split.validation]
    if len(kept) == 1:
        return kept[0], Split(tuple(sorted(training)), tuple(sorted(validation)))
    whole = Packed(
        kept[0].path,
        tuple(name for packed in kept for name in packed.subjects),
        np.concatenate([packed.images for packed in kept]),
        np.concatenate([packed.labels for packed in kept]),
        np.concatenate([packed.voxels for packed in kept]),
        any(packed.phantom for packed in kept),
    )
    return whole, Split(tuple(sorted(training)), tuple(sorted(validation)))
