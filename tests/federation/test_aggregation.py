"""Strategies against plain NumPy in float64, and what must make no difference: order, names, threads, layout."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from federation.files import SHAPES, Arrays, equal, merge, read, tensors, write
from hpcflow.errors import InputError, RunError
from hpcflow.federation.aggregation import Files, TooFew, aggregate
from hpcflow.federation.kernels import Culprits
from hpcflow.federation.selection import Candidate
from hpcflow.federation.strategies import TABLE, describe, make
from hpcflow.federation.strategies.base import linear
from hpcflow.federation.strategies.network import network, order
from hpcflow.federation.strategies.robust import krum_scores, nearest_to_median
from hpcflow.federation.strategies.user import LocalTensor
from hpcflow.federation.tensorfile import TensorFile, publish_tensors

SAMPLES = [3, 50, 7, 111, 20, 1, 99]
NUMBER = len(SAMPLES)


@pytest.fixture
def updates(tmp_path: Path) -> list[Path]:
    return [write(tmp_path, f"u{i}", tensors(i), n, steps=3 + i) for i, n in enumerate(SAMPLES)]


def stacked(name: str) -> Any:
    return np.stack([tensors(i)[name] for i in range(NUMBER)]).astype(np.float64)


def flat() -> Any:
    return np.stack(
        [np.concatenate([a.reshape(-1) for a in tensors(i).values()]) for i in range(NUMBER)]
    ).astype("f8")


def as_float32(found: Path, expected: Any, ulps: int = 1, least: float = 0.0) -> None:
    """What was found is the float64 value rounded once, or ``ulps`` of it, or of ``least`` if larger, from it."""
    arrays = read(found)
    assert arrays.keys() == SHAPES.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert array.shape == SHAPES[name]
        exact = np.asarray(expected(name))
        error = np.abs(array - exact)
        assert (error <= ulps * np.spacing(np.maximum(np.abs(exact), least).astype("f4"))).all(), name


def weighted(weights: Any) -> Any:
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    return lambda name: np.tensordot(shares, stacked(name), 1)


def nova() -> Any:
    n, steps = np.array(SAMPLES, "f8"), np.arange(3.0, 3 + NUMBER)
    p = n / n.sum()
    return lambda name: np.tensordot(p * (p @ steps) / steps, stacked(name), 1)


def trimmed(name: str) -> Any:
    return np.sort(stacked(name), axis=0)[1:-1].mean(axis=0)


def brute_distances() -> Any:
    rows = flat()
    return np.array([[np.sum((a - b) ** 2) for b in rows] for a in rows])


def krum_choice(count: int, byzantine: int) -> Any:
    scores = []
    for index, row in enumerate(brute_distances()):
        others = sorted(np.delete(row, index))
        scores.append(sum(others[: NUMBER - byzantine - 2]))
    return np.isin(np.arange(NUMBER), np.argsort(scores)[:count]).astype("f8")


def bulyan(name: str) -> Any:
    # f = 1: five of seven chosen one after the other, of those the three nearest to the median.
    left, chosen = list(range(NUMBER)), []
    whole = brute_distances()
    for _ in range(5):
        rows = {i: sorted(whole[i, j] for j in left if j != i) for i in left}
        # Of two that are each other's only neighbour the one nearer to all.
        chosen.append(min(left, key=lambda i: (sum(rows[i][: max(1, len(left) - 3)]), sum(rows[i]))))
        left.remove(chosen[-1])
    rows = stacked(name)[chosen]
    nearest = np.argsort(np.abs(rows - np.median(rows, axis=0)), axis=0, kind="stable")[:3]
    return np.take_along_axis(rows, nearest, axis=0).mean(axis=0)


ORACLES: dict[str, tuple[dict[str, Any], Any]] = {
    "fedavg": ({}, weighted(SAMPLES)),
    "FedAvg": ({"by": "uniform"}, weighted(np.ones(NUMBER))),
    "fedprox": ({"mu": "0.5"}, weighted(SAMPLES)),
    "fednova": ({}, nova()),
    "median": ({}, lambda name: np.median(stacked(name), axis=0)),
    "trimmed_mean": ({"trim": "0.2"}, trimmed),
    "krum": ({"f": "1"}, weighted(krum_choice(1, 1))),
    "Multi-Krum": ({"byzantine": 1, "select": 3}, weighted(krum_choice(3, 1))),
    "bulyan": ({"f": 1}, bulyan),
}


@pytest.mark.parametrize("name", ORACLES)
def test_strategy(name: str, updates: list[Path], tmp_path: Path) -> None:
    options, expected = ORACLES[name]
    merge(updates, name, tmp_path / "out", options=options)
    # Fractions are rounded to 29 bits, which shows where a sum cancels.
    as_float32(tmp_path / "out", expected, least=1.0 if name == "fednova" else 0.0)


def test_geometric_median_is_where_the_weighted_distances_are_least(
    updates: list[Path], tmp_path: Path
) -> None:
    merge(updates, "geometric-median", tmp_path / "out", options={"by": "uniform"})
    rows = flat()
    found = np.concatenate([array.reshape(-1) for array in (read(tmp_path / "out")[name] for name in SHAPES)])

    def cost(point: Any) -> float:
        return float(np.linalg.norm(rows - point, axis=1).sum())

    # At the minimum the unit vectors to the updates cancel.
    pulls = (rows - found) / np.linalg.norm(rows - found, axis=1)[:, None]
    assert np.linalg.norm(pulls.sum(axis=0)) < 1e-5
    assert cost(found) <= min(cost(rows.mean(axis=0)), *map(cost, rows))


def test_geometric_median_of_small_updates_is_the_small_one_of_large_updates(tmp_path: Path) -> None:
    """Not the mean, as it would be with a smoothing that is larger than the updates; scaled by a power of two they are
    the same numbers.
    """
    found = []
    for scale in (1.0, 2.0**-30):
        paths = [write(tmp_path / str(scale), f"u{i}", tensors(i, scale)) for i in range(4)]
        paths.append(write(tmp_path / str(scale), "far", tensors(9, 1000 * scale)))
        merge(paths, "geometricmedian", tmp_path / f"{scale}.out")
        found.append(
            {name: array / np.float32(scale) for name, array in read(tmp_path / f"{scale}.out").items()}
        )
    assert equal(found[0], found[1])
    paths = [write(tmp_path / "same", f"s{i}", tensors(3)) for i in range(3)]
    merge(paths, "geometricmedian", tmp_path / "same.out")
    assert equal(read(tmp_path / "same.out"), tensors(3))


def test_geometric_median_holds_against_a_minority_of_anything(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"u{i}", tensors(i)) for i in range(7)]
    paths += [write(tmp_path, f"bad{i}", tensors(i, 1e6)) for i in range(3)]
    honest = np.stack([np.concatenate([a.reshape(-1) for a in tensors(i).values()]) for i in range(7)])
    for strategy, options in {
        "geometricmedian": {},
        "krum": {"f": 3},
        "median": {},
        "trimmedmean": {"trim": 0.3},
    }.items():
        merge(paths, strategy, tmp_path / "out", options=options)
        found = np.concatenate([read(tmp_path / "out")[name].reshape(-1) for name in SHAPES])
        assert np.linalg.norm(found) < 3 * np.linalg.norm(honest, axis=1).max(), strategy


def same(strategy: str) -> dict[str, Any]:
    return {"user": {"function": "federation.test_aggregation:halves"}}.get(strategy, {})


def halves(local_tensors: list[LocalTensor], tensor_name: str, fl_round: int) -> Any:
    """A user's function: sums by weight, and marks the round."""
    total = np.zeros(local_tensors[0].tensor.shape)
    for local in local_tensors:
        total += local.weight * local.tensor.astype("f8") / 2
    return total + (fl_round if tensor_name == "scale" else 0)


