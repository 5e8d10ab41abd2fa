"""pydantic's errors as problems with a place, in sentences that say what would be right."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hpcflow.errors import Problem
from hpcflow.experiment.document import Key, Mark, Written, dotted, shown

# pydantic error type -> sentence; the braces are filled from the error's context.
SENTENCES = {
    "missing": "this key is missing",
    "int_type": "expected a whole number, not {given}",
    "int_parsing": "expected a whole number, not {given}",
    "int_from_float": "expected a whole number, not {given}",
    "float_type": "expected a number, not {given}",
    "float_parsing": "expected a number, not {given}",
    "finite_number": "expected a finite number, not {given}",
    "bool_type": "expected true or false, not {given}",
    "bool_parsing": "expected true or false, not {given}",
    "string_type": "expected text, not {given}{quote}",
    "string_unicode": "expected text, and this is no Unicode (remove the surrogates)",
    "string_too_short": "may not be empty",
    "tuple_type": "expected a list, not {given}",
    "list_type": "expected a list, not {given}",
    "too_long": "expected at most {max_length} of them",
    "too_short": "expected at least {min_length} of them",
    "dict_type": "expected keys and values, not {given}",
    "model_type": "expected keys and values, not {given}",
    "model_attributes_type": "expected keys and values, not {given}",
    "greater_than_equal": "expected {ge} or more, not {given}",
    "greater_than": "expected more than {gt}, not {given}",
    "less_than_equal": "expected {le} or less, not {given}",
    "less_than": "expected less than {lt}, not {given}",
    "literal_error": "expected {expected}, not {given}",
}


def problems(error: ValidationError, model: type[BaseModel], marks: Marks) -> Iterator[Problem]:
    """One problem a place: the arms of a union are folded into the sentence of the value they all refuse."""
    for path, items in _places(error, model).items():
        yield marks.problem(
            path,
            _sentence(path, items, model),
            key=items[0]["type"] == "extra_forbidden" or items[0]["loc"][-1:] == ("[key]",),
        )


def paths(error: ValidationError, model: type[BaseModel]) -> list[Key]:
    """Where they stand, in the order of :func:`problems`."""
    return list(_places(error, model))


def unknown(error: ValidationError, model: type[BaseModel]) -> set[Key]:
    """Those of the places whose key there is not."""
    places = _places(error, model).items()
    return {path for path, items in places if items[0]["type"] == "extra_forbidden"}


def _places(error: ValidationError, model: type[BaseModel]) -> dict[Key, list[dict[str, Any]]]:
    places: dict[Key, list[dict[str, Any]]] = {}
    for item in error.errors(include_url=False):
        path = _path(item["loc"], model)
        for at, message in item.get("ctx", {}).get("complaints", [((), item["msg"])]):
            places.setdefault((*path, *at), []).append({**item, "msg": message})
    return {path: items for path, items in places.items() if not _another_arm_went_in(path, items, places)}


def _another_arm_went_in(path: Key, items: Sequence[Mapping[str, Any]], places: Iterable[Key]) -> bool:
    """Whether ``items`` are of arms that wanted no list and no mapping, and another one had something to say of what is
    in it: the user meant that one.
    """
    inside = any(len(other) > len(path) and other[: len(path)] == path for other in places)
    return inside and all(
        item["type"].endswith("_type") and isinstance(item["input"], (list, dict)) for item in items
    )


class Marks:
    """Where each key stands, over all layers; the layer on top wins."""

    def __init__(self, file: str, values: Mapping[Key, Mark], keys: Mapping[Key, Mark]) -> None:
        self.file, self.values, self.keys = file, values, keys

    def problem(self, path: Key, message: str, *, key: bool = False) -> Problem:
        """A problem at ``path``, or where the nearest section above it stands."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        for depth in range(len(path), 0, -1):
            below = path[:depth]
            mark = (
                (first.get(below) or second.get(below))
                if depth == len(path)
                else (self.keys.get(below) or self.values.get(below))
            )
            if mark:
                return Problem(mark.file, mark.line, mark.column, dotted(path), message)
        return Problem(self.file, 1, 1, dotted(path), message)


