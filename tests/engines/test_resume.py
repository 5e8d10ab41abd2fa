"""Queueing again what has not ended well, on both engines, with real processes and a real Slurm."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from cluster import Cluster
from commands import hpcflow
from engines.runs import lay, shell, states, until
from hpcflow.engines import notes
from hpcflow.engines.base import Engine
from hpcflow.engines.call import call
from hpcflow.engines.commands import NODE_FAILED
from hpcflow.engines.local import LocalEngine, read_state
from hpcflow.engines.slurm import SlurmEngine, lost_nodes
from hpcflow.engines.status import State, TaskStatus
from hpcflow.errors import SiteError
from hpcflow.jobs import record
from hpcflow.jobs.job import After, Job
from hpcflow.jobs.record import Record
from hpcflow.jobs.rundir import RunDir

# Fails until somebody mends it; says each time that it ran.
MENDED = 'echo ran; echo "$HPCFLOW_TASK" >>"$HPCFLOW_RUN/ran"; [ -e "$HPCFLOW_RUN/mended" ] || [ "$HPCFLOW_TASK" != 1 ]'


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    if request.param == "local":
        return LocalEngine()
    cluster: Cluster = request.getfixturevalue("cluster")
    cluster.cancel_all()
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    return SlurmEngine(max_array_size=2)  # so that tasks lie in several pieces


def graph() -> tuple[Job, ...]:
    return (
        shell("first", "true"),
        shell("t", MENDED, 4, [After("first")]),
        shell("last", "true", None, [After("t")]),
    )


def ran(run: RunDir) -> list[str]:
    return sorted((run.path / "ran").read_text().split())


def test_only_what_failed_runs_again_and_then_what_needed_it(engine: Engine, tmp_path: Path) -> None:
    layout = lay(tmp_path, *graph(), engine=engine.name)
    run = layout.run
    engine.submit(run, layout.graph)
    until(engine, run)
    assert states(engine, run) == {
        "first/0": "done", "t/0": "done", "t/1": "failed", "t/2": "done", "t/3": "done", "last/0": "cancelled",
    }  # fmt: skip
    (run.path / "mended").touch()
    assert engine.resume(run) == 2
    assert {status.state for status in until(engine, run)} == {State.DONE}
    assert ran(run) == ["0", "1", "1", "2", "3"]
    # What the first attempt left is kept.
    task = run.task("t", 1)
    assert task.log.read_text() == "ran\nran\n"
    old, new = record.read(task.record_of(0)), record.read(task.record)
    assert old is not None
    assert new is not None
    assert (old.attempt, old.exit_code, new.attempt, new.exit_code) == (0, 1, 1, 0)
    assert engine.resume(run) == 0


def test_what_is_under_way_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    layout = lay(tmp_path, shell("t", 'echo >>"$HPCFLOW_RUN/ran"; sleep 3'), engine=engine.name)
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: found[0].record is not None)
    assert engine.resume(layout.run) == 0
    until(engine, layout.run)
    assert (layout.run.path / "ran").read_text() == "\n"


def test_what_was_cancelled_goes_on_and_ends_in_the_same_bytes(engine: Engine, tmp_path: Path) -> None:
    script = 'for i in 1 2 3 4 5 6; do [ -e "$HPCFLOW_TASK_DIR/$i" ] || echo $i >"$HPCFLOW_TASK_DIR/$i"; sleep 0.3; done'
    layout = lay(tmp_path, shell("t", script, 2), engine=engine.name)
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: all(status.record is not None for status in found))
    engine.cancel(layout.run)
    until(engine, layout.run, lambda found: all(status.record and status.record.ended for status in found))
    until(engine, layout.run)
    assert engine.resume(layout.run) == 2
    assert {status.state for status in until(engine, layout.run)} == {State.DONE}
    for task in layout.run.job("t"):
        assert [(task.path / str(i)).read_text() for i in range(1, 7)] == [f"{i}\n" for i in range(1, 7)]


def test_the_command(tmp_path: Path) -> None:
    layout = lay(tmp_path, *graph(), engine="local")
    LocalEngine().submit(layout.run, layout.graph)
    until(LocalEngine(), layout.run)
    (layout.run.path / "mended").touch()
    done = hpcflow("resume", layout.run.path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["queued"] == 2
    until(LocalEngine(), layout.run)
    again = hpcflow("resume", layout.run.path)
    assert (again.returncode, again.stdout) == (0, "test/1: nothing to queue again (6 done)\n")
    assert hpcflow("resume", "nowhere").returncode == 2


def test_tasks_that_outlive_their_runner_are_waited_for_not_run_twice(tmp_path: Path) -> None:
    engine = LocalEngine(max_jobs=2)
    layout = lay(
        tmp_path,
        shell("long", 'echo >>"$HPCFLOW_RUN/ran"; sleep 2'),
        shell("next", "true", None, [After("long")]),
        engine="local",
    )
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: found[0].record is not None)
    state = read_state(layout.run)
    assert state is not None
    os.kill(state["runner"]["pid"], signal.SIGKILL)
    until(engine, layout.run, lambda found: found[1].state is State.CANCELLED, 10)
    assert LocalEngine().resume(layout.run) == 1
    assert {status.state for status in until(LocalEngine(), layout.run)} == {State.DONE}
    assert (layout.run.path / "ran").read_text() == "\n"
    after = read_state(layout.run)
    assert after is not None
    assert after["max_jobs"] == 2


@pytest.fixture
def slurm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> SlurmEngine:
    cluster.cancel_all()
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    return SlurmEngine()


@pytest.mark.slurm
def test_killed_after_sbatch_took_a_job_and_before_it_was_written_down(
    slurm: SlurmEngine, tmp_path: Path
) -> None:
    layout = lay(tmp_path, shell("t", 'echo >>"$HPCFLOW_RUN/ran"; sleep 1', 2))
    slurm.submit(layout.run, layout.graph)
    until(slurm, layout.run, lambda found: all(status.record is not None for status in found))
    layout.run.job("t").queued.unlink()  # as if the process had died before it wrote this
    assert set(states(slurm, layout.run).values()) == {"cancelled"}
    assert slurm.resume(layout.run) == 2
    assert {status.state for status in until(slurm, layout.run)} == {State.DONE}
    attempts = [found.attempt for task in layout.run.job("t") if (found := record.read(task.record))]
    assert attempts == [1, 1]


@pytest.mark.slurm
def test_a_node_that_failed_is_left_out(slurm: SlurmEngine, tmp_path: Path) -> None:
    layout = lay(tmp_path, shell("t", "exit 1", 2, flags=[("exclude", "n1")]))
    slurm.submit(layout.run, layout.graph)
    until(slurm, layout.run)
    # Of a task on several nodes it is not known which of them failed.
    lost = [
        TaskStatus(
            "t", task, State.FAILED, NODE_FAILED, f"1_{task}", Record(f"1_{task}", 0, host, nodes, 1, *ended)
        )
        for task, host, nodes in ((0, "n2", "n2"), (1, "n3", "n[3-4]"))
        for ended in [(None, 1.0, None, None, None, None)]
    ]
    assert lost_nodes(lost) == ("n2",)
    from hpcflow.engines.slurm_queue import Queue

    Queue(layout.run, layout.graph, notes.read(layout.run), lost, lost_nodes(lost)).put({"t": [0, 1]})
    last = slurm.chunks(layout.run.job("t"))[-1]
    shown = call(["scontrol", "show", "job", f"{last.job_id}_0"])
    assert "ExcNodeList=n[1-2]" in shown
    until(slurm, layout.run)
    assert {found.host for task in layout.run.job("t") if (found := record.read(task.record))} <= {"n3", "n4"}


def test_two_that_queue_at_once_do_not_queue_twice(tmp_path: Path) -> None:
    run = lay(tmp_path, shell("t", "true")).run
    with (
        notes.claimed(run),
        pytest.raises(SiteError, match="another process is queueing") as caught,
        notes.claimed(run),
    ):
        pass
    assert caught.value.transient
    with notes.claimed(run):  # released
        pass
    run.queue_claim.touch()
    old = time.time() - notes.CLAIM_S - 1
    os.utime(run.queue_claim, (old, old))  # of a process that was killed
    with notes.claimed(run):
        pass
    assert not run.queue_claim.exists()
