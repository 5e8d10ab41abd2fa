"""Runs as a table: real runs of the local engine, in every state."""

from __future__ import annotations

import csv
import json
import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hpcflow.engines.local import LocalEngine
from hpcflow.errors import RunError, SiteError
from hpcflow.jobs.job import After
from hpcflow.jobs.rundir import RunDir
from hpcflow.report import cache, collect, columns, results, summary
from runs import TRAIN, command, ended, job, lay, training

ENGINE = LocalEngine()


def ran(run: RunDir) -> RunDir:
    ENGINE.submit(run, run.graph)
    ended(ENGINE, run)
    return run


# A line that was cut, two epochs, and an end with an error.
BROKEN = f"""
printf '{{"event": "epo\\n' >"$HPCFLOW_TASK_DIR/metrics.jsonl"
EPOCHS=2
{TRAIN}
exit 3
"""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """One run with a training that is done, one that failed, and one that never began."""
    jobs = [
        job("prepare", "true"),
        training(after=(After("prepare"),)),
        training("half", BROKEN, after=(After("prepare"),)),
        training("never", after=(After("half"),)),
    ]
    folder = tmp_path_factory.mktemp("it's $(here)")
    return ran(lay(folder, jobs, overridden=("training.epochs", "training.data.crop", "flow")))


def test_one_row_a_task_that_trains_in_every_state(mixed: RunDir) -> None:
    rows = collect.table([mixed]).records()
    assert [(row["job"], row["state"], row["epochs"]) for row in rows] == [
        ("train", "done", 3),
        ("half", "failed", 2),
        ("never", "cancelled", 0),
    ]
    done, half, never = rows
    assert done | {
        "experiment": "unet", "run": "20260101-000000-aaaa", "task": 0, "trial": None, "reason": "",
        "nodes": 2, "ranks": 4, "ranks_per_node": 2, "cores_per_rank": 2, "launcher": "openmpi",
        "loss": 0.6, "dice": 0.5, "val_loss": 0.5, "val_dice": 0.6,
        "best_loss": 0.6, "best_dice": 0.5, "best_val_loss": 0.5, "best_val_dice": 0.6, "best_epoch": 3,
        "images_per_s": 250.0, "allreduce_s": 0.75, "train_s": 4.5, "input_s": 0.5, "startup_s": 2.5,
        "exit_code": 0, "attempt": 0, "peak_memory_mb": None,
    } == done  # fmt: skip
    assert 0.5 < done["wall_s"] < 30 and 0 <= done["queue_s"] < 60
    assert half["exit_code"] == 3 and "exit code 3" in half["reason"] and half["images_per_s"] == 200
    assert half["startup_s"] == 2.5 and half["loss"] == 0.7
    assert never["wall_s"] is None and never["queue_s"] is None and never["loss"] is None


def test_overridden_keys_are_columns_with_the_values_of_the_resolved_experiment(tmp_path: Path) -> None:
    first = lay(
        tmp_path, [training()], run_id="1", overridden=("training.epochs", "training.data.crop"),
        experiment={"training": {"epochs": 7, "data": {"crop": [1, 2, 3]}}},
    )  # fmt: skip
    second = lay(
        tmp_path, [training()], run_id="2", overridden=("training.epochs", "gone.key"),
        experiment={"training": {"epochs": 9, "data": {"crop": [4, 5, 6]}}},
    )  # fmt: skip
    frame = collect.table([first, second]).frame()
    assert list(frame.columns) == columns.names(("training.epochs", "training.data.crop", "gone.key"))
    assert frame["training.epochs"].tolist() == [7, 9]
    assert frame["training.data.crop"].tolist() == ["[1, 2, 3]", "[4, 5, 6]"]
    assert frame["gone.key"].isna().all()


def test_a_broken_line_is_named_and_the_rest_is_there(
    mixed: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "hpcflow"):
        collect.table([mixed])
    assert caplog.messages == [f"{mixed.task('half', 0).metrics}:1: no JSON; the line is left out"]


