"""A YAML document that remembers where each of its keys and values stands.

PyYAML composes the nodes (positions, anchors, merge keys); the values are built here, because of what its own
constructor would do silently: the second of two equal keys wins, ``12:30`` is 750 (YAML 1.1 base 60), ``no``
is False, ``010`` is 8. Scalars follow the core schema of YAML 1.2 instead, but for whole numbers that begin with
a zero or a plus: those are text, so that ``nodes: 010`` is refused instead of guessed at.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hpcflow.errors import InputError, Problem

Key = tuple[str | int, ...]
MAX_NODES = 50_000  # an alias bomb of a few lines expands to billions of nodes; no experiment is this long
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Mark:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int


@dataclass
class Document:
    """Plain values, and for each dotted key the mark of its value and (in mappings) of the key itself.

    ``problems`` are those of single keys that leave the others readable, as a key that stands there twice.
    """

    value: dict[str, Any]
    values: dict[Key, Mark] = field(default_factory=dict)
    keys: dict[Key, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class Written(float):
    """A number with a point or an exponent, and how it was written: as a version, 1.10 is not 1.1."""

    text: str

    def __new__(cls, value: float, text: str) -> Written:
        number = super().__new__(cls, value)
        number.text = text
        return number


class _Composer(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way


_WHOLE = r"(?:0|[1-9][0-9]*)"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"0|-?[1-9][0-9]{0,17}", "-0123456789"),
    (
        "float",
        rf"[-+]?(\.[0-9]+|{_WHOLE}\.[0-9]*|{_WHOLE}(?=[eE])|[1-9][0-9]{{18,}})([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _Composer.add_implicit_resolver(
        _TAG + _tag, re.compile(rf"^(?:{_pattern})\Z"), ["" if c == "\0" else c for c in _first]
    )


class Dumper(yaml.SafeDumper):
    """Writes text so that it is read back as text, here and by readers of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012
        key: [*yaml.SafeLoader.yaml_implicit_resolvers.get(key, []), *own]
        for key in {*yaml.SafeLoader.yaml_implicit_resolvers, *_Composer.yaml_implicit_resolvers}
        for own in [_Composer.yaml_implicit_resolvers.get(key, [])]
    }


def shown(text: str, limit: int = 60) -> str:
    """``text`` on one line of a message: control characters as escapes, and not without end."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def dotted(path: Key) -> str:
    """A key as messages show it."""
    return shown(".".join(map(str, path)), 200)


def fragment(text: str) -> tuple[Any, dict[Key, Mark], dict[Key, Mark]]:
    """The value that YAML gives ``text``, and the marks of what is in it, by keys below it. Raises InputError."""
    node = _compose("--set", text)
    builder = _Builder("--set")
    value = "" if node is None else _build(builder, node)
    if builder.problems:
        raise InputError(builder.problems)
    return value, builder.values, builder.keys


def scalar(text: str) -> Any:
    """The value that YAML gives ``text``: ``--set`` reads its values as the file would. Raises InputError."""
    return fragment(text)[0]


def read(path: Path, text: str | None = None) -> Document:
    """Read the mapping in ``path`` (or in ``text``, which then is what stands in ``path``).

    Raises InputError with a position when the file is no YAML or no mapping.
    """
    name = str(path)
    node = _compose(name, _text(path) if text is None else text)
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(name, "expected keys and values (as in `name: my-experiment`)")
    builder = _Builder(name)
    value = _build(builder, node)
    if not isinstance(value, dict):  # a tag on the mapping
        raise InputError(builder.problems)
    return Document(value, builder.values, builder.keys, builder.problems)


def _wrong(name: str, message: str, line: int = 1, column: int = 1) -> InputError:
    return InputError([Problem(shown(name, 300), line, column, "", message)])


def _compose(name: str, text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Composer)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(filter(None, (error.context, error.problem)))
        raise _wrong(name, shown(f"this is not YAML: {what}", 300), line, column) from None
    except yaml.reader.ReaderError as error:
        before = text.rfind("\n", 0, error.position)
        # For text (not bytes) PyYAML gives the character's number.
        bad = f"the character U+{int(error.character):04X} may not stand in YAML (remove it)"
        line = text.count("\n", 0, error.position) + 1
        raise _wrong(name, bad, line, error.position - before) from None
    except RecursionError:
        raise _wrong(name, "the YAML is nested too deeply") from None
    except (ValueError, OverflowError):  # PyYAML converts "\UFFFFFFFF" and %YAML 999... without a look
        raise _wrong(name, "this is not YAML: an escape or a number is out of range") from None
    return node


def _build(builder: _Builder, node: yaml.Node) -> Any:
    try:
        return builder.build(node, ())
    except RecursionError:  # an alias inside the very value that it names
        raise _wrong(builder.file, "the YAML is nested too deeply") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        message = "there is no such file"
    except IsADirectoryError:
        message = "this is a directory (name the YAML file in it)"
    except UnicodeDecodeError:
        message = "this is not UTF-8 text"
    except (OSError, ValueError) as error:
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
    raise _wrong(str(path), message, 0, 0)


class _Builder:
    """Builds plain values from nodes and notes the marks and the problems on the way."""

    def __init__(self, file: str) -> None:
        self.file = shown(file, 300)
        self.values: dict[Key, Mark] = {}
        self.keys: dict[Key, Mark] = {}
        self.problems: list[Problem] = []
        self.count = 0

    def build(self, node: yaml.Node, path: Key) -> Any:
        """The value of ``node``, which stands at ``path``."""
        self._count()
        self.values[path] = self._mark(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            return self._tag(node, path)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def _count(self) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise _wrong(self.file, f"more than {MAX_NODES} values once its aliases are expanded")

    def _mapping(self, node: yaml.MappingNode, path: Key) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        merges = [value for key, value in node.value if key.tag == f"{_TAG}merge"]
        mappings = [mapping for value in merges for mapping in self._merged(value, path)]
        for mapping in reversed(mappings):  # the first one wins, in value and in mark
            self._count()
            merged |= self._mapping(mapping, path)
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            mark = self._mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(mark, path, "a key must be a plain word")
                continue
            key = str(key_node.value)
            if key in own:
                first = self.keys[(*path, key)]
                message = f"this key stands here twice (first in line {first.line}; keep one)"
                self._problem(mark, (*path, key), message)
                continue
            self.keys[(*path, key)] = mark
            own[key] = self.build(value_node, (*path, key))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: Key) -> Iterator[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in nodes:
            if isinstance(item, yaml.MappingNode):
                yield item
            else:
                message = "`<<` merges a mapping (an alias such as *defaults)"
                self._problem(self._mark(item), path, message)

    def _scalar(self, node: yaml.ScalarNode, path: Key) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
                return int(text)
            case "float":
                number = text.lower().replace(".inf", "inf").replace(".nan", "nan")
                with contextlib.suppress(ValueError):
                    return Written(float(number), text)
        return self._tag(node, path)

    def _tag(self, node: yaml.Node, path: Key) -> None:
        message = f"the tag {shown(node.tag.replace(_TAG, '!!'))} is not taken here (write a plain value)"
        self._problem(self._mark(node), path, message)

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _problem(self, mark: Mark, path: Key, message: str) -> None:
        self.problems.append(Problem(mark.file, mark.line, mark.column, dotted(path), message))
