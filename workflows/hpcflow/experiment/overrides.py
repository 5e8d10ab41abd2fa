"""`--set dotted.key=value` as a layer of its own: read like the file, checked like the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcflow.errors import InputError, Problem
from hpcflow.experiment.document import Document, Key, Mark, fragment, shown

FILE = "--set"


def layer(sets: Sequence[str]) -> Document:
    """One document of all overrides, a later one above an earlier one.

    The line of a mark is the number of the --set, its column the place in it.
    """
    result = Document({})
    for number, text in enumerate(sets, 1):
        dotted, equals, value_text = text.partition("=")
        path = tuple(dotted.split("."))
        if not equals or not all(path):
            message = "expected dotted.key=value (as in resources.nodes=4)"
            result.problems.append(Problem(FILE, number, 1, shown(text), message))
            continue
        try:
            value, values, keys = fragment(value_text)
        except InputError as error:
            result.problems += [_moved(problem, number, dotted) for problem in error.problems]
            continue
        _put(result, path, value, Mark(FILE, number, len(dotted) + 2), Mark(FILE, number, 1))
        for inside, marks in ((values, result.values), (keys, result.keys)):
            marks.update(
                {(*path, *key): Mark(FILE, number, len(dotted) + 1 + at.column) for key, at in inside.items()}
            )
    return result


def _moved(problem: Problem, number: int, dotted: str) -> Problem:
    column = len(dotted) + 1 + max(problem.column, 1)
    key = ".".join(filter(None, (shown(dotted), problem.key)))
    return Problem(FILE, number, column, key, f"{problem.message}; quote the value if it is text")


def _put(document: Document, path: Sequence[str], value: Any, mark: Mark, key_mark: Mark) -> None:
    inner = document.value
    for depth, key in enumerate(path[:-1], 1):
        if not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key]
        document.keys.setdefault(tuple(path[:depth]), key_mark)
    inner[path[-1]] = value
    full: Key = tuple(path)
    document.keys[full] = key_mark
    document.values[full] = mark
