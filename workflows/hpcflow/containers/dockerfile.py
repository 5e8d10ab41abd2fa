"""A Dockerfile as a definition file, through spython's conversion, with what gets lost on the way named.

spython 0.3 reads a Dockerfile line by line. What it drops or changes is in LOSSES; `grave` losses give another image
than Docker would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcflow.errors import InputError, Problem


@dataclass(frozen=True)
class Loss:
    """An instruction that does not survive: what its lines look like, what happens, whether the image is another."""

    instruction: str
    pattern: str
    what: str
    grave: bool = False


LOSSES = (
    Loss("FROM", r"FROM\s+--platform", "the platform is dropped (build on a node of that architecture)"),
    Loss("FROM", r"FROM\s+scratch\b", "an empty image cannot be a source (name a base image)", True),
    Loss("ARG", r"ARG\s+[A-Za-z_]\w*\s*$", "has no default, so it is dropped (give it one)", True),
    Loss("RUN", r"RUN\s+--\w+", "options of RUN become words of the command (remove them)", True),
    Loss(
        "RUN", r"(RUN|COPY)\s.*<<-?\s*[\"']?\w+", "a here-document is not understood (write a script)", True
    ),
    Loss("RUN", r"RUN\s+\[", "the list form is taken for shell text (write the command plainly)", True),
    Loss(
        "COPY",
        r"(COPY|ADD)\s+--(chown|chmod|link|exclude)",
        "its option is taken for a file name (remove it)",
        True,
    ),
    Loss("COPY", r"(COPY|ADD)\s+\[", "the list form is taken for file names (write them plainly)", True),
    Loss("COPY", r"(COPY|ADD)\s[^#]*\*", "patterns are expanded by Apptainer, not by Docker's rules"),
    Loss(
        "COPY",
        r"COPY\s+(?!--)\S+\s+(?!/)\S+",
        "its target is relative, and WORKDIR does not hold for it",
        True,
    ),
    Loss("ADD", r"ADD\s+\S+\.git(#\S*)?\s", "a git address is not fetched", True),
    Loss(
        "ENV",
        r"ENV\s",
        "holds when the image runs; commands of %post see it without `export`, their children not",
    ),
    Loss("USER", r"USER\s", "an image runs as whoever starts it"),
    Loss("VOLUME", r"VOLUME\s", "becomes a comment (bind a folder by container.binds)"),
    Loss("EXPOSE", r"EXPOSE\s", "becomes a comment (the image shares the node's network)"),
    Loss("SHELL", r"SHELL\s", "is no instruction that is known; %post is run by /bin/sh", True),
    Loss("ONBUILD", r"ONBUILD\s", "is no instruction that is known", True),
    Loss("STOPSIGNAL", r"STOPSIGNAL\s", "becomes a comment"),
    Loss("HEALTHCHECK", r"HEALTHCHECK\s", "becomes the image's %test, run once when it is built"),
)
STAGES = "is stage {number} of several: only the last stage that spython knows by a name is kept whole (use one FROM)"


@dataclass(frozen=True)
class Converted:
    """A definition's text and what was lost in it."""

    text: str
    losses: tuple[tuple[Problem, bool], ...]

    @property
    def grave(self) -> tuple[Problem, ...]:
        """Those that make another image."""
        return tuple(problem for problem, grave in self.losses if grave)


def losses(text: str, name: str) -> Iterator[tuple[Problem, bool]]:
    """What spython's conversion of a Dockerfile's ``text`` loses, each with its line and whether it is grave."""
    stages = 0
    for number, line in _instructions(text):
        if re.match(r"FROM\s", line, re.IGNORECASE):
            stages += 1
            if stages > 1:
                yield Problem(name, number, 1, "FROM", STAGES.format(number=stages)), True
        for loss in LOSSES:
            if re.match(loss.pattern, line, re.IGNORECASE):
                yield Problem(name, number, 1, loss.instruction, loss.what), loss.grave


def _instructions(text: str) -> Iterator[tuple[int, str]]:
    """Each instruction on one line, with the line it begins on."""
    begun, held = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#") or (not stripped and not held):
            continue
        begun = begun or number
        held += stripped.removesuffix("\\") + " " if stripped.endswith("\\") else stripped
        if not stripped.endswith("\\"):
            yield begun, held
            begun, held = 0, ""
    if held:
        yield begun, held


def convert(path: Path) -> Converted:
    """The definition file that spython makes of a Dockerfile. Raises InputError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not any(re.match(r"FROM\s+\S", line, re.IGNORECASE) for _, line in _instructions(text)):
        raise InputError([Problem(str(path), 1, 1, "FROM", "there is none, so there is nothing to build on")])
    found = tuple(losses(text, str(path)))
    from spython.logger import bot
    from spython.main.parse.parsers import DockerParser
    from spython.main.parse.writers import SingularityWriter

    bot.level = 0  # its warnings are told by LOSSES, with their lines
    made = SingularityWriter(DockerParser(str(path)).recipe).convert()
    notes = "".join(f"# {problem.key} (line {problem.line}): {problem.message}\n" for problem, _ in found)
    head = f"# From {path.name} by spython's conversion.\n"
    return Converted(f"{head}{notes}{made.strip()}\n", found)
