"""How long a run is observed: by what engines say, one query a tick."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpcflow.engines.local import LocalEngine
from hpcflow.engines.observe import observe
from hpcflow.engines.status import State, TaskStatus
from hpcflow.errors import SiteError
from hpcflow.jobs.rundir import RunDir
from runs import job, lay


@dataclass
class Script(LocalEngine):
    """An engine that says one thing after another, and the last one for ever: what a real one says by chance."""

    says: Sequence[State | SiteError]
    asked: list[float] = field(default_factory=list)

    def statuses(self, run: RunDir) -> list[TaskStatus]:
        self.asked.append(time.monotonic())
        saying = self.says[min(len(self.asked), len(self.says)) - 1]
        if isinstance(saying, SiteError):
            raise saying
        return [TaskStatus("one", 0, saying, "", "", None)]


BUSY = SiteError("squeue: Socket timed out", transient=True)
RUN = RunDir(Path("/nowhere/name/id"))


@pytest.mark.parametrize(
    ("says", "queries"),
    [
        ([State.DONE], 1),
        ([State.PENDING, State.RUNNING, State.RUNNING, State.FAILED], 4),
        ([State.RUNNING, BUSY, BUSY, State.DONE], 4),
        ([BUSY, State.CANCELLED], 2),
        ([State.UNKNOWN, State.UNKNOWN, State.DONE], 3),  # its record was not seen here at first
        ([State.UNKNOWN, BUSY, State.RUNNING, State.TIMEOUT], 4),
    ],
)
def test_it_ends_with_the_tick_in_which_nothing_can_change(
    says: list[State | SiteError], queries: int
) -> None:
    engine = Script(says)
    ticks = list(observe(RUN, engine, pause=lambda _: None))
    assert len(engine.asked) == len(ticks) == queries
    assert not ticks[-1].active and not ticks[-1].note
    assert [bool(tick.note) for tick in ticks] == [saying is BUSY for saying in says]


def test_what_stays_unknown_is_given_up_after_a_while() -> None:
    engine = Script([State.UNKNOWN])
    ticks = list(observe(RUN, engine, patience_s=1.0))
    assert len(ticks) > 2
    assert engine.asked[-1] - engine.asked[0] > 1.0


def test_while_the_scheduler_is_busy_the_last_answer_stands() -> None:
    first, second, *_ = observe(RUN, Script([State.RUNNING, BUSY, State.DONE]), pause=lambda _: None)
    assert second.statuses == first.statuses
    assert second.note == str(BUSY)


def test_any_other_error_of_the_scheduler_ends_it() -> None:
    with pytest.raises(SiteError, match="no squeue"):
        list(observe(RUN, Script([State.RUNNING, SiteError("no squeue")]), pause=lambda _: None))


def test_a_real_run_is_observed_from_its_start_to_its_end(tmp_path: Path) -> None:
    run = lay(tmp_path, [job("one", "sleep 1")])
    engine = LocalEngine()
    engine.submit(run, run.graph)
    states = [tick.statuses[0].state for tick in observe(run, engine)]
    assert states[-1] is State.DONE and State.RUNNING in states
