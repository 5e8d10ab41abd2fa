"""The options of `hpcflow map`, and the answer that they ask for: options over the experiment over the defaults."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hpcflow.errors import InputError, SiteError
from hpcflow.experiment import Loaded, load
from hpcflow.experiment.schema import Placement, Threads
from hpcflow.placement import sources
from hpcflow.placement.launchers.detect import ORDER, called, choose, detect
from hpcflow.placement.mapping import Answer, Question, answer
from hpcflow.placement.probe import this_machine
from hpcflow.placement.threads import derive
from hpcflow.placement.topology import Topology

if TYPE_CHECKING:
    from hpcflow.flows.target import Target

COUNTS = ("ranks_per_node", "ranks_per_socket", "ranks_per_numa", "ranks_per_l3", "ranks")
NUMBER = re.compile(r"[0-9]{1,9}")
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
NOBODY = "no launcher is on PATH; this is how Open MPI would be told"


@dataclass(frozen=True)
class Options:
    """What was typed. ``request`` holds keys of the experiment's placement."""

    config: Path | None = None
    sets: Sequence[str] = ()
    site: str | None = None
    engine: str | None = None
    topologies: Sequence[str] = ()
    nodes: int | None = None
    hosts: str | None = None
    program: str = "python train.py"
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Nodes:
    """The nodes that options describe; None and () where they leave it to the experiment or this machine."""

    number: int | None
    shapes: tuple[Topology, ...]
    hosts: tuple[str, ...] | None

    @property
    def elsewhere(self) -> bool:
        """Whether the plan is for other nodes than those where a submit would run it."""
        return bool(self.shapes or self.hosts)

    def of(self, node: Topology, number: int) -> tuple[Topology, ...]:
        """Every node; ``node`` and ``number`` where no option tells."""
        shapes = self.shapes or (node,)
        return shapes if len(shapes) > 1 else shapes * (self.number or number)


def ask(said: Options) -> Answer:
    """The answer to ``said``. Raises InputError, SiteError."""
    nodes, program = _nodes(said), _words(said.program)
    if said.config is not None:
        return _of_experiment(said, nodes, program)
    for option, given in (("--set", said.sets), ("--site", said.site), ("--engine", said.engine)):
        if given:
            raise InputError(f"{option} is about an experiment (name its CONFIG, or leave the option out)")
    request = _changed(Placement(), said.request)
    launcher, version, why, command = _launcher(request)
    return answer(
        Question(
            request, Threads(), nodes.of(this_machine() if not nodes.shapes else nodes.shapes[0], 1), launcher, version,
            why, nodes.hosts, program=program, command=command,
        )
    )  # fmt: skip


def _of_experiment(said: Options, nodes: _Nodes, program: tuple[str, ...]) -> Answer:
    """Where the experiment would run: exactly what `render` and `submit` plan. On other nodes: a plan for Slurm there."""
    from hpcflow.flows.train import rank_map

    assert said.config is not None
    loaded = load(said.config, said.sets, said.site)
    experiment = loaded.experiment
    request = _changed(experiment.placement, said.request)
    resources = experiment.resources
    if nodes.number:
        resources = resources.model_copy(update={"nodes": nodes.number})
    experiment = experiment.model_copy(update={"placement": request, "resources": resources})
    loaded = replace(loaded, experiment=experiment)
    target = _target(loaded, said.engine or loaded.site.engine, nodes)
    asked = Question(
        request, experiment.threads, nodes.of(target.node, resources.nodes), target.launcher, target.launcher_version,
        target.why_launcher, nodes.hosts, target.scheduler, program, experiment.environment.variables,
        target.mpi_plugin, target.as_root, target.launcher_command,
    )  # fmt: skip
    if nodes.elsewhere:
        return answer(asked)
    rankmap = rank_map(loaded, target)
    return Answer(asked, rankmap, derive(rankmap, experiment.threads))