def _path(loc: Sequence[str | int], model: type[BaseModel]) -> Key:
    """pydantic's location less the names of union arms, which are no keys of the document."""
    path: list[str | int] = []
    current: Any = model
    for part in loc:
        fields = _fields(current)
        if isinstance(part, int):
            path.append(part)
            current = _item(current)
        elif fields and part in fields:
            path.append(part)
            current = fields[part].annotation
        elif fields and not _is_union(current):
            path.append(part)
            current = None
        elif _is_mapping(current):
            if part != "[key]":
                path.append(part)
        elif current is None:
            path.append(part)
    return tuple(path)


def _arms(annotation: Any) -> list[Any]:
    """The types an annotation may be, its Annotated[] and Optional[] layers taken off."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _arms(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [inner for arm in typing.get_args(annotation) if arm is not type(None) for inner in _arms(arm)]
    return [annotation]


def _is_union(annotation: Any) -> bool:
    return len(_arms(annotation)) > 1


def _is_mapping(annotation: Any) -> bool:
    return any(typing.get_origin(arm) is dict for arm in _arms(annotation))


def _fields(annotation: Any) -> dict[str, Any]:
    for arm in _arms(annotation):
        if isinstance(arm, type) and issubclass(arm, BaseModel):
            return dict(arm.model_fields)
    return {}


def _item(annotation: Any) -> Any:
    for arm in _arms(annotation):
        if typing.get_origin(arm) in (tuple, list):
            return typing.get_args(arm)[0]
    return annotation


def _sentence(path: Key, items: list[dict[str, Any]], model: type[BaseModel]) -> str:
    kinds = [item["type"] for item in items]
    if kinds[0] == "extra_forbidden":
        return _unknown(path, model)
    own = [item["msg"] for item in items if item["type"] == "hpcflow"]
    if own:
        return str(own[0])
    expected = [_one(item).removeprefix("expected ") for item in items]
    if len(items) > 1 and all(_one(item).startswith("expected ") for item in items):
        wanted = [text.rsplit(", not ", 1)[0] for text in expected]
        return f"expected {' or '.join(dict.fromkeys(wanted))}, not {_given(items[0]['input'])}"
    return _one(items[0])


def _one(item: dict[str, Any]) -> str:
    template = SENTENCES.get(item["type"])
    if template is None:
        return str(item["msg"])
    return template.format(
        **{**item.get("ctx", {}), "given": _given(item["input"]), "quote": _quote(item["input"])}
    )


def _quote(value: Any) -> str:
    written = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else _given(value)
    return f' (quote it: "{written}")' if isinstance(value, (bool, int, float)) else ""


def _given(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Written):
        return shown(value.text)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"'{shown(value)}'" if isinstance(value, str) else shown(str(value))


def _unknown(path: Key, model: type[BaseModel]) -> str:
    current: Any = model
    for part in path[:-1]:
        current = _item(current) if isinstance(part, int) else _fields(current)[part].annotation
    known = list(_fields(current))
    name = str(path[-1])
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"there is no such key (did you mean `{near[0]}`?)"
    elsewhere = sorted(_everywhere(model, name), key=len)
    if elsewhere:
        return f"there is no such key here (did you mean `{elsewhere[0]}`?)"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return (
        f"there is no such key (nearest: `{near[0]}`; known: {', '.join(known)})"
        if near
        else "there is no such key"
    )


def _everywhere(model: type[BaseModel], name: str, prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        if key == name:
            yield prefix + key
        for arm in _arms(field.annotation):
            if isinstance(arm, type) and issubclass(arm, BaseModel):
                yield from _everywhere(arm, name, f"{prefix}{key}.")
