"""Checks of launchers, and of the MPI libraries that mpi4py and Horovod use, against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpcflow.doctor.finding import Finding, ok, problem, warning
from hpcflow.doctor.mpi import PLUGINS, Mpi, identify, mismatch, srun_plugins
from hpcflow.doctor.scheduler import answering
from hpcflow.doctor.survey import Survey

FAMILIES = frozenset({"openmpi", "intelmpi", "mpich"})
INSTALL = "install it, as scripts/hpcflow does (the package's extra `train`)"


def launchers(survey: Survey) -> Iterator[Finding]:
    """Every command that starts ranks, and its version."""
    for name, mpi in survey.launchers.items():
        yield ok("launcher", f"{name}: {mpi} ({mpi.path})")
    for name in ("mpirun of this environment", "mpirun", "mpiexec.hydra"):
        answer = survey.answers.get(name)
        if answer and name not in survey.launchers:
            why = answer.complaint if not answer.ok else "it is of no family known here"
            yield warning(
                "launcher", f"{name} does not say what it is: {why}", "check that its module is loaded"
            )
    slurm = answering(survey)
    if slurm is not None:
        plugins = srun_plugins(survey.answers["plugins"].out + survey.answers["plugins"].err)
        default = slurm.mpi_default or "none"
        text = ", ".join(plugin for plugin in plugins if plugin != "none") or "no plugin"
        yield ok("launcher", f"srun: Slurm {slurm.version_text}; MPI by {text} (default {default})")
    elif not survey.launchers:
        yield warning("launcher", "there is no mpirun: only one rank can run", INSTALL)


def libraries(survey: Survey) -> Iterator[Finding]:
    """The MPI of mpi4py and of Horovod against the launcher that starts them."""
    starter = _starter(survey)
    for name in ("horovod", "mpi4py"):
        answer = survey.probe(name)
        library = identify(str(answer.get("version", "")), str(answer.get("library", "")))
        yield _library("Horovod" if name == "horovod" else name, answer, library, starter)
        if library and survey.choice.launcher == "srun":
            yield from _by_srun(survey, library)


def _library(name: str, answer: Mapping[str, Any], library: Mpi | None, starter: Mpi | None) -> Finding:
    if not answer.get("installed"):
        return warning(name, "not installed: `strategy: horovod` cannot run in this environment", INSTALL)
    if library is None:
        why = (
            answer.get("error") or f"it uses an MPI that is not known here: {answer.get('version', '')[:60]}"
        )
        return problem(
            name, f"it cannot run: {why}", f"build {name} anew against the MPI that starts the ranks"
        )
    what = f"uses {library} ({library.path})"
    if starter is None:
        return ok(name, what)
    if reason := mismatch(library, starter):
        return problem(
            name, f"{what}; {reason}", f"use the launcher in {library.prefix}/bin, or build {name} anew"
        )
    if library.version != starter.version:
        return warning(name, f"{what}; the launcher is {starter}", "the same version on both sides is safer")
    return ok(name, f"{what}, as its launcher does")


def _starter(survey: Survey) -> Mpi | None:
    """The mpirun that jobs would use: this environment's own, else the first one of the chosen family."""
    wanted = survey.choice.launcher
    if wanted not in FAMILIES:
        return None
    return next((mpi for mpi in survey.launchers.values() if mpi.family == wanted), None)


def _by_srun(survey: Survey, library: Mpi) -> Iterator[Finding]:
    if "plugins" not in survey.answers:
        return
    plugins = srun_plugins(survey.answers["plugins"].out + survey.answers["plugins"].err)
    if not set(plugins) & set(PLUGINS[library.abi]):
        what = f"srun has no plugin that starts {library} (it has {', '.join(plugins) or 'none'})"
        yield problem("launcher", what, "use mpirun, or ask the site for Slurm's pmix plugin")
