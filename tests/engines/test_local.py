"""The local engine, with real scripts and real processes."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from engines.runs import HOSTILE, lay, shell, states, until
from hpcflow.engines.local import LocalEngine, Process, read_state, runs
from hpcflow.engines.status import State
from hpcflow.jobs import record
from hpcflow.jobs.job import After
from runs import wait_until


@pytest.fixture
def engine() -> LocalEngine:
    return LocalEngine()


def test_order_and_records_in_a_hostile_folder(tmp_path: Path, engine: LocalEngine) -> None:
    log = 'echo "$HPCFLOW_JOB/$HPCFLOW_TASK" >>"$HPCFLOW_RUN/order"'
    layout = lay(
        tmp_path / HOSTILE,
        shell("first", f"sleep 0.3; {log}"),
        shell("second", log, 3, [After("first")]),
        shell("third", f"{log}; echo to the log", None, [After("second")]),
        engine="local",
    )
    engine.submit(layout.run, layout.graph)
    found = until(engine, layout.run)
    assert {status.state for status in found} == {State.DONE}
    order = (layout.run.path / "order").read_text().split()
    assert order[0] == "first/0"
    assert sorted(order[1:4]) == ["second/0", "second/1", "second/2"]
    assert order[4] == "third/0"
    assert layout.run.task("third", 0).log.read_text() == "to the log\n"
    first = record.read(layout.run.task("first", 0).record)
    assert first is not None
    assert first.succeeded
    assert first.ended is not None
    assert 0.3 < first.ended - first.started < 30
    assert not list(tmp_path.rglob("hacked"))


def test_a_failure_stops_what_needs_it_and_nothing_else(tmp_path: Path, engine: LocalEngine) -> None:
    layout = lay(
        tmp_path,
        shell("bad", "exit 7"),
        shell("needs", "true", None, [After("bad")]),
        shell("whatever", "true", None, [After("bad", "any")]),
        shell("tasks", '[ "$HPCFLOW_TASK" != 1 ]', 3),
        shell("each", "true", 3, [After("tasks", "task")]),
        engine="local",
    )
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run)
    assert states(engine, layout.run) == {
        "bad/0": "failed", "needs/0": "cancelled", "whatever/0": "done",
        "tasks/0": "done", "tasks/1": "failed", "tasks/2": "done",
        "each/0": "done", "each/1": "cancelled", "each/2": "done",
    }  # fmt: skip
    bad = next(status for status in engine.statuses(layout.run) if status.job == "bad")
    assert bad.record is not None
    assert bad.record.exit_code == 7
    assert "exit code 7" in bad.reason


def test_no_more_at_once_than_allowed(tmp_path: Path) -> None:
    layout = lay(
        tmp_path,
        shell("t", 'echo + >>"$HPCFLOW_RUN/n"; sleep 0.3; echo - >>"$HPCFLOW_RUN/n"', 4),
        engine="local",
    )
    LocalEngine(max_jobs=1).submit(layout.run, layout.graph)
    until(LocalEngine(), layout.run)
    assert (layout.run.path / "n").read_text().split() == ["+", "-"] * 4


def test_cancel_ends_the_processes_and_is_recorded(tmp_path: Path, engine: LocalEngine) -> None:
    layout = lay(
        tmp_path, shell("long", "sleep 600"), shell("next", "true", None, [After("long")]), engine="local"
    )
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: found[0].record is not None)
    assert engine.cancel(layout.run) == 2
    until(engine, layout.run, seconds=20)
    assert states(engine, layout.run) == {"long/0": "cancelled", "next/0": "cancelled"}
    found = record.read(layout.run.task("long", 0).record)
    assert found is not None
    assert (found.signal, found.exit_code) == ("TERM", 143)
    assert Process.here(found.pid) is None


def test_the_runner_killed_is_seen_and_its_task_can_still_be_cancelled(
    tmp_path: Path, engine: LocalEngine
) -> None:
    layout = lay(
        tmp_path, shell("long", "sleep 600"), shell("next", "true", None, [After("long")]), engine="local"
    )
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: found[0].record is not None)
    state = read_state(layout.run)
    assert state is not None
    os.kill(state["runner"]["pid"], signal.SIGKILL)
    until(engine, layout.run, lambda found: found[1].state is State.CANCELLED, 10)
    assert states(engine, layout.run) == {"long/0": "running", "next/0": "cancelled"}
    engine.cancel(layout.run)
    until(engine, layout.run, seconds=20)
    assert states(engine, layout.run)["long/0"] == "cancelled"


def test_a_later_process_of_the_same_number_is_not_taken_for_the_task(
    tmp_path: Path, engine: LocalEngine
) -> None:
    layout = lay(tmp_path, shell("long", "sleep 600"), engine="local")
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: found[0].record is not None)
    state, path = read_state(layout.run), layout.run.task("long", 0).record
    found = record.read(path)
    assert state is not None and found is not None and runs(found)
    os.kill(state["runner"]["pid"], signal.SIGKILL)
    os.killpg(found.pid, signal.SIGKILL)
    wait_until(lambda: not Process(**state["runner"]).alive)
    # The system was started anew, say, and has given the number to somebody else since.
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        about = json.loads(path.read_text())
        path.write_text(json.dumps({**about, "pid": other.pid, "started": about["started"] - 3600}))
        (status,) = engine.statuses(layout.run)
        assert status.state is State.FAILED
        assert engine.cancel(layout.run) == 0
        assert other.poll() is None
        other.kill()


def test_a_script_killed_hard_is_never_done(tmp_path: Path, engine: LocalEngine) -> None:
    layout = lay(tmp_path, shell("long", "sleep 600"), engine="local")
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: found[0].record is not None)
    found = record.read(layout.run.task("long", 0).record)
    assert found is not None
    os.killpg(found.pid, signal.SIGKILL)
    (status,) = until(engine, layout.run, seconds=20)
    assert (status.state, status.reason) == (State.FAILED, "killed by signal 9")


def test_it_leaves_the_terminal_alone(tmp_path: Path, engine: LocalEngine) -> None:
    layout = lay(tmp_path, shell("tty", "sleep 0.2; ! : </dev/tty && [ ! -t 0 ]"), engine="local")
    engine.submit(layout.run, layout.graph)
    (status,) = until(engine, layout.run)
    assert status.state is State.DONE
