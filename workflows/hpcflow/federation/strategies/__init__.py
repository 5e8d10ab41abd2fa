"""The strategies by name, and their options as text or values."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hpcflow.errors import InputError
from hpcflow.federation.strategies.base import Strategy
from hpcflow.federation.strategies.coordinate import Median, TrimmedMean
from hpcflow.federation.strategies.means import FedAvg, FedNova, FedProx, Scaffold
from hpcflow.federation.strategies.robust import Bulyan, GeometricMedian, Krum, MultiKrum
from hpcflow.federation.strategies.server import FedAdagrad, FedAdam, FedAvgM, FedYogi
from hpcflow.federation.strategies.user import User

TABLE: dict[str, type[Strategy]] = {
    kind.name: kind
    for kind in (
        FedAvg, FedAvgM, FedAdam, FedYogi, FedAdagrad, FedProx, Scaffold, FedNova,
        Median, TrimmedMean, GeometricMedian, Krum, MultiKrum, Bulyan, User,
    )
}  # fmt: skip


def plain(name: str) -> str:
    """A strategy's name as the table has it: case, blanks, - and _ make no difference (Multi-Krum is multikrum)."""
    return "".join(character for character in name.lower() if character not in "-_ ")


def make(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy ``name`` with ``options``, given as values or as text. Raises InputError with all complaints."""
    kind = TABLE.get(plain(name))
    if kind is None:
        near = difflib.get_close_matches(plain(name), TABLE, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TABLE)}"
        raise InputError(f"there is no strategy {name!r} ({hint})")
    given = dict(options or {})
    if kind is User:
        return User(str(given.pop("function", "")), given)
    types = get_type_hints(kind)
    known = {item.name: types[item.name] for item in fields(kind)}  # type: ignore[arg-type]
    wrong, values = [], {}
    for said, value in given.items():
        key = kind.symbols.get(said, said)
        try:
            if key in values:
                raise ValueError("it is said twice")
            if key not in known:
                raise ValueError(f"there is no such option (there are {', '.join(known) or 'none'})")
            values[key] = _typed(value, known[key])
        except ValueError as error:
            wrong.append(f"{kind.name}: {said}: {error}")
    if wrong:
        raise InputError("\n".join(wrong))
    return kind(**values)


def describe(kind: type[Strategy]) -> dict[str, Any]:
    """What the strategy is, in a sentence, and its options with their defaults: for help pages and schemas."""
    options = {
        item.name: None if item.default is MISSING else item.default
        for item in fields(kind)  # type: ignore[arg-type]
    }
    return {"name": kind.name, "about": inspect.cleandoc(kind.__doc__ or ""), "options": options}


def options_of(strategy: Strategy) -> dict[str, Any]:
    """The options of a strategy that was made, defaults among them."""
    return {item.name: getattr(strategy, item.name) for item in fields(strategy)}  # type: ignore[arg-type]


def _typed(value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise ValueError(f"{value!r} is none of {', '.join(get_args(kind))}")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no number")
    try:
        number = kind(value) if isinstance(value, str) else value
        if not math.isfinite(number) or kind(number) != number:
            raise ValueError
    except (ValueError, OverflowError):
        what = "whole number" if kind is int else "finite number"
        raise ValueError(f"{value!r} is no {what}") from None
    return kind(number)
