"""The Slurm engine against a real slurmctld and real slurmd."""

import os
import signal
import time
from pathlib import Path

import pytest

from cluster import Cluster
from engines.runs import HOSTILE, lay, shell, states, until
from hpcflow.engines.sbatch import ScriptJob
from hpcflow.engines.slurm import SlurmEngine
from hpcflow.engines.status import State
from hpcflow.errors import SiteError
from hpcflow.jobs import record
from hpcflow.jobs.job import After, Allocation, Job

pytestmark = pytest.mark.slurm


@pytest.fixture
def engine(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> SlurmEngine:
    cluster.cancel_all()
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    return SlurmEngine()


def queue(cluster: Cluster) -> list[str]:
    return cluster.run("squeue", "--me", "--noheader", "--format=%j %T").stdout.split("\n")[:-1]


def test_a_graph_runs_in_order_from_a_hostile_folder(engine: SlurmEngine, tmp_path: Path) -> None:
    log = 'echo "$HPCFLOW_JOB/$HPCFLOW_TASK" >>"$HPCFLOW_RUN/order"'
    layout = lay(
        tmp_path / HOSTILE,
        shell("first", f"sleep 0.3; {log}; echo to the log"),
        shell("second", log, 2, [After("first")]),
        shell("third", log, 2, [After("second", "task")]),
    )
    engine.preflight(layout.scripts)
    engine.submit(layout.run, layout.graph)
    assert {status.state for status in until(engine, layout.run)} == {State.DONE}
    order = (layout.run.path / "order").read_text().split()
    assert order[0] == "first/0"
    assert all(order.index(f"second/{i}") < order.index(f"third/{i}") for i in range(2))
    assert layout.run.task("first", 0).log.read_text() == "to the log\n"
    assert not list(tmp_path.rglob("hacked"))
    found = record.read(layout.run.task("second", 1).record)
    assert found is not None
    assert found.queued is not None
    assert found.host.startswith("n")
    assert found.queued <= found.started


def test_the_queued_script_is_the_rendered_one(engine: SlurmEngine, cluster: Cluster, tmp_path: Path) -> None:
    layout = lay(tmp_path, shell("held", "true", flags=[("hold", None)]))
    engine.submit(layout.run, layout.graph)
    (chunk,) = engine.chunks(layout.run.job("held"))
    written = cluster.run("scontrol", "write", "batch_script", chunk.job_id, "-").stdout
    assert written.rstrip("\n") == layout.scripts["held"].rstrip("\n")
    handle: ScriptJob = ScriptJob(tmp_path, chunk.job_id)
    assert handle.state == "PENDING"
    handle.cancel()
    assert states(engine, layout.run) == {"held/0": "cancelled"}


def test_variables_of_the_callers_shell_do_not_reach_sbatch(
    engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "nonsense")
    monkeypatch.setenv("SLURM_CPU_BIND", "map_cpu:0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    monkeypatch.setenv("KEPT", "yes")
    layout = lay(tmp_path, shell("env", 'env | grep -cE "^(SLURM_CPU_BIND|OMPI_|SBATCH_)"; echo "$KEPT"'))
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run)
    assert layout.run.task("env", 0).log.read_text() == "0\nyes\n"


def test_a_failure_cancels_what_needs_it(engine: SlurmEngine, tmp_path: Path) -> None:
    layout = lay(
        tmp_path,
        shell("bad", "exit 7"),
        shell("needs", "true", None, [After("bad")]),
        shell("whatever", "true", None, [After("bad", "any")]),
    )
    engine.submit(layout.run, layout.graph)
    found = {status.job: status for status in until(engine, layout.run)}
    assert {job: str(status.state) for job, status in found.items()} == {
        "bad": "failed", "needs": "cancelled", "whatever": "done",
    }  # fmt: skip
    assert found["bad"].record is not None
    assert found["bad"].record.exit_code == 7


def test_cancel_is_recorded_by_the_script(engine: SlurmEngine, cluster: Cluster, tmp_path: Path) -> None:
    layout = lay(tmp_path, shell("long", "sleep 600"), shell("next", "true", None, [After("long")]))
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run, lambda found: found[0].record is not None)
    assert engine.cancel(layout.run) == 2
    until(engine, layout.run, lambda found: found[0].record is not None and found[0].record.ended is not None)
    assert states(engine, layout.run) == {"long/0": "cancelled", "next/0": "cancelled"}
    found = record.read(layout.run.task("long", 0).record)
    assert found is not None
    assert found.signal == "TERM"
    assert queue(cluster) == []


def test_a_job_that_left_the_queue_without_a_record_is_not_done(
    engine: SlurmEngine, cluster: Cluster, tmp_path: Path
) -> None:
    layout = lay(tmp_path, shell("long", "sleep 600"))
    engine.submit(layout.run, layout.graph)
    (status,) = until(engine, layout.run, lambda found: found[0].record is not None)
    assert status.record is not None
    os.kill(status.record.pid, signal.SIGKILL)
    (status,) = until(engine, layout.run)
    assert status.state is State.FAILED
    assert status.record is not None
    assert status.record.ended is None


def test_what_can_never_start_is_refused_with_slurms_reason_and_nothing_is_queued(
    engine: SlurmEngine, cluster: Cluster, tmp_path: Path
) -> None:
    scripts = lay(tmp_path, Job("big", Allocation(nodes=99), ("true",))).scripts
    with pytest.raises(
        SiteError, match=r"Slurm would refuse the job big: .*(nodes|node).*nothing was queued"
    ):
        engine.preflight(scripts)
    assert queue(cluster) == []


