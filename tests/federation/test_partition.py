"""Partitions: everybody's items are disjoint and together all, whatever the parameters; and what the kinds promise."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcflow.cli import run
from hpcflow.errors import InputError
from hpcflow.federation import partition
from hpcflow.federation.models.digits import load_digits, split_digits
from hpcflow.federation.seeds import generator, sample

LABELS = load_digits().labels.tolist()


def check(parts: partition.Partition, items: int) -> None:
    together = np.concatenate(list(parts.values()))
    assert sorted(together.tolist()) == list(range(items))
    assert all((np.diff(part) > 0).all() for part in parts.values())


@given(st.integers(1, 200), st.integers(1, 20), st.integers(0, 5))
def test_iid(items: int, collaborators: int, seed: int) -> None:
    if items < collaborators:
        with pytest.raises(InputError, match="cannot be shared"):
            partition.iid(items, collaborators, seed)
        return
    parts = partition.iid(items, collaborators, seed)
    check(parts, items)
    assert max(map(len, parts.values())) - min(map(len, parts.values())) <= 1
    again = partition.iid(items, collaborators, seed)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


@given(st.integers(1, 12), st.sampled_from([0.1, 0.3, 1.0, 100.0]), st.integers(0, 5))
@settings(max_examples=40)
def test_dirichlet(collaborators: int, alpha: float, seed: int) -> None:
    parts = partition.dirichlet(LABELS, collaborators, alpha, seed)
    check(parts, len(LABELS))
    assert min(map(len, parts.values())) >= 1


def skew(parts: partition.Partition) -> float:
    """Mean total variation between a collaborator's labels and all."""
    whole = np.bincount(LABELS, minlength=10) / len(LABELS)
    labels = np.array(LABELS)
    own = [np.bincount(labels[part], minlength=10) / len(part) for part in parts.values()]
    return float(np.mean([np.abs(counts - whole).sum() / 2 for counts in own]))


def test_a_smaller_alpha_is_more_uneven() -> None:
    found = [skew(partition.dirichlet(LABELS, 10, alpha)) for alpha in (0.1, 1.0, 100.0)]
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.1 < 0.5 < found[0]


def test_dirichlet_gives_up_with_a_reason() -> None:
    with pytest.raises(InputError, match=r"no Dirichlet\(0.001\) draw"):
        partition.dirichlet(["a"] * 50, 40, 0.001)
    with pytest.raises(InputError, match="alpha is 0"):
        partition.dirichlet(LABELS, 3, 0)


@given(st.integers(1, 30), st.integers(1, 10), st.integers(0, 5))
@settings(max_examples=60)
def test_labels(collaborators: int, each: int, seed: int) -> None:
    if collaborators * each < 10:
        with pytest.raises(InputError, match="cannot hold all 10 labels"):
            partition.by_labels(LABELS, collaborators, each, seed)
        return
    parts = partition.by_labels(LABELS, collaborators, each, seed)
    check(parts, len(LABELS))
    assert {len(set(np.array(LABELS)[part].tolist())) for part in parts.values()} == {each}


@pytest.mark.parametrize("sizes", [[1000, 500, 297], [0.5, 0.3, 0.2], [0.999, 0.001], [1797]])
def test_sizes(sizes: list[float]) -> None:
    parts = partition.by_sizes(1797, sizes)
    check(parts, 1797)
    share = 1 if sum(sizes) > 2 else 1797
    assert [len(part) for part in parts.values()] == pytest.approx([size * share for size in sizes], abs=1)


@pytest.mark.parametrize("sizes", [[1, 1], [1.5, 2], [-1, 1798], [], [float("nan")]])
def test_sizes_that_do_not_work_out(sizes: list[float]) -> None:
    with pytest.raises(InputError, match="sizes"):
        partition.by_sizes(1797, sizes)


def test_institutions_as_fets_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "partitioning_1.csv"
    path.write_text("Partition_ID,Subject_ID\n1,FeTS2022_00000\n2,FeTS2022_00001\n1,FeTS2022_00002\n")
    table = partition.read_institutions(path)
    parts = partition.by_institution(["FeTS2022_00002", "FeTS2022_00001", "FeTS2022_00000"], table)
    assert {name: part.tolist() for name, part in parts.items()} == {"1": [0, 2], "2": [1]}
    with pytest.raises(InputError, match="no institution is named for x"):
        partition.by_institution(["x"], table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "which column is the subject"),
        ("subject,b\n1,2\n", "which column is the institution"),
        ("subject,institution\na,1\na,2\n", ":3: a is in 1 and in 2"),
        ("subject,institution\na\n", ":2: a subject or an institution is missing"),
        ("", "which column is the subject"),
    ],
)
def test_institutions_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        partition.read_institutions(tmp_path / "x.csv")


def test_who_takes_part_is_a_function_of_seed_round_and_name() -> None:
    names = [f"site{index}" for index in range(10)]
    chosen = sample(names, 0.3, 1, seed=1, round=4)
    assert len(chosen) == 3
    assert set(sample(names[::-1], 0.3, 1, seed=1, round=4)) == set(chosen)
    assert len(sample(names, 0.3, 5, seed=1, round=4)) == 5
    assert sample(names, 1.0, 1, seed=1, round=4) == names
    counts = [sum(name in sample(names, 0.3, 1, 0, number) for number in range(300)) for name in names]
    assert min(counts) > 50, "everybody's turn comes"


def test_digits_are_scikit_learns() -> None:
    digits = load_digits()
    assert digits.images.shape == (1797, 8, 8)
    assert (digits.images.min(), digits.images.max()) == (0, 1)
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    training, held = split_digits()
    assert (len(training), len(held)) == (1437, 360)
    assert generator(1, "a").random() != generator(1, "b").random()


@pytest.mark.parametrize(
    "options",
    [
        ["--by", "iid", "-n", "4"],
        ["--by", "dirichlet", "-n", "4", "--alpha", "0.3"],
        ["--by", "labels", "-n", "10", "--labels-each", "2"],
        ["--by", "sizes", "--sizes", "797,1000"],
    ],
)
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    out = tmp_path / "a b.csv"
    assert run(["data", "partition", "digits", "-o", str(out), "--json", *options]) == 0
    told: Any = json.loads(capsys.readouterr().out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["item"]) for row in rows) == list(range(1797))
    assert told["items"] == {name: sum(row["collaborator"] == name for row in rows) for name in told["items"]}


def test_command_by_institution_and_by_labels_of_a_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("id,label\n" + "".join(f'"s {i}",{i % 3}\n' for i in range(30)))
    where = tmp_path / "where.csv"
    where.write_text("subject,institution\n" + "".join(f'"s {i}",site {i % 4}\n' for i in range(30)))
    out = tmp_path / "out.csv"
    assert (
        run(
            [
                "data",
                "partition",
                str(items),
                "-o",
                str(out),
                "--by",
                "institution",
                "--institutions",
                str(where),
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == "site 0\t8\nsite 1\t8\nsite 2\t7\nsite 3\t7\n"
    assert (
        run(
            [
                "data",
                "partition",
                str(items),
                "-o",
                str(out),
                "--by",
                "labels",
                "-n",
                "3",
                "--labels-each",
                "1",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == "c00\t10\nc01\t10\nc02\t10\n"
    assert run(["data", "partition", str(where), "-o", str(out), "--by", "dirichlet"]) == 2
    assert "has no labels" in capsys.readouterr().err
    assert run(["data", "partition", str(items), "-o", str(out), "--by", "sizes"]) == 2
    assert "are no sizes" in capsys.readouterr().err
