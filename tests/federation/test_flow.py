"""`flow: federated` by the command: three executions, two engines, one model; quorum, failures, resume, window."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from cluster import Cluster
from commands import hpcflow
from federation.federations import BOWL, about, chunk, model, sets, status, submit
from hpcflow.federation.cast import queued_tasks
from hpcflow.federation.conclusion import conclude
from hpcflow.federation.plan import plan_of
from hpcflow.federation.tensorfile import publish_tensors
from hpcflow.jobs.rundir import RunDir

DIGITS = BOWL.replace("model: {name: bowl, parameters: 5000}", "model: {name: digits, width: 4}")
STRATEGIES = {
    "fedavg": sets(partition="{method: sizes, sizes: [1, 2, 3]}"),
    "scaffold": sets(strategy="scaffold", participation__fraction=0.6),
    "fedadam": sets(strategy="fedadam", client__optimizer="momentum", seed=7),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_three_executions_end_in_the_same_bytes(strategy: str, tmp_path: Path) -> None:
    runs = {
        execution: submit(
            tmp_path / execution,
            *STRATEGIES[strategy],
            *sets(execution=execution),
            "--engine",
            "local",
            config=DIGITS,
        )
        for execution in ("inprocess", "chained", "allocation")
    }
    assert len({model(run, 3) for run in runs.values()}) == 1
    assert len({model(runs["inprocess"], number) for number in range(4)}) == 4
    for run in runs.values():
        told = status(run)
        assert [item["state"] for item in told] == ["committed"] * 4
        assert told[3]["aggregated"]["accuracy"] > told[0]["aggregated"]["accuracy"]
        assert told[3]["aggregated"]["accuracy"] == pytest.approx(_by_samples(run, 3, "accuracy"))
    rows = list(csv.DictReader((runs["chained"] / "results.csv").open()))
    asked = {row["collaborator"]: row for row in rows if row["job"] == "r0003-train"}
    for name, item in about(runs["chained"], 3)["accepted"].items():
        assert float(asked[name]["samples"]) == item["samples"]
        assert float(asked[name]["val_accuracy"]) == item["metrics"]["tuned/accuracy"]
    (row,) = csv.DictReader((runs["inprocess"] / "results.csv").open())
    assert (row["round"], row["val_accuracy"]) == ("3", str(told[3]["aggregated"]["accuracy"]))


@pytest.mark.slurm
def test_the_same_on_slurm_and_with_ranks_that_aggregate(cluster: Cluster, tmp_path: Path) -> None:
    cluster.cancel_all()
    here = submit(tmp_path / "here", "--engine", "local", *sets(execution="inprocess"))
    for execution in ("chained", "allocation"):
        there = submit(
            tmp_path / f"clus ter $(touch hacked)' {execution}",
            *sets(execution=execution, aggregation__ranks=2 if execution == "chained" else 1),
            env=cluster.env,
        )
        assert model(there, 3) == model(here, 3)
        assert model(there, 1) == model(here, 1)
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.slurm
def test_quorum_a_failure_and_a_straggler_on_slurm(cluster: Cluster, tmp_path: Path) -> None:
    """Quorum 2 of 3, 5 rounds: north's job is killed in round 2, west's does not begin in round 3."""
    cluster.cancel_all()
    rules = sets(rounds=5, stragglers="{policy: quorum, quorum: 0.5, minimum: 2}")
    run = submit(tmp_path, *rules, "--set", "resources.extra=[--hold]", env=cluster.env, wait=False)
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), **cluster.env}
    cluster.run("scancel", f"{chunk(run, 'r0002-train')}_0")
    everything = [
        chunk(run, path.name) for path in (run / "jobs").iterdir() if (path / "queued.json").exists()
    ]
    slow = chunk(run, "r0003-train")
    for job in everything:
        if job != slow:
            cluster.run("scontrol", "release", job, check=False)
    cluster.run("scontrol", "release", f"{slow}_0", f"{slow}_1")
    watched = hpcflow("watch", run, env=state, timeout=300)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    second, third = about(run, 2), about(run, 3)
    assert set(second["accepted"]) == {"south", "west"}
    assert second["refused"] == {"north": "its job was killed or cancelled before it began"}
    assert set(third["accepted"]) == {"north", "south"}
    assert third["late"] == ["west"]
    for number in range(1, 6):
        said = about(run, number)
        assert len(said["accepted"]) >= 2
        assert {*said["accepted"], *said["refused"], *said["late"]} == {"north", "south", "west"}
    assert cluster.run("squeue", "--me", "--noheader").stdout == ""
    told = hpcflow("fed", "status", run, env=state)
    assert "5 of 5 rounds committed" in told.stdout
    assert hpcflow("status", run, env=state).returncode == 0


@pytest.mark.slurm
def test_an_update_that_is_no_use_completes_no_quorum(cluster: Cluster, tmp_path: Path) -> None:
    """Quorum 2 of 3. North's update is truncated: in round 1 before the quorum is complete, which then needs west; in
    round 2 after that, so that the aggregation begins with too few and waits for west.
    """
    cluster.cancel_all()
    rules = sets(rounds=2, stragglers="{policy: quorum, quorum: 0.5, minimum: 2}")
    run = submit(tmp_path, *rules, "--set", "resources.extra=[--hold]", env=cluster.env, wait=False)
    first, second = chunk(run, "r0001-train"), chunk(run, "r0002-train")
    merging = chunk(run, "r0002-aggregate")
    for job in ("begin", "r0001-aggregate"):
        cluster.run("scontrol", "release", chunk(run, job))
    _release(cluster, f"{first}_0")
    _until(lambda: _ended(run, "r0001-train", 0))
    _truncate(run / "rounds/0001/updates/north.safetensors")
    _release(cluster, f"{first}_1")
    _until(lambda: _ended(run, "r0001-train", 1))
    waits = cluster.run("squeue", "--noheader", "--format=%t", "--jobs", chunk(run, "r0001-aggregate"))
    assert waits.stdout.strip() == "PD"
    _release(cluster, f"{first}_2")
    _until(lambda: (run / "rounds/0001/manifest.json").exists())
    assert set(about(run, 1)["accepted"]) == {"south", "west"}
    assert "truncated" in about(run, 1)["refused"]["north"]
    _release(cluster, f"{second}_0", f"{second}_1")
    _until(lambda: _ended(run, "r0002-train", 0) and _ended(run, "r0002-train", 1))
    _truncate(run / "rounds/0002/updates/north.safetensors")
    _release(cluster, merging)
    log = run / "jobs/r0002-aggregate/out.log"
    _until(lambda: log.exists() and "too few updates can be used: waits for west" in log.read_text())
    _release(cluster, f"{second}_2", *([chunk(run, "r0002-evaluate")]))
    watched = hpcflow("watch", run, env=cluster.env, timeout=300)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert set(about(run, 2)["accepted"]) == {"south", "west"}
    assert "truncated" in about(run, 2)["refused"]["north"]
    assert "already finished" not in "".join(path.read_text() for path in run.rglob("out.log"))


@pytest.mark.slurm
def test_a_cutoff_counts_from_the_beginning_of_the_round(cluster: Cluster, tmp_path: Path) -> None:
    """West's job waits in the queue beyond it."""
    cluster.cancel_all()
    rules = sets(rounds=1, stragglers="{policy: cutoff, after: '00:00:08', minimum: 2}")
    run = submit(tmp_path, *rules, "--set", "resources.extra=[--hold]", env=cluster.env, wait=False)
    first = chunk(run, "r0001-train")
    _release(cluster, *(chunk(run, job) for job in ("r0001-aggregate", "r0001-evaluate", "begin")))
    _release(cluster, f"{first}_0", f"{first}_1")
    _until(lambda: _ended(run, "begin"))
    begun = json.loads((run / "jobs/begin/record.json").read_text())["ended"]
    # By itself Slurm may look for jobs whose time has come half a minute later.
    _until(lambda: time.time() > begun + 9)
    cluster.run("scontrol", "update", f"JobId={chunk(run, 'r0001-aggregate')}", "Comment=look")
    watched = hpcflow("watch", run, env=cluster.env, timeout=300)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    said = about(run, 1)
    assert (set(said["accepted"]), said["late"]) == ({"north", "south"}, ["west"])
    merged = json.loads((run / "jobs/r0001-aggregate/record.json").read_text())["started"]
    assert 6 < merged - begun < 30
    assert cluster.run("squeue", "--me", "--noheader").stdout == ""


