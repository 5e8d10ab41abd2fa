"""More tasks than MaxSubmitJobs and MaxArraySize allow: queued in a window, by small jobs that Slurm itself starts."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster import Cluster, require, start, stop
from engines.runs import lay, shell, states, until
from hpcflow.engines import commands, notes
from hpcflow.engines import slurm as slurm_engine
from hpcflow.engines.queueing import Piece, choose, cut
from hpcflow.engines.slurm import SlurmEngine
from hpcflow.engines.slurm_queue import in_queue
from hpcflow.engines.status import State
from hpcflow.jobs import trials
from hpcflow.jobs.job import After, Allocation, JobGraph
from hpcflow.jobs.layout import lay_out
from hpcflow.submission import prepare

NOBODY = 65534


def test_pieces_of_any_tasks() -> None:
    job = shell("t", "true", 5000)
    assert [piece.size for piece in cut(job, range(2500), 1001)] == [1001, 1001, 498]
    assert list(cut(job, [3, 4, 1003, 1004], 1001)) == [
        Piece("t", 3, (3, 4, 1003)),
        Piece("t", 1004, (1004,)),
    ]
    assert list(cut(shell("one", "true"), [0], 1001)) == [Piece("one", 0, None)]


def test_a_window_takes_whole_pieces_and_nothing_that_needs_what_is_left() -> None:
    graph = JobGraph(
        (shell("a", "true"), shell("b", "true", 10, [After("a")]), shell("c", "true", None, [After("b")]))
    )
    wanted = {"a": [0], "b": range(10), "c": [0]}
    chosen = choose(graph, wanted, 4, 9)
    assert [(piece.job, piece.offset, piece.size) for piece in chosen.pieces] == [
        ("a", 0, 1),
        ("b", 0, 4),
        ("b", 4, 4),
    ]
    assert chosen.left
    assert not choose(graph, wanted, 4, None).left
    assert choose(graph, {"c": [0]}, 4, 1).pieces == (Piece("c", 0, None),)


@pytest.fixture
def slurm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.cancel_all()
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])


@pytest.mark.slurm
def test_where_jobs_may_not_submit_whoever_looks_queues_the_rest(slurm: None, tmp_path: Path) -> None:
    engine = SlurmEngine(max_submit_jobs=8, by_jobs=False)
    layout = lay(tmp_path, shell("p", "true"), shell("t", "true", 14, [After("p")]))
    engine.submit(layout.run, layout.graph)
    found = engine.statuses(layout.run)
    assert sum(status.reason.startswith("not queued yet") for status in found) == 8
    assert not layout.run.path.joinpath("jobs", "queue").exists()

    def seen() -> bool:
        now = engine.statuses(layout.run)
        engine.top_up(layout.run, now)
        return not any(status.state.active for status in now)

    deadline = time.monotonic() + 90
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert set(states(engine, layout.run).values()) == {"done"}


@pytest.mark.slurm
def test_what_is_queued_after_squeue_has_answered_has_not_left_the_queue(
    slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SlurmEngine(max_submit_jobs=6, by_jobs=False)
    layout = lay(tmp_path, shell("t", "true", 9))
    engine.submit(layout.run, layout.graph)
    deadline = time.monotonic() + 60
    while in_queue():
        assert time.monotonic() < deadline
        time.sleep(0.3)
    queued: list[int] = []

    def call(argv: list[str]) -> str:
        answer = real(argv)
        if argv == commands.SQUEUE and not queued:
            queued.append(0)
            queued.append(engine.top_up(layout.run))
        return answer

    real = slurm_engine.call
    monkeypatch.setattr(slurm_engine, "call", call)
    found = engine.statuses(layout.run)
    assert queued[1:] and queued[1] > 0
    assert {status.state for status in found} == {State.DONE, State.WAITING}


@pytest.mark.slurm
def test_cancel_ends_what_is_left_too_and_resume_takes_it_up(slurm: None, tmp_path: Path) -> None:
    engine = SlurmEngine(max_submit_jobs=6)
    layout = lay(tmp_path, shell("t", '[ -e "$HPCFLOW_RUN/go" ] || sleep 60', 11))
    engine.submit(layout.run, layout.graph)
    assert notes.read(layout.run).left
    assert engine.cancel(layout.run) == 11
    until(engine, layout.run)
    assert set(states(engine, layout.run).values()) == {"cancelled"}
    deadline = time.monotonic() + 60
    while in_queue():  # KillWait and the like
        assert time.monotonic() < deadline
        time.sleep(0.3)
    (layout.run.path / "go").touch()
    assert engine.resume(layout.run) == 4  # two pieces of two; the rest follows by itself
    assert {status.state for status in until(engine, layout.run)} == {State.DONE}


@pytest.mark.slurm
def test_a_failure_of_what_they_need_ends_the_ones_that_are_left(slurm: None, tmp_path: Path) -> None:
    engine = SlurmEngine(max_submit_jobs=6)
    layout = lay(tmp_path, shell("p", "exit 1"), shell("t", "true", 9, [After("p")]))
    engine.submit(layout.run, layout.graph)
    until(engine, layout.run)
    assert states(engine, layout.run) == {"p/0": "failed", **{f"t/{task}": "cancelled" for task in range(9)}}


@pytest.fixture
def limited() -> Iterator[Cluster]:
    require("slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd")
    up = start("--accounting", "--max-submit-jobs", "30", nodes=2)
    yield up
    stop(up)


# What a user would do who has no job to extend the queue: look, and queue what there is room for.
AS_NOBODY = f"""
import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
from pathlib import Path
from engines.runs import lay, shell
from hpcflow.engines.observe import observe
from hpcflow.engines.slurm import SlurmEngine
engine = SlurmEngine(accounting=True, max_submit_jobs="auto", by_jobs=False)
layout = lay(Path(sys.argv[1]), shell("t", "true", 75))
engine.submit(layout.run, layout.graph)
for tick in observe(layout.run, engine):
    pass
