"""What the checks that look at several keys have to say where single keys are wrong.

pydantic runs the check of a section only once all its keys are right by themselves, so a user would mend these and
meet the next errors. Here the wrong keys are left out and what remains is checked again, until nothing new is said. A
complaint that may stem from what was left out is not told: it is better told later than falsely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from hpcflow.errors import Problem
from hpcflow.experiment.document import Key
from hpcflow.experiment.problems import Marks, paths, problems, unknown

# Where a complaint stands -> the keys that it may be about. The longest beginning counts; one that is not here may
# be about any key.
ABOUT: Mapping[Key, tuple[Key, ...]] = {
    ("environment", "variables"): (("environment", "variables"),),
    ("placement",): (("placement",),),
    ("training", "data", "crop"): (("training", "data"), ("training", "model")),
    ("training", "strategy"): (("training", "strategy"), ("placement",), ("resources",)),
    ("storage",): (("storage",), ("training",), ("federation",)),
    ("sweep", "zip"): (("sweep", "zip"), ("sweep", "matrix")),
}
# Keys that have to be there, with values that no check minds.
NEEDED: Mapping[str, Any] = {"name": "x"}


def behind(
    error: ValidationError, model: type[BaseModel], value: Mapping[str, Any], marks: Marks
) -> Iterator[Problem]:
    """The further problems of ``value``, beside those of ``error``."""
    wrong: list[Key] = []
    meant: list[Key] = []  # where they were meant to stand: one that is misspelt is any of its section
    rest = dict(value)
    while new := [path for path in paths(error, model) if path not in wrong]:
        wrong += new
        misspelt = unknown(error, model)
        meant += [path[:-1] if path in misspelt else path for path in new]
        for path in new:
            _leave_out(rest, path)
        rest |= {key: given for key, given in NEEDED.items() if key in model.model_fields and key not in rest}
        try:
            model.model_validate(rest)
            return
        except ValidationError as following:
            error = following
        for path, problem in zip(paths(error, model), problems(error, model, marks), strict=True):
            if path not in wrong and not any(_touches(path, left) for left in meant):
                yield problem


def _touches(complaint: Key, left: Key) -> bool:
    """Whether a complaint may be about the key that was left out."""
    beginnings = [complaint[:depth] for depth in range(len(complaint), 0, -1)]
    about = next((ABOUT[begin] for begin in beginnings if begin in ABOUT), ((),))
    return any(left[: len(key)] == key or key[: len(left)] == left for key in about)


def _leave_out(rest: dict[str, Any], path: Key) -> None:
    """Take the key at ``path`` out of ``rest``, of a list the whole list; sections on the way are copied."""
    inner = rest
    for depth, key in enumerate(path):
        below = path[depth + 1 : depth + 2]
        following = inner.get(str(key))
        if not below or isinstance(below[0], int) or not isinstance(following, dict):
            inner.pop(str(key), None)
            return
        inner[str(key)] = inner = dict(following)