@pytest.mark.parametrize("strategy", TABLE)
def test_order_names_and_threads_make_no_difference(strategy: str, tmp_path: Path) -> None:
    control = {"control": tensors(50)} if strategy == "scaffold" else {}
    contents = [(tensors(i), n, 3.0 + i) for i, n in enumerate(SAMPLES)]
    results = set()
    for number, (turn, threads) in enumerate([(0, 1), (3, 2), (5, 4)]):
        folder = tmp_path / str(number)
        paths = [
            # The same contents under other names, in another order.
            write(folder, f"c{(index + number) % NUMBER}", arrays, samples, steps=steps, **control)
            for index, (arrays, samples, steps) in enumerate(contents)
        ]
        merge(paths[turn:] + paths[:turn], strategy, folder / "out", threads=threads, options=same(strategy))
        results.add(b"".join(array.tobytes() for array in read(folder / "out").values()))
    assert len(results) == 1


def test_twins_and_shared_beginnings_are_told_apart(tmp_path: Path) -> None:
    """Updates that differ in one late element only are still added in an order that their contents decide."""
    contents = [tensors(0) for _ in range(4)]
    for index, arrays in enumerate(contents):
        arrays["dense/kernel"][200, 3 + index] = 1e8 * (-1) ** index / 3
    results = set()
    for number, order_ in enumerate(list(permutations(range(4)))[::5]):
        folder = tmp_path / str(number)
        paths = [write(folder, f"c{place}", contents[index]) for place, index in enumerate(order_)]
        merge(paths, "fedavg", folder / "out")
        results.add(b"".join(array.tobytes() for array in read(folder / "out").values()))
    assert len(results) == 1


