"""What a confined task sees of its run, and what is taken over of what it made.

A task of a federation in an image is confined where it can be (flows/confinement.py). Before its program starts,
`enter` lays out a *view* outside of the image: a run directory with nothing but the round's public files, which the
image is shown in the run's place, read-only. In it the folder of the round is the task's own, and all that it can write.
After the program has ended, however it did, `leave` moves what it should have made from there to the run, and does for
the other jobs what the task itself could not (job.py). Both are hpcflow's own code on the node, and follow no link that
the program has left.

    begin      sees the experiment                                          makes the initial model
    train      sees the last aggregate                                      makes its update, and its reasons
    aggregate  sees that, the updates, late ones of the round before        makes the new model and the manifest
    evaluate   sees the aggregate                                           makes its metrics
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcflow.errors import RunError
from hpcflow.federation import job, rounds
from hpcflow.federation.cast import BEGIN, parse
from hpcflow.federation.contribution import keeps_control, last_control
from hpcflow.federation.job import Here
from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.federation.upkeep import note_lost_jobs
from hpcflow.jobs import shell
from hpcflow.jobs.rundir import RoundDir, RunDir, TaskDir
from hpcflow.placement.binding import PlanFile, check_in_job
from hpcflow.storage.publish import sync_directory


@dataclass(frozen=True)
class Enclosed:
    """A confined task: the part of a round that it does, for whom, and where."""

    plan: Plan
    part: str
    round: int
    name: str
    view: Path
    task: TaskDir

    @property
    def outside(self) -> RoundDir:
        """The round in the run."""
        return self.plan.round(self.round)

    @property
    def inside(self) -> RoundDir:
        """The round in the view."""
        return RunDir(self.view).round(self.round)


def enclosed(here: Here) -> Enclosed:
    """Of the task that runs here."""
    plan, where = here.plan, here.plan.run.task(here.job, here.task)
    if here.job == BEGIN:
        return Enclosed(plan, "begin", 0, next(iter(plan.members)), where.view, where)
    found = parse(here.job)
    name = "aggregate" if found.part == "aggregate" else here.whose
    return Enclosed(plan, found.part, found.round, name, where.view, where)


def check_in(view: RunDir, job: str) -> None:
    """What a rank of the task `job` does first (placement/binding.py), in the view."""
    if view.rankmap.exists():
        check_in_job(view.rankmap, view.round(parse(job).round).bindings)


def enter(here: Here) -> None:
    """Lay out the view, and print whose task it is, its data and its cache, each ended by a zero byte."""
    task = enclosed(here)
    seen = cache = ""
    with job.reported(task.plan, task.round, task.name) if task.part == "train" else contextlib.nullcontext():
        if task.part == "aggregate":
            note_lost_jobs(here, task.round)
        else:
            seen, cache = _own_folders(here, task)
        _lay_out(task)
    print("\0".join([task.name, seen, cache, ""]), end="", flush=True)


def _own_folders(here: Here, task: Enclosed) -> tuple[str, str]:
    """The data of a task and a cache of packed data that is nobody else's. Raises RunError where the data's folder
    holds what is not the task's.
    """
    data = here.folder(task.name)
    if data:
        own = Path(data).resolve()
        for what, place in _others(here, task):
            if place.resolve().is_relative_to(own) and place.resolve() != own:
                raise RunError(
                    f"{task.name} would see {what}: it lies in its own folder {data} (move one of them)"
                )
    digest = hashlib.sha256("\0".join([task.name, data]).encode()).hexdigest()
    cache = Path(here.cache).absolute() / f"own-{digest[:32]}"
    # Who has no data set is shown an empty folder: two mounts at one place would leave the cache read-only.
    empty = cache / "nothing"
    empty.mkdir(parents=True, exist_ok=True)
    return data or str(empty), str(cache)


def _others(here: Here, task: Enclosed) -> Iterator[tuple[str, Path]]:
    """What the task must not see."""
    yield "this run", task.plan.run.path
    yield "the cache of packed data", Path(here.cache)
    for name in {*task.plan.members, HOLDOUT} - {task.name}:
        said = task.plan.own_data(name)
        with contextlib.suppress(RunError):  # what cannot be spelt here cannot be told apart
            if said:
                yield f"the data of {name}", Path(shell.expand(said))


def _lay_out(task: Enclosed) -> None:
    shutil.rmtree(task.view, ignore_errors=True)  # of an attempt that was killed
    task.inside.path.mkdir(parents=True)
    plan = task.plan
    for path in dict.fromkeys(_public(task)):
        target = task.view / path.relative_to(plan.run.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _same(path, target)
    rankmap = plan.run.job(task.task.job).rankmap
    if rankmap.exists():
        _same(rankmap, RunDir(task.view).rankmap)
    if plan.rules.partition.file:
        shutil.copyfile(plan.institutions, RunDir(task.view).institutions)
    # A task that is done again finds what says that it is done, as a copy: it may write there.
    done = ANSWERS[task.part](task.outside, task.name)
    if done.is_file():
        copy = task.inside.path / done.relative_to(task.outside.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(done, copy)
    # Reasons of an attempt before.
    if task.part == "train":
        task.outside.failure(task.name).unlink(missing_ok=True)
    if task.part == "aggregate":
        task.outside.stopped.unlink(missing_ok=True)
        # These it is shown as they lie in the run.
        for folder in (task.outside.updates, task.outside.failures):
            folder.mkdir(parents=True, exist_ok=True)
            (task.inside.path / folder.name).mkdir()


def _same(path: Path, target: Path) -> None:
    """A second name of the file: the view is read-only. A copy where the file system has none."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(path, target)


