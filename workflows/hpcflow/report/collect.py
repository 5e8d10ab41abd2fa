"""Runs as a table: one row a task that trains, in every state, with what its files and the scheduler know of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcflow.engines.status import Seen, State, TaskStatus, settle
from hpcflow.errors import HpcflowError, InputError
from hpcflow.jobs import record
from hpcflow.jobs.rundir import RunDir, TaskDir
from hpcflow.jobs.trials import Trials
from hpcflow.report import accounting, cache, columns, experiment, row
from hpcflow.report.accounting import Usage
from hpcflow.report.cache import Kept, Memory, Stamp
from hpcflow.report.results import Results
from hpcflow.report.trial import Settings, Task, keys, tasks, trials

if TYPE_CHECKING:
    from hpcflow.report.federated import Federations
    from hpcflow.report.study import Question

SETTLES_S = 600.0
"""For so long after a task's end accounting may still hear of it: until then a row without its word is not kept."""

SHARE = 1000
"""Rows for which a process of its own is worth its start (some 20 ms)."""

_SOME = TaskDir(Path(), Path(), "", 0)
_NAMES = (_SOME.record.name, _SOME.metrics.name)  # joining paths takes longer than stat
_log = logging.getLogger("hpcflow")
_Wanted = tuple[Task, TaskStatus, Usage, Sequence[Stamp]]
_taken: list[tuple[Reader, Sequence[_Wanted]]] = []


def table(runs: Sequence[RunDir], statuses: Mapping[RunDir, Sequence[TaskStatus]] | None = None) -> Results:
    """One row a task that trains, with the columns of `columns.FIELDS`.

    ``statuses`` are those already at hand. The engine of another run is asked once, if anything of the run changed
    since it was read before. Raises RunError for what is no run.
    """
    readers = [Reader(run, (statuses or {}).get(run)) for run in runs]
    overridden = tuple(dict.fromkeys(key for reader in readers for key in reader.overridden))
    rows = [made for reader in readers for made in reader.rows(overridden)]
    return Results(tuple(columns.names(overridden)), rows)


def question(
    runs: Sequence[RunDir], baseline: Sequence[str], over: str | None, efficiency: float, deadline: str | None
) -> Question:
    """What is asked of the runs, with what they themselves say of it. Raises InputError for a deadline that is none."""
    from hpcflow.experiment.fields import seconds
    from hpcflow.report.study import Question

    limit: float | None = None
    if deadline is not None:
        try:
            limit = seconds(deadline)
        except ValueError:
            limit = None
        if not limit:
            raise InputError(f"--deadline {deadline}: expected a time as Slurm writes it (as in 02:30:00)")
    weak = any(found.scaling == "weak" for run in runs if (found := trials.read(run)))
    prices = [row.load_object(run.provenance).get("prices") for run in runs]
    currencies = {str(price.get("currency", "")) for price in prices if isinstance(price, Mapping)}
    currency = currencies.pop() if len(currencies) == 1 else ""
    return Question(tuple(baseline), over, efficiency, limit, weak, currency)


def asked_of(run: RunDir) -> Sequence[TaskStatus] | None:
    """The run's tasks as its engine says; None where that does not answer."""
    from hpcflow.engines import engine

    try:
        return engine(run.engine).statuses(run)
    except HpcflowError as error:
        _log.warning("%s: states are those of the records alone: %s", run.name, error)
        return None


def by_record(task: Task) -> TaskStatus:
    """A task as its record alone tells."""
    found = record.read(task.dir.record)
    state, reason = settle(Seen(None), found)
    return TaskStatus(task.dir.job, task.dir.index, state, reason, found.job_id if found else "", found)


