"""What checking in costs a rank at its start, beyond MPI's own start. The limit is 0.1 s.

.venv/bin/python benchmarks/binding_cost.py [--ranks 2] [--repeats 5]

Starts ranks by this environment's mpirun. Each imports mpi4py and starts MPI first, which a Horovod training
does anyway; then the clock runs over the rest: importing hpcflow's modules, reading the rank map, recording,
comparing. The rank map is that of 1,000 nodes x 8 ranks, whatever is started: every rank reads that file.
Prints one JSON document; on a machine that is busy with other things the CPU seconds are the ones to look at.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from hpcflow.experiment.schema import Placement
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.topology import Topology

RANK = """
import dataclasses, json, sys, time
from pathlib import Path
from mpi4py import MPI
MPI.COMM_WORLD.Barrier()
marks = [(time.perf_counter(), time.process_time())]
def mark():
    marks.append((time.perf_counter(), time.process_time()))
from hpcflow.placement import binding
mark()
plan = binding.PlanFile(Path(sys.argv[1]))
mark()
plan.size = MPI.COMM_WORLD.Get_size()
MPI.COMM_WORLD.Barrier()
mark()
binding.check_in(Path(sys.argv[2]), plan, "warn")
mark()
wall, cpu = ([b[n] - a[n] for a, b in zip(marks, marks[1:])] for n in (0, 1))
print(json.dumps({"import_s": wall[0], "plan_s": wall[1], "check_in_s": wall[3], "extra_s": wall[0] + wall[1] + wall[3],
                  "extra_cpu_s": cpu[0] + cpu[1] + cpu[3]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        rankmap = Path(folder) / "rankmap.json"
        made: RankMap = plan(Placement(ranks_per_node=8), [Topology.from_counts(2, 64, 2)] * 1000)
        rankmap.write_text(made.to_text())
        for repeat in range(options.repeats):
            bindings = Path(folder) / f"bindings-{repeat}"
            command = [str(Path(sys.prefix) / "bin" / "mpirun"), "-np", str(options.ranks), "--oversubscribe"]
            command += ["--allow-run-as-root", sys.executable, "-c", RANK, str(rankmap), str(bindings)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows += [json.loads(row) for row in re.findall(r"{[^}]*}", done.stdout)]
    mean = {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in rows[0]}
    print(
        json.dumps(
            {
                "ranks": options.ranks,
                "starts": len(rows),
                "mean": mean,
                "worst_extra_s": max(r["extra_s"] for r in rows),
            }
        )
    )


if __name__ == "__main__":
    main()
