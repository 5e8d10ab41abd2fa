"""What is kept between reports: it never changes what a report says, and saves reading what has not changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import settle, sweep, touch

from hpcflow.jobs.rundir import RunDir
from hpcflow.report import cache, collect
from hpcflow.report.metrics import read


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hpcflow" / "report"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return sweep(tmp_path / "runs", sizes=(1, 2), repeats=2)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The metrics that were read, as the report goes on reading them."""
    paths: list[Path] = []

    def reading(path: Path, *more: object) -> object:
        paths.append(path)
        return read(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("hpcflow.report.metrics.read", reading)
    yield paths


def rows(run: RunDir) -> list[dict[str, object]]:
    return collect.table([run]).records()


def test_a_second_report_says_the_same_and_reads_nothing(run: RunDir, home: Path, opened: list[Path]) -> None:
    first = rows(run)
    assert len(opened) == 4
    assert rows(run) == first and len(opened) == 4
    assert home.stat().st_mode & 0o077 == 0, "results are their user's"


def test_only_what_changed_is_read_again(run: RunDir, opened: list[Path]) -> None:
    first = rows(run)
    changed = run.task("train-n2", 1)
    changed.metrics.write_text(changed.metrics.read_text().replace('"val_dice": 0.86', '"val_dice": 0.99'))
    touch(changed.metrics, 60)
    opened.clear()
    second = rows(run)
    assert opened == [changed.metrics]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, True, False]
    assert second[3]["val_dice"] == 0.99


def test_a_file_that_was_written_just_now_is_not_trusted_next_time(run: RunDir, opened: list[Path]) -> None:
    """Two writes within a tick of the clock leave the same size and time."""
    task = run.task("train-n1", 0)
    touch(task.metrics, 0)
    rows(run)
    opened.clear()
    rows(run)
    assert opened == [task.metrics]


DAMAGES = [b"", b"\x00" * 100, b"{}", b"abc\n{}", b"\xff\xfe"]


@pytest.mark.parametrize("damage", [*DAMAGES, "cut", "flipped", "other run", "not a file"], ids=repr)
def test_a_damaged_cache_is_as_if_there_were_none(run: RunDir, home: Path, damage: bytes | str) -> None:
    first = rows(run)
    (path,) = home.iterdir()
    data = path.read_bytes()
    if damage == "not a file":
        path.unlink()
        path.mkdir()
    elif damage == "other run":  # whole, but not about this run
        _, _, body = data.partition(b"\n")
        other = json.loads(body)
        other["about"][1] += "x"
        body = json.dumps(other).encode()
        path.write_bytes(cache._digest(body).encode() + b"\n" + body)
    else:
        made = {"cut": data[: len(data) // 2], "flipped": data.replace(b"0.86", b"0.87")}
        path.write_bytes(made[damage] if isinstance(damage, str) else damage)
    assert rows(run) == first


def test_without_a_place_for_it_reports_go_on(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(run)
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file"), "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        monkeypatch.delenv("HOME", raising=False)
        assert rows(run) == expected and rows(run) == expected


def test_complaints_are_made_each_time(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    task = run.task("train-n1", 1)
    task.metrics.write_text("{\n" + task.metrics.read_text())
    settle(run.path)
    for _ in range(2):
        caplog.clear()
        rows(run)
        assert caplog.messages == [f"{task.metrics}:1: no JSON; the line is left out"]


def test_a_run_that_was_queued_anew_is_asked_about(run: RunDir, opened: list[Path]) -> None:
    """`resume` writes other handles: then the engine says what the tasks do now."""
    rows(run)
    state = json.loads(run.local_state.read_text())
    state["tasks"]["train-n1/0"] = {"state": "cancelled", "reason": "queued anew, then cancelled"}
    run.local_state.write_text(json.dumps(state))
    assert [row["state"] for row in rows(run)] == ["unknown", "done", "done", "done"]


def test_tasks_that_have_not_ended_are_never_kept(run: RunDir, home: Path) -> None:
    task = run.task("train-n1", 0)
    record = json.loads(task.record.read_text()) | {"ended": None, "exit_code": None}
    task.record.write_text(json.dumps(record))
    state = json.loads(run.local_state.read_text())
    state["tasks"]["train-n1/0"] = {"state": "running", "reason": ""}
    run.local_state.write_text(json.dumps(state))
    settle(run.path)
    assert [row["state"] for row in rows(run)][1:] == ["done"] * 3
    (path,) = home.iterdir()
    assert len(json.loads(path.read_bytes().partition(b"\n")[2])["rows"]) == 3


def test_what_nobody_looked_at_for_long_is_deleted(run: RunDir, home: Path) -> None:
    home.mkdir(parents=True)
    old = home / "old.json"
    old.write_text("{}")
    os.utime(old, (0, 0))
    rows(run)
    assert not old.exists()
