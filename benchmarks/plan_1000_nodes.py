"""How long planning and writing a launch for many nodes takes. The limit is 1 s for 1,000 nodes x 8 ranks.

    .venv/bin/python benchmarks/plan_1000_nodes.py [--nodes 1000] [--ranks 8]

Prints a JSON line a case: seconds for the map alone, for the map with its launch line (by a pattern, and by a rankfile
of one line a rank), and for the rank map's file. The node has 2 sockets x 64 cores x 2 threads.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from hpcflow.experiment.schema import Placement, Reserve, Threads
from hpcflow.placement.launchers import line
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.requirements import requirements
from hpcflow.placement.threads import derive
from hpcflow.placement.topology import Topology

NODE = (2, 64, 2)


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some repeats."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return round(min(taken), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--ranks", type=int, default=8)
    options = parser.parse_args()

    def nodes(shared: bool) -> list[Topology]:
        one = Topology.from_counts(*NODE)
        return [one if shared else Topology.from_counts(*NODE) for _ in range(options.nodes)]

    def whole(request: Placement, shape: list[Topology]) -> RankMap:
        made = plan(request, shape)
        line(
            "openmpi",
            made,
            ["python", "train.py"],
            version="5.0",
            env=derive(made, Threads()).env,
            scheduler="slurm",
        )
        requirements(made)
        return made

    for title, request, shape in (
        ("pattern", Placement(ranks_per_node=options.ranks), nodes(True)),
        ("rankfile", Placement(ranks_per_node=options.ranks, reserve=Reserve(cores=1)), nodes(True)),
        ("pattern, every node an object of its own", Placement(ranks_per_node=options.ranks), nodes(False)),
    ):
        made = whole(request, shape)
        print(
            json.dumps(
                {
                    "case": title,
                    "nodes": options.nodes,
                    "ranks": made.size,
                    "map_s": seconds(lambda r=request, s=shape: plan(r, s)),  # type: ignore[misc]
                    "map_and_line_s": seconds(lambda r=request, s=shape: whole(r, s)),  # type: ignore[misc]
                    "rankmap_json_s": seconds(lambda m=made: m.to_text()),  # type: ignore[misc]
                    "rankmap_json_bytes": len(made.to_text()),
                }
            )
        )


if __name__ == "__main__":
    main()