@pytest.mark.slurm
def test_who_runs_into_the_cutoff_is_refused_for_it(cluster: Cluster, tmp_path: Path) -> None:
    """West hangs until its time limit, which is the cut-off; no job is told of when the round began."""
    cluster.cancel_all()
    rules = sets(rounds=1, stragglers="{policy: cutoff, after: '00:05:00', minimum: 2}")
    run = submit(tmp_path, *rules, env=cluster.env, wait=False)
    train, record = chunk(run, "r0001-train"), run / "jobs/r0001-train/0002/record.json"
    _until(record.exists)
    os.killpg(os.getpgid(json.loads(record.read_text())["pid"]), signal.SIGSTOP)
    _until(lambda: _ended(run, "r0001-train", 0) and _ended(run, "r0001-train", 1))
    # As if the five minutes were over for its job (Slurm looks every 30 s), and then for the round.
    cluster.run("scontrol", "update", f"JobId={train}_2", "EndTime=now+1")
    seen = ("squeue", "--states=all", "--noheader", "--format=%T", "--jobs", f"{train}_2")
    _until(lambda: cluster.run(*seen).stdout.strip() == "TIMEOUT")
    merging = chunk(run, "r0001-aggregate")
    cluster.run("scontrol", "update", f"JobId={merging}", "StartTime=now")
    watched = hpcflow("watch", run, env=cluster.env, timeout=300)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    said, host = about(run, 1), json.loads(record.read_text())["host"]
    assert (set(said["accepted"]), said["late"]) == ({"north", "south"}, [])
    assert said["refused"] == {"west": f"its job ran into the cut-off of 00:05:00 on {host}"}


