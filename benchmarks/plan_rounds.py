"""Plan and render 1,000 rounds of 100 collaborators without running any, in windows of what a user may queue.

    .venv/bin/python benchmarks/plan_rounds.py [--rounds 1000] [--collaborators 100] [--limit 1000] [--different]

For a Slurm that is only described: every window is cast and its scripts written as text, as the chain does from
inside. `--different` gives every collaborator a job of its own kind (another time limit), so that none share an array.
The limit is 10 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from hpcflow.experiment import load
from hpcflow.federation.cast import NUMBER, Moulds, cast, parse
from hpcflow.federation.plan import Plan
from hpcflow.flows.federated import federated
from hpcflow.flows.target import Target
from hpcflow.jobs.rundir import RunDir
from hpcflow.placement.topology import Topology


def config(rounds: int, collaborators: int, different: bool) -> str:
    """The experiment."""
    members = str(collaborators)
    if different:
        each = (f"{{name: c{i:03d}, resources: {{time: {i + 1}}}}}" for i in range(collaborators))
        members = f"[{', '.join(each)}]"
    return (
        "name: many\nflow: federated\ntraining: {model: {name: digits}}\n"
        f"federation: {{rounds: {rounds}, collaborators: {members}}}\n"
    )


def main() -> int:
    """Returns 1 beyond 10 s, or where a window held too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--collaborators", type=int, default=100)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--different", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(config(options.rounds, options.collaborators, options.different))
        begun = time.perf_counter()
        loaded = load(path)
    node = Topology.from_counts(2, 16, 2)
    target = Target("slurm", "/opt/env", True, node, "openmpi", "4.1.8", max_submit=options.limit)
    graph = federated(loaded, target)
    first = time.perf_counter() - begun
    files = graph["begin"].files
    scripts = {name.removesuffix(".sh"): text for name, text in files.items() if name.endswith(".sh")}
    moulds = Moulds.from_json(files["moulds.json"], scripts)
    plan = Plan(RunDir(Path()), loaded.experiment)
    window, most, tasks, jobs, size = moulds.window or options.rounds, graph.size, 0, 0, 0
    queued: dict[int, int] = {}
    for round in range(1, options.rounds + 1):
        for mould, job in cast(moulds.moulds, plan, range(round, round + 1)):
            size += len(mould.script.replace(NUMBER, f"{parse(job.name).round:04d}"))
            queued[round] = queued.get(round, 0) + len(job.indices)
            jobs, tasks = jobs + 1, tasks + len(job.indices)
        if round >= window:
            # While the aggregation of the round before the window runs, the window's last round is queued.
            most = max(most, 1 + sum(queued[index] for index in range(round - window + 1, round + 1)))
    seconds = time.perf_counter() - begun
    print(
        f"{options.rounds} rounds x {options.collaborators} collaborators: {tasks} tasks in {jobs} scripts, "
        f"{size / 2**20:.1f} MiB of text\nread, planned and the first window rendered in {first:.2f} s, all in "
        f"{seconds:.2f} s\nwindow of {window} rounds: at most {most} jobs queued, {options.limit} allowed"
    )
    return 0 if seconds < 10 and most <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
