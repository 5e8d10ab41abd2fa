"""The work of `hpcflow map`: from options or an experiment to a question, and the answer shown."""

from __future__ import annotations

import json as jsonlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpcflow.errors import EXIT_DONE, EXIT_FAILED, InputError, SiteError
from hpcflow.experiment import load
from hpcflow.experiment.schema import Placement, Threads
from hpcflow.placement import drawing, sources
from hpcflow.placement.launchers import LaunchLine
from hpcflow.placement.launchers.detect import choose, detect
from hpcflow.placement.mapping import Answer, Question, answer, lines_json
from hpcflow.placement.probe import this_machine
from hpcflow.placement.screen import paint, width
from hpcflow.placement.svg import svg as as_svg
from hpcflow.placement.topology import Topology
from hpcflow.placement.verify import Verdict
from hpcflow.placement.verify import verify as ask_mapper

COUNTS = ("ranks_per_node", "ranks_per_socket", "ranks_per_numa", "ranks_per_l3", "ranks")


def question(
    config: Path | None,
    sets: Sequence[str],
    site: str | None,
    topology: str | None,
    nodes: int | None,
    hosts: str | None,
    program: str,
    said: Mapping[str, Any],
) -> Question:
    """Options over the experiment over the defaults. Raises InputError, SiteError.

    The node is --topology, else the one of the place where the experiment would run, else this machine.
    """
    names = tuple(name for name in (hosts or "").split(",") if name) or None
    given = {key: value for key, value in said.items() if value is not None}
    request, threads, count = Placement(), Threads(), len(names) if names else 1
    profile: Mapping[str, str] = {}
    node = sources.read(topology) if topology else None
    version: str | None = None
    mpi = None
    env: Mapping[str, str] = {}
    if config is not None:
        loaded = load(config, sets, site)
        request, threads = loaded.experiment.placement, loaded.experiment.threads
        count = loaded.experiment.resources.nodes
        env, profile, mpi = (
            loaded.experiment.environment.variables,
            loaded.site.launchers,
            loaded.site.mpi_plugin,
        )
        if node is None and loaded.site.node is not None:
            node = sources.profile(loaded.site.node.model_dump(exclude_none=True), "the site profile")
        if node is None:
            node, version = _place(loaded)
    request = _changed(request, given)
    count = nodes or (len(names) if names else count)
    if names and len(names) != count:
        raise InputError(f"--hosts names {len(names)} nodes, and {count} are asked for")
    node = node or this_machine()
    launcher, told, why = _launcher(request, version, profile)
    return Question(
        request,
        threads,
        (node,) * count,
        launcher,
        told,
        why,
        names,
        "slurm",
        tuple(shlex.split(program)),
        env,
        mpi,
    )


def _place(loaded: Any) -> tuple[Topology, str | None]:
    """The node of the cluster that the experiment would run on, or of this machine."""
    from hpcflow import engines
    from hpcflow.engines.target import target

    choice = engines.choose(loaded.site.engine, loaded.site)
    found = target(loaded, choice.slurm)
    return found.node, found.launcher_version


def _launcher(
    request: Placement, version: str | None, profile: Mapping[str, str]
) -> tuple[str, str | None, str]:
    """Open MPI where nothing tells: the map is a plan, and need not run here."""
    found = detect(only=() if request.launcher == "auto" else {request.launcher, "openmpi"})
    try:
        return choose(request.launcher, request.launcher_version or version, found, "slurm", profile)
    except SiteError:
        return (
            "openmpi",
            request.launcher_version,
            "no launcher is on PATH; this is how Open MPI would be told",
        )


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
    if isinstance(cores, str) and cores.isdigit():
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
        if part.isdigit():
            found["cores"] = int(part)
        elif part in ("node", "socket"):
            found["per"] = part
        elif part in ("first", "last"):
            found["at"] = part
        else:
            raise InputError(f"--reserve: {text} is not as in 1/socket/last")
    return found


def show(asked: Question, *, all_launchers: bool, verify: bool, svg: Path | None, json: bool) -> int:
    """Print the answer; the exit code, which is 1 when a launcher's mapper differs."""
    made = answer(asked)
    lines = made.everywhere() if all_launchers else {}
    said = None if all_launchers else made.line()
    verdict = _verify(made, made.line()) if verify else None
    if svg is not None:
        text = said.words() if said else []
        try:
            svg.write_text(as_svg(made.rankmap, shlex.join(text)), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--svg {svg}: {error.strerror}") from error
    if json:
        document = lines_json(lines) if said is None else made.to_json()
        if said is None:
            document = {"launchers": document, "ranks": [place.to_json() for place in made.rankmap.ranks]}
        if verdict is not None:
            document["verify"] = {
                "exact": verdict.exact,
                "asked": verdict.asked,
                "differs": list(verdict.different),
            }
        print(jsonlib.dumps(document))
    else:
        _draw(made, said, lines, verdict)
    return EXIT_FAILED if verdict is not None and not verdict.exact else EXIT_DONE


def _verify(made: Answer, said: LaunchLine) -> Verdict:
    name, version = made.question.launcher, made.question.version
    for item in detect(only={name}):
        if item.name == name:
            if version and not item.version.startswith(version.split(".")[0]):
                raise SiteError(
                    f"--verify: the plan is for {name} {version}, and {name} {item.version} is installed here"
                )
            return ask_mapper(name, item.version, said, made.rankmap, item.path)
    raise SiteError(f"--verify: {name} is not on PATH here")


def _draw(
    made: Answer, said: LaunchLine | None, lines: Mapping[str, LaunchLine | str], verdict: Verdict | None
) -> None:
    print(drawing.sentence(made.rankmap))
    paint(drawing.picture(made.rankmap, width(), said is None or said.grain == "cores"))
    print()
    if said is not None:
        asked = made.question
        about = f"{asked.launcher} {asked.version or ''}".strip()
        print(f"{about} ({asked.why}):" if asked.why else f"{about}:")
        _print_line(said)
    if lines:
        print("for every launcher:")
        _print_exports(made.threads.env)
    for name, one in lines.items():
        print(f"{name}:")
        if isinstance(one, str):
            print(f"  refused: {one}")
        else:
            _print_line(one, made.threads.env)
    for sentence in made.threads.lint():
        print(f"note: {sentence}", file=sys.stderr)
    if verdict is not None:
        whole = f"{verdict.launcher} {verdict.version}, asked about {verdict.asked}"
        print(f"verified: {whole}: exact" if verdict.exact else f"not verified: {whole} differs")
        for row in verdict.different:
            print(f"  {row}")


def _print_exports(env: Mapping[str, str]) -> None:
    for name, value in sorted(env.items()):
        print(f"  export {name}={shlex.quote(value)}")


def _print_line(said: LaunchLine, above: Mapping[str, str] | None = None) -> None:
    """A line with its exports; those that stand ``above`` already are left out."""
    _print_exports({name: value for name, value in said.env.items() if name not in (above or {})})
    print(f"  {said.script()}")
    for name, text in said.files.items():
        print(f"  {name}:")
        rows = text.splitlines()
        print("\n".join(f"    {row}" for row in rows[:16]))
        if len(rows) > 16:
            print(f"    ... and {len(rows) - 16} more lines")