def test_layout_makes_no_difference(updates: list[Path], tmp_path: Path) -> None:
    """Files whose tensors lie in another order (by type and name is usual, but no rule) give the same result."""
    merge(updates, "fedavg", tmp_path / "one")
    for path in updates[::2]:
        # The library orders by type: another type first shifts, then a file by hand in reversed order.
        arrays = dict(load_file(path))
        samples = next(str(n) for i, n in enumerate(SAMPLES) if path.stem == f"u{i}")
        by_hand(path, arrays, {"num_samples": samples})
    merge(updates, "fedavg", tmp_path / "two")
    # The probes see other bytes, so the order of the sum may differ: the last bit of float64, not of float32.
    for name, array in read(tmp_path / "one").items():
        assert np.allclose(array, read(tmp_path / "two")[name], rtol=1e-6, atol=1e-7)


def by_hand(path: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
    table: dict[str, Any] = {"__metadata__": metadata}
    data = b""
    for name in sorted(arrays, reverse=True):
        raw = arrays[name].tobytes()
        table[name] = {
            "dtype": "F32",
            "shape": list(arrays[name].shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(table).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_server_optimizers_over_rounds(strategy: str, tmp_path: Path) -> None:
    """Three rounds against the papers' formulas; the state is a file between them."""
    model = tensors(100)
    from hpcflow.federation.tensorfile import publish_tensors

    publish_tensors(tmp_path / "model0", model, {})
    exact = {name: array.astype("f8") for name, array in model.items()}
    first = {name: np.zeros_like(array) for name, array in exact.items()}
    second = {name: np.full_like(array, 1e-6) for name, array in exact.items()}
    for round_ in range(3):
        paths = [
            write(tmp_path / str(round_), f"u{i}", tensors(10 * round_ + i, 0.01), 2 + i) for i in range(3)
        ]
        state = tmp_path / f"state{round_}" if round_ else None
        merge(
            paths,
            strategy,
            tmp_path / f"model{round_ + 1}",
            base=tmp_path / f"model{round_}",
            state=state,
            state_into=tmp_path / f"state{round_ + 1}",
        )
        for name in exact:
            rows = [(2 + i) * tensors(10 * round_ + i, 0.01)[name].astype("f8") for i in range(3)]
            change = sum(rows) / 9
            if strategy == "fedavgm":
                first[name] = 0.9 * first[name] + change
                exact[name] = exact[name] + first[name]
                continue
            beta1 = 0.0 if strategy == "fedadagrad" else 0.9
            first[name] = beta1 * first[name] + (1 - beta1) * change
            square = change**2
            if strategy == "fedadagrad":
                second[name] = second[name] + square
            elif strategy == "fedadam":
                second[name] = 0.99 * second[name] + 0.01 * square
            else:
                second[name] = second[name] - 0.01 * square * np.sign(second[name] - square)
            exact[name] = exact[name] + 0.01 * first[name] / (np.sqrt(second[name]) + 1e-3)
    found = read(tmp_path / "model3")
    for name, array in exact.items():
        # float32 model and state, rounded three times each.
        assert np.allclose(found[name], array, rtol=1e-6, atol=1e-7), name
    with pytest.raises(RunError, match="state of another strategy or model"):
        other = "fedadam" if strategy == "fedavgm" else "fedavgm"
        merge(paths, other, tmp_path / "x", base=tmp_path / "model0", state=tmp_path / "state3")


NORM = {
    "norm/gamma": np.ones(3, "f4"),
    "norm/moving_mean": np.full(3, 2.0, "f4"),
    "norm/moving_variance": np.ones(3, "f4"),
}


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadam", "fedyogi", "fednova", "scaffold"])
def test_moving_statistics_are_averaged_whatever_the_strategy(strategy: str, tmp_path: Path) -> None:
    """A variance that falls in every round stays positive: no server optimizer, normalisation or control touches it."""
    publish_tensors(tmp_path / "model0", NORM, {})
    options = {"learning_rate": 2.0} if strategy == "scaffold" else {}
    for number in range(3):
        base, updates = read(tmp_path / f"model{number}"), []
        local = [{name: array * np.float32(share) for name, array in base.items()} for share in (0.05, 0.15)]
        for index, (mine, steps) in enumerate(zip(local, (1, 30), strict=True)):
            change = {name: mine[name] - base[name] for name in base}
            control = {"norm/gamma": np.ones(3, "f4")} if strategy == "scaffold" else None
            updates.append(
                write(
                    tmp_path / str(number),
                    f"u{index}",
                    change,
                    1,
                    steps=steps,
                    round=number + 1,
                    control=control,
                )
            )
        before = tmp_path / f"state{number}"
        merge(
            updates,
            strategy,
            tmp_path / f"model{number + 1}",
            base=tmp_path / f"model{number}",
            state=before if before.exists() else None,
            state_into=tmp_path / f"state{number + 1}",
            options=options,
        )
        after = read(tmp_path / f"model{number + 1}")
        for name in ("norm/moving_mean", "norm/moving_variance"):
            assert np.allclose(after[name], 0.1 * base[name], rtol=1e-5), name
        if (tmp_path / "state1").exists():
            assert {name.partition("/")[2] for name in read(tmp_path / "state1")} == {"norm/gamma"}
    assert (tmp_path / "state1").exists() == (strategy not in ("fedavg", "fednova"))


def test_a_late_change_of_a_variance_is_not_added_to_another_one(tmp_path: Path) -> None:
    base = {"norm/moving_variance": np.full(3, 0.05, "f4"), "norm/gamma": np.ones(3, "f4")}
    publish_tensors(tmp_path / "model", base, {})
    changes = {"late": (-0.95, 1), "there": (0.05, 2)}  # the late one from a model whose variance was 1
    paths = [
        write(tmp_path, name, {key: np.full(3, by, "f4") for key in base}, 1, round=number)
        for name, (by, number) in changes.items()
    ]
    merge(paths, "fedavg", tmp_path / "out", base=tmp_path / "model", round=2)
    assert read(tmp_path / "out")["norm/moving_variance"] == pytest.approx(0.1)
    assert read(tmp_path / "out")["norm/gamma"] == pytest.approx(1 - 0.45)


def test_weights_as_updates(tmp_path: Path) -> None:
    """Updates may hold weights: their mean is the new model, and FedAdam takes the change from the base."""
    from hpcflow.federation.tensorfile import publish_tensors

    publish_tensors(tmp_path / "base", tensors(9), {})
    after = [tensors(i) for i in range(3)]
    absolute = [
        write(tmp_path / "a", f"u{i}", arrays, 1 + i, kind="weights") for i, arrays in enumerate(after)
    ]
    assert merge(absolute, "fedavg", tmp_path / "model", base=tmp_path / "base").kind == "weights"
    merge(absolute, "fedavg", tmp_path / "alone")
    assert equal(read(tmp_path / "model"), read(tmp_path / "alone"))
    merge(absolute, "fedavgm", tmp_path / "moved", base=tmp_path / "base")
    for name, array in read(tmp_path / "moved").items():
        assert np.allclose(array, read(tmp_path / "model")[name], rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match="fedavgm needs deltas"):
        merge(absolute, "fedavgm", tmp_path / "x")


@pytest.mark.parametrize("number", [1, 16, 17, 37])
def test_one_product_and_several_are_the_mean(number: int, tmp_path: Path) -> None:
    """Of one update, of just as many as a product takes, and of more, with weights of 0 between them: the first product
    of a block is the sum so far, the others are added to it.
    """
    paths = [write(tmp_path, f"u{i}", tensors(i), 1) for i in range(number)]
    weights = [float(i * 7 % 5) or (1.0 if number == 1 else 0.0) for i in range(number)]
    candidates = [Candidate(path, weight=weight) for path, weight in zip(paths, weights, strict=True)]
    for threads in (1, 3):
        into = tmp_path / f"out{threads}"
        aggregate(candidates, make("fedavg"), Files(into), threads=threads)
        for name, array in read(into).items():
            rows = np.stack([tensors(i)[name] for i in range(number)]).astype("f8")
            exact = np.tensordot(np.asarray(weights) / sum(weights), rows, 1)
            assert np.allclose(array, exact, rtol=2**-23, atol=1e-12), name


def test_a_mean_of_huge_numbers_is_no_culprit(tmp_path: Path) -> None:
    """Numbers whose squares are no float64 are finite all the same; beside a NaN only that is refused."""
    huge = {"w": np.full(70_001, 1e200)}
    paths = [write(tmp_path, f"u{i}", huge) for i in range(3)]
    assert not merge(paths, "fedavg", tmp_path / "out").refused
    assert np.array_equal(read(tmp_path / "out")["w"], huge["w"])
    paths.append(tmp_path / "bad")
    save_file({"w": np.where(np.arange(70_001) == 70_000, np.nan, 1e200)}, paths[-1], {"num_samples": "1"})
    (refusal,) = merge(paths, "fedavg", tmp_path / "out", verify=False).refused
    assert (refusal.name, refusal.reason) == ("bad", "holds NaN or an infinity in 'w'")
    assert np.array_equal(read(tmp_path / "out")["w"], huge["w"])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("strategy", ["fedavg", "median"])
def test_an_update_that_becomes_shorter_while_it_is_read_is_refused(
    strategy: str, threads: int, updates: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was whole when it was chosen and is cut in the middle of the pass: no signal, and the others' result."""
    original, place, half = TensorFile.read_bytes, TensorFile.place, updates[2].stat().st_size // 2

    def cut(file: TensorFile, end: int) -> None:
        if file.path == updates[2] and end > half:
            os.truncate(file.path, half)

    # As it is read here, and before compiled code reads it.
    def reading(file: TensorFile, view: memoryview, begin: int) -> None:
        cut(file, begin + len(view))
        original(file, view, begin)

    def placing(file: TensorFile, begin: int) -> tuple[int, int]:
        cut(file, begin + 4)
        return place(file, begin)

    monkeypatch.setattr(TensorFile, "read_bytes", reading)
    monkeypatch.setattr(TensorFile, "place", placing)
    (refusal,) = merge(updates, strategy, tmp_path / "out", threads=threads).refused
    assert (refusal.name, refusal.reason) == (updates[2].stem, "has become shorter while it was read")
    monkeypatch.undo()
    merge(updates[:2] + updates[3:], strategy, tmp_path / "others")
    assert equal(read(tmp_path / "out"), read(tmp_path / "others"))


def test_given_weights_replace_the_samples(updates: list[Path], tmp_path: Path) -> None:
    weights = [0.1, 2.0, 0.3, 0.0, 1 / 3, 5.0, 1e-3]
    candidates = [Candidate(path, weight=weight) for path, weight in zip(updates, weights, strict=True)]
    done = aggregate(candidates, make("fedavg"), Files(tmp_path / "out"))
    assert done.num_samples == pytest.approx(sum(weights))
    expected = weighted(weights)
    for name, array in read(tmp_path / "out").items():
        # Weights are rounded to 29 bits of the largest.
        assert np.allclose(array, expected(name), rtol=1e-6, atol=1e-7)
    with pytest.raises(InputError, match="is no weight"):
        Candidate(updates[0], weight=float("nan"))
    with pytest.raises(InputError, match="all updates have the weight 0"):
        aggregate([Candidate(updates[0], weight=0.0)], make("fedavg"), Files(tmp_path / "out"))


def test_integers_are_averaged_and_rounded(tmp_path: Path) -> None:
    for index in range(3):
        save_file(
            {"n": np.array([index, 10 * index, -index]), "b": np.array([index > 0])},
            tmp_path / f"{index}",
            {"num_samples": "1"},
        )
    for strategy in ("fedavg", "median", "fedadam"):
        merge([tmp_path / str(index) for index in range(3)], strategy, tmp_path / "out")
        assert read(tmp_path / "out")["n"].tolist() == [1, 10, -1]
        assert read(tmp_path / "out")["b"].tolist() == [True]


def test_aggregates_can_be_aggregated(updates: list[Path], tmp_path: Path) -> None:
    """In two levels by hand, each with the samples of its members: the mean of all."""
    merge(updates[:3], "fedavg", tmp_path / "one")
    merge(updates[3:], "fedavg", tmp_path / "two")
    done = merge([tmp_path / "one", tmp_path / "two"], "fedavg", tmp_path / "out")
    assert done.num_samples == sum(SAMPLES)
    as_float32(tmp_path / "out", weighted(SAMPLES), ulps=2, least=1.0)


def test_a_users_function(updates: list[Path], tmp_path: Path) -> None:
    merge(updates, "user", tmp_path / "out", options=same("user"), round=4)
    as_float32(tmp_path / "out", lambda name: weighted(SAMPLES)(name) / 2 + (4 if name == "scale" else 0))


def with_option(local_tensors: list[LocalTensor], power: str) -> Any:
    return np.mean([local.tensor for local in local_tensors], axis=0) * float(power)


def wrong_shape(local_tensors: list[LocalTensor]) -> Any:
    return 3.0


def asks_for_more(local_tensors: list[LocalTensor], tensor_db: Any) -> Any:
    return 3.0


def raises(local_tensors: list[LocalTensor]) -> Any:
    raise ZeroDivisionError("user's own")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"function": "federation.test_aggregation:wrong_shape"}, InputError, "returned the shape"),
        ({"function": "federation.test_aggregation:asks_for_more"}, InputError, "asks for tensor_db"),
        ({"function": "federation.test_aggregation:nothing"}, InputError, "cannot be imported"),
        ({"function": "no.such.module:f"}, InputError, "cannot be imported"),
        ({"function": "json.dumps"}, InputError, "import path"),
        ({"function": "federation.test_aggregation:SHAPES"}, InputError, "is no function"),
        ({"function": "federation.test_aggregation:halves", "q": "1"}, InputError, "no parameter q"),
        (
            {"function": "federation.test_aggregation:raises"},
            RunError,
            "federation.test_aggregation:raises failed on the tensor dense/bias: ZeroDivisionError: user's own",
        ),
    ],
)
def test_users_mistakes(
    updates: list[Path], tmp_path: Path, options: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        merge(updates, "user", tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_users_function_has_options(updates: list[Path], tmp_path: Path) -> None:
    options = {"function": "federation.test_aggregation:with_option", "power": "2"}
    merge(updates, "user", tmp_path / "out", options=options)
    as_float32(tmp_path / "out", lambda name: 2 * stacked(name).mean(axis=0), ulps=4, least=1.0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fedavgg", {}, "did you mean fedavg"),
        ("zzz", {}, "there are fedavg, fedavgm"),
        (
            "fedavg",
            {"by": "size", "q": 1},
            "by: 'size' is none of samples, uniform\nfedavg: q: there is no such option",
        ),
        ("krum", {"f": "1.5"}, "f: '1.5' is no whole number"),
        ("krum", {"f": "1", "byzantine": "2"}, "said twice"),
        ("fedadam", {"beta2": "1", "tau": "0"}, "beta2 is 1.0 .*\n.*tau is 0.0"),
        ("fedadam", {"tau": "inf"}, "no finite number"),
        ("trimmedmean", {"trim": 0.5}, "trim is 0.5"),
    ],
)
def test_options_are_checked(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(name, options)


def test_every_strategy_says_what_it_is() -> None:
    for kind in TABLE.values():
        assert len(describe(kind)["about"]) > 30
        assert describe(kind)["name"] == kind.name


def test_too_few_for_the_strategy(updates: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TooFew, match="4 of 4 updates can be used, and 5 are needed"):
        merge(updates[:4], "krum", tmp_path / "out", options={"byzantine": 1})
    with pytest.raises(TooFew, match="7 are needed"):
        merge(updates[:6], "bulyan", tmp_path / "out", options={"byzantine": 1})


@pytest.mark.parametrize("rows", range(1, 24))
def test_the_network_sorts(rows: int) -> None:
    """Every comparator network that sorts all 0-1 sequences sorts (Knuth 5.3.4, theorem Z)."""
    draw = np.random.default_rng(rows)
    count = min(1 << rows, 4096)
    bits = np.arange(count) if rows <= 12 else draw.integers(0, 1 << rows, count)
    columns = ((bits[None, :] >> np.arange(rows)[:, None]) & 1).astype("f4")
    values = draw.standard_normal((rows, 500)).astype("f4")
    for data in (columns, values):
        expected = np.sort(data, axis=0)
        assert np.array_equal(np.stack(order(data.copy(), range(rows))), expected)
        middle = {(rows - 1) // 2, rows // 2}
        found = order(data.copy(), middle)
        assert all(np.array_equal(found[row], expected[row]) for row in middle)
    assert len(network(rows, (rows // 2,))) <= len(network(rows, tuple(range(rows))))


@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=40)
def test_nearest_to_the_median(rows: int, fewer: int, seed: int) -> None:
    number = max(1, rows - fewer)
    values = np.random.default_rng(seed).integers(-5, 5, (rows, 40)).astype("f4")
    centre = np.median(values, axis=0)
    reach = np.sort(np.abs(values - centre), axis=0)[number - 1]
    found = nearest_to_median(values.copy(), number)
    for column, mean in enumerate(found):
        # Any window of that reach is right where distances tie.
        inside = np.sort(values[:, column][np.abs(values[:, column] - centre[column]) <= reach[column]])
        windows = [inside[i : i + number].mean() for i in range(len(inside) - number + 1)]
        assert np.isclose(windows, mean).any()


@given(st.lists(st.fractions(min_value=0, max_value=10**6), min_size=1, max_size=8))
def test_coefficients_have_29_bits(values: list[Fraction]) -> None:
    if not any(values):
        return
    recipe = linear(values, sum(values, Fraction(0)))
    for exact, coefficient in zip(values, recipe.coefficients, strict=True):
        assert coefficient == int(coefficient)
        assert abs(coefficient) <= 1 << 29
        share = float(exact / sum(values, Fraction(0)))
        assert coefficient / recipe.divisor == pytest.approx(share, rel=0, abs=2**-28)


def test_krum_scores_by_hand() -> None:
    squared = np.array([[0, 1, 4, 100], [1, 0, 1, 81], [4, 1, 0, 64], [100, 81, 64, 0]], "f8")
    assert krum_scores(squared, 0).tolist() == [5.0, 2.0, 5.0, 145.0]


def test_culprits_say_why() -> None:
    assert "what" in str(Culprits({1: "what"}))


def test_nothing_in_the_aggregation_imports_tensorflow_or_mpi() -> None:
    code = (
        "import sys, hpcflow.federation.aggregation, hpcflow.federation.local, hpcflow.federation.models.digits, "
        "hpcflow.federation.partition; "
        "print([m for m in ('tensorflow', 'tf_keras', 'horovod', 'mpi4py', 'pandas', 'safetensors') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