def test_the_site_of_a_collaborator_is_in_its_jobs_alone(tmp_path: Path) -> None:
    profile = "name: w\ndefaults: {resources: {partition: gpu}, environment: {variables: {KEY: west, SHARED: two}}}\n"
    (tmp_path / "west.yaml").write_text(profile)
    members = "[{name: north}, {name: west, site: west.yaml}, {name: south}]"
    shared = ("--set", "environment.variables={SHARED: one, ALL: yes}")
    run = submit(tmp_path, "--engine", "local", *shared, *sets(collaborators=members, rounds=1))
    scripts = {path.parent.name: path.read_text() for path in run.glob("jobs/*/script.sh")}
    assert [name for name, text in scripts.items() if "--partition=gpu" in text] == ["r0001-train-2"]
    lines = {name: [line for line in text.splitlines() if "export" in line] for name, text in scripts.items()}
    assert {"export KEY=west", "export SHARED=two", "export ALL=yes"} <= set(lines["r0001-train-2"])
    assert {"export SHARED=one", "export ALL=yes"} <= set(lines["r0001-train"])
    assert not any("KEY=" in line for line in lines["r0001-train"])
    assert set(about(run, 1)["accepted"]) == {"north", "west", "south"}
    # What has been resolved asks no profile again.
    (run.parents[2] / "west.yaml").unlink()
    assert hpcflow("fed", "status", run).returncode == 0


@pytest.mark.slurm
def test_a_chain_that_cannot_be_extended_goes_on_once_it_can(cluster: Cluster, tmp_path: Path) -> None:
    """The partition takes no jobs when round 1 is committed, and does again before round 2 is."""
    cluster.cancel_all()
    whole = submit(tmp_path / "whole", "--engine", "local", *sets(execution="inprocess", rounds=4))
    run = submit(tmp_path / "w", *sets(rounds=4, window=2), env=cluster.env, wait=False)
    state = {"XDG_STATE_HOME": str(tmp_path / "w/state"), **cluster.env}
    held = chunk(run, "r0002-aggregate")
    try:
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=DRAIN")
        cluster.run("scontrol", "hold", held)
        _until(lambda: (run / "unextended.json").exists() and _ended(run, "r0001-aggregate"))
        told = hpcflow("status", run, env=state)
        assert "could not be extended after round 1" in told.stdout
        assert "the next aggregation tries again" in told.stdout
        assert "could not be extended after round 1" in hpcflow("fed", "status", run, env=state).stdout
    finally:
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    _release(cluster, held)
    watched = hpcflow("watch", run, env=state, timeout=300)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert model(run, 4) == model(whole, 4)
    assert not (run / "unextended.json").exists()


def test_a_minimum_above_the_quorum_is_waited_for_and_nobody_is_lost(tmp_path: Path) -> None:
    """Workers whose start takes longer than a round are late again and again."""
    rules = sets(collaborators=5, rounds=25, execution="allocation", participation__minimum=4)
    run = submit(tmp_path, "--engine", "local", *rules, *sets(stragglers="{policy: quorum, quorum: 0.4}"))
    for number in range(1, 26):
        said = about(run, number)
        assert len(said["accepted"]) >= 4
        assert said["refused"] == {}


