"""Moving statistics of a model: tensors that follow the data they see, and that no gradient trains.

A batch normalisation keeps its mean and variance as such. What optimizers and corrections do to a trained tensor makes
no sense of them: a step against a variance can make it negative, and the model answers with NaN. Their merge is a
mean. They are told by the last part of their name, as Keras and PyTorch have it; so an update cannot say of itself
which tensors are spared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

NAMES = frozenset({"moving_mean", "moving_variance", "running_mean", "running_var"})

Value = TypeVar("Value")


def is_statistic(name: str) -> bool:
    """Whether the tensor ``name`` is one, as in `down0_norm_0/moving_mean` or `bn1.running_var`."""
    return name.replace(".", "/").rpartition("/")[2] in NAMES


def trained(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The others."""
    return {name: value for name, value in tensors.items() if not is_statistic(name)}
