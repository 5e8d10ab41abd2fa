"""Which run a word means: against real files, in hostile places."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcflow.errors import InputError
from hpcflow.jobs.registry import find, index_file, known, remember
from hpcflow.jobs.rundir import RunDir

HOSTILE = 'it\'s $(here); "done" [b]'


def make(folder: Path, name: str, run_id: str, at: float | None = None) -> RunDir:
    """The least that makes a run directory."""
    run = RunDir(folder / name / run_id)
    run.path.mkdir(parents=True)
    run.graph_file.write_text('{"jobs": []}')
    if at is not None:
        os.utime(run.graph_file, (at, at))
    return run


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"XDG_STATE_HOME": str(tmp_path / HOSTILE), "HOME": "/nowhere"}


@pytest.fixture
def three(tmp_path: Path, environ: dict[str, str]) -> list[RunDir]:
    runs = [
        make(tmp_path / "far away", "unet", "20260101-000000-aaaa"),
        make(tmp_path / "far away", "brats", "20260102-000000-bbbb"),
        make(tmp_path / "far away", "unet", "20260103-000000-cccc"),
    ]
    for run in runs:
        remember(run, environ=environ)
    return runs


@pytest.mark.parametrize(
    ("word", "which"),
    [
        ("last", 2),
        ("unet", 2),
        ("brats", 1),
        ("brats/", 1),
        ("unet/20260101-000000-aaaa", 0),
        ("20260101-000000-aaaa", 0),
        ("far away/brats/20260102-000000-bbbb", 1),
        ("./far away/unet/../brats/20260102-000000-bbbb/", 1),
    ],
)
def test_a_run_goes_by_name_id_path_or_last(
    three: list[RunDir], environ: dict[str, str], word: str, which: int
) -> None:
    assert find(word, environ=environ) == three[which]


def test_an_absolute_path_is_found_without_any_index(tmp_path: Path) -> None:
    run = make(tmp_path / HOSTILE, "a", "b")
    assert find(str(run.path), environ={}) == run


def test_runs_below_runs_need_no_index(tmp_path: Path, environ: dict[str, str]) -> None:
    make(tmp_path / "runs", "unet", "20260101-000000-aaaa", at=100)
    new = make(tmp_path / "runs", "unet", "20260102-000000-bbbb", at=200)
    make(tmp_path / "runs", ".cache", "no-run")
    (tmp_path / "runs" / "unet" / "half-made").mkdir()
    assert find("last", environ=environ) == new
    assert find("unet", environ=environ) == new
    assert len(known(environ=environ)) == 2


def test_last_is_the_newest_of_both_sources(tmp_path: Path, environ: dict[str, str]) -> None:
    remember(make(tmp_path / "elsewhere", "old", "1"), environ=environ)
    here = make(tmp_path / "runs", "new", "2", at=4e9)
    assert find("last", environ=environ) == here


def test_of_two_runs_remembered_at_one_time_the_later_line_is_last(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    runs = [make(tmp_path / "x", "n", str(number)) for number in range(3)]
    path = index_file(environ)
    assert path
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"path": str(run.path), "at": 5}) + "\n" for run in runs))
    assert find("last", environ=environ) == runs[2]


def test_a_run_that_is_gone_is_passed_over_for_last_and_named_otherwise(
    three: list[RunDir], environ: dict[str, str]
) -> None:
    three[2].graph_file.unlink()
    assert find("last", environ=environ) == three[1]
    assert find("unet", environ=environ) == three[0]
    with pytest.raises(InputError, match=r"is gone: .*cccc"):
        find("20260103-000000-cccc", environ=environ)


def test_broken_lines_are_passed_over_and_take_no_other_line_along(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    first, second = make(tmp_path / "x", "a", "1"), make(tmp_path / "x", "a", "2")
    remember(first, environ=environ)
    path = index_file(environ)
    assert path
    with path.open("ab") as file:
        file.write(b'\xff\xfe\n[]\n{"path": 7, "at": 1}\n{"path": "relative", "at": 1}\n')
        file.write(b'{"path": "/x", "at": nu')
    remember(second, environ=environ)
    assert [run.path for run in known(environ=environ)] == [second.path, first.path]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("unte", "nearest: unet/20260103-000000-cccc"),
        ("brats/20260102-000000-bbbx", "nearest: brats/20260102-000000-bbbb"),
        ("zzzzzz", "newest: unet/20260103-000000-cccc, brats/20260102-000000-bbbb, unet/20260101-"),
    ],
)
def test_an_unknown_run_is_an_input_error_that_names_near_ones(
    three: list[RunDir], environ: dict[str, str], word: str, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        find(word, environ=environ)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


def test_with_no_run_at_all_it_says_how_one_is_made(environ: dict[str, str]) -> None:
    with pytest.raises(InputError, match="hpcflow submit"):
        find("last", environ=environ)


@pytest.mark.parametrize(
    "environ",
    [{}, {"HOME": "relative"}, {"HOME": "/proc/1/no-home"}, {"XDG_STATE_HOME": "/dev/null/state"}],
    ids=str,
)
def test_where_no_index_can_be_kept_it_is_a_warning(
    tmp_path: Path, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    run = make(tmp_path / "x", "a", "1")
    with caplog.at_level(logging.WARNING, "hpcflow"):
        remember(run, environ=environ)
    assert str(run.path) in caplog.text


def test_the_warning_reaches_standard_error_of_a_command(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from hpcflow.jobs import registry, rundir; "
        "registry.remember(rundir.RunDir(Path('a/b')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"HOME": "/dev/null", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Not a directory" in done.stderr and done.stdout == "" and done.stderr.count("\n") == 1


def _remember_many(folder: str, state: str, worker: int) -> None:
    for number in range(50):
        remember(RunDir(Path(folder, f"w{worker}", str(number))), environ={"XDG_STATE_HOME": state})


def test_many_writers_at_once_lose_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_remember_many, args=(str(tmp_path / "x"), str(tmp_path / "s"), number))
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(known(environ={"XDG_STATE_HOME": str(tmp_path / "s")}, below=tmp_path)) == 200
