"""The U-Net of configs/federated_unet.yaml on a real Slurm, one collaborator of two ranks on two nodes."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster import Cluster
from commands import CONFIGS, hpcflow
from federation.federations import about, chunk, model, sets, status, submit
from hpcflow.experiment import load
from hpcflow.federation.client import Control, zeros_like
from hpcflow.federation.plan import Plan
from hpcflow.federation.statistics import trained
from hpcflow.jobs.rundir import RunDir
from hpcflow.placement.record import read

pytestmark = pytest.mark.train
CONFIG = (CONFIGS / "federated_unet.yaml").read_text()
TINY = ["--set", "training.limit_batches=2", "--set", "federation.evaluation={tuned: false}"]


def running(run: Path, job: str, task: int) -> dict[str, object]:
    """The record of a task once it runs."""
    record = run / "jobs" / job / f"{task:04d}" / "record.json"
    deadline = time.monotonic() + 900
    while True:
        if record.exists():
            found: dict[str, object] = json.loads(record.read_text())
            return found
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slurm
def test_five_rounds_with_a_failure_and_a_straggler_end_by_themselves(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.cancel_all()
    rules = sets(rounds=5, stragglers="{policy: quorum, quorum: 0.6, minimum: 2}")
    run = submit(tmp_path, *TINY, *rules, config=CONFIG, env=cluster.env, wait=False)

    def disturb() -> None:
        record = running(run, "r0002-train", 0)
        if record["ended"] is None:
            os.killpg(os.getpgid(int(str(record["pid"]))), signal.SIGKILL)
        running(run, "r0003-train", 1)
        cluster.run("scontrol", "suspend", f"{chunk(run, 'r0003-train')}_1", check=False)

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    watched = hpcflow("watch", run, env=cluster.env, timeout=1500)
    thread.join(1)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    said = {number: about(run, number) for number in range(1, 6)}
    for found in said.values():
        assert len(found["accepted"]) >= 2
        assert {*found["accepted"], *found["refused"], *found["late"]} == {"north", "south", "west"}
    assert set(said[2]["accepted"]) == {"south", "west"}
    assert "its job was killed or cancelled on" in said[2]["refused"]["north"]
    assert set(said[3]["accepted"]) == {"north", "south"}
    ranks = json.loads((run / "jobs/r0003-train-2/rankmap.json").read_text())["ranks"]
    assert [rank["node"] for rank in ranks] == [0, 1]
    assert sorted(read(run / "jobs/r0003-train-2/bindings")) == [0, 1]  # both checked in
    print(hpcflow("fed", "status", run).stdout)


def test_prox_and_scaffold_with_the_unet_in_two_executions(tmp_path: Path) -> None:
    strategy = ["--set", "federation.client={optimizer: sgd}", "--set", "training.strategy=single"]
    alike = ["--set", "federation.collaborators=2", "--set", "federation.rounds=2", "--engine", "local"]
    alike += ["--set", "federation.evaluation.tuned=true"]
    runs = [
        submit(
            tmp_path / execution,
            *TINY, *strategy, *alike, *sets(strategy="scaffold", execution=execution),
            config=CONFIG,
        )
        for execution in ("inprocess", "allocation")
    ]  # fmt: skip
    assert model(runs[0], 2) == model(runs[1], 2)
    assert status(runs[0])[2]["state"] == "committed"


def test_scaffold_divides_by_the_rate_that_trained(tmp_path: Path) -> None:
    """With two ranks twice the one that was said; and what batch normalisation keeps has no control variate."""
    from hpcflow.federation.learners.unet import UnetLearner

    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    sets = ["strategy=scaffold", "client={optimizer: sgd}"]
    more = ["training.limit_batches=1", "training.strategy=single", "training.model.depth=2"]
    loaded = load(config, [*(f"federation.{text}" for text in sets), *more, "federation.collaborators=2"])
    learner = UnetLearner(
        Plan(RunDir(tmp_path), loaded.experiment), "c00", lambda _: "", str(tmp_path / "cache")
    )
    learner.rates = replace(learner.rates, size=2)  # as the launcher's ranks would make it
    base = learner.initial()
    zeros = zeros_like(trained(base))
    learnt = learner.train(base, 1, Control(zeros, zeros))
    assert learnt.control is not None and learnt.steps == 1
    assert {name.rpartition("/")[2] for name in base.keys() - learnt.control.keys()} == {
        "moving_mean",
        "moving_variance",
    }
    for name, control in learnt.control.items():
        assert np.allclose(base[name] - learnt.weights[name], 2 * 0.003 * control, rtol=1e-4, atol=1e-9)