@pytest.mark.slurm
def test_a_late_update_is_used_in_the_next_round_with_less_weight(cluster: Cluster, tmp_path: Path) -> None:
    cluster.cancel_all()
    late = "{policy: quorum, quorum: 0.5, minimum: 2, late: next, staleness: 1.0}"
    run = submit(
        tmp_path, *sets(stragglers=late), "--set", "resources.extra=[--hold]", env=cluster.env, wait=False
    )
    first, second = chunk(run, "r0001-train"), chunk(run, "r0002-train")
    for job in ("begin", "r0001-aggregate"):
        cluster.run("scontrol", "release", chunk(run, job))
    cluster.run("scontrol", "release", f"{first}_0", f"{first}_1")
    _until(lambda: (run / "rounds/0001/manifest.json").exists())
    cluster.run("scontrol", "release", f"{first}_2")
    _until(lambda: (run / "rounds/0001/updates/west.safetensors").exists())
    cluster.run("scontrol", "release", f"{second}_0", f"{second}_1", chunk(run, "r0002-aggregate"))
    _until(lambda: (run / "rounds/0002/manifest.json").exists())
    said = about(run, 2)
    assert said["accepted"]["west"]["round"] == 1
    assert said["accepted"]["west"]["weight"] == 50.0  # 100 samples, one round late
    assert said["accepted"]["south"]["weight"] == 2.5
    hpcflow("cancel", run, env={**cluster.env})


@pytest.mark.parametrize("execution", ["chained", "inprocess", "allocation"])
def test_below_the_minimum_the_run_stops_and_can_be_resumed(execution: str, tmp_path: Path) -> None:
    whole = submit(tmp_path / "whole", "--engine", "local", *sets(execution="inprocess"))
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.yaml").write_text(BOWL)
    state = {"XDG_STATE_HOME": str(folder / "state")}
    submitted = hpcflow(
        "submit",
        "config.yaml",
        "--engine",
        "local",
        *sets(execution=execution),
        "--json",
        env=state,
        cwd=folder,
    )
    run = Path(json.loads(submitted.stdout)["path"])
    # What stands in the place of round 2's folder of updates no collaborator can remove.
    (run / "rounds/0002").mkdir(parents=True)
    (run / "rounds/0002/updates").write_text("in the way")
    watched = hpcflow("watch", run, env=state)
    assert watched.returncode == 1
    told = status(run)
    assert [item["state"] for item in told] == ["committed", "committed", "stopped"]
    assert set(told[2]["refused"]) == {"north", "south", "west"}
    assert "FileExistsError" in told[2]["refused"]["north"]
    (run / "rounds/0002/updates").unlink()
    (run / "rounds/0002/updates").mkdir()
    # Of a client that was killed as it wrote.
    (left := run / "rounds/0002/updates/.north.safetensors.n1.17.0a0b0c0d.tmp").write_bytes(b"half")
    resumed = hpcflow("resume", run, "--wait", env=state, timeout=300)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "goes on with round 2 of 3" in resumed.stdout
    assert model(run, 3) == model(whole, 3)
    again = hpcflow("resume", run, env=state)
    assert "has committed all 3 rounds" in again.stdout
    assert not left.exists()
    (run / "rounds/0002/manifest.json").write_text("{")
    assert [item["state"].partition(":")[0] for item in status(run)] == [
        "committed",
        "committed",
        "damaged",
        "committed",
    ]


