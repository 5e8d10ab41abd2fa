"""A function of the user's as a strategy, written as the participants of the FeTS challenge's task 1 write it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import InputError, RunError
from hpcflow.federation.numbers import Floats
from hpcflow.federation.strategies.base import Called, Contributions, Strategy
from hpcflow.federation.update import UpdateInfo


@dataclass(frozen=True)
class LocalTensor:
    """One collaborator's part of a tensor, as OpenFL and FeTS hand it over: ``tensor`` is a block of it, (n,)
    float32, ``weight`` its share of the samples. ``update`` is all that the update says of itself.
    """

    col_name: str
    tensor: NDArray[Any]
    weight: float
    update: UpdateInfo


@dataclass(frozen=True)
class User(Strategy):
    """``function`` is `module:name`. It is called for every block of every tensor with those of

        local_tensors  list of LocalTensor      tensor_name  str       fl_round  int
        offset         the block's first element within the flattened tensor

    that it has parameters for, and with its own options, and returns the block of the aggregate, (n,).
    """

    name: ClassVar[str] = "user"
    function: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def recipe(self, updates: Contributions, distances: Floats | None, round: int) -> Called:
        """Looks the function up and checks its parameters. Raises InputError."""
        function = load(self.function)
        takes = parameters(function, self.function, self.options)
        total = sum(float(update.weight) for update in updates)
        shares = [float(update.weight) / total for update in updates]

        def call(rows: NDArray[Any], tensor: str, offset: int) -> Floats:
            local = [
                LocalTensor(update.name, row, share, update.info)
                for update, row, share in zip(updates, rows, shares, strict=True)
            ]
            given = {"local_tensors": local, "tensor_name": tensor, "fl_round": round, "offset": offset}
            try:
                value = function(**{key: given[key] for key in given if key in takes}, **self.options)
                result = np.asarray(value, np.float64)
            except Exception as error:
                # Whatever it raises, it is the user's to mend: where, and what.
                what = f"{type(error).__name__}: {error}"
                raise RunError(f"user: {self.function} failed on the tensor {tensor}: {what}") from error
            if result.shape != rows.shape[1:]:
                raise InputError(
                    f"{self.function} returned the shape {list(result.shape)} for a block of "
                    f"{tensor} of the shape {list(rows.shape[1:])}"
                )
            return result

        return Called(call)


GIVEN = ("local_tensors", "tensor_name", "fl_round", "offset")


def load(path: str) -> Callable[..., Any]:
    """The function at `module:name`. Raises InputError."""
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise InputError(
            f"user: function is {path!r} (the import path of a function, as in `package.module:name`)"
        )
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"user: {path} cannot be imported: {error}") from error
    if not callable(function):
        raise InputError(f"user: {path} is no function")
    return function  # type: ignore[no-any-return]


def parameters(function: Callable[..., Any], path: str, options: Mapping[str, str]) -> frozenset[str]:
    """Which of GIVEN it takes. Raises InputError where it asks for something else, or not for the tensors."""
    signature = inspect.signature(function).parameters.values()
    open_ended = any(item.kind is item.VAR_KEYWORD for item in signature)
    named = {item.name for item in signature if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)}
    needed = {
        item.name
        for item in signature
        if item.default is item.empty and item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
    }
    unknown = sorted(needed - set(GIVEN) - options.keys())
    if unknown:
        raise InputError(
            f"user: {path} asks for {', '.join(unknown)} (there are {', '.join(GIVEN)} and its options)"
        )
    ignored = sorted(options.keys() - named) if not open_ended else []
    if ignored:
        raise InputError(f"user: {path} has no parameter {', '.join(ignored)}")
    takes = frozenset(GIVEN) if open_ended else frozenset(GIVEN) & named
    if "local_tensors" not in takes:
        raise InputError(f"user: {path} has no parameter local_tensors")
    return takes