def _target(loaded: Loaded, engine: str, nodes: _Nodes) -> Target:
    """The place where a submit would run it. For other nodes Open MPI will do where no launcher is on PATH."""
    from hpcflow import engines
    from hpcflow.engines.target import target

    slurm = engines.choose(engine, loaded.site).slurm
    if not nodes.elsewhere:
        return target(loaded, slurm)
    if engine == "local" and (len(nodes.shapes) > 1 or (nodes.number or 1) > 1):
        raise InputError("--engine local has one node (leave it out to plan for the nodes that are named)")
    try:
        found = target(loaded, slurm)
    except SiteError:
        placement = loaded.experiment.placement.model_copy(update={"launcher": "openmpi"})
        experiment = loaded.experiment.model_copy(update={"placement": placement})
        found = replace(target(replace(loaded, experiment=experiment), slurm), why_launcher=NOBODY)
    return found if engine == "local" else replace(found, scheduler="slurm")


def _launcher(request: Placement) -> tuple[str, str | None, str, str | None]:
    """Name, version, why, and command. Open MPI where nothing tells: the map is a plan, and need not run here."""
    only = {"auto": (), "horovodrun": ORDER}.get(request.launcher, (request.launcher,))
    found = detect(only=only)
    try:
        name, version, why = choose(request.launcher, request.launcher_version, found, "slurm")
    except SiteError:
        return "openmpi", request.launcher_version, NOBODY, None
    return name, version, why, called(name, found) if found else None


def _words(program: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(program))
    except ValueError as error:
        raise InputError(f"--program {program}: {str(error).lower()} (write it as for a shell)") from None
    if not words:
        raise InputError("--program: there is no command in it (for example 'python train.py')")
    return words


def _nodes(said: Options) -> _Nodes:
    """Raises InputError where two options contradict each other about the number of nodes."""
    hosts = tuple(name for name in (said.hosts or "").split(",") if name) or None
    for host in hosts or ():
        if not HOST.fullmatch(host):
            raise InputError(f"--hosts: `{host}` is no name of a host (letters, digits and ._-)")
    described = [_counted(text) for text in said.topologies]
    listed = len(described) > 1 or any(count for _, count in described)
    numbers = {
        "--nodes": said.nodes,
        "--hosts": len(hosts) if hosts else None,
        "--topology": sum(count or 1 for _, count in described) if listed else None,
    }
    told = {option: number for option, number in numbers.items() if number}
    if len(set(told.values())) > 1:
        each = ", ".join(f"{option} says {number}" for option, number in told.items())
        raise InputError(f"the number of nodes is said twice: {each} (keep one of them)")
    shapes = tuple(sources.read(text) for text, _ in described)
    if len(described) > 1:
        pairs = zip(shapes, described, strict=True)
        shapes = tuple(shape for shape, (_, count) in pairs for _ in range(count or 1))
    return _Nodes(next(iter(told.values()), None), shapes, hosts)


def _counted(text: str) -> tuple[str, int | None]:
    """node.xml:3 as (node.xml, 3); a file whose own name ends so is that file."""
    file, colon, count = text.rpartition(":")
    if not colon or not NUMBER.fullmatch(count) or Path(text).exists():
        return text, None
    if not 1 <= int(count) <= 65_536:
        raise InputError(f"--topology {text}: there are no {count} nodes (1 to 65536)")
    return file, int(count)


def _changed(request: Placement, given: Mapping[str, Any]) -> Placement:
    """The request with the options put over it; a number of ranks replaces whichever was there. Raises InputError."""
    data = request.model_dump()
    counts = [key for key in COUNTS if key in given]
    if len(counts) > 1:
        names = " and ".join(f"--{key.replace('_', '-')}" for key in counts)
        raise InputError(f"{names}: the number of ranks is said twice (keep one of them)")
    if counts:
        data |= dict.fromkeys(COUNTS)
    data |= given
    cores = given.get("cores_per_rank")
    if isinstance(cores, str) and NUMBER.fullmatch(cores):
        data["cores_per_rank"] = int(cores)
    if "reserve" in given:
        data["reserve"] = _reserve(given["reserve"])
    try:
        return Placement.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        raise InputError(f"{option}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def _reserve(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split("/"):
        if NUMBER.fullmatch(part):
            found["cores"] = int(part)
        elif part in ("node", "socket"):
            found["per"] = part
        elif part in ("first", "last"):
            found["at"] = part
        else:
            raise InputError(f"--reserve: {text} is not as in 1/socket/last")
    return found
