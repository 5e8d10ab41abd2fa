"""Reading metrics.jsonl: broken lines are named and left out, never fatal."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcflow.report.metrics import Metrics, read

GOOD = '{"event": "epoch", "epoch": 1, "loss": 0.5}'


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"event": "epoch", "epo', "no JSON"),
        ("\x00\x00\x00", "no JSON"),
        ("[1, 2]", "no JSON object"),
        ("7", "no JSON object"),
        ('{"event": "epoch", "loss": 1}', "an epoch without its number"),
        ('{"event": "epoch", "epoch": "2"}', "an epoch without its number"),
        ('{"event": "epoch", "epoch": true}', "an epoch without its number"),
        ('{"event": "epoch", "epoch": 0}', "an epoch without its number"),
        ('{"event": "epoch", "epoch": 999, "loss": "x", "val_dice": NaN}', "loss is no number"),
        ('{"event": "end", "startup_s": [1]}', "startup_s is no number"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line_and_left_out(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "it's $(here).jsonl"
    path.write_text(f"{GOOD}\n{line}\n" + GOOD.replace("1,", "2,") + "\n")
    said: list[str] = []
    found = read(path, said.append)
    assert said == [f"{path}:2: {why}; the line is left out"]
    assert [epoch["epoch"] for epoch in found.epochs] == [1, 2]


def test_bytes_that_are_no_text_break_their_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\xff\xfe{}\n" + GOOD.encode() + b"\n")
    assert len(read(path).epochs) == 1


def test_of_an_epoch_that_was_done_twice_the_later_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [GOOD.replace("1,", "2,"), GOOD, GOOD.replace("0.5", "0.25"), '{"event": "end", "startup_s": 3}']
    path.write_text("\n".join(lines))
    found = read(path)
    assert found.values("loss") == [0.25, 0.5]
    assert found.last["epoch"] == 2
    assert found.end["startup_s"] == 3


def test_what_nobody_knows_is_no_value_and_no_complaint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "epoch", "epoch": 1, "loss": null, "note": "x"}\n\n')
    found = read(path, pytest.fail)
    assert [found.values(key) for key in ("loss", "absent")] == [[], []]


def test_what_is_not_finite_is_named_and_left_out_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        f'{{"event": "epoch", "epoch": 1, "loss": NaN, "images_per_s": Infinity, "dice": 0.5, '
        f'"val_loss": 1{"0" * 400}}}\n'
        '{"event": "end", "cpu_s": 1e999, "startup_s": 2}\n'
    )
    said: list[str] = []
    found = read(path, said.append)
    assert said == [
        f"{path}:1: images_per_s, loss, val_loss: not finite; the value is left out",
        f"{path}:2: cpu_s: not finite; the value is left out",
    ]
    assert found.last == {"event": "epoch", "epoch": 1, "dice": 0.5}
    assert found.end == {"event": "end", "startup_s": 2}


def test_no_file_is_no_metrics_and_no_complaint(tmp_path: Path) -> None:
    assert read(tmp_path / "none", pytest.fail) == Metrics()


def test_a_file_that_cannot_be_read_is_a_complaint(tmp_path: Path) -> None:
    said: list[str] = []
    assert read(tmp_path, said.append) == Metrics()
    assert said == [f"{tmp_path}: Is a directory"]