print(sorted({{str(status.state) for status in tick.statuses}}))
"""


@pytest.mark.slurm
# Under CI=true it runs, and fails, where it cannot become another user: nothing is left out there.
@pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true",
    reason="becomes another user, for whom Slurm enforces the limit",
)
def test_a_limit_that_slurm_enforces_is_found_out_and_kept(limited: Cluster) -> None:
    limited.run("sacctmgr", "--immediate", "add", "user", "nobody", "account=dev")
    limited.directory.chmod(0o755)
    if "HPCFLOW_TEST_CLUSTERS" in os.environ:
        limited.directory.parent.chmod(0o755)
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # Not below pytest's own folder, which is root's alone.
    with tempfile.TemporaryDirectory(dir=limited.directory) as name:
        os.chown(name, NOBODY, NOBODY)
        done = limited.run(*become, sys.executable, "-c", AS_NOBODY, name, check=False)
        assert (done.stdout, done.returncode) == ("['done']\n", 0), done.stderr
        more = ("sbatch", "--array=0-30", "--output=/dev/null", "--wrap=true")
        refused = limited.run(*become, *more, check=False, cwd=name)
    assert "AssocMaxSubmitJobLimit" in refused.stderr, "the limit was real"


SWEEP = f"""\
name: many
resources: {{time: "00:05:00"}}
placement: {{ranks_per_node: 1, cores_per_rank: 1}}
training: {{data: {{phantom: {{subjects: 4}}}}}}
sweep: {{matrix: {{training.learning_rate: {[round(1e-3 + i * 1e-5, 6) for i in range(1250)]}}}, repeats: 2}}
"""


@pytest.mark.slurm
def test_a_sweep_of_2500_trials_under_both_limits_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("slurmctld", "slurmd", "munged")
    up = start("--conf", "SchedulerParameters=defer,sched_interval=2", nodes=4)
    try:
        monkeypatch.setenv("SLURM_CONF", up.env["SLURM_CONF"])
        monkeypatch.chdir(tmp_path)
        (tmp_path / "many.yaml").write_text(SWEEP)
        (tmp_path / "site.yaml").write_text("name: small\nmax_submit_jobs: 1000\n")
        planned = prepare(Path("many.yaml"), [], "./site.yaml", "slurm", datetime.now(UTC))
        # The same graph with trials that do nothing, four of which need not have a node each.
        jobs = (
            dataclasses.replace(job, program=("true",), launch=(), allocation=Allocation(time="00:05:00"))
            for job in planned.layout.graph
        )
        layout = lay_out(
            planned.run, JobGraph(tuple(jobs)), SWEEP, {"engine": "slurm"}, "many", trials=planned.trials
        )
        layout.write()
        start_s = time.monotonic()
        planned.engine.submit(layout.run, layout.graph)
        most = 0
        while any(status.state.active for status in planned.engine.statuses(layout.run)):
            most = max(most, in_queue())
            assert time.monotonic() - start_s < 900
            time.sleep(2)
        found = planned.engine.statuses(layout.run)
        assert len(found) == 2501
        assert {status.state for status in found} == {State.DONE}
        assert 900 < most <= 1000
        assert all(
            chunk.count is None or chunk.count <= 999 for chunk in SlurmEngine.chunks(layout.run.job("train"))
        )
        done = trials.done_before(tmp_path / "runs" / "many", [row.digest for row in planned.trials.rows])  # type: ignore[union-attr]
        assert sum(map(len, done.values())) == 2500
        # A second submission has nothing to do.
        again = prepare(Path("many.yaml"), [], "./site.yaml", "slurm", datetime.now(UTC))
        assert again.layout.graph.jobs == ()
    finally:
        stop(up)
        subprocess.run(["rm", "-rf", tmp_path / "runs"], check=True)
