"""What `hpcflow map` answers: a request on some nodes as a rank map, and the map in the words of one or all launchers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpcflow.errors import InputError
from hpcflow.placement.launchers import DIALECTS, LaunchLine, line
from hpcflow.placement.launchers.base import Scheduler
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.threads import ThreadSettings, derive
from hpcflow.placement.topology import Topology

if TYPE_CHECKING:
    from hpcflow.experiment.schema import Placement, Threads


@dataclass(frozen=True)
class Question:
    """A request, the nodes and the launcher. ``env`` goes to every rank beside the derived thread settings."""

    request: Placement
    threads: Threads
    nodes: tuple[Topology, ...]
    launcher: str
    version: str | None = None
    why: str = ""
    hosts: tuple[str, ...] | None = None
    scheduler: Scheduler | None = "slurm"
    program: tuple[str, ...] = ("python", "train.py")
    env: Mapping[str, str] = field(default_factory=dict)
    mpi: str | None = None
    as_root: bool = False
    command: str | None = None


@dataclass(frozen=True)
class Answer:
    """The map, its threads, and the question it answers."""

    question: Question
    rankmap: RankMap
    threads: ThreadSettings

    def line(self, launcher: str | None = None) -> LaunchLine:
        """The launch line; of another launcher, whose version is not known then, where ``launcher`` is given.

        Raises InputError where the launcher cannot express the map.
        """
        asked = self.question
        name = launcher or asked.launcher
        return line(
            name,
            self.rankmap,
            asked.program,
            version=asked.version if name == asked.launcher else None,
            env={**asked.env, **self.threads.env},
            scheduler=None if asked.hosts is not None else asked.scheduler,
            hosts=asked.hosts,
            as_root=asked.as_root,
            mpi=asked.mpi,
            command=asked.command if name == asked.launcher else None,
        )

    def everywhere(self) -> dict[str, LaunchLine | str]:
        """Every launcher's line, or the sentence by which it is refused."""
        found: dict[str, LaunchLine | str] = {}
        for name in DIALECTS:
            try:
                found[name] = self.line(name)
            except InputError as error:
                found[name] = str(error)
        return found

    def to_json(self) -> dict[str, Any]:
        """As `hpcflow map --json` prints it."""
        said = self.line()
        return {
            "launcher": self.question.launcher,
            "version": self.question.version,
            "command": said.words(),
            "script": said.script(),
            "env": dict(said.env),
            "files": dict(said.files),
            "binds": said.grain,
            "notes": self.threads.lint(),
            "ranks": [place.to_json() for place in self.rankmap.ranks],
        }


def answer(question: Question) -> Answer:
    """Plan. Raises InputError when the request does not fit."""
    rankmap = plan(question.request, question.nodes, question.hosts)
    return Answer(question, rankmap, derive(rankmap, question.threads))


def lines_json(lines: Mapping[str, LaunchLine | str]) -> dict[str, Any]:
    """Every launcher's line as plain data; a refused one has its reason alone."""
    return {
        name: {"refused": said}
        if isinstance(said, str)
        else {
            "command": said.words(),
            "script": said.script(),
            "env": dict(said.env),
            "files": dict(said.files),
        }
        for name, said in lines.items()
    }
