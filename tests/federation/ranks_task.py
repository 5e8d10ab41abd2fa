"""What a rank of test_ranks.py runs: every strategy over the updates of a folder, and a NaN in one of them.

ranks_task.py FOLDER OUT: writes OUT/STRATEGY for each; prints one JSON line on rank 0.
"""

import json
import os
import sys
from pathlib import Path

from hpcflow.errors import RunError
from hpcflow.federation.aggregation import Files, aggregate
from hpcflow.federation.ranks import ranks
from hpcflow.federation.selection import Candidate
from hpcflow.federation.strategies import TABLE, make


def main(folder: Path, out: Path) -> None:
    processes = ranks()
    told: dict[str, object] = {"size": processes.size}
    paths = sorted(folder.glob("u*.safetensors"))
    base = folder / "base"
    for name in TABLE:
        options = {"function": "federation.test_aggregation:halves"} if name == "user" else {}
        files = Files(out / name, base, state_into=out / f"{name}.state")
        turn = len(name) % len(paths)
        done = aggregate(
            [Candidate(path) for path in paths[turn:] + paths[:turn]],
            make(name, options),
            files,
            ranks=processes,
            threads=2,
            digest=True,
            minimum=len(paths) - 1,
        )
        told[name] = [(refusal.name, refusal.reason) for refusal in done.refused]
        told[f"{name} digests"] = sorted(entry.sha256 for entry in done.entries.values())
    try:
        aggregate([Candidate(paths[0])], make("fedavg"), Files(out / "no such folder" / "x"), ranks=processes)
    except RunError as error:
        told["error"] = str(error)[:40]
    everybody = processes.share(told)
    assert all(other == told for other in everybody), "ranks disagree"
    if processes.rank == 0:
        print(json.dumps(told), flush=True)
    assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
