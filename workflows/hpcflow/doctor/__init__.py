"""What this site has, whether it is enough, and what to mend: a table of checks over one survey.

A check is a function from Survey to findings. It asks nothing itself, so that a new one costs no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hpcflow.doctor.finding import Finding, ok, problem
from hpcflow.doctor.launchers import launchers, libraries
from hpcflow.doctor.places import container, folders
from hpcflow.doctor.scheduler import accounting, binding, controller, limits, nodes
from hpcflow.doctor.survey import Survey, survey
from hpcflow.experiment import Loaded, load

__all__ = ["CHECKS", "Finding", "Survey", "examine", "here"]


def choice(survey: Survey) -> Iterator[Finding]:
    """What `auto` stands for, and why."""
    chosen = survey.choice
    if chosen.engine:
        yield ok("engine", f"auto is {chosen.engine}: {chosen.why_engine}")
    else:
        yield problem("engine", chosen.why_engine, "name one with --engine")
    if chosen.launcher:
        yield ok("launcher", f"auto is {chosen.launcher}: {chosen.why_launcher}")
    else:
        yield problem("launcher", chosen.why_launcher or "none was found", "load the module of an MPI")


# In the order in which they are printed.
CHECKS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
    controller,
    accounting,
    limits,
    nodes,
    binding,
    launchers,
    libraries,
    container,
    folders,
    choice,
)


def here(site: str | None = None, sets: Sequence[str] = ()) -> Loaded:
    """An experiment that says nothing but what the site's profile does: what doctor looks at without a CONFIG."""
    text = "name: doctor\ntraining: {data: {phantom: {}}}\n"
    return load(Path("doctor"), sets, site, text)


def examine(loaded: Loaded) -> list[Finding]:
    """Every finding at the place where ``loaded`` would run."""
    surveyed = survey(loaded)
    return [finding for check in CHECKS for finding in check(surveyed)]
