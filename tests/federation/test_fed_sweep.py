"""Sweeps over federations: each trial is one, learnt in one process."""

import csv
import json
from pathlib import Path

from commands import hpcflow
from federation.federations import BOWL, model, sets, submit

DIGITS = BOWL.replace("model: {name: bowl, parameters: 5000}", "model: {name: digits, width: 4}")
SWEPT = DIGITS + (
    "  execution: inprocess\n  evaluation: {holdout: {fraction: 0.2}}\n"
    "sweep: {matrix: {federation.strategy: [fedavg, scaffold]}, repeats: 2}\n"
)


def test_every_trial_is_the_federation_that_it_would_be_alone(tmp_path: Path) -> None:
    swept = submit(tmp_path / "swept", "--engine", "local", config=SWEPT)
    tasks = {  # the order of trials and repeats: sweep.py, 9
        (strategy, seed): swept / "jobs" / "train" / f"{2 * seed + index:04d}"
        for seed in (0, 1)
        for index, strategy in enumerate(("fedavg", "scaffold"))
    }
    alone = DIGITS + "  execution: inprocess\n  evaluation: {holdout: {fraction: 0.2}}\n"
    for (strategy, seed), task in tasks.items():
        given = sets(strategy=strategy, seed=seed)
        run = submit(tmp_path / f"{strategy}-{seed}", "--engine", "local", *given, config=alone)
        assert model(task, 3) == model(run, 3)
    assert len({model(task, 3) for task in tasks.values()}) == 4
    rows = list(csv.DictReader((swept / "results.csv").open()))
    assert [(row["trial"], row["repeat"], row["round"]) for row in rows] == [
        ("1", "0", "3"), ("2", "0", "3"), ("1", "1", "3"), ("2", "1", "3"),
    ]  # fmt: skip
    for row, task in zip(rows, tasks.values(), strict=True):
        held = json.loads((task / "rounds/0003/evaluation/holdout.json").read_text())
        assert float(row["val_accuracy"]) == held["metrics"]["accuracy"]

    told = hpcflow("fed", "rounds", swept, "--target", "1e-9", "--json")
    found = json.loads(told.stdout)["trials"]
    assert [item["values"]["federation.strategy"] for item in found] == ["fedavg", "scaffold"]
    assert [[course["reached"] for course in item["courses"]] for item in found] == [[1, 1], [1, 1]]
    text = hpcflow("fed", "rounds", swept, "--target", "2").stdout
    assert text.count("> 3") == 4, text  # no accuracy is 2: neither the median round nor the latest is known
    loss = hpcflow("fed", "rounds", swept, "--target", "100", "--metric", "loss", "--json").stdout
    assert all(item["median"] == 1 for item in json.loads(loss)["trials"])
    wrong = hpcflow("fed", "rounds", swept, "--target", "1", "--metric", "dice")
    assert (wrong.returncode, "not judged by dice (but by accuracy, loss)" in wrong.stderr) == (1, True), (
        wrong.stderr
    )
    table = tmp_path / "rounds.md"
    assert hpcflow("fed", "rounds", swept, "--target", "0.2", "-o", table).returncode == 0
    assert table.read_text().startswith("| federation.strategy | seeds | rounds |")

    one = json.loads(hpcflow("fed", "status", swept, "--trial", "2", "--repeat", "1", "--json").stdout)
    assert (one["path"], len(one["told"])) == (str(tasks["scaffold", 1]), 4)
    missing = hpcflow("fed", "status", swept)
    assert missing.returncode == 2
    assert "--trial is missing: " in missing.stderr
    assert "has trials 1 to 2, repeats 0 to 1" in missing.stderr

    went = json.loads(hpcflow("fed", "prune", swept, "--models", "2", "--updates", "0", "--json").stdout)
    assert sum(name.endswith("/model.safetensors") for name in went["files"]) == 4 * 2
    assert not (tasks["fedavg", 0] / "rounds/0001/model.safetensors").exists()
    assert (tasks["fedavg", 0] / "rounds/0002/model.safetensors").exists()

    again = hpcflow(
        "submit", tmp_path / "swept/config.yaml", "--engine", "local", "--dry-run", cwd=swept.parents[2]
    )
    assert "all of them done before" in again.stdout, again.stdout


def test_what_cannot_be_swept_over_is_said_at_its_place(tmp_path: Path) -> None:
    cases = {
        SWEPT.replace("execution: inprocess", "execution: chained"): (
            "config.yaml:8:14: federation.execution: a trial of a sweep is one job, and `chained` takes several"
        ),
        SWEPT.replace(
            "repeats: 2", "scaling: strong"
        ): "config.yaml:10:69: sweep.scaling: flow: a federation's",
        SWEPT.replace(
            "flow: federated", "flow: comparison"
        ): "config.yaml:2:7: flow: `comparison` cannot be swept",
    }
    for text, said in cases.items():
        (tmp_path / "config.yaml").write_text(text)
        done = hpcflow("render", "config.yaml", "--engine", "local", cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
