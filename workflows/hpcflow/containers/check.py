"""Whether ranks will start right in an image, found out before a job is queued: `hpcflow container check`.

The image is asked what it holds, and two ranks are started in it by the launcher that jobs will use. What can go wrong
there is silent in a job: N times rank 0 of 1, because the image's MPI is not the launcher's or its environment was
cleaned.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcflow.containers import runtime as runtimes
from hpcflow.containers.command import CODE, WRAPPER, passed, wrapper
from hpcflow.containers.mount import words as mount
from hpcflow.containers.runtime import Runtime
from hpcflow.doctor.finding import Finding, ok, problem, warning
from hpcflow.doctor.mpi import PLUGINS, Mpi, identify, mismatch
from hpcflow.errors import RunError, SiteError
from hpcflow.experiment import Experiment
from hpcflow.experiment.container import Container
from hpcflow.flows.target import Target
from hpcflow.jobs import shell

PROBE = f"{CODE}/hpcflow/containers/probe.py"
ASK_S = 120.0  # a first start of an image may have to unpack it
PREFLIGHT_S = 180.0
# Which MPI family a launcher starts; srun starts what its plugin speaks.
STARTS = {"openmpi": "openmpi", "horovodrun": "openmpi", "intelmpi": "intelmpi", "mpich": "mpich"}


@dataclass(frozen=True)
class Place:
    """What a check runs with: the image here, the runtime, the words that start a program in it."""

    container: Container
    target: Target
    image: Path
    runtime: Runtime

    @property
    def options(self) -> list[str]:
        """Options of exec: those of jobs, but for their folders."""
        made = ["--nv"] if self.container.nv else []
        made += [*self.container.flags, *mount(self.target.code, f"{CODE}/hpcflow")]
        if self.mpi_prefix:
            made += mount(self.mpi_prefix, self.mpi_prefix)
        for bind in self.container.binds:
            source, _, rest = bind.partition(":")
            inside, _, mode = rest.partition(":")
            found = shell.expand(source)
            made += mount(found, inside or found, writable=mode != "ro")
        return made

    @property
    def mpi_prefix(self) -> str:
        """The folder of the node's MPI that is bound; empty for the image's own."""
        if self.container.mpi != "bind":
            return ""
        own = self.target.prefix if self.target.own_mpi else ""
        return shell.expand(self.container.mpi_prefix) if self.container.mpi_prefix else own

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process here whose image shall see what it will see in a job."""
        own = {"PYTHONPATH": CODE, "PYTHONNOUSERSITE": "1", **self.container.env}
        if prefix := self.mpi_prefix:
            own |= {"LD_LIBRARY_PATH": f"{prefix}/lib", "OPAL_PREFIX": prefix, "PMIX_INSTALL_PREFIX": prefix}
        return {**runtimes.clean(), **passed(own), "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}

    def words(self, *arguments: str, cleanenv: bool = False) -> list[str]:
        """`python ARGUMENTS` inside."""
        options = [*(["--cleanenv"] if cleanenv else []), *self.options]
        return [*self.runtime.exec(str(self.image), options), self.container.python, *arguments]


def examine(experiment: Experiment, target: Target, ranks: int = 2) -> tuple[Finding, ...]:
    """Every finding about the image of ``experiment`` for jobs on ``target``."""
    container = experiment.container
    if container is None:
        return (ok("image", "none is named: jobs run in hpcflow's own environment"),)
    try:
        runtime = runtimes.find(container.runtime)
        image = Path(shell.expand(container.image))
    except (SiteError, RunError) as error:
        return (problem("runtime", str(error), "load it here too, or set container.check: false"),)
    if not image.exists():
        return (problem("image", f"there is no {image}", "build it: hpcflow container build"),)
    place = Place(container, target, image, runtime)
    found: list[Finding] = [ok("runtime", f"{runtime.name} {runtime.version} ({runtime.path})")]
    try:
        inside = _ask(place)
    except SiteError as error:
        return (
            *found,
            problem("image", str(error), "see that it runs: " + " ".join(place.words("-V")[:4]) + " ..."),
        )
    found += _contents(place, inside)
    found += _libraries(place, inside)
    found += _mpi(target, inside)
    if not any(finding.level == "problem" for finding in found):
        found += _preflight(place, min(2, ranks))
    return tuple(found)


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
    here = os.uname().machine
    if inside["machine"] != here:
        text = f"the image is for {inside['machine']}, this machine is {here}"
        yield warning("architecture", text, "build it where it is to run")


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


def _mpi(target: Target, inside: Mapping[str, Any]) -> Iterator[Finding]:
    """The image's MPI against the launcher's."""
    for name in ("horovod", "mpi4py"):
        answer = inside[name]
        library = identify(str(answer.get("version", "")), str(answer.get("library", "")))
        if library is None:
            why = answer.get("error") or "it is of no family known here"
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


def _preflight(place: Place, ranks: int) -> Iterator[Finding]:
    """Start ``ranks`` ranks in the image, as a job will, and compare what MPI says with it."""
    if place.target.launcher not in ("openmpi", "horovodrun"):
        yield ok("preflight", f"left out: ranks of {place.target.launcher} start in a job alone")
        return
    mpirun = Path(place.target.prefix, "bin", "mpirun")
    command = str(mpirun) if mpirun.exists() else "mpirun"
    root = ["--allow-run-as-root"] if place.target.as_root else []
    mine = [command, "-np", str(ranks), "-H", f"localhost:{ranks}", "--bind-to", "none", *root]
    clean = place.container.mpi == "hybrid"
    mine += ["env", "-u", "OPAL_PREFIX", "-u", "PMIX_INSTALL_PREFIX"] if clean else []
    if place.container.cleanenv:
        mine += ["bash", "-c", wrapper(list(place.container.env)), WRAPPER]
    mine += place.words(PROBE, "size", cleanenv=place.container.cleanenv)
    env = place.environment
    with subprocess.Popen(
        mine, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True
    ) as process:
        try:
            out, _ = process.communicate(timeout=PREFLIGHT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            what = f"{ranks} ranks did not find each other within {PREFLIGHT_S:.0f} s"
            yield problem("preflight", what, "build the image with the launcher's own MPI")
            return
    yield verdict(out, process.returncode, ranks)


def verdict(out: str, code: int, ranks: int) -> Finding:
    """What a preflight's output says."""
    sizes = {json.loads(line[4:])["size"] for line in out.splitlines() if line.startswith("mpi {")}
    if sizes and sizes != {ranks}:
        what = f"{ranks} ranks were started, and MPI says {' and '.join(map(str, sorted(sizes)))}"
        return problem("preflight", what, "each would train alone: the image's MPI must be the launcher's")
    if re.search(r"signal 4|Illegal instruction|exit(ed with)? code:? 132", out):
        what = "TensorFlow needs instructions that this processor lacks"
        return problem("preflight", what, "build the image for this processor")
    if code or not sizes:
        return problem(
            "preflight", f"{ranks} ranks did not start: {_why(out)}", "run it by hand to see all of it"
        )
    return ok("preflight", f"{ranks} ranks found each other, and TensorFlow starts on this processor")


def _why(out: str) -> str:
    """The line of a failed start that says most."""
    lines = [line.strip() for line in out.splitlines() if line.strip() and not line.startswith("---")]
    telling = [line for line in lines if re.search(r"error|fatal|cannot|not found", line, re.IGNORECASE)]
    return (telling or lines or ["it printed nothing"])[0][:200]
