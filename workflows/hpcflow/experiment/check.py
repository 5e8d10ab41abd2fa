"""Checking files without running them: what `hpcflow validate` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcflow.errors import InputError, Problem
from hpcflow.experiment.document import shown
from hpcflow.experiment.load import load
from hpcflow.experiment.sweep import expand

# What is to be said of an experiment's plan. Raises InputError for what does not fit the place.
Plan = Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class Checked:
    """A file, what is wrong with it (nothing, if all is well), and what its submitter should know."""

    file: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `hpcflow validate --json` prints it."""
        return {
            "file": self.file,
            "ok": not self.problems,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


def check(
    paths: Sequence[Path], sets: Sequence[str] = (), site: str | None = None, plan: Plan = lambda path: ()
) -> list[Checked]:
    """Check each of ``paths`` as `submit` would read it, and ``plan`` those that are right by themselves."""
    return [_checked(path, sets, site, plan) for path in paths]


def problems(checked: Sequence[Checked]) -> tuple[Problem, ...]:
    """All problems, those of a site or a --set (which every file shares) once."""
    return tuple(dict.fromkeys(problem for one in checked for problem in one.problems))


def _checked(path: Path, sets: Sequence[str], site: str | None, plan: Plan) -> Checked:
    file = shown(str(path), 300)
    try:
        loaded = load(path, sets, site)
        if loaded.experiment.sweep is not None:
            # The place decides how many ranks a trial has, and need not be at hand: submit tells what follows from them.
            expand(loaded, lambda _: 1)
        return Checked(file, (), tuple(plan(path)))
    except InputError as error:
        return Checked(file, error.problems or (Problem(str(path), 0, 0, "", str(error)),))
