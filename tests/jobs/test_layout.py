"""The files of a run, written on a disk of this machine and on a server far away."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hpcflow.errors import SiteError
from hpcflow.jobs import layout
from hpcflow.jobs.job import Allocation, Job, JobGraph
from hpcflow.jobs.layout import Layout, lay_out
from hpcflow.jobs.rundir import RunDir, new_id

TASKS = 3 * layout.FEW


def laid_out(folder: Path) -> Layout:
    run = RunDir(folder / "many" / new_id(datetime.now()))
    job = Job("train", Allocation(time="00:01:00"), ("true",), tasks=TASKS)
    own = {("train", index): f"name: many # {index}\n" for index in range(TASKS)}
    return lay_out(run, JobGraph((job,)), "name: many\n", {}, "many", own)


def written(plan: Layout) -> dict[Path, str]:
    return {path: path.read_text() for path in plan.run.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("far", [0.0, 1e9], ids=["a server", "a disk"])
def test_every_file_is_written_wherever_it_goes(
    far: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "FAR", far)
    writers: set[int] = set()
    original = layout._write

    def write(file: Any) -> None:
        writers.add(threading.get_ident())
        original(file)

    monkeypatch.setattr(layout, "_write", write)
    plan = laid_out(tmp_path)
    plan.write()
    found = written(plan)
    assert found.pop(plan.run.graph_file)
    assert found == plan.files
    assert (len(writers) > 1) == (far == 0.0)
    assert plan.run.task("train", TASKS - 1).experiment.read_text() == f"name: many # {TASKS - 1}\n"


def test_the_tasks_of_an_array_make_their_folders_themselves(tmp_path: Path) -> None:
    plan = laid_out(tmp_path)
    plan.write()
    assert sorted(path.name for path in plan.run.job("train").path.iterdir()) == ["experiments", "script.sh"]


@pytest.mark.parametrize("far", [0.0, 1e9], ids=["a server", "a disk"])
def test_what_cannot_be_written_is_one_sentence(
    far: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "FAR", far)
    plan = laid_out(tmp_path)
    list(plan.files)[-1].mkdir(parents=True)
    with pytest.raises(SiteError, match="cannot be written: Is a directory"):
        plan.write()
    assert not plan.run.graph_file.exists()
