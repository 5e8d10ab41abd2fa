"""Real trainings: TensorFlow, Horovod, two ranks under mpirun, on tiny phantoms."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from training_runs import SMALL, environment, launch, make_run, metrics, run_module

from hpcflow.experiment.schema import Placement
from hpcflow.placement.rankmap import plan
from hpcflow.placement.topology import Topology
from hpcflow.training import checkpoint

pytestmark = pytest.mark.train

SEVERAL = Path(__file__).with_name("several_jobs.py")


def variant(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of ``base`` with changes, a section of which changes that section's keys."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        result[key] = {**result[key], **value} if isinstance(value, dict) else value
    return result


# Long enough to be killed in the middle.
LONG = variant(
    SMALL,
    epochs=8,
    data={"phantom": {"subjects": 12, "shape": [40, 40, 24], "seed": 3}, "crop": [32, 32, 24]},
)
# No batch normalisation, dropout or noise: a step's gradient then depends on the samples of all ranks together alone.
PLAIN = variant(
    SMALL,
    model={"batch_norm": False, "dropout": 0.0},
    data={"augment": {"flip": True}},
    scale_learning_rate=False,
    batch_size=2,
    loss="dice_bce",
)
ALONE = variant(PLAIN, strategy="single", batch_size=4)
VOLUMES = variant(
    SMALL, model={"name": "unet3d", "upsampling": "nearest"}, batch_size=1, epochs=2, checkpoint_every=5
)


def several(folder: Path, cache: Path, jobs: dict[str, dict[str, Any]], ranks: int | None) -> str:
    """Run several trainings in one process (or one a rank), after preparing their data."""
    for name, training in jobs.items():
        run, _ = make_run(folder / "prepared" / name, training)
        prepared = run_module("hpcflow.training.prepare", "--cache", cache, run, "train", 0)
        assert prepared.returncode == 0, prepared.stderr
    spec = folder / f"{ranks}.json"
    spec.write_text(json.dumps([{"folder": str(folder / name), "training": t} for name, t in jobs.items()]))
    command = [*launch(ranks), sys.executable, str(SEVERAL), str(cache), str(spec)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trainings below, run by two ranks or (alone, one_rank) one, and `cache`."""
    folder = tmp_path_factory.mktemp("done")
    several(folder, folder / "cache", {"undisturbed": LONG, "plain": PLAIN, "volumes": VOLUMES}, ranks=2)
    one_rank = variant(ALONE, strategy="horovod")
    several(folder, folder / "cache", {"alone": ALONE, "one_rank": one_rank}, ranks=1)
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_and_says_so(done: Path) -> None:
    *epochs, end = lines(done / "undisturbed")
    assert [line["epoch"] for line in epochs] == list(range(1, 9)) and {line["event"] for line in epochs} == {
        "epoch"
    }
    assert epochs[-1]["loss"] < 0.8 * epochs[0]["loss"] and epochs[-1]["dice"] > epochs[0]["dice"]
    for line in epochs:
        assert line["ranks"] == 2 and line["images_per_s"] > 0 and 0 < line["allreduce_s"] < line["train_s"]
        assert (
            line["train_s"] <= line["epoch_s"]
            and 0 <= line["val_dice"] <= 1
            and line["time"].endswith("+00:00")
        )
    assert epochs[-1]["learning_rate"] == pytest.approx(2e-3)
    assert end["event"] == "end" and end["resumed_from"] == 0
    assert end["best_val_dice"] == max(line["val_dice"] for line in epochs)
    assert end["total_s"] > end["startup_s"] > 0 and end["val_dice"] == epochs[-1]["val_dice"]


def test_a_checkpoint_is_weights_optimizer_and_progress(done: Path) -> None:
    found = checkpoint.latest(done / "undisturbed")
    assert found is not None
    path, progress = found
    end = lines(done / "undisturbed")[-1]
    assert progress == checkpoint.Progress(8, end["best_epoch"], end["best_val_dice"])
    weights, optimizer = load_file(path / checkpoint.WEIGHTS), load_file(path / checkpoint.OPTIMIZER)
    assert weights["down0_conv_a/kernel"].shape == (3, 3, 2, 4)
    assert np.isfinite(np.concatenate([array.ravel() for array in weights.values()])).all()
    assert optimizer["m/down0_conv_a/kernel"].shape == (3, 3, 2, 4)
    assert int(optimizer["iteration"]) % 8 == 0, "whole epochs of equal length"


