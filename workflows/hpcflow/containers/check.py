"""Whether ranks will start right in an image, found out before a job is queued: `hpcflow container check`.

The image is asked what it holds, and two ranks are started in it by the launcher that jobs will use. What can go wrong
there is silent in a job: N times rank 0 of 1, because the image's MPI is not the launcher's or its environment was
cleaned.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcflow.containers import processor
from hpcflow.containers import runtime as runtimes
from hpcflow.containers.place import PROBE, Place
from hpcflow.containers.preflight import preflight
from hpcflow.doctor.finding import Finding, ok, problem, warning
from hpcflow.doctor.mpi import PLUGINS, Mpi, identify, mismatch, srun_plugins
from hpcflow.engines.ask import ask
from hpcflow.errors import RunError, SiteError
from hpcflow.experiment import Experiment
from hpcflow.flows.target import Target
from hpcflow.jobs import shell

ASK_S = 120.0  # a first start of an image may have to unpack it
# Which MPI family a launcher starts; srun starts what its plugin speaks.
STARTS = {"openmpi": "openmpi", "horovodrun": "openmpi", "intelmpi": "intelmpi", "mpich": "mpich"}


def examine(experiment: Experiment, target: Target, ranks: int = 2) -> tuple[Finding, ...]:
    """Every finding about the image of ``experiment`` for jobs on ``target``."""
    container = experiment.container
    if container is None:
        return (ok("image", "none is named: jobs run in hpcflow's own environment"),)
    try:
        image = Path(shell.expand(container.image))
    except RunError as error:
        return (problem("image", str(error), "set it here too, or name the image without it"),)
    try:
        runtime = runtimes.find(container.runtime)
    except SiteError as error:
        return (problem("runtime", str(error), "load it here too, or set container.check: false"),)
    if not image.exists():
        return (problem("image", f"there is no {image}", "build it: hpcflow container build"),)
    place = Place(container, target, image, runtime)
    found: list[Finding] = [ok("runtime", f"{runtime.name} {runtime.version} ({runtime.path})")]
    if strange := processor.stranger(image, container.python):
        return (*found, strange)
    try:
        inside = _ask(place)
    except SiteError as error:
        return (*found, problem("image", str(error), f"see why: {_by_hand(place)}"))
    except RunError as error:
        return (*found, problem("binds", str(error), "set it here too, or name the folder without it"))
    found += _contents(place, inside)
    found += processor.declared(inside, target)
    found += _libraries(place, inside)
    found += _mpi(target, inside)
    library = _library(inside["mpi4py"])
    if library and not any(finding.level == "problem" for finding in found):
        found += _plugin(target, library)
        found += preflight(place, library, min(2, ranks))
    return tuple(found)


def _by_hand(place: Place) -> str:
    """A short command that shows what a check saw."""
    userns = ["--userns"] if place.target.as_root else []
    return shlex.join([place.runtime.name, "exec", *userns, str(place.image), place.container.python, "-V"])


def _ask(place: Place) -> dict[str, Any]:
    """What the image says of itself. Raises SiteError with what the runtime complains about."""
    try:
        done = subprocess.run(
            place.words(PROBE),
            capture_output=True,
            text=True,
            timeout=ASK_S,
            env=place.environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SiteError(f"{place.image} did not answer within {ASK_S:.0f} s") from None
    if done.returncode:
        raise SiteError(
            f"{place.image} does not start: {_last(done.stderr) or f'exit code {done.returncode}'}"
        )
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        raise SiteError(
            f"{place.image} did not say what it holds: {_last(done.stdout + done.stderr)}"
        ) from None


def _last(text: str) -> str:
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _contents(place: Place, inside: Mapping[str, Any]) -> Iterator[Finding]:
    version = tuple(int(part) for part in inside["python"].split(".")[:2])
    what = f"{place.image}: Python {inside['python']}, glibc {inside['glibc']}, {inside['machine']}"
    if version < (3, 11):
        yield problem(
            "image", f"{what}; hpcflow needs Python 3.11", "name another Python in container.python"
        )
    elif inside["missing"]:
        what += f"; without {', '.join(inside['missing'])}"
        yield problem("image", what, "name its Python in container.python, or install them in the image")
    else:
        yield ok("image", what)


def _libraries(place: Place, inside: Mapping[str, Any]) -> Iterator[Finding]:
    """glibc inside against what bound libraries were linked with."""
    has = _numbers(inside["glibc"])
    sources = [place.mpi_prefix] if place.mpi_prefix else []
    sources += [shell.expand(bind.partition(":")[0]) for bind in place.container.binds]
    for source in sources:
        newest, library = newest_glibc(Path(source))
        if newest > has:
            needs = ".".join(map(str, newest))
            what = f"{library} needs glibc {needs}, the image has {inside['glibc']}"
            yield problem(
                "binds", what, "use the image's own library (container.mpi: hybrid), or a newer image"
            )
        elif library:
            yield ok("binds", f"libraries in {source} need glibc {'.'.join(map(str, newest))} at most")


def newest_glibc(folder: Path) -> tuple[tuple[int, ...], str]:
    """The newest glibc symbol version that the shared libraries of ``folder`` or its lib/ ask for, and which asks."""
    newest: tuple[int, ...] = (0,)
    which = ""
    for place in (folder, folder / "lib", folder / "lib64"):
        for path in sorted(place.glob("*.so*")) if place.is_dir() else ():
            try:
                found = re.findall(rb"GLIBC_(2\.\d+)", path.read_bytes())
            except OSError:
                continue
            for text in found:
                if (numbers := _numbers(text.decode())) > newest:
                    newest, which = numbers, str(path)
    return newest, which


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)) or (0,)


def _library(answer: Mapping[str, Any]) -> Mpi | None:
    return identify(str(answer.get("version", "")), str(answer.get("library", "")))


def _mpi(target: Target, inside: Mapping[str, Any]) -> Iterator[Finding]:
    """The image's MPI against the launcher's."""
    for name in ("horovod", "mpi4py"):
        library = _library(inside[name])
        if library is None:
            why = inside[name].get("error") or "it is of no family known here"
            yield problem(
                "MPI", f"the MPI of the image's {name} does not answer: {why}", "install one in the image"
            )
            continue
        reason = against(library, target)
        what = f"{name} in the image uses {library} ({library.path})"
        if reason:
            do = f"use an image with the launcher's MPI, or launcher: {library.abi}, or container.mpi: bind"
            yield problem("MPI", f"{what}; {reason}", do)
            return
        yield ok("MPI", what + (f", launched by {_starter(target)}" if _starter(target) else ""))


def _plugin(target: Target, library: Mpi) -> Iterator[Finding]:
    """How srun will speak with the ranks. That the plugin starts ``library`` is known by now."""
    if target.launcher != "srun":
        return
    answer = ask(("srun", "--mpi=list"))
    has = srun_plugins(answer.out + answer.err)
    plugin, listed = target.mpi_plugin, ", ".join(has) or "none"
    name = f"name the one that starts {library} in the site's profile: mpi_plugin"
    if plugin is None:
        yield warning("PMI", f"which plugin srun starts ranks by is not known here (it has {listed})", name)
    elif answer.ok and plugin.split("_v")[0] not in has:  # pmix_v4 is a version of pmix
        yield problem("PMI", f"srun has no plugin {plugin} (it has {listed})", name)
    else:
        yield ok("PMI", f"srun --mpi={plugin} starts {library}" + ("" if answer.ok else "; srun is not here"))


def _starter(target: Target) -> Mpi | None:
    family = STARTS.get(target.launcher)
    return Mpi(family, target.launcher_version or "") if family else None


def against(library: Mpi, target: Target) -> str:
    """Why the target's launcher does not start ranks that use ``library``; empty where it does."""
    starter = _starter(target)
    if starter is None:
        plugin = target.mpi_plugin
        if plugin and plugin.partition("_")[0] not in PLUGINS[library.abi]:
            return f"srun --mpi={plugin} cannot start {library}: every rank would be rank 0 of 1"
        return ""
    if not starter.version:
        same = library.abi == starter.abi
        return (
            ""
            if same
            else f"{library} cannot be started by {target.launcher}: every rank would be rank 0 of 1"
        )
    return mismatch(library, starter)
