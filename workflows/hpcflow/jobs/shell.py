"""Text on its way into a shell: quoted once, here and nowhere else."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hpcflow.errors import RunError

_REFERENCE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


class Late(Protocol):
    """A word of a command that only the running script knows: it says itself what it is in shell."""

    def shell(self) -> str:
        """One word of bash, quoted."""


@dataclass(frozen=True)
class Variable:
    """The value of a shell variable."""

    name: str

    def shell(self) -> str:
        """The reference, in double quotes."""
        return f'"${self.name}"'


Word = str | Late


def word(value: Word) -> str:
    """One word as shell text: inert whatever it holds, but for what a Late word refers to."""
    return shlex.quote(value) if isinstance(value, str) else value.shell()


def lines(words: Iterable[Word], indent: str = "    ", width: int = 100) -> str:
    """A command over several lines, a flag and its value kept together where a reader would."""
    rows: list[str] = []
    for text in map(word, words):
        fits = rows and len(rows[-1]) + 1 + len(text) <= width
        if fits and not (text.startswith("-") and len(rows[-1]) > width * 2 // 3):
            rows[-1] += " " + text
        else:
            rows.append(text)
    return f" \\\n{indent}".join(rows)


def path(text: str) -> str:
    """A path as shell text: $NAME, ${NAME} and a leading ~/ are expanded by the shell, all else is inert."""
    text = re.sub(r"^~(?=/|$)", "${HOME}", text)
    if not _REFERENCE.search(text):
        return shlex.quote(text)
    parts, end = [], 0
    for match in _REFERENCE.finditer(text):
        parts += [_escaped(text[end : match.start()]), f"${{{match[1] or match[2]}}}"]
        end = match.end()
    return '"' + "".join(parts) + _escaped(text[end:]) + '"'


def references(texts: Iterable[str]) -> tuple[str, ...]:
    """The variables that ``path`` would expand in any of them."""
    found = (match[1] or match[2] for text in texts for match in _REFERENCE.finditer(text))
    return tuple(dict.fromkeys(found))


def expand(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The same expansion as ``path`` gives, done here. Raises RunError for a variable that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in environ:
            raise RunError(f"{text}: the environment variable {name} is not set")
        return environ[name]

    return _REFERENCE.sub(value, re.sub(r"^~(?=/|$)", "${HOME}", text))


def _escaped(text: str) -> str:
    return re.sub(r'([$`"\\])', r"\\\1", text)
