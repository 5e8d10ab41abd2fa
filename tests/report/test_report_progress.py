"""How far tasks are, one by one and together; and reasons in words."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import sweep

from hpcflow.engines.observe import Tick
from hpcflow.engines.reasons import in_words
from hpcflow.engines.status import State, TaskStatus
from hpcflow.jobs.rundir import JobDir, RunDir
from hpcflow.report import overview, trial
from hpcflow.report.progress import SAMPLE, TAIL, Progress, Reader
from hpcflow.report.tasks import bar, starts
from hpcflow.report.watching import _View, with_progress
from runs import lay, training

LINE = '{{"event": "epoch", "epoch": {0}, "loss": {1}, "val_dice": 0.5, "images_per_s": {2}}}\n'


def array(tmp_path: Path, tasks: int) -> tuple[RunDir, JobDir]:
    run = lay(tmp_path, [training(tasks=tasks)])
    for task in run.job("train"):
        task.path.mkdir(exist_ok=True)  # as its script does
    return run, run.job("train")


def test_of_several_tasks_the_mean_epoch_and_the_median_speed(tmp_path: Path) -> None:
    _, job = array(tmp_path, 4)
    for index, epochs in enumerate((1, 2, 2)):  # the fourth has not begun
        lines = (LINE.format(epoch, 1 / epoch, 100 * (index + 1)) for epoch in range(1, epochs + 1))
        job.task(index).metrics.write_text("".join(lines))
    found = Reader().of_all(list(job))
    assert found == Progress(1.25, 3, 200.0, 0.5, 0.5)
    assert bar(found) == "━━━━────── 1.2/3" and found.line.startswith("epoch 1.2/3")
    assert Reader().of_all([job.task(3)]) is None


def test_a_file_is_read_when_it_changed_and_only_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, job = array(tmp_path, 1)
    task, reader = job.task(0), Reader()
    assert reader.of(task) is None
    many = "".join(LINE.format(epoch, 0.5, 100) for epoch in range(1, 1001))
    task.metrics.write_text(many)
    assert len(many) > 4 * TAIL and (found := reader.of(task)) and found.epoch == 1000
    opened: list[Path] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: (opened.append(path), real(path, *a, **k))[1])
    assert reader.of(task) == found and not opened
    with real(task.metrics, "a") as file:
        file.write(LINE.format(1001, 0.5, 100))
    assert (again := reader.of(task)) and again.epoch == 1001 and opened == [task.metrics]


@pytest.mark.parametrize("end", ['{"event": "end"}\n', '{"event": "epoch", "epo', "x" * 3 * TAIL, ""])
def test_whatever_stands_at_the_end_the_last_epoch_is_found(tmp_path: Path, end: str) -> None:
    _, job = array(tmp_path, 1)
    job.task(0).metrics.write_text(LINE.format(1, 0.5, 100) + LINE.format(2, 0.25, 100) + end)
    found = Reader().of(job.task(0))
    assert found and found.epoch == 2 and found.loss == 0.25


def test_of_a_large_array_a_sample_stands_for_all(tmp_path: Path) -> None:
    run, job = array(tmp_path, 1000)
    for task in job:
        task.metrics.write_text(LINE.format(2, 0.5, 100))
    statuses = [TaskStatus("train", index, State.RUNNING, "", f"1_{index}", None) for index in range(1000)]
    reader = Reader()
    ((row, found),) = with_progress(run, overview.rows(run.graph, statuses), reader)
    assert row.label == "train [0-999] 1000" and found and found.epoch == 2
    assert len(reader._seen) <= SAMPLE
    assert len(list(with_progress(run, overview.rows(run.graph, statuses), reader))) == 1


def test_trials_are_named_by_their_values(tmp_path: Path) -> None:
    run = sweep(tmp_path, sizes=(1, 2), repeats=2)
    assert trial.titles(run) == {
        ("train-n1", 0): "nodes=1 #1", ("train-n1", 1): "nodes=1 #2",
        ("train-n2", 0): "nodes=2 #1", ("train-n2", 1): "nodes=2 #2",
    }  # fmt: skip
    statuses = [TaskStatus("train-n2", 1, State.PENDING, "", "", None)]
    assert [row.trial for row in overview.rows(run.graph, statuses, titles=trial.titles(run))] == [
        "nodes=2 #2"
    ]
    assert trial.titles(lay(tmp_path / "plain", [training()])) == {}


def test_starts_are_told_by_the_clock_and_from_now_on() -> None:
    now = datetime(2026, 3, 4, 12, 0, 0)
    seconds = now.timestamp()
    assert starts("2026-03-04T12:05:30", seconds) == "12:05, in 0:05:30"
    assert starts((now + timedelta(days=1)).isoformat(), seconds) == "Thu 05 Mar 12:00, in 24:00:00"
    assert starts("2026-03-04T11:59:00", seconds) == "11:59, any moment"
    assert starts("", seconds) == starts("N/A", seconds) == starts("Unknown", seconds) == ""


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "jobs of higher priority go first"),
        ("(Resources)", "waits for free nodes"),
        ("ReqNodeNotAvail, UnavailableNodes:n3", "a node that it needs is down, drained or reserved"),
        ("QOSMaxCpuPerUserLimit", "your jobs have as much as the QOS allows: CPUs"),
        ("QOSMaxJobsPerUserLimit", "your jobs have as much as the QOS allows: jobs"),
        ("QOSGrpNodeLimit", "all jobs under the QOS together have as much as it allows: nodes"),
        ("QOSMaxWallDurationPerJobLimit", "asks for more than the QOS allows a job: wall time"),
        ("QOSMaxMemoryPerJob", "asks for more than the QOS allows a job: memory"),
        ("AssocGrpCPUMinutesLimit", "your account has nothing left: CPUs x time"),
        ("AssocGrpCPURunMinutesLimit", "what runs already may use all that your account has left: CPUs"),
        ("AssocGrpBillingMinutes", "your account has nothing left: budget x time"),
        ("AssocMaxSubmitJobLimit", "your jobs have as much as your account allows: queued jobs"),
        ("None", ""),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_reasons_in_words(reason: str, words: str) -> None:
    assert in_words(reason) == words


@pytest.mark.parametrize(("height", "first"), [(8, State.RUNNING), (24, State.WAITING)])
def test_where_the_window_is_low_what_runs_comes_first(tmp_path: Path, height: int, first: State) -> None:
    run, _ = array(tmp_path, 30)
    states = (State.WAITING, State.PENDING, State.RUNNING)
    statuses = [TaskStatus("train", n, states[n % 3], "", f"1_{n}", None) for n in range(30)]
    view = _View(run, "slurm", Console(file=io.StringIO(), width=40, height=height))
    view.show(Tick(statuses))
    assert view._rows[0].state is first
