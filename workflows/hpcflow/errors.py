"""The errors a user can cause or meet, and the exit code each of them ends the command with.

Everything else that is raised is a bug in hpcflow and shows a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_SITE = 3
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with the input, where it stands, and what would be right.

    ``line`` and ``column`` count from 1; 0 means that the place is not known (the key is then all there is).
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class HpcflowError(Exception):
    """Root of the tree. ``exit_code`` is what the command ends with."""

    exit_code = EXIT_FAILED


class InputError(HpcflowError):
    """The input is wrong and nothing was submitted. Holds every problem found, not the first alone."""

    exit_code = EXIT_INPUT

    def __init__(self, problems: str | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = () if isinstance(problems, str) else tuple(sorted(problems))
        super().__init__(problems if isinstance(problems, str) else "\n".join(map(str, self.problems)))


class SiteError(HpcflowError):
    """The scheduler or a tool is missing or refused. ``transient`` says whether trying again may help."""

    exit_code = EXIT_SITE

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)


class RunError(HpcflowError):
    """A job or a run failed, or what a run left behind cannot be used."""

    exit_code = EXIT_FAILED