@pytest.mark.parametrize("engine", ["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def test_a_window_extends_itself_and_never_holds_more(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    env: dict[str, str] = {}
    if engine == "slurm":
        cluster: Cluster = request.getfixturevalue("cluster")
        cluster.cancel_all()
        env = cluster.env
    rounds = 5
    whole = submit(tmp_path / "whole", "--engine", "local", *sets(execution="inprocess", rounds=rounds))
    run = submit(tmp_path / "w", "--engine", engine, *sets(rounds=rounds, window=2), env=env, wait=False)
    first = json.loads((run / "graph.json").read_text())["jobs"]
    assert [job["name"] for job in first][-1] == "r0002-aggregate"
    state = {"XDG_STATE_HOME": str(tmp_path / "w/state"), **env}
    with _counting(run, env) as counts:
        watched = hpcflow("watch", run, env=state, timeout=300)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    plan = plan_of(RunDir(run))
    # An aggregation that queues one more round is there still.
    assert (
        max(counts, default=0)
        <= queued_tasks(plan, 2)
        < sum(len(plan.participants(n)) + 1 for n in range(1, 6))
    )
    assert engine == "local" or max(counts) > queued_tasks(plan, 1)
    jobs = [job["name"] for job in json.loads((run / "graph.json").read_text())["jobs"]]
    assert jobs[-1] == "r0005-evaluate"
    assert model(run, rounds) == model(whole, rounds)


@pytest.mark.parametrize("engine", ["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def test_a_killed_job_and_a_resume_end_in_the_same_bytes(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    env: dict[str, str] = {}
    if engine == "slurm":
        cluster: Cluster = request.getfixturevalue("cluster")
        cluster.cancel_all()
        env = cluster.env
    whole = submit(tmp_path / "whole", "--engine", "local", *sets(execution="inprocess"))
    run = submit(tmp_path / "k", "--engine", engine, env=env, wait=False)
    record = run / "jobs/r0002-train/0001/record.json"
    _until(record.exists)
    os.killpg(os.getpgid(json.loads(record.read_text())["pid"]), signal.SIGKILL)
    hpcflow("watch", run, env=env, timeout=300)
    for _ in range(3):
        if hpcflow("resume", run, "--wait", env=env, timeout=300).returncode == 0:
            break
    assert model(run, 3) == model(whole, 3)


def test_a_damaged_update_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    rules = sets(execution="inprocess", rounds=1, participation__minimum=2)
    run = submit(tmp_path, "--engine", "local", *rules)
    update = run / "rounds/0001/updates/north.safetensors"
    whole = update.read_bytes()
    for damage, reason in ((whole[:-100], "truncated"), (whole[:-4] + b"\xff" * 4, "corrupt")):
        update.write_bytes(damage)
        (run / "rounds/0001/manifest.json").unlink()
        conclude(plan_of(RunDir(run)), 1)
        said = about(run, 1)
        assert set(said["accepted"]) == {"south", "west"}
        assert reason in said["refused"]["north"]


def test_tensors_and_pruning(tmp_path: Path) -> None:
    rules = sets(execution="inprocess", rounds=5, retention="{models: 2, updates: 2, every: 4}")
    run = submit(tmp_path, "--engine", "local", *rules)
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    shown = hpcflow("fed", "show", run, "w", "--round", "2", "--origin", "north", "--json", env=state)
    assert len(json.loads(shown.stdout)["values"]) == 5000
    unknown = hpcflow("fed", "show", run, "v", env=state)
    assert unknown.returncode == 2
    assert "has no tensor `v` (it has w)" in unknown.stderr
    written = hpcflow("fed", "show", run, "w", "--round", "2", "-o", tmp_path / "no ending", env=state)
    assert written.returncode == 0
    assert np.load(tmp_path / "no ending").shape == (5000,)
    assert not (tmp_path / "no ending.npy").exists()
    nowhere = hpcflow("fed", "show", run, "w", "-o", tmp_path / "no folder" / "w.npy", env=state)
    assert nowhere.returncode == 2
    assert nowhere.stderr.endswith("w.npy: it cannot be written: No such file or directory\n")
    halves = np.array([1.5, -0.25, 3.0], ml_dtypes.bfloat16)
    publish_tensors(run / "rounds/0001/model.safetensors", {"w": halves, "none": np.zeros((0, 2), "f4")}, {})
    narrow = json.loads(hpcflow("fed", "show", run, "w", "--round", "1", "--json", env=state).stdout)
    assert (narrow["type"], narrow["values"], narrow["max"]) == ("BF16", [1.5, -0.25, 3.0], 3.0)
    assert hpcflow("fed", "show", run, "none", "--round", "1", env=state).returncode == 0
    (left := run / "rounds/0001/times/.north.json.n1.17.0a0b0c0d.tmp").write_bytes(b"half")
    os.utime(left, (0, 0))
    before = hpcflow("fed", "prune", run, "--dry-run", "--json", env=state)
    assert hpcflow("fed", "prune", run, env=state).returncode == 0
    kept = sorted(str(path.relative_to(run / "rounds")) for path in run.glob("rounds/*/model.safetensors"))
    assert kept == [f"{number:04d}/model.safetensors" for number in (0, 4, 5)]
    assert {path.parents[1].name for path in run.glob("rounds/*/updates/*")} == {"0004", "0005"}
    assert len(json.loads(before.stdout)["files"]) == 3 + 9 + 1
    assert not left.exists()
    gone = hpcflow("fed", "show", run, "w", "--round", "2", env=state)
    assert gone.returncode == 2
    assert "No such file" in gone.stderr
    (run / "rounds").rename(run / "none")
    none = hpcflow("fed", "show", run, "w", env=state)
    assert none.returncode == 2
    assert "has no round yet" in none.stderr


@pytest.mark.parametrize(
    ("override", "place", "sentence"),
    [
        ("federation.strategy=fedadm", "federation.strategy", "did you mean fedadam?"),
        ("federation.options.mu=1", "federation.options.mu", "no such option"),
        (
            "federation.participation.minimum=4",
            "federation.participation.minimum",
            "there are 3 collaborators",
        ),
        ("federation.rounds=0", "federation.rounds", "expected 1 or more"),
        ("federation.stragglers.policy=cutoff", "federation.stragglers.after", "needs its time"),
        (
            "federation.collaborators=[{name: a}, {name: a}]",
            "federation.collaborators.1.name",
            "two collaborators",
        ),
        (
            "federation.collaborators=[{name: holdout}]",
            "federation.collaborators.0.name",
            "hpcflow needs itself",
        ),
        ("training.model.name=unet2d", "federation.collaborators.0", "has no data"),
        ("flow=train", "flow", "say flow: federated"),
        ("federation.strategy=krum", "federation.strategy", "krum needs"),
        (
            "federation.strategy=scaffold; federation.client.optimizer=momentum",
            "federation.client.optimizer",
            "(say sgd)",
        ),
        (
            "federation.strategy=SCAFFOLD; federation.client.mu=0.1",
            "federation.client.mu",
            "without a proximal term (say mu: 0)",
        ),
        (
            "federation.strategy=fednova; federation.client.optimizer=adam",
            "federation.client.optimizer",
            "not those of adam",
        ),
        (
            "federation.strategy=fednova; federation.client.optimizer=momentum; federation.client.mu=0.1",
            "federation.client.mu",
            "not both at once",
        ),
        (
            "training.model.name=unet2d; storage.data=/data; federation.partition.method=dirichlet",
            "federation.partition.method",
            "subjects have no labels for dirichlet",
        ),
        (
            "training.model.name=unet2d; storage.data=/data; federation.partition.method=labels",
            "federation.partition.method",
            "subjects have no labels for labels",
        ),
        (
            "training.data.phantom.tumour_radius=[0.3, 0.2]",
            "training.data.phantom.tumour_radius",
            "two rising fractions",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_its_key(
    override: str, place: str, sentence: str, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(BOWL if "krum" not in override else BOWL.replace(", {name: west}", ""))
    words = [word for text in override.split("; ") for word in ("--set", text)]
    result = hpcflow("validate", config, *words)
    assert result.returncode == 2
    assert f" {place}: " in result.stdout + result.stderr
    assert sentence in result.stdout + result.stderr


def _release(cluster: Cluster, *jobs: str) -> None:
    for job in jobs:
        cluster.run("scontrol", "release", job)


def _ended(run: Path, job: str, task: int | None = None) -> bool:
    folder = run / "jobs" / job
    record = (folder if task is None else folder / f"{task:04d}") / "record.json"
    return record.exists() and json.loads(record.read_text())["ended"] is not None


def _truncate(update: Path) -> None:
    update.write_bytes(update.read_bytes()[:-100])


def _by_samples(run: Path, round: int, metric: str) -> float:
    """The mean of a metric of the last aggregate over all collaborators, weighted by their samples."""
    told = [about(run, number)["accepted"] for number in range(1, round + 1)]
    samples = {name: item["samples"] for accepted in told for name, item in accepted.items()}
    found = {
        name: json.loads((run / f"rounds/{round:04d}/evaluation/{name}.json").read_text())["metrics"][metric]
        for name in samples
    }
    return sum(found[name] * samples[name] for name in samples) / sum(samples.values())


@contextlib.contextmanager
def _counting(run: Path, env: dict[str, str]) -> Iterator[list[int]]:
    """The number of the run's tasks in Slurm's queue, looked at every half second; none without a cluster."""
    counts: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            words = ["squeue", "--me", "--array", "--noheader", "--format=%Z"]
            said = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
            counts.append(said.splitlines().count(str(run)))

    thread = threading.Thread(target=look, daemon=True)
    if env:
        thread.start()
    try:
        yield counts
    finally:
        over.set()
        if env:
            thread.join()


def _until(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
