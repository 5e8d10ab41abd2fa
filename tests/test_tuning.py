"""hpcflow tune: what is tried, what is concluded, and the job that tries it."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import CONFIGS, hpcflow
from engines.runs import shell
from hpcflow.experiment import load
from hpcflow.experiment.sweep import Point, trial_of
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.layout import lay_out
from hpcflow.jobs.rundir import RunDir
from hpcflow.placement.topology import Topology
from hpcflow.tuning.__main__ import tune
from hpcflow.tuning.candidates import BLOCKTIMES, OPERATIONS, Candidate, candidates
from hpcflow.tuning.verdict import Measured, judge, keep, snippet

NODE = Topology.from_counts(2, 8, 2)


def test_candidates_are_valid_and_keep_the_batch_of_all_ranks() -> None:
    loaded = load(CONFIGS / "unet.yaml")
    found = candidates(loaded.experiment, NODE, ranks=2)
    assert found[0] == Candidate(0, {})
    assert [one.number for one in found] == list(range(len(found)))
    assert len({json.dumps(dict(one.values)) for one in found}) == len(found) == 24
    for one in found[1:]:
        made, _ = trial_of(loaded, Point(one.values))
        assert made is not None
        per_socket, cores = made.placement.ranks_per_socket, made.placement.cores_per_rank
        assert per_socket is not None
        assert isinstance(cores, int)
        assert per_socket * cores <= 8
        assert (
            made.training.batch_size * per_socket * 2 * made.resources.nodes
            == loaded.experiment.training.batch_size * 2
        )
        assert isinstance(made.threads.intra_op, int)
        assert made.threads.intra_op <= cores
    # A short list has all numbers of ranks.
    assert {
        one.values["placement.ranks_per_socket"] for one in candidates(loaded.experiment, NODE, 2, 6)[1:]
    } == {one.values["placement.ranks_per_socket"] for one in found[1:]}


@pytest.mark.parametrize("cores", [20, 64])
def test_the_default_list_has_all_values_of_all_dimensions(cores: int) -> None:
    loaded = load(CONFIGS / "unet.yaml")
    found = candidates(loaded.experiment, Topology.from_counts(2, cores, 1), ranks=2)
    assert len(found) == 24
    pairs = {
        (
            one.values["threads.kmp.blocktime"],
            one.values["threads.inter_op"],
            one.values["placement.cores_per_rank"] // one.values["threads.intra_op"],
        )
        for one in found[1:]
    }
    assert pairs == {(time, *operations) for time in BLOCKTIMES for operations in OPERATIONS}


speeds = st.lists(st.floats(1, 100), min_size=4, max_size=4).map(tuple)


@given(st.lists(speeds, min_size=1, max_size=4))
def test_certain_means_that_every_run_of_the_best_was_faster_than_any_of_ones_own(
    runs: list[tuple[float, ...]],
) -> None:
    verdict = judge([Measured(Candidate(number, {}), each) for number, each in enumerate(runs)])
    assert verdict.best.median == max(statistics.median(each) for each in runs)
    assert verdict.certain == (verdict.best is not verdict.own and min(verdict.best.speeds) > max(runs[0]))


def test_of_equal_settings_one_is_called_faster_once_in_20_times_at_most() -> None:
    """Four settings that do not differ, as in the last rung: 4000 times, and 3 standard deviations."""
    runs = np.random.default_rng(0).normal(100, 5, (4000, 4, 4))
    called = sum(
        judge([Measured(Candidate(number, {}), tuple(each)) for number, each in enumerate(tuning)]).certain
        for tuning in runs
    )
    assert called / len(runs) <= 1 / 20 + 0.01
    three = [Measured(Candidate(number, {}), (10.0 * number + 1,) * 3) for number in range(4)]
    assert not judge(three).certain, "three finalists take more than three runs"


OTHER = {"placement.ranks_per_socket": 2, "threads.kmp.blocktime": 0, "threads.intra_op": 4}


@pytest.mark.parametrize(
    ("own", "other", "sentence"),
    [
        ((10, 11, 12), (20, 21, 22), "ranks_per_socket 2, blocktime 0, intra_op 4: 21 images/s (20 to 22 in 3 runs) "
         "against 11 images/s (10 to 12 in 3 runs) with yours, 91 % faster"),
        ((10, 11, 21), (20, 21, 22), "no setting can be told from yours: the fastest had 21 images/s"),
        ((30, 31, 32), (20, 21, 22), "no setting was faster than yours (31 images/s"),
        ((), (20, 21, 22), "your setting could not be measured; ranks_per_socket 2"),
        ((), (), "no setting could be measured"),
        ((10,), (20,), "so few runs tell no setting from yours: the fastest had 20 images/s"),
    ],
)  # fmt: skip
def test_the_sentence(own: tuple[float, ...], other: tuple[float, ...], sentence: str) -> None:
    assert sentence in judge([Measured(Candidate(0, {}), own), Measured(Candidate(1, OTHER), other)]).sentence


def test_what_is_pasted_is_taken(tmp_path: Path) -> None:
    verdict = judge([Measured(Candidate(0, {}), (1, 1, 1)), Measured(Candidate(1, OTHER), (2, 2, 2))])
    text = snippet(verdict, "a node")
    assert text.splitlines()[2:] == [
        "placement: {ranks_per_socket: 2}",
        "threads: {kmp: {blocktime: 0}, intra_op: 4}",
    ]
    made = load(Path("x.yaml"), text=f"name: x\ntraining: {{data: {{phantom: {{}}}}}}\n{text}").experiment
    assert (made.placement.ranks_per_socket, made.threads.kmp.blocktime, made.threads.intra_op) == (2, 0, 4)
    site = "defaults:\n" + "".join(f"  {line}\n" for line in text.splitlines())
    (tmp_path / "site.yaml").write_text(site)
    config = "name: x\ntraining: {data: {phantom: {}}}\n"
    below = load(Path("x.yaml"), site_name=str(tmp_path / "site.yaml"), text=config)
    assert below.experiment.threads.intra_op == 4


def test_halving_keeps_the_fastest_third_and_ones_own() -> None:
    measured = [Measured(Candidate(number, {}), (float(number),)) for number in range(9)]
    assert [one.number for one in keep(measured, 3)] == [8, 7, 6, 0]
    assert [one.number for one in keep([Measured(Candidate(0, {}), (), "failed"), *measured[1:]], 3)] == [
        8,
        7,
        6,
    ]


# As the training writes it, at a speed of ten times the candidate's number and one more with each run.
TRAIN = """\
echo >>"$RAN"
[ "$NUMBER" != 3 ] || exit 1
speed=$((10 * NUMBER + $(wc -l <"$RAN")))
for epoch in 1 2 3; do
  echo "{\\"event\\": \\"epoch\\", \\"epoch\\": $epoch, \\"images_per_s\\": $((epoch == 1 ? 999 : speed))}"
