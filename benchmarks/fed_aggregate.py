"""Merging updates: hpcflow against OpenFL's and Flower's own aggregation code and against the memory's speed.

    .venv/bin/python benchmarks/fed_aggregate.py [--quick] [--folder DIR] [--environments DIR] [--json FILE]

All read the same safetensors files of 200 tensors from a warm page cache, each in a process of its own, in turn. The
peers have environments of their own, made on the first run. Seconds are from the first byte read to the result in
memory (peers) or written to its file (hpcflow, without the final fsync); extra memory is the peak of the resident set
less what the process had before it began. OpenFL: TensorDB.get_aggregated_tensor with WeightedAverage, as its
aggregator calls it. Flower: `aggregate` of flwr.server.strategy, and `aggregate_arrayrecords` of flwr.serverapp.

Bounds, by the same number of threads: *read* copies every byte once from the page cache to a small buffer; *add* is
float32 y += x with x in memory, no reading at all; *read + add* does both, block by block: the least that any program
can do that merges files, in float32, without weights and checks.

Goals: 64 x 10 M 40 x OpenFL and 15 x Flower, extra memory under 128 MiB, 60 % of the bound; median 5 x np.median.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers as environments

TENSORS = 200
COUNT = len(os.sched_getaffinity(0))


# What runs in a process of its own. Each yields before and after what is measured, and last its check.


def resident(key: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) / 1024


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("u*.safetensors"))


def loaded(path: Path) -> tuple[dict[str, Any], int]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        samples = int(file.metadata()["num_samples"])
        return {name: file.get_tensor(name) for name in file.keys()}, samples  # noqa: SIM118


def check(get: Any) -> list[float]:
    return [float(np.float64(get(f"t{index:03d}")).reshape(-1)[7]) for index in (0, 99, 199)]


def openfl(folder: Path, threads: int, kind: str = "WeightedAverage") -> Any:
    from openfl.databases import TensorDB
    from openfl.interface import aggregation_functions
    from openfl.utilities import TensorKey

    function = getattr(aggregation_functions, kind)()
    yield
    database, weights = TensorDB(), {}
    for path in paths(folder):
        arrays, samples = loaded(path)
        weights[path.stem] = samples
        tags = tuple(sorted(("trained", path.stem)))
        database.cache_tensor(
            {TensorKey(name, "aggregator", 0, False, tags): a for name, a in arrays.items()}
        )
    total = sum(weights.values())
    shares = {name: samples / total for name, samples in weights.items()}
    result = {
        name: database.get_aggregated_tensor(
            TensorKey(name, "aggregator", 0, False, ("trained",)), shares, function
        )
        for name in arrays
    }
    yield
    yield check(result.__getitem__)


def openfl_median(folder: Path, threads: int) -> Any:
    return openfl(folder, threads, "Median")


def flower(folder: Path, threads: int) -> Any:
    from flwr.server.strategy.aggregate import aggregate

    yield
    results, names = [], []
    for path in paths(folder):
        arrays, samples = loaded(path)
        names = list(arrays)
        results.append((list(arrays.values()), samples))
    result = dict(zip(names, aggregate(results), strict=True))
    yield
    yield check(result.__getitem__)


def flower_records(folder: Path, threads: int) -> Any:
    from flwr.common import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    yield
    records = []
    for path in paths(folder):
        arrays, samples = loaded(path)
        arrays_record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        records.append(
            RecordDict({"arrays": arrays_record, "metrics": MetricRecord({"num_samples": samples})})
        )
    result = aggregate_arrayrecords(records, "num_samples")
    yield
    yield check(lambda name: result[name].numpy())


def hpcflow(folder: Path, threads: int, strategy: str = "fedavg", verify: bool = False) -> Any:
    from hpcflow.federation.aggregation import Files, aggregate
    from hpcflow.federation.selection import Candidate
    from hpcflow.federation.strategies import make
    from hpcflow.federation.tensorfile import TensorFile

    out = folder / "out"
    rule, candidates = make(strategy), [Candidate(path) for path in paths(folder)]
    yield
    done = aggregate(candidates, rule, Files(out), threads=threads, verify=verify)
    yield done.seconds["select"] + done.seconds["stream"]
    with TensorFile(out) as file:
        yield check(file.read)


def hpcflow_verified(folder: Path, threads: int) -> Any:
    return hpcflow(folder, threads, verify=True)


def hpcflow_median(folder: Path, threads: int) -> Any:
    return hpcflow(folder, threads, "median")


def numpy_median(folder: Path, threads: int) -> Any:
    files = paths(folder)
    # In memory and by blocks that fit a cache: np.median at its best.
    rows = np.stack([np.concatenate([a.reshape(-1) for a in loaded(path)[0].values()]) for path in files])
    out = np.empty(rows.shape[1], np.float32)
    yield
    for start in range(0, rows.shape[1], 1 << 14):
        out[start : start + (1 << 14)] = np.median(rows[:, start : start + (1 << 14)], axis=0)
    yield
    size = rows.shape[1] // TENSORS
    yield [float(out[index * size + 7]) for index in (0, 99, 199)]


def parallel(threads: int, work: Any) -> None:
    team = [threading.Thread(target=work, args=(rank,)) for rank in range(threads)]
    for member in team:
        member.start()
    for member in team:
        member.join()


def bound(folder: Path, threads: int, add: bool = False) -> Any:
    files = [os.open(path, os.O_RDONLY) for path in paths(folder)]
    size = os.fstat(files[0]).st_size // 4
    block = 1 << 16

    def work(rank: int) -> None:
        row, total = np.empty(block, np.float32), np.empty(block, np.float32)
        view = memoryview(row).cast("B")
        with np.errstate(all="ignore"):  # the header is added as if it were numbers
            for start in range(size * rank // threads, size * (rank + 1) // threads, block):
                total[:] = 0
                for file in files:
                    os.preadv(file, [view], start * 4)
                    if add:
                        np.add(total, row, out=total)

    yield
    parallel(threads, work)
    yield
    yield []


def bound_add(folder: Path, threads: int) -> Any:
    return bound(folder, threads, add=True)


def bound_memory(folder: Path, threads: int) -> Any:
    files = paths(folder)
    # As many bytes as the files have, without holding all of them: larger than any cache, over and over.
    size = min(files[0].stat().st_size // 4, 1 << 25)
    rows = [np.ones(size, np.float32) for _ in range(max(2, (1 << 29) // (size * 4)))]
    turns = len(files) * (files[0].stat().st_size // 4) // size
    block = 1 << 16

    def work(rank: int) -> None:
        total = np.zeros(block, np.float32)
        for turn in range(turns):
            row = rows[turn % len(rows)]
            for start in range(size * rank // threads, size * (rank + 1) // threads - block, block):
                np.add(total, row[start : start + block], out=total)

    yield
    parallel(threads, work)
    yield
    yield []


def alone(name: str, folder: Path, threads: int) -> None:
    """Run one of the functions above and print its seconds, extra MiB and check."""
    steps = globals()[name](folder, threads)
    next(steps)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, start, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    own = next(steps)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resident("VmHWM")
    print(json.dumps({"seconds": own or seconds, "cpu": cpu, "mib": peak - before, "check": next(steps)}))


# What runs them.


def make_updates(folder: Path, number: int, parameters: int) -> None:
    from fractions import Fraction

    from hpcflow.federation.update import UpdateInfo, write_update

    folder.mkdir()
    for index in range(number):
        draw = np.random.default_rng(index)
        size = parameters // TENSORS
        arrays = {f"t{t:03d}": draw.standard_normal(size, dtype=np.float32) for t in range(TENSORS)}
        path = folder / f"u{index:02d}.safetensors"
        write_update(path, arrays, UpdateInfo(Fraction(100 + 37 * index % 101), path.stem))


def measure(python: Path, name: str, folder: Path, threads: int) -> dict[str, Any]:
    command = [python, __file__, "--alone", name, "--folder", folder, "--threads", str(threads)]
    # The peers take what threads they like; NumPy's sums have one.
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(title: str, folder: Path, runs: list[tuple[str, Path, str, int, int]]) -> dict[str, Any]:
    """``runs``: label, interpreter, function, threads, repeats. In turn, so that all meet the same machine."""
    found: dict[str, list[dict[str, Any]]] = {label: [] for label, *_ in runs}
    for turn in range(max(repeats for *_, repeats in runs)):
        for label, python, name, threads, repeats in runs:
            if turn < repeats:
                found[label].append(measure(python, name, folder, threads))
    checks = [result["check"] for results in found.values() for result in results if result["check"]]
    assert all(np.allclose(values, checks[0], rtol=1e-4, atol=1e-6) for values in checks), checks
    size = sum(path.stat().st_size for path in paths(folder))
    load = os.getloadavg()[0]
    print(f"\n{title} ({size / 1e9:.2f} GB), load of the machine {load:.1f} on {os.cpu_count()} CPUs")
    print(f"{'':34} {'median s':>9} {'best s':>8} {'CPU s':>8} {'GB/s':>6} {'extra MiB':>10}")
    table = {}
    for label, results in found.items():
        best = {key: min(result[key] for result in results) for key in ("seconds", "cpu")}
        middle = statistics.median(result["seconds"] for result in results)
        memory = max(result["mib"] for result in results)
        table[label] = {"median": middle, "best": best["seconds"], "cpu": best["cpu"], "mib": memory}
        speed = size / best["seconds"] / 1e9
        print(
            f"{label:34} {middle:9.3f} {best['seconds']:8.3f} {best['cpu']:8.3f} {speed:6.1f} {memory:10.0f}",
            flush=True,
        )
    return table


def ratios(table: dict[str, Any], ours: str, others: list[str]) -> None:
    """By wall time (best runs) and by CPU time, which other users of the machine disturb less."""
    for other in others:
        found = [table[other][kind] / table[ours][kind] for kind in ("best", "cpu")]
        if other.startswith("bound"):
            text = " and ".join(f"{100 * ratio:.0f} %" for ratio in found) + " of its speed"
        else:
            text = " and ".join(f"{ratio:.1f} x" for ratio in found)
        print(f"  {ours} against {other}, wall and CPU: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where updates are made"
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=environments.FOLDER,
        help="where the peers' environments are kept",
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the parameters")
    parser.add_argument(
        "--only", choices=["64", "10", "median"], action="append", help="one of the three parts"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options.alone, options.folder, options.threads)
        return
    own = Path(sys.executable)
    peers = {name: environments.environment(name, options.environments) for name in environments.REQUIREMENTS}
    scale = 10 if options.quick else 1
    found = {}
    for part, number, parameters in (("64", 64, 10), ("10", 10, 100), ("median", 16, 10)):
        if options.only and part not in options.only:
            continue
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="fed-aggregate-") as temporary:
            folder = Path(temporary) / "updates"
            make_updates(folder, number, parameters * 1_000_000 // scale)
            title = f"{number} x {parameters / scale:g} M parameters"
            if part == "median":
                table = compare(
                    f"median of {title}",
                    folder,
                    [
                        ("hpcflow, 1 thread", own, "hpcflow_median", 1, 5),
                        (f"hpcflow, {COUNT} threads", own, "hpcflow_median", COUNT, 5),
                        ("np.median, blocks in memory", own, "numpy_median", 1, 3),
                        ("OpenFL Median", peers["openfl"], "openfl_median", 1, 1),
                    ],
                )
                ratios(table, "hpcflow, 1 thread", ["np.median, blocks in memory", "OpenFL Median"])
            else:
                table = compare(f"FedAvg of {title}", folder, fedavg(own, peers))
                for threads in sorted({1, COUNT}):
                    ours = f"hpcflow, {threads} threads"
                    bounds = [f"bound: {what}, {threads} threads" for what in ("read", "add", "read + add")]
                    ratios(table, ours, ["OpenFL", "Flower aggregate", "Flower arrayrecords", *bounds])
            found[title if part != "median" else f"median {title}"] = table
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def fedavg(own: Path, peers: dict[str, Path]) -> list[tuple[str, Path, str, int, int]]:
    runs = []
    for threads in sorted({1, COUNT}):
        runs += [
            (f"hpcflow, {threads} threads", own, "hpcflow", threads, 5),
            (f"bound: read, {threads} threads", own, "bound", threads, 5),
            (f"bound: read + add, {threads} threads", own, "bound_add", threads, 5),
            (f"bound: add, {threads} threads", own, "bound_memory", threads, 3),
        ]
    return [
        *runs,
        (f"hpcflow, digests too, {COUNT} threads", own, "hpcflow_verified", COUNT, 3),
        ("OpenFL", peers["openfl"], "openfl", 1, 1),
        ("Flower aggregate", peers["flwr"], "flower", 1, 1),
        ("Flower arrayrecords", peers["flwr"], "flower_records", 1, 1),
    ]


if __name__ == "__main__":
    main()
