"""A small chained round is concluded by the collaborator that completes it, else by its aggregation."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import Cluster
from commands import hpcflow
from federation.federations import BOWL, about, chunk, model, sets, status, submit
from hpcflow.experiment import load
from hpcflow.federation import concluder
from hpcflow.federation.plan import Plan
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import publish_json

NAMES = {"north", "south", "west"}


@pytest.mark.slurm
def test_whoever_is_the_last_concludes_and_the_aggregation_where_that_one_was_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.cancel_all()
    whole = submit(tmp_path / "whole", "--engine", "local", *sets(execution="inprocess"))
    run = submit(tmp_path / "c", "--set", "resources.extra=[--hold]", env=cluster.env, wait=False)
    # In round 2 somebody has claimed the round and was killed at it.
    (run / "rounds/0002").mkdir(parents=True)
    (run / "rounds/0002/concluder").write_text("killed")
    cluster.run("scontrol", "release", *_queued(run))
    watched = hpcflow("watch", run, env=cluster.env, timeout=300)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert model(run, 3) == model(whole, 3)
    assert [item["state"] for item in status(run)] == ["committed"] * 4
    logs = {number: (run / f"jobs/r{number:04d}-aggregate/out.log").read_text() for number in (1, 2, 3)}
    for number in (1, 3):
        name = (run / f"rounds/{number:04d}/concluder").read_text()
        assert name in NAMES
        log = run / f"jobs/r{number:04d}-train/{sorted(NAMES).index(name):04d}/out.log"
        assert f"round {number}: committed: north, south, west" in log.read_text()
        assert f"round {number}: was committed before" in logs[number]
        assert set(about(run, number)["accepted"]) == NAMES
    assert "round 2: committed: north, south, west" in logs[2]
    assert (run / "rounds/0002/concluder").read_text() == concluder.AGGREGATION


@pytest.mark.slurm
def test_no_later_round_needs_the_aggregation_of_one_that_is_committed(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.cancel_all()
    run = submit(tmp_path, "--set", "resources.extra=[--hold]", env=cluster.env, wait=False)
    held = [chunk(run, job) for job in ("r0001-aggregate", "r0002-train")]
    cluster.run("scontrol", "release", *(job for job in _queued(run) if job not in held))
    records = [run / f"jobs/r0001-train/{task:04d}/record.json" for task in range(3)]
    _until(lambda: all(path.exists() and json.loads(path.read_text())["ended"] for path in records))
    cluster.run("scancel", held[0])
    time.sleep(5)  # Slurm would find by then that a job which needs that one cannot begin any more
    cluster.run("scontrol", "release", held[1])
    watched = hpcflow("watch", run, env=cluster.env, timeout=300)
    assert watched.returncode == 1  # it was cancelled
    assert [item["state"] for item in status(run)] == ["committed"] * 4
    resumed = hpcflow("resume", run, "--wait", env=cluster.env, timeout=300)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr


def test_one_claim_wins(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    plan.round(1).path.mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        won = [*pool.map(lambda number: concluder.claim(plan, 1, f"c{number}"), range(8))]
    assert sum(won) == 1
    first = f"c{won.index(True)}"
    assert concluder.claim(plan, 1, first)  # begun again
    concluder.hand_over(plan, 1)
    assert not concluder.claim(plan, 1, first)
    assert concluder.claim(plan, 1, concluder.AGGREGATION)
    concluder.hand_over(plan, 2)
    assert not plan.round(2).path.exists()  # nobody has begun it


@pytest.mark.parametrize(
    ("rules", "updates", "may"),
    [
        ({}, NAMES, True),
        ({}, NAMES - {"west"}, False),
        ({"stragglers": "{policy: quorum, quorum: 1.0}"}, NAMES, True),
        # Somebody may have released the aggregation before.
        ({"stragglers": "{policy: quorum, quorum: 0.5}"}, NAMES, False),
        ({"stragglers": "{policy: cutoff, after: '00:05:00'}"}, NAMES, False),
        ({"aggregation__ranks": 2}, NAMES, False),
    ],
)
def test_who_may(rules: dict[str, object], updates: set[str], may: bool, tmp_path: Path) -> None:
    plan = _plan(tmp_path, **rules)
    plan.round(1).updates.mkdir(parents=True)
    for name in updates:
        plan.round(1).update(name).write_bytes(b"update")
    assert concluder.may_conclude(plan, 1) is may
    with plan.round(1).update("north").open("wb") as file:
        file.truncate(concluder.SMALL)
    assert not concluder.may_conclude(plan, 1)


def _plan(folder: Path, **rules: object) -> Plan:
    """Of a run that Slurm was given."""
    config = folder / "config.yaml"
    config.write_text(BOWL)
    run = RunDir(folder / "run")
    run.path.mkdir()
    publish_json(run.provenance, {"engine": "slurm"})
    return Plan(run, load(config, sets(**rules)[1::2]).experiment)


def _queued(run: Path) -> list[str]:
    return [chunk(run, path.parent.name) for path in run.glob("jobs/*/queued.json")]


def _until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
