"""A Dockerfile as a definition file, through spython's conversion, with what gets lost on the way named.

It is read as Docker reads it (instructions.py), spelt as spython carries it (respelling.py), and what survives neither
is a loss (losses.py); `grave` losses give another image than Docker would.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcflow.containers.instructions import Instruction, read
from hpcflow.containers.losses import losses
from hpcflow.containers.respelling import Lost, Respelling, stages, undone
from hpcflow.errors import InputError, Problem


@dataclass(frozen=True)
class Converted:
    """A definition's text and what was lost in it."""

    text: str
    losses: tuple[tuple[Problem, bool], ...]

    @property
    def grave(self) -> tuple[Problem, ...]:
        """Those that make another image."""
        return tuple(problem for problem, grave in self.losses if grave)


def convert(path: Path, into: Path | None = None) -> Converted:
    """The definition file that spython makes of a Dockerfile, to lie in the folder ``into`` (its own by default).

    Raises InputError where it cannot be read, or is no Dockerfile.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    instructions = read(text, str(path))
    lines, found = _respelt(instructions, path.absolute().parent, into or path.absolute().parent)
    found += losses(instructions)
    problems = [
        (Problem(str(path), each.line, 1, each.name, what), grave)
        for each, what, grave in sorted(found, key=lambda loss: loss[0].line)
    ]
    if not any(line.startswith("FROM ") for line in lines):
        raise InputError(problem for problem, grave in problems if grave)
    notes = "".join(f"# {problem.key} (line {problem.line}): {problem.message}\n" for problem, _ in problems)
    head = f"# From {path.name} by spython's conversion.\n"
    return Converted(f"{head}{notes}{_by_spython(lines, path)}\n", tuple(problems))


def _respelt(
    instructions: Sequence[Instruction], folder: Path, into: Path
) -> tuple[list[str], list[tuple[Instruction, str, bool]]]:
    """Lines for spython, and the instructions that have none."""
    respelling = Respelling(folder, into.absolute(), stages(instructions))
    lines, lost = list[str](), list[tuple[Instruction, str, bool]]()
    for each in instructions:
        try:
            lines += respelling.lines(each)
        except Lost as loss:
            lost.append((each, str(loss), True))
    return [*lines, *respelling.last()], lost


def _by_spython(lines: Sequence[str], path: Path) -> str:
    from spython.logger import bot
    from spython.main.parse.parsers import DockerParser
    from spython.main.parse.writers import SingularityWriter

    bot.level = 0  # its warnings are told by LOSSES, with their lines
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".Dockerfile") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        try:
            return undone(SingularityWriter(DockerParser(file.name).recipe).convert().strip())
        except (LookupError, TypeError, ValueError, AttributeError, SystemExit) as error:
            raise InputError(
                f"{path}: spython cannot convert it ({type(error).__name__}: {error}); write the definition by hand"
            ) from None
