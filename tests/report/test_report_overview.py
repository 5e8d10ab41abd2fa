"""Tasks as rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcflow.engines.status import State, TaskStatus
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.record import Record
from hpcflow.report import overview
from hpcflow.report.overview import Verdict
from hpcflow.report.progress import Progress
from hpcflow.report.tasks import bar, duration, table
from runs import job

RECORD = Record("9_0", 0, "n1", "n1", 42, 90.0, 100.0, 160.0, 0, None, None)


def status(name: str, task: int, state: State, reason: str = "", record: Record | None = None) -> TaskStatus:
    return TaskStatus(name, task, state, reason, f"9_{task}" if name == "sweep" else "8", record)


def sweep(*states: State) -> list[TaskStatus]:
    began = (State.RUNNING, State.DONE, State.FAILED)
    return [status("sweep", i, s, record=RECORD if s in began else None) for i, s in enumerate(states)]


GRAPH = JobGraph((job("prepare", "true"), job("sweep", "true", tasks=1000)))


def test_a_large_array_is_folded_by_state_in_the_order_of_states() -> None:
    states = [State.RUNNING] * 999 + [State.FAILED]
    rows = overview.rows(GRAPH, [*sweep(*states), status("prepare", 0, State.DONE, record=RECORD)])
    assert [(row.label, row.state, row.job_id) for row in rows] == [
        ("prepare", State.DONE, "8"),
        ("sweep [0-998] 999", State.RUNNING, "9"),
        ("sweep [999] 1", State.FAILED, "9"),
    ]


def test_a_small_array_is_shown_task_by_task_and_a_large_one_where_that_is_asked_for() -> None:
    few = sweep(State.DONE, State.PENDING)
    assert [row.label for row in overview.rows(GRAPH, few)] == ["sweep/0", "sweep/1"]
    many = sweep(*[State.DONE] * 1000)
    assert len(overview.rows(GRAPH, many, few=1000)) == 1000


def test_a_folded_row_has_the_commonest_reason_the_first_start_and_the_last_end() -> None:
    group = [
        replace(item, reason="exit code 1 on n1" if item.task % 3 else "ended by SIGSEGV", record=record)
        for item in sweep(*[State.FAILED] * 30)
        for record in [
            replace(RECORD, started=100.0 + item.task, ended=200.0 + item.task, host=f"n{item.task % 4}")
        ]
    ]
    (row,) = overview.rows(GRAPH, group)
    assert row.reason == "20 x exit code 1 on n1; 10 for other reasons"
    assert row.elapsed(1e9) == 129.0
    assert row.host == "n0 +3"


@pytest.mark.parametrize(
    ("state", "record", "elapsed"),
    [
        (State.PENDING, None, None),
        (State.PENDING, RECORD, None),  # of an attempt before it was requeued
        (State.RUNNING, replace(RECORD, ended=None, exit_code=None), 200.0),
        (State.RUNNING, RECORD, 200.0),
        (State.DONE, RECORD, 60.0),
        (State.UNKNOWN, replace(RECORD, ended=None, exit_code=None), None),
    ],
)
def test_elapsed(state: State, record: Record | None, elapsed: float | None) -> None:
    found = status("prepare", 0, state, record=record)
    (row,) = overview.rows(GRAPH, [found])
    assert row.elapsed(300.0) == elapsed
    assert overview.to_json(found, 300.0)["elapsed_s"] == elapsed


@pytest.mark.parametrize(
    ("states", "verdict", "failed"),
    [
        ((State.DONE, State.DONE), Verdict.DONE, False),
        ((State.DONE, State.RUNNING), Verdict.ACTIVE, False),
        ((State.FAILED, State.WAITING), Verdict.ACTIVE, True),
        ((State.DONE, State.CANCELLED), Verdict.FAILED, True),
        ((State.DONE, State.UNKNOWN), Verdict.FAILED, True),
        ((State.DONE, State.TIMEOUT), Verdict.FAILED, True),
    ],
)
def test_a_run_in_one_word(states: tuple[State, ...], verdict: Verdict, failed: bool) -> None:
    found = sweep(*states)
    assert overview.verdict(found) is verdict
    assert overview.failed(found) is failed


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((5,), "5"), ((0, 1), "0-1"), ((3, 1, 2, 7, 9, 8), "1-3,7-9"), (range(1000), "0-999")],
)
def test_task_numbers_are_folded_as_slurm_writes_them(numbers: range, text: str) -> None:
    assert overview.ranges(numbers) == text


def test_durations_and_bars() -> None:
    assert [duration(seconds) for seconds in (None, 0.4, 61, 360000)] == [
        "",
        "0:00:00",
        "0:01:01",
        "100:00:00",
    ]
    steps = [Progress(epoch, 4, None, None, None) for epoch in (0, 1, 4, 9)]
    assert [bar(step) for step in steps] == [
        "────────── 0/4",
        "━━──────── 1/4",
        "━━━━━━━━━━ 4/4",
        "━━━━━━━━━━ 9/4",
    ]
    assert bar(Progress(3, None, None, None, None)) == "3"


def test_the_table_of_a_running_training() -> None:
    rows = overview.rows(GRAPH, [status("prepare", 0, State.RUNNING, record=replace(RECORD, ended=None))])
    text = table(rows, 160.0, {("prepare", 0): Progress(1, 2, 123.456, 0.5, None)}).plain()
    assert text.splitlines() == [
        "TASK     STATE    JOB  HOST  ELAPSED  EPOCH           IMAGES/S  LOSS",
        "prepare  running  8    n1    0:01:00  ━━━━━───── 1/2     123.5   0.5",
    ]