@dataclass
class Files:
    """What several rows share, read once: rank maps, provenances, experiments."""

    read: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    places: dict[str, row.Places] = field(default_factory=dict)
    settings: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)

    def object(self, path: Any) -> Mapping[str, Any]:
        """The JSON object in a file."""
        name = str(path)
        if name not in self.read:
            self.read[name] = row.load_object(path)
        return self.read[name]

    def places_of(self, task: Task) -> row.Places:
        """The ranks of a task's job."""
        name = str(task.where.path)
        if name not in self.places:
            rankmap = self.object(task.where.rankmap)
            self.places[name] = row.places_of(rankmap, task.plan, self.object(task.run.provenance))
        return self.places[name]

    def experiment(self, task: Task) -> Mapping[str, Any]:
        """A task's resolved experiment; those of a plain array are the same text, parsed once."""
        try:
            text = task.dir.experiment.read_bytes()
        except OSError:
            text = b""
        if text not in self.settings:
            if len(self.settings) > 64:
                self.settings.clear()
            self.settings[text] = experiment.parse(text)
        return self.settings[text]


class Reader:
    """One run: what was kept of it, what of that still holds, and the rest read anew."""

    def __init__(self, run: RunDir, statuses: Sequence[TaskStatus] | None = None) -> None:
        self._run, self._statuses, self._files = run, statuses, Files()
        self._federations: dict[RunDir, Federations] = {}
        self._engine = run.engine  # raises RunError for what is no run
        self._memory = cache.load(run)
        self._whole = statuses is None and self._memory.complete and self._unchanged()

    @cached_property
    def _trials(self) -> Trials | None:
        return trials.read(self._run)

    @cached_property
    def overridden(self) -> tuple[str, ...]:
        """The dotted keys that were overridden, by --set or by the sweep."""
        if self._whole:
            return tuple(self._memory.overridden)
        said = self._files.object(self._run.provenance).get("overridden")
        texts = map(str, said) if isinstance(said, list) else ()
        # What `--set` says of the sweep itself is in no trial's experiment.
        given = (key for key in texts if key.partition(".")[0] != "sweep")
        return tuple(dict.fromkeys([*given, *keys(self._trials)]))

    def _unchanged(self) -> bool:
        """Whether nothing has changed since it was kept; without looking at what the run consists of."""
        memory = self._memory
        return [cache.stamp(path) for path in memory.files] == memory.stamps and all(
            _task_stamps(kept.folder, kept.experiment) == kept.stamps for kept in memory.rows.values()
        )

    def rows(self, overridden: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """The rows of the run, in the order of its trials and its graph."""
        others = [key for key in overridden if key not in self.overridden]
        if self._whole and not others:
            for found in self._memory.rows.values():
                for complaint in found.complaints:
                    _log.warning("%s", complaint)
                yield found.row
            return
        everything = list(tasks(self._run, self._trials))
        kept = self._kept(everything)
        for task, found in zip(everything, kept, strict=True):
            for complaint in found.complaints:
                _log.warning("%s", complaint)
            made = dict(found.row)
            if others:
                settings = self._settings(task)
                made |= {key: row.cell(settings.value(key)) for key in others}
            yield made

    def _kept(self, everything: Sequence[Task]) -> list[Kept]:
        now = time.time()
        files = self._shared(everything)
        whole, mine = (
            [cache.stamp(path) for path in files],
            [_task_stamps(str(task.dir.path), str(task.dir.experiment)) for task in everything],
        )
        memory = self._memory
        held = memory.rows if (memory.files, memory.stamps) == (files, whole) else {}
        known = [
            found if found is not None and found.stamps == stamps else None
            for found, stamps in zip((held.get(task.key) for task in everything), mine, strict=True)
        ]
        if all(known) and (self._statuses is None):
            return [found for found in known if found]
        statuses = asked_of(self._run) if self._statuses is None else self._statuses
        by_task = {(status.job, status.task): status for status in statuses or ()}
        settled = [
            by_record(task) if task.reused else by_task.get((task.dir.job, task.dir.index)) or by_record(task)
            for task in everything
        ]
        known = [
            found if found and _same(found.row, status) else None
            for found, status in zip(known, settled, strict=True)
        ]
        asked = [status.job_id for status, found in zip(settled, known, strict=True) if found is None]
        usage = accounting.ask(asked) if self._engine == "slurm" else {}
        wanted = [
            (task, status, usage.get(status.job_id, Usage()), stamps)
            for task, status, found, stamps in zip(everything, settled, known, mine, strict=True)
            if found is None
        ]
        new = iter(self._read_all(wanted))
        result = [found or next(new) for found in known]
        if statuses is not None and not cache.fresh(whole, now):
            fixed = {
                task.key: found
                for task, status, found, before in zip(everything, settled, result, known, strict=True)
                if before or self._settled(status, found, usage, now)
            }
            if fixed != held:
                complete = len(fixed) == len(everything)
                cache.save(self._run, Memory(files, whole, self.overridden, complete, fixed))
        return result

    def _read_all(self, wanted: Sequence[_Wanted]) -> list[Kept]:
        """The rows of these tasks; of many, each core reads a share. The processes are forked, so that nothing but the
        rows goes between them.
        """
        shares = min(len(os.sched_getaffinity(0)), len(wanted) // SHARE)
        if shares < 2:
            return [self._read(*one) for one in wanted]
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        cuts = [len(wanted) * share // shares for share in range(shares + 1)]
        with ProcessPoolExecutor(shares, get_context("fork"), _take, (self, wanted)) as pool:
            return [kept for share in pool.map(_read_share, cuts, cuts[1:]) for kept in share]

    def _read(self, task: Task, status: TaskStatus, usage: Usage, stamps: Sequence[Stamp]) -> Kept:
        complaints: list[str] = []
        made = row.make(
            task, status, self._settings(task), self._common, self._files.places_of(task),
            self._files.object(task.run.provenance), usage, self.overridden, complaints.append,
            self._federated(task),
        )  # fmt: skip
        return Kept(str(task.dir.path), str(task.dir.experiment), stamps, made, complaints)

    def _settings(self, task: Task) -> Settings:
        return Settings(task, self._trials, lambda: self._experiment, lambda: self._files.experiment(task))

    def _federated(self, task: Task) -> Mapping[str, Any] | None:
        if not self._experiment.get("federation"):
            return None
        run = task.run
        if run not in self._federations:
            from hpcflow.report.federated import Federations

            self._federations[run] = Federations(run)
        return self._federations[run].tell(task.dir.job, task.dir.index)

    @cached_property
    def _experiment(self) -> Mapping[str, Any]:
        return experiment.read(self._run.experiment)

    @cached_property
    def _common(self) -> str:
        return row.shared(self._experiment, self._trials.keys if self._trials else ())

    def _settled(self, status: TaskStatus, found: Kept, usage: Mapping[str, Usage], now: float) -> bool:
        """Whether the row can only change with the files it was made of."""
        if found.row.get("round") is not None and not found.row.get("trial"):
            return False  # whether an update was used, its round tells, which may end long after the task
        if status.state.active or status.state is State.UNKNOWN or cache.fresh(found.stamps, now):
            return False
        if self._engine != "slurm" or status.job_id in usage or status.record is None:
            return True
        return now - (status.record.ended or status.record.started) > SETTLES_S

    def _shared(self, everything: Sequence[Task]) -> list[str]:
        """What all rows hang on: the plan, the handles of the scheduler, the rank maps."""
        run = self._run
        files = [run.graph_file, run.provenance, run.experiment, run.trials, run.local_state]
        jobs = {str(task.where.path): task.where for task in everything} | {
            str(where.path): where for where in run
        }
        return [
            str(path) for path in (*files, *(f for job in jobs.values() for f in (job.queued, job.rankmap)))
        ]


def _take(reader: Reader, wanted: Sequence[_Wanted]) -> None:
    """In a process that reads a share: what there is to read."""
    _taken.append((reader, wanted))


def _read_share(start: int, end: int) -> list[Kept]:
    reader, wanted = _taken[-1]
    return [reader._read(*one) for one in wanted[start:end]]


def _task_stamps(folder: str, experiment: str) -> list[Stamp]:
    return [*(cache.stamp(f"{folder}/{name}") for name in _NAMES), cache.stamp(experiment)]


def _same(made: Mapping[str, Any], status: TaskStatus) -> bool:
    return (made["state"], made["reason"], made["job_id"]) == (
        str(status.state),
        status.reason,
        status.job_id,
    )