def test_a_refusal_half_way_leaves_nothing_queued(
    engine: SlurmEngine, cluster: Cluster, tmp_path: Path
) -> None:
    layout = lay(
        tmp_path, shell("a", "sleep 60"), shell("b", "true", None, [After("a")], flags=[("partition", "no")])
    )
    with pytest.raises(SiteError, match=r"invalid partition specified: no.*was cancelled"):
        engine.submit(layout.run, layout.graph)
    assert [row for row in queue(cluster) if "COMPLETING" not in row] == []


def test_arrays_beyond_max_array_size(cluster: Cluster, engine: SlurmEngine, tmp_path: Path) -> None:
    small = SlurmEngine(max_array_size=4)
    layout = lay(tmp_path, shell("t", 'echo "$HPCFLOW_TASK" >"$HPCFLOW_TASK_DIR/n"', 10))
    small.submit(layout.run, layout.graph)
    assert [(chunk.offset, chunk.count) for chunk in engine.chunks(layout.run.job("t"))] == [
        (0, 4),
        (4, 4),
        (8, 2),
    ]
    assert {status.state for status in until(engine, layout.run)} == {State.DONE}
    written = [(task.path / "n").read_text().strip() for task in layout.run.job("t")]
    assert written == [str(index) for index in range(10)]


def test_2500_tasks_under_a_default_max_array_size(
    cluster: Cluster, engine: SlurmEngine, tmp_path: Path
) -> None:
    layout = lay(tmp_path, shell("t", "true", 2500, flags=[("hold", None)]))
    engine.submit(layout.run, layout.graph)
    found = engine.statuses(layout.run)
    assert len(found) == 2500
    assert {status.state for status in found} == {State.PENDING}
    assert engine.cancel(layout.run) == 2500
    assert set(states(engine, layout.run).values()) == {"cancelled"}


def test_a_time_limit_is_told(engine: SlurmEngine, cluster: Cluster, tmp_path: Path) -> None:
    layout = lay(tmp_path, shell("long", "sleep 600"))
    engine.submit(layout.run, layout.graph)
    (status,) = until(engine, layout.run, lambda found: found[0].record is not None)
    # The warning that `--signal=B:TERM@60` asks for, without the minutes until it comes.
    cluster.run("scancel", "--batch", "--signal=TERM", status.job_id)
    (status,) = until(engine, layout.run)
    assert status.record is not None
    assert (status.record.signal, status.record.exit_code) == ("TERM", 143)
    assert status.state in (State.CANCELLED, State.FAILED)


def test_no_slurm_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SiteError, match="there is no `sbatch` here"):
        SlurmEngine().preflight({"x": "#!/bin/bash\n"})


def test_states_come_from_accounting_once_slurmctld_has_forgotten(
    accounting_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", accounting_cluster.env["SLURM_CONF"])
    layout = lay(tmp_path, shell("long", "sleep 600"))
    knowing, ignorant = SlurmEngine(accounting=True), SlurmEngine()
    knowing.submit(layout.run, layout.graph)
    (status,) = until(knowing, layout.run, lambda found: found[0].record is not None)
    assert status.record is not None
    os.kill(status.record.pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while accounting_cluster.run("squeue", "--me", "--noheader", "--states=all").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert states(ignorant, layout.run) == {"long/0": "unknown"}
    assert states(knowing, layout.run) == {"long/0": "failed"}


def test_where_accounting_was_expected_and_does_not_answer_the_records_are_all_there_is(
    engine: SlurmEngine, tmp_path: Path
) -> None:
    layout = lay(tmp_path, shell("gone", "true"))
    layout.run.job("gone").queued.write_text('{"chunks": [{"job_id": "999999", "offset": 0, "count": null}]}')
    (status,) = SlurmEngine(accounting=True).statuses(layout.run)
    assert status.state is State.UNKNOWN  # cancelled by hand, or not to be started: nobody knows
    assert status.reason.startswith("left the queue without a record")
    layout = lay(tmp_path / "needs", shell("bad", "true"), shell("gone", "true", None, [After("bad")]))
    for name in ("bad", "gone"):
        layout.run.job(name).queued.write_text(
            '{"chunks": [{"job_id": "999999", "offset": 0, "count": null}]}'
        )
    status = SlurmEngine(accounting=True).statuses(layout.run)[1]
    assert (status.state, status.reason) == (State.CANCELLED, "left the queue before it began; it needs bad")
    layout.run.job("bad").cancelled.touch()
    status = SlurmEngine(accounting=True).statuses(layout.run)[0]
    assert (status.state, status.reason) == (State.CANCELLED, "cancelled before it began")


@pytest.mark.parametrize(
    "text", ["it's", 'say "x" twice ""', "$(id) `id` ; # no comment", "a\\b \\\\ c", "100% %j & |"]
)
def test_directives_reach_slurm_as_they_were_meant(
    text: str, engine: SlurmEngine, cluster: Cluster, tmp_path: Path
) -> None:
    layout = lay(tmp_path, shell("held", "true", flags=[("hold", None), ("comment", text)]))
    engine.submit(layout.run, layout.graph)
    (chunk,) = engine.chunks(layout.run.job("held"))
    shown = cluster.run("scontrol", "show", "job", chunk.job_id).stdout
    engine.cancel(layout.run)
    assert f"Comment={text} \n" in shown or f"Comment={text}\n" in shown
