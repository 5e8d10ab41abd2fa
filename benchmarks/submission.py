"""How fast jobs get into Slurm's queue, against bare sbatch in the same run.

    eval "$(scripts/dev-cluster up)"
    .venv/bin/python benchmarks/submission.py

Goals: 300 single jobs at 80 % or more of the rate of bare `sbatch` in a loop; one array of 1000 tasks within 0.5 s; 2500
tasks under MaxArraySize=1001 accepted. The jobs are held, so that none runs meanwhile; the rates are taken in turn.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpcflow.engines.slurm import SlurmEngine
from hpcflow.jobs.job import Allocation, Job, JobGraph
from hpcflow.jobs.layout import Layout, lay_out
from hpcflow.jobs.rundir import RunDir

SINGLES, TURNS = 100, 3  # three times 100 of each, in turn
HELD = Allocation(time="00:10:00", flags=(("hold", None),))
_numbers = itertools.count(1)


def layout(folder: Path, *jobs: Job) -> Layout:
    graph = JobGraph(jobs)
    laid = lay_out(
        RunDir(folder / "bench" / str(next(_numbers))), graph, "name: bench\n", {"engine": "slurm"}, "bench"
    )
    laid.write()
    return laid


def ours(laid: Layout) -> float:
    start = time.perf_counter()
    SlurmEngine().submit(laid.run, laid.graph)
    return time.perf_counter() - start


def bare(laid: Layout) -> float:
    scripts = [laid.run.job(job).script.relative_to(laid.run.path) for job in laid.graph]
    start = time.perf_counter()
    for script in scripts:
        subprocess.run(["sbatch", script], cwd=laid.run.path, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def clear() -> None:
    subprocess.run(["scancel", "--me"], check=True)


def main() -> None:
    if subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode:
        sys.exit('no Slurm answers (eval "$(scripts/dev-cluster up)")')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(TURNS):
            for how, queue in (("bare", bare), ("ours", ours)):
                laid = layout(folder, *(Job(f"j{number}", HELD, ("true",)) for number in range(SINGLES)))
                rates[how].append(SINGLES / queue(laid))
                clear()
        mine, theirs = (statistics.median(rates[how]) for how in ("ours", "bare"))
        print(
            f"single jobs: hpcflow {mine:.0f}/s, bare sbatch {theirs:.0f}/s; ratio {mine / theirs:.2f} (goal 0.80)"
        )
        array = statistics.median(
            ours(layout(folder, Job("a", HELD, ("true",), tasks=1000))) for _ in range(TURNS)
        )
        clear()
        print(f"one array of 1000 tasks: {array:.3f} s; against its bound of 0.5 s: {array / 0.5:.2f}")
        laid = layout(folder, Job("b", HELD, ("true",), tasks=2500))
        long = ours(laid)
        states = {str(status.state) for status in SlurmEngine().statuses(laid.run)}
        sizes = [chunk.count for chunk in SlurmEngine.chunks(laid.run.job("b"))]
        print(f"2500 tasks: {sizes} in {long:.3f} s, all {' '.join(states)}")
        clear()


if __name__ == "__main__":
    main()
