"""The small parts: learning rate, checkpoints, metrics."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from hpcflow.training import checkpoint
from hpcflow.training.checkpoint import Progress
from hpcflow.training.metrics import MetricsLog, Terminal
from hpcflow.training.schedule import LearningRate


def test_the_rate_grows_to_size_times_the_base() -> None:
    rates = LearningRate(0.001, size=8, scale=True, warmup_steps=4)
    assert [round(rates.at(step), 6) for step in range(6)] == [0.00275, 0.0045, 0.00625, 0.008, 0.008, 0.008]
    assert LearningRate(0.001, 8, True, 0).at(0) == 0.008
    assert LearningRate(0.001, 8, False, 4).at(0) == LearningRate(0.001, 1, True, 4).at(9) == 0.001


def commit(folder: Path, progress: Progress, value: float) -> Path:
    weights = {"down0/kernel": np.full((2, 3), value, np.float32)}
    return checkpoint.save(folder, weights, {"iteration": np.array(progress.epoch)}, progress)


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    progress, dices = Progress(), [0.1, 0.7, 0.3, 0.4, 0.5]
    for epoch, dice in enumerate(dices, start=1):
        progress = progress.after(epoch, dice)
        commit(tmp_path, progress, dice)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0002", "epoch-0004", "epoch-0005"]
    assert progress == Progress(5, best_epoch=2, best_val_dice=0.7)
    found = checkpoint.latest(tmp_path)
    assert found == (tmp_path / "epoch-0005", progress)
    weights, optimizer = checkpoint.load(found[0])
    assert weights["down0/kernel"].tolist() == [[0.5] * 3] * 2 and optimizer["iteration"] == 5


def test_a_checkpoint_that_is_damaged_or_not_committed_is_passed_over(tmp_path: Path) -> None:
    first = commit(tmp_path, Progress(1, 1, 0.5), 1.0)
    second = commit(tmp_path, Progress(2, 1, 0.5), 2.0)
    data = bytearray((second / checkpoint.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (second / checkpoint.WEIGHTS).write_bytes(data)
    (tmp_path / "epoch-0003").mkdir()
    assert checkpoint.latest(tmp_path) == (first, Progress(1, 1, 0.5))
    assert checkpoint.latest(tmp_path / "none") is None


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    one, other = (commit(tmp_path / name, Progress(1, 1, 0.5), 1.0) for name in "ab")
    for name in ("manifest.json", checkpoint.WEIGHTS, checkpoint.OPTIMIZER):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_metrics_are_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.rewind(0, finished=False) == []
    for epoch in (1, 2, 3):
        log.append("epoch", {"epoch": epoch, "loss": 1 / epoch})
    log.append("end", {"epoch": 3})
    with log.path.open("a") as file:
        file.write('{"event": "epoch", "ep')
    assert [line["event"] for line in log.rewind(3, finished=True)] == ["epoch"] * 3 + ["end"]
    assert len(log.path.read_text().splitlines()) == 4
    assert [line["epoch"] for line in log.rewind(3, finished=False)] == [1, 2, 3]
    assert [line["epoch"] for line in log.rewind(2, finished=False)] == [1, 2]
    assert [json.loads(line)["epoch"] for line in log.path.read_text().splitlines()] == [1, 2]


class Screen(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("live", "shown"), [(Screen(), True), (io.StringIO(), False)])
def test_progress_is_drawn_on_a_terminal_alone(live: io.StringIO, shown: bool) -> None:
    out = io.StringIO()
    terminal = Terminal(10, out, live)
    terminal.step(1, 2, 30, 0.5)
    names = ("loss", "dice", "val_loss", "val_dice", "images_per_s", "allreduce_s", "epoch_s")
    terminal.epoch({"epoch": 1, **dict.fromkeys(names, 0.5)})
    assert ("epoch 1/10  step 2/30  loss 0.5000" in live.getvalue()) == shown
    assert out.getvalue().startswith("epoch 1/10  loss 0.5000  dice 0.5000") and "\r" not in out.getvalue()
