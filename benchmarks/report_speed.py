"""How long `hpcflow report` takes for a sweep of 10,000 trials: the first time, again, and after one trial changed.

    .venv/bin/python benchmarks/report_speed.py [TRIALS]

Goals: the first report within 5 s, a second one of the unchanged run within 1 s. Whole processes, with a cache folder of
their own; the trials are laid out as a sweep of ended tasks with ten epochs each. CPU time and the time that Python
itself takes to start stand beside it, since other work on the machine slows down all of them.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpcflow.engines.local import Process, key, write_state
from hpcflow.experiment import dump, load
from hpcflow.jobs.job import Allocation, Job, JobGraph
from hpcflow.jobs.layout import lay_out
from hpcflow.jobs.rundir import RunDir
from hpcflow.jobs.trials import TrialRow, Trials

ROOT = Path(__file__).resolve().parents[1]
NODES = (1, 2, 4, 8)
REPEATS = 5
EPOCHS = 10
LONG_AGO = time.time() - 3600


def lay(folder: Path, number: int) -> RunDir:
    """A sweep over nodes x learning rates x repeats, every task of it done an hour ago."""
    run = RunDir(folder / "speed" / "20260101-000000-aaaa")
    per_job = number // len(NODES)
    jobs = [
        Job(f"train-n{n}", Allocation(n, 1, 8), ("true",), tasks=per_job, files=rankmap(n)) for n in NODES
    ]
    lay_out(
        run,
        JobGraph(tuple(jobs)),
        dump(load(ROOT / "configs" / "unet.yaml").experiment),
        {"engine": "local", "overridden": []},
        "speed",
    ).write()
    plain = load(ROOT / "configs" / "unet.yaml").experiment.model_dump(mode="json")
    rows = []
    for index in range(number):
        which, task = index % len(NODES), index // len(NODES)
        repeat, rate = task % REPEATS, 0.001 + task // REPEATS * 1e-6
        plain["resources"]["nodes"] = NODES[which]
        plain["training"] |= {"learning_rate": rate, "seed": repeat}
        values = {"resources.nodes": NODES[which], "training.learning_rate": rate}
        trial = 1 + which + task // REPEATS * len(NODES)
        job = f"train-n{NODES[which]}"
        rows.append(
            TrialRow(
                trial, repeat, trial - which, NODES[which], values, {}, run.path.name, job, task, str(index)
            )
        )
        fill(run.task(job, task), plain, NODES[which])
    run.trials.write_text(Trials(tuple(rows[0].values), None, REPEATS, tuple(rows)).to_json())
    runner = Process.here(os.getpid())
    assert runner is not None
    done = {key(where.name, task.index): {"state": "done", "reason": ""} for where in run for task in where}
    write_state(run, runner, done)
    for where, _, names in os.walk(run.path):
        for name in names:
            os.utime(f"{where}/{name}", (LONG_AGO, LONG_AGO))
    return run


def rankmap(nodes: int) -> dict[str, str]:
    ranks = [{"rank": rank, "node": rank, "cores": list(range(8))} for rank in range(nodes)]
    return {"rankmap.json": json.dumps({"launcher": "openmpi", "ranks": ranks})}


def fill(task, plain: dict[str, object], nodes: int) -> None:  # type: ignore[no-untyped-def]
    task.path.mkdir()  # as its script does
    task.experiment.write_text(json.dumps(plain, indent=1))
    record = {
        "job_id": "1", "attempt": 0, "host": "n1", "nodes": "n1", "pid": 1, "queued": LONG_AGO, "started": LONG_AGO,
        "ended": LONG_AGO + 60, "exit_code": 0, "signal": None, "cpu": "0m1.500s 0m0.250s",
    }  # fmt: skip
    task.record.write_text(json.dumps(record))
    values = {
        "loss": 0.5, "dice": 0.5, "val_loss": 0.5, "val_dice": 0.5, "images_per_s": 100.0 * nodes, "train_s": 1.0,
        "allreduce_s": 0.1, "epoch_s": 1.2, "learning_rate": 0.001, "ranks": nodes,
    }  # fmt: skip
    lines = [{"event": "epoch", "epoch": epoch, **values} for epoch in range(1, EPOCHS + 1)]
    end = {
        "event": "end",
        "epoch": EPOCHS,
        "startup_s": 3.0,
        "input_s": 0.1,
        "cpu_s": 50.0,
        "peak_memory_mb": 900.0,
    }
    task.metrics.write_text("".join(json.dumps(line) + "\n" for line in [*lines, end]))


def seconds(command: list[str | Path], env: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        run = lay(Path(folder), number)
        env = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        command = [
            Path(sys.executable).with_name("hpcflow"),
            "report",
            run.path,
            "-o",
            f"{folder}/results.csv",
        ]
        times = {"first": seconds(command, env), "second": min(seconds(command, env) for _ in range(3))}
        first = Path(folder, "results.csv").read_text()
        run.task("train-n1", 0).metrics.write_text("")
        times["after one trial changed"] = seconds(command, env)
        changed = Path(folder, "results.csv").read_text()
        different = sum(a != b for a, b in zip(first.splitlines(), changed.splitlines(), strict=True))
        times["summary"] = seconds([*command[:3], "--summary"], env)
        times["python -c pass"] = seconds([sys.executable, "-c", "pass"], env)
        for name, taken in times.items():
            print(f"{number} trials, {name:<24} {taken[0]:6.2f} s, of CPU time {taken[1]:6.2f} s")
        print(f"rows that changed with the one trial: {different}")
        print(f"against their bounds: first {times['first'][0] / 5:.2f}, second {times['second'][0] / 1:.2f}")


if __name__ == "__main__":
    main()