def _public(task: Enclosed) -> Iterator[Path]:
    """The files of the run that the task may read. Raises RunError where its round cannot begin yet."""
    plan, number = task.plan, task.round
    yield plan.run.experiment
    if task.part == "begin":
        return
    base = rounds.base_of(plan, number + 1 if task.part == "evaluate" else number, None).where
    yield from (base.manifest, base.model)
    if task.part == "aggregate" or (task.part == "train" and keeps_control(plan)):
        yield from (path for path in [base.state] if path.exists())
    if task.part == "train" and keeps_control(plan) and (last := last_control(plan, number, task.name)):
        used, made = last
        yield from (plan.round(used).manifest, plan.round(made).control(task.name))
    if task.part == "aggregate" and plan.rules.stragglers.late == "next" and number > 1:
        yield from (base.update(name) for name in rounds.answered(plan, number - 1)[0])
        before = plan.round(number - 2)
        yield from (before.manifest, before.model)


def _made(task: Enclosed) -> Sequence[str]:
    """What the task may leave in its folder, in the order in which it is taken over."""
    where, name = task.outside, task.name
    paths = {
        "begin": (where.model, where.manifest),
        "train": (where.control(name), where.update(name), where.timing(name), where.failure(name)),
        "aggregate": (where.state, where.model, where.timing(name), where.stopped, where.manifest),
        "evaluate": (where.evaluation(name),),
    }[task.part]
    return [str(path.relative_to(where.path)) for path in paths]


def leave(here: Here) -> None:
    """Take over what the task has made, and do for the other jobs what a job that is not confined does itself."""
    task = enclosed(here)
    try:
        targets = {name: task.outside.path / name for name in _made(task)} | _bindings(task)
        refused = [why for name, target in targets.items() if (why := _take_over(task, name, target))]
    finally:
        shutil.rmtree(task.view, ignore_errors=True)
    if refused and task.part == "train":
        rounds.fail(task.plan, task.round, task.name, "; ".join(refused))
    AFTERWARDS[task.part](here, task.round)
    if refused:
        raise RunError(f"{task.name}: {'; '.join(refused)}")


def _bindings(task: Enclosed) -> dict[str, Path]:
    """What its ranks were given, as they have recorded it, and where that belongs."""
    view = RunDir(task.view)
    ranks = PlanFile(view.rankmap).size if view.rankmap.exists() else 0
    inside = view.round(task.round).bindings.name
    return {f"{inside}/{path.name}": path for path in map(task.task.binding, range(ranks))}


def _take_over(task: Enclosed, name: str, target: Path) -> str | None:
    """Move one file from the view to the run. Why it cannot be, or None, also where there is none."""
    source = Path(name)
    try:
        with _opened(task.inside.path) as top, _opened(source.parent, top) as folder:
            status = os.stat(source.name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return f"{name} is no regular file"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(source.name, target, src_dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{name} cannot be taken over: {error.strerror}"
    sync_directory(target.parent)
    return None


@contextlib.contextmanager
def _opened(folder: Path, within: int | None = None) -> Iterator[int]:
    """A folder that is no link, by its descriptor."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, flags, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _release_if_committed(here: Here, round: int) -> None:
    if rounds.manifest(here.plan, round) is not None:
        job.carry_on(here, round)


def _release_first(here: Here, _round: int) -> None:
    if rounds.manifest(here.plan, 0) is not None:
        job.release_first(here)


ANSWERS: Mapping[str, Callable[[RoundDir, str], Path]] = {
    "begin": lambda where, _name: where.manifest,
    "train": lambda where, name: where.update(name),
    "aggregate": lambda where, _name: where.manifest,
    "evaluate": lambda where, name: where.evaluation(name),
}
AFTERWARDS: Mapping[str, Callable[[Here, int], None]] = {
    "begin": _release_first,
    "train": job.end_if_complete,
    "aggregate": _release_if_committed,
    "evaluate": lambda _here, _round: None,
}
