"""`flow: comparison` and `flow: evaluation` by the command, on the digits."""

import csv
import json
from pathlib import Path

from commands import CONFIGS, hpcflow
from federation.federations import model, sets, submit

SMALL = sets(rounds=3, collaborators=3, partition__alpha=0.2)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_five_ways_of_learning_in_one_table_and_their_models_evaluated_again(tmp_path: Path) -> None:
    config = (CONFIGS / "federated_comparison.yaml").read_text()
    run = submit(tmp_path / "compare", "--engine", "local", *SMALL, config=config)
    table = {row["arm"]: row for row in rows(run / "comparison.csv")}
    assert list(table) == [
        "centralised", "federated", "alone.c00", "alone.c01", "alone.c02", "incremental", "cyclic",
        "gain of federated over alone",
    ]  # fmt: skip
    # Together they know digits that each alone has hardly seen.
    alone = [float(table[f"alone.c0{index}"]["holdout"]) for index in range(3)]
    assert float(table["federated"]["holdout"]) > max(alone)
    gain = table["gain of federated over alone"]
    assert float(gain["holdout"]) > 0
    # Of each institution: what the federation's model is worth on its data against its own model's worth there.
    names = ("c00", "c01", "c02")
    for name in names:
        own = float(table[f"alone.{name}"][name])
        assert abs(float(gain[name]) - (float(table["federated"][name]) - own) / own) < 1e-5
    assert abs(float(gain["mean"]) - sum(float(gain[name]) for name in names) / 3) < 1e-5

    # The federated arm is the federation by itself.
    alike = submit(
        tmp_path / "federated",
        *("--engine", "local", *SMALL, *sets(execution="inprocess"), "--set", "flow=federated"),
        config=config,
    )
    assert model(alike, 3) == model(run, 3, "federated")

    # Its model, given to `flow: evaluation`, is worth what it was.
    given = run / "arms/federated/rounds/0003/model.safetensors"
    judged = submit(
        tmp_path / "evaluate",
        *("--engine", "local", *SMALL, *sets(models=json.dumps([str(given)])), "--set", "flow=evaluation"),
        config=config,
    )
    worth = {row["collaborator"]: row["accuracy"] for row in rows(judged / "evaluation.csv")}
    assert worth == {name: table["federated"][name] for name in ("c00", "c01", "c02", "holdout")}
    assert {row["digest"] for row in rows(judged / "evaluation.csv")} == {model(run, 3, "federated")}


def test_an_evaluation_without_models_and_a_model_that_is_none(tmp_path: Path) -> None:
    config = CONFIGS / "federated_comparison.yaml"
    result = hpcflow("validate", config, "--set", "flow=evaluation")
    assert result.returncode == 2
    assert (
        "federation.models: flow: evaluation needs the models that it evaluates"
        in result.stdout + result.stderr
    )
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    arguments = [
        "--set",
        "flow=evaluation",
        "--set",
        "federation.models=[other.safetensors]",
        "--engine",
        "local",
    ]
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    ended = hpcflow("submit", config, *arguments, "--wait", env=state, cwd=tmp_path)
    assert ended.returncode == 1
    (log,) = tmp_path.glob("runs/*/*/jobs/evaluate/0000/out.log")
    assert "other.safetensors: is no safetensors file" in log.read_text()
