"""`hpcflow fed aggregate` as the contract has it: files of the safetensors library with num_samples in the metadata."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hpcflow.cli import run
from hpcflow.federation.strategies import TABLE


@pytest.fixture
def updates(tmp_path: Path) -> list[str]:
    paths = []
    for index in range(5):
        arrays = {"w": np.full((2, 3), index, np.float32), "b": np.array([index, -index], np.float64)}
        path = tmp_path / f"it's $({index}).safetensors"
        save_file(arrays, path, {"num_samples": str(10 * (index + 1))})
        paths.append(str(path))
    return paths


def test_aggregate(updates: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out put.safetensors"
    assert run(["fed", "aggregate", "--strategy", "fedavg", "-o", str(out), *updates]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    found = load_file(out)
    mean = np.float64(400) / 150  # (0*10 + 1*20 + 2*30 + 3*40 + 4*50) / 150
    assert found["w"].dtype == np.float32
    assert np.array_equal(found["w"], np.full((2, 3), mean, np.float32))
    assert found["b"].tolist() == [mean, -mean]
    before = out.read_bytes()
    assert run(["fed", "aggregate", "--strategy", "FedAvg", "-o", str(out), *reversed(updates)]) == 0
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("strategy", "options", "value"),
    [
        ("median", [], 2),
        ("trimmed-mean", ["--option", "trim=0.2"], 2),
        ("krum", ["--option", "byzantine=1"], 2),
        ("fedavg", ["--option", "by=uniform"], 2),
    ],
)
def test_strategies(
    updates: list[str], tmp_path: Path, strategy: str, options: list[str], value: float
) -> None:
    out = tmp_path / "out"
    assert run(["fed", "aggregate", "--strategy", strategy, *options, "-o", str(out), *updates]) == 0
    found = load_file(out)["w"]
    assert (found == found[0, 0]).all()
    assert abs(found[0, 0] - value) <= (1 if strategy == "krum" else 0)


def test_json(updates: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["fed", "aggregate", "--strategy", "fedavg", "-o", str(out), "--json", *updates]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["out"], told["num_samples"], told["kind"], len(told["accepted"])) == (
        str(out),
        150,
        "delta",
        5,
    )


def test_refusals(updates: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, cut, out = tmp_path / "bad.safetensors", tmp_path / "cut.safetensors", tmp_path / "out"
    save_file({"w": np.full((2, 3), np.nan, np.float32), "b": np.zeros(2)}, bad, {"num_samples": "1"})
    cut.write_bytes(Path(updates[0]).read_bytes()[:-3])
    command = ["fed", "aggregate", "--strategy", "fedavg", "-o", str(out)]
    assert run([*command, *updates, str(cut), str(tmp_path / "none")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(": the update ")[1].split(":")[0] for line in errors] == ["is truncated", "is missing"]
    assert run([*command, *updates, str(bad)]) == 2
    assert "bad.safetensors: the update holds NaN or an infinity in" in capsys.readouterr().err
    assert not out.exists()
    assert run([*command, "--minimum", "5", *updates, str(bad)]) == 0
    assert "left out: " in capsys.readouterr().err
    assert run([*command, "--minimum", "6", *updates, str(bad)]) == 1
    assert "5 of 6 updates can be used, and 6 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "fedavgg", "-o", "out"], "did you mean fedavg?"),
        (["--strategy", "median", "--option", "x=1", "-o", "out"], "median: x: there is no such option"),
        (["--strategy", "fedavg", "--option", "by", "-o", "out"], "`by` is no option"),
        (["--strategy", "fedavg", "-o", "none/out"], "there is no folder"),
        (["--strategy", "fedavg", "-o", "."], "is an update itself or a folder"),
        (["--strategy", "fedavg", "-o", "out", "--base", "none"], "cannot be used as the base: No such file"),
    ],
)
def test_wrong_input(
    updates: list[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["fed", "aggregate", *arguments, *updates]) in (1, 2)
    assert message in capsys.readouterr().err


def test_an_update_is_not_overwritten_or_counted_twice(
    updates: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fed", "aggregate", "--strategy", "fedavg", "-o", updates[0], *updates]) == 2
    assert run(["fed", "aggregate", "--strategy", "fedavg", "-o", "x", updates[0], updates[0]]) == 2
    assert "named twice" in capsys.readouterr().err


def test_strategies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fed", "strategies", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(TABLE)
    assert run(["fed", "strategies"]) == 0
    assert "trimmedmean  trim=0.2" in capsys.readouterr().out


@pytest.mark.train
def test_under_mpirun(updates: list[str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "hpcflow.cli",
        "fed",
        "aggregate",
        "--strategy",
        "fedavg",
        "-o",
        "out",
        *updates,
    ]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "X": "1"})
    one = (tmp_path / "out").read_bytes()
    mpirun = [str(Path(sys.prefix) / "bin" / "mpirun"), "--oversubscribe", "--bind-to", "none", "-n", "2"]
    done = subprocess.run([*mpirun, *command], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "out\n", "rank 0 alone speaks"
    assert (tmp_path / "out").read_bytes() == one