done >>"$HPCFLOW_TASK_DIR/metrics.jsonl"
"""


def test_the_job_tries_all_in_turn_and_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs $(x)" / "1")
    folder = run.path / "tune"
    for number in range(4):
        job = shell("train", TRAIN, variables={"NUMBER": str(number), "RAN": str(tmp_path / f"ran{number}")})
        lay_out(
            RunDir(folder / "candidates" / f"{number:02d}"),
            JobGraph((job,)), json.dumps({"training": {}}), {"engine": "local"}, "t",
        ).write()  # fmt: skip
    plan = {
        "candidates": [{"number": n, "values": {"threads.inter_op": n} if n else {}} for n in range(4)],
        "rungs": [{"steps": 2, "repeats": 1, "share": 3}, {"steps": 6, "repeats": 4, "share": 1}],
        "epochs": 3, "where": "a test",
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    assert tune(run) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["best"] == {"threads.inter_op": 2}
    assert result["certain"]
    assert result["images_per_s"] == [22, 23, 24, 25]
    assert result["own_images_per_s"] == [2, 3, 4, 5]
    assert "threads: {inter_op: 2}" in (folder / "best.yaml").read_text()
    counts = [len((tmp_path / f"ran{number}").read_text().splitlines()) for number in range(4)]
    assert counts == [5, 5, 5, 1]
    steps = json.loads((folder / "trials" / "1-02-1" / "jobs" / "train" / "experiment.yaml").read_text())[
        "training"
    ]
    assert (steps["limit_batches"], steps["epochs"]) == (6, 3)
    assert not list(tmp_path.rglob("hacked"))
    # Again, as after a kill: only what failed is tried once more.
    (folder / "result.json").unlink()
    assert tune(run) == 0
    assert [len((tmp_path / f"ran{number}").read_text().splitlines()) for number in range(4)] == [5, 5, 5, 2]
    assert json.loads((folder / "result.json").read_text()) == result


def test_the_command_shows_what_it_would_try_and_refuses_as_submit_does(tmp_path: Path) -> None:
    config = ("tune", CONFIGS / "unet.yaml", "--engine", "local", "--dry-run")
    shown = hpcflow(*config, "--settings", "3", "--json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert [one["number"] for one in json.loads(shown.stdout)["candidates"]][:1] == [0]
    text = hpcflow(*config, "--settings", "3", "--set", "resources.time=00:05:00", cwd=tmp_path).stdout
    assert text.startswith("SETTING") and "Setting 0 is the experiment as it is." in text
    runs = 6 * len(json.loads(shown.stdout)["candidates"])
    assert f"At most {runs} runs of 3 epochs of 4 then 12 then 36 steps share 0:05:00" in text
    assert f"{300 / runs:.0f} s each" in text and ("That is little" in text) == (runs > 5)
    assert list(tmp_path.iterdir()) == []
    wrong = hpcflow(*config, "--set", "placement.cores_per_rank=4000", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("--set:1:26: placement.cores_per_rank: ")
