"""Many generated maps against one real launcher: how many agree, how many differ, how many it cannot express.

Where the nodes' ids are others than one would guess, the line is made from counts alone, as on a site without an hwloc
file, and the ranks must be on the planned cores all the same; only what is refused then is planned with the ids.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpcflow.errors import InputError
from hpcflow.placement.launchers import LaunchLine, line
from hpcflow.placement.rankmap import RankMap, plan
from placement.generate import Case, case, guessed
from placement.oracles import cluster
from placement.oracles.launchers import Real

MOST_RANKS = 32  # real processes on the tests' machine
ATTEMPTS = 3  # daemons of several "hosts" on one machine now and then trip over each other at their start


@dataclass
class Score:
    """The outcome; ``guessed`` of the ``compared`` were planned without the ids; ``differing`` and ``silent`` hold a
    sentence a case.
    """

    compared: int = 0
    ranks: int = 0
    refused: int = 0
    guessed: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def add(self, found: Case, said: LaunchLine, got: dict[int, cluster.Got]) -> None:
        """Count one comparison."""
        self.compared += 1
        self.ranks += found.rankmap.size
        self.forms[form(said)] += 1
        wrong = cluster.differences(said, found.rankmap, got)
        if wrong:
            request = found.request.model_dump(exclude_defaults=True)
            self.differing.append(
                f"case {found.number} ({found.nodes[0].sentence()}, {request}): {said.script()}: {wrong[0]}"
            )


def compare(real: Real, wanted: int, built: Path, limit: int = 1024, most: int = MOST_RANKS) -> Score:
    """Start ``wanted`` generated maps by the real launcher."""
    cluster.build(built)
    score = Score()
    number = 0
    while score.compared + len(score.silent) < wanted:
        found = case(number, limit)
        number += 1
        if found.rankmap.size > most:
            continue
        try:
            said, without_ids = spoken(found, real.dialect, built, real.version)
        except InputError:
            score.refused += 1
            continue
        score.guessed += without_ids
        try:
            score.add(found, said, _started(said, found.rankmap, built, real.folder))
        except RuntimeError as error:
            score.silent.append(f"case {found.number}: {error}")
    return score


def spoken(found: Case, dialect: str, built: Path, version: str | None = None) -> tuple[LaunchLine, bool]:
    """The line of a map, and whether it was made without the nodes' ids. Raises InputError where there is none."""
    program = [str(built / "show")]
    if any(guessed(node) != node for node in found.nodes):
        counted = plan(found.request, [guessed(node) for node in found.nodes], found.rankmap.hosts)
        with suppress(InputError):
            return line(dialect, counted, program, version=version, scheduler="slurm"), True
    return line(dialect, found.rankmap, program, version=version, scheduler="slurm"), False


def _started(said: LaunchLine, rankmap: RankMap, built: Path, folder: Path) -> dict[int, cluster.Got]:
    for attempt in range(ATTEMPTS):
        try:
            return cluster.run(said, rankmap, built, folder, {})
        except RuntimeError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


FORMS = (
    ("rankfile", "rankfile"),
    ("--rank-by", "ppr, ranked by socket"),
    ("ppr:", "ppr"),
    ("user:", "user:"),
    ("-map-by", "core:K by domain"),
    ("core:", "core:K"),
    ("I_MPI_PIN_DOMAIN '[", "masks"),
    (":compact", "K:compact"),
    (":scatter", "K:scatter"),
    ("I_MPI_PIN_DOMAIN socket", "socket"),
    ("I_MPI_PIN_DOMAIN numa", "numa"),
    ("mask_cpu", "masks"),
    ("block:cyclic", "cores, block:cyclic"),
    ("block:block", "cores, block:block"),
)


def form(said: LaunchLine) -> str:
    """Which of the dialect's forms a line takes."""
    text = said.script()
    return next((name for mark, name in FORMS if mark in text), "other")