def test_many_rows_are_read_by_several_processes_and_are_the_same(
    mixed: RunDir, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "folder", lambda: None)
    alone = collect.table([mixed]).records()
    said = list(caplog.messages)
    asked: list[int] = []

    class Pool(ProcessPoolExecutor):
        def __init__(self, shares: int, *rest: Any) -> None:
            asked.append(shares)
            super().__init__(shares, *rest)

    monkeypatch.setattr(collect, "SHARE", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", Pool)
    caplog.clear()
    assert collect.table([mixed]).records() == alone
    assert (asked, caplog.messages) == ([2], said) and said


def test_the_csv_reads_back_as_the_table(mixed: RunDir, tmp_path: Path) -> None:
    frame = collect.table([mixed])
    path = tmp_path / "a b.csv"
    results.write(frame, path)
    assert [item.name for item in tmp_path.iterdir()] == ["a b.csv"]
    back = pd.read_csv(path)
    assert list(back.columns) == list(frame.columns)
    assert back["val_dice"].tolist()[:2] == [0.6, 0.5] and back["val_dice"].isna()[2]
    with path.open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["done", "failed", "cancelled"]


DAMAGES = [None, b"", b"\xff\x00", b"[]", b"{", b'{"ranks": [7], "epoch": {}}']


@pytest.mark.parametrize("name", ["experiment.yaml", "rankmap.json", "metrics.jsonl", "record.json"])
@pytest.mark.parametrize("text", DAMAGES, ids=repr)
def test_whatever_file_of_a_task_is_damaged_its_row_is_there(
    tmp_path: Path, name: str, text: bytes | None
) -> None:
    run = lay(tmp_path, [training()], overridden=("training.epochs",))
    task = run.task("train", 0)
    task.metrics.write_text('{"event": "epoch", "epoch": 1, "loss": 0.5, "ranks": 4}\n')
    path = task.path / name
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(text)
    (row,) = collect.table([run]).records()
    assert (row["experiment"], row["job"], row["state"]) == ("unet", "train", "cancelled")
    assert row["loss"] == (None if name == "metrics.jsonl" else 0.5)
    assert row["training.epochs"] == (None if name == "experiment.yaml" else 3)
    assert row["ranks"] == 4


@pytest.mark.parametrize("text", [None, b"", b"\xff\x00", b"{"], ids=repr)
def test_a_run_without_sound_provenance_is_none(tmp_path: Path, text: bytes | None) -> None:
    run = lay(tmp_path, [training()])
    run.provenance.unlink()
    if text is not None:
        run.provenance.write_bytes(text)
    with pytest.raises(RunError):
        collect.table([run])


def test_ranks_that_are_placed_unevenly_have_no_number_a_node(tmp_path: Path) -> None:
    ranks = [{"node": 0, "cores": [0, 1]}, {"node": 0, "cores": [2, 3, 4]}, {"node": 1, "cores": [0, 1]}]
    uneven = job("train", "true", files={"rankmap.json": json.dumps({"launcher": "srun", "ranks": ranks})})
    (row,) = collect.table([lay(tmp_path, [uneven])]).records()
    assert [row[key] for key in ("nodes", "ranks", "ranks_per_node", "cores_per_rank")] == [2, 3, None, 2]


def test_a_file_that_cannot_be_written_is_one_sentence(mixed: RunDir) -> None:
    with pytest.raises(SiteError, match="cannot be written: No such file or directory"):
        results.write(collect.table([mixed]), Path("/nowhere/results.csv"))


def test_the_readable_table_leaves_out_what_says_nothing(mixed: RunDir) -> None:
    titles = [column.title for column, _ in summary.view(collect.table([mixed])).used]
    assert titles[:5] == ["JOB", "STATE", "training.epochs", "NODES", "RANKS"]
    assert titles[-1] == "REASON" and not {"RUN", "TASK", "TRIAL"} & set(titles)


def test_submit_wait_prints_the_table_and_where_it_is(
    mixed: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    summary.print_results(mixed, ENGINE)
    out = capsys.readouterr().out
    assert out.startswith("JOB ") and out.endswith(f"\n{mixed.results}\n")
    assert mixed.results.is_file()
    summary.print_results(mixed, ENGINE, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["run"] == mixed.name and len(document["results"]) == 3


def test_the_command(mixed: RunDir, tmp_path: Path) -> None:
    plain = command("report", mixed.path)
    assert plain.returncode == 0 and plain.stdout.startswith("JOB ")
    assert plain.stderr == f"{mixed.task('half', 0).metrics}:1: no JSON; the line is left out\n"
    document = json.loads(command("report", mixed.path, mixed.path, "--json").stdout)
    assert len(document) == 3, "a run that is named twice is reported once"
    output = tmp_path / "out.csv"
    written = command("report", mixed.path, "-o", output)
    assert written.stdout == f"3 rows in {output}\n"
    assert output.read_text().startswith("experiment,run,job,task,trial,repeat,baseline,configuration,state,")
    both = command("report", mixed.path, "-o", output, "--json")
    assert json.loads(both.stdout) == document


@pytest.mark.parametrize(("arguments", "code"), [((), 2), (("no-such-run",), 2), (("--frobnicate",), 2)])
def test_the_commands_bad_input(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    got = command("report", *arguments, env={"XDG_STATE_HOME": str(tmp_path)}, cwd=tmp_path)
    assert got.returncode == code and got.stdout == "" and "Traceback" not in got.stderr


def test_where_no_scheduler_answers_the_records_alone_are_reported(mixed: RunDir, tmp_path: Path) -> None:
    copy = lay(tmp_path, [training()], "slurm")
    for name in ("record.json", "metrics.jsonl"):
        (copy.task("train", 0).path / name).write_bytes((mixed.task("train", 0).path / name).read_bytes())
    got = command("report", copy.path, "--json", env={"PATH": "/nowhere"})
    assert got.returncode == 0
    (row,) = json.loads(got.stdout)
    assert (row["state"], row["epochs"]) == ("done", 3)
    assert "states are those of the records alone" in got.stderr