def test_two_ranks_compute_what_one_does_with_twice_the_batch(done: Path) -> None:
    """Holds only if shards are disjoint and whole, gradients and metrics averaged by samples, padding of no
    weight, and all ranks start alike."""
    for one, two in zip(lines(done / "alone"), lines(done / "plain"), strict=True):
        for name in ("loss", "dice", "val_loss", "val_dice"):
            assert two[name] == pytest.approx(one[name], rel=2e-3, abs=2e-4), name
    (_, arrays), (_, expected) = (
        checkpoint.load(done / name / "epoch-0003")[::-1] for name in ("plain", "alone")
    )
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, rtol=0.02, atol=2e-3, err_msg=name)


def test_one_rank_of_horovod_is_the_single_strategy(done: Path) -> None:
    for name in ("loss", "dice", "val_loss", "val_dice"):
        assert [line[name] for line in lines(done / "one_rank")] == [
            line[name] for line in lines(done / "alone")
        ]
    for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER):
        assert (done / "one_rank/epoch-0003" / name).read_bytes() == (
            done / "alone/epoch-0003" / name
        ).read_bytes()


def test_volumes_train_and_the_last_epoch_is_always_kept(done: Path) -> None:
    assert [line["event"] for line in lines(done / "volumes")] == ["epoch", "epoch", "end"]
    assert [path.name for path in (done / "volumes").glob("epoch-*")] == ["epoch-0002"]


def kill_ranks(mpirun: int) -> None:
    """SIGKILL to every process that mpirun started."""
    for child in Path(f"/proc/{mpirun}/task/{mpirun}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def test_a_killed_run_ends_in_the_same_bytes(done: Path, tmp_path: Path) -> None:
    """Killed with SIGKILL in the middle and started again, the run ends as the one nobody disturbed, which
    another process ran with the same seed: so same seed and ranks give the same losses too."""
    run, task = make_run(tmp_path / "it's a $(run)", LONG)
    arguments = ["--data", "", "--cache", str(done / "cache"), str(run), "train", "0"]
    command = [*launch(2), sys.executable, "-m", "hpcflow.training", *arguments]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        deadline = time.monotonic() + 200
        while not (task.checkpoints / "epoch-0002").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        kill_ranks(process.pid)
        process.communicate()
        assert process.returncode != 0
    killed = checkpoint.latest(task.checkpoints)
    assert killed is not None and 2 <= killed[1].epoch < 8

    resumed = run_module("hpcflow.training", *arguments, ranks=2)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed after epoch {killed[1].epoch}" in resumed.stdout
    for wanted in (done / "undisturbed").glob("epoch-*/*"):
        assert (task.checkpoints / wanted.parent.name / wanted.name).read_bytes() == wanted.read_bytes()
    result, undisturbed = metrics(task), lines(done / "undisturbed")
    for name in ("event", "epoch", "loss", "dice", "val_loss", "val_dice", "learning_rate"):
        assert [line.get(name) for line in result] == [line.get(name) for line in undisturbed], name
    assert result[-1]["resumed_from"] == killed[1].epoch


def test_ranks_that_do_not_know_each_other_end_with_one_sentence(tmp_path: Path) -> None:
    """Two processes of which each is rank 0 of 1, as when the launcher is of another MPI than Horovod's."""
    run, task = make_run(tmp_path / "run", SMALL)
    planned = plan(Placement(ranks_per_node=2), [Topology.from_counts(1, 2)])
    task.experiment.with_name("rankmap.json").write_text(planned.to_text())
    alone = 'unset "${!OMPI_@}" "${!PMIX_@}" "${!ORTE_@}"; exec "$@"'
    command = [*launch(2), "bash", "-c", alone, "bash", sys.executable, "-m", "hpcflow.training"]
    arguments = ["--cache", str(tmp_path / "cache"), str(run), "train", "0"]
    # Without a launcher the MPI of the Python package must be told where it lies.
    env = {**environment(), "OPAL_PREFIX": sys.prefix}
    ended = subprocess.run(
        [*command, *arguments], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 1
    sentence = "hpcflow: 2 ranks are planned, and no launcher's variables are in the environment: "
    assert sentence in ended.stderr and "Traceback" not in ended.stderr
    assert ended.stderr.count("hpcflow:") == 1
    assert not task.metrics.exists() and not task.checkpoints.exists()


def test_without_preparation_it_ends_with_one_sentence(tmp_path: Path) -> None:
    run, task = make_run(tmp_path / "run", variant(SMALL, strategy="single"))
    ended = run_module(
        "hpcflow.training", "--data", tmp_path / "no data", "--cache", tmp_path / "c", run, "train", 0
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == f"hpcflow: {tmp_path / 'no data'} is not a directory"
    assert not task.metrics.exists()
