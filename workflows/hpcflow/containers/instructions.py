"""The instructions of a Dockerfile: names in capitals, continuations joined, comments dropped, as Docker reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hpcflow.errors import InputError, Problem

# fmt: off
KNOWN = frozenset((
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
))
# fmt: on
BREAK = "\0"
"""Where a line was continued: no character of a Dockerfile."""
HEREDOC = re.compile(r"(?:^|\s)\d*<<-?[\"']?([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Instruction:
    """An instruction, the line it begins on, and all that follows its name, with BREAKs in it."""

    line: int
    name: str
    broken: str

    @property
    def rest(self) -> str:
        """What follows the name, on one line."""
        return self.broken.replace(BREAK, "").strip()

    def __str__(self) -> str:
        return f"{self.name} {self.rest}"


def read(text: str, file: str) -> tuple[Instruction, ...]:
    """The instructions of ``text``. Raises InputError with every line that Docker would not read either."""
    found = tuple(_instructions(text.removeprefix("\ufeff")))
    problems = []
    begun = False
    for each in found:
        begun = begun or each.name == "FROM"
        message = ""
        if each.name not in KNOWN:
            message = (
                "is no instruction of a Dockerfile (see that the line before it goes on where it should)"
            )
        elif not each.rest:
            message = "has nothing after it (complete it, or remove it)"
        elif not begun and each.name != "ARG":
            message = "stands before FROM (an image begins with what it is built on)"
        if message:
            problems.append(Problem(file, each.line, 1, each.name, message))
    if not any(each.name == "FROM" for each in found):
        problems.append(Problem(file, 1, 1, "FROM", "there is none, so there is nothing to build on"))
    if problems:
        raise InputError(problems)
    return found


def _instructions(text: str) -> Iterator[Instruction]:
    escape = "`" if re.match(r"(\s*#.*\n)*?\s*#\s*escape\s*=\s*`", text, re.IGNORECASE) else "\\"
    begun, parts, document = 0, list[str](), ""
    for number, line in enumerate(text.splitlines(), 1):
        if document:  # the body of a here-document is no instruction
            document = "" if line.strip() == document else document
            continue
        # A comment or a blank line between the lines of one instruction is dropped too.
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        parts.append(line.rstrip().removesuffix(escape))
        if not line.rstrip().endswith(escape):
            yield (made := _instruction(begun, parts))
            begun, parts = 0, []
            starts = HEREDOC.search(made.rest) if made.name in ("RUN", "COPY", "ADD") else None
            document = starts[1] if starts else ""
    if parts:
        yield _instruction(begun, parts)


def _instruction(line: int, parts: list[str]) -> Instruction:
    name, rest = re.fullmatch(rf"\s*([^\s{BREAK}]*)(.*)", BREAK.join(parts), re.DOTALL).groups()  # type: ignore[union-attr]
    return Instruction(line, name.upper(), rest.strip(BREAK + " \t"))
