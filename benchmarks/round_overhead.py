"""What a round costs beside training: its wall time less the longest local training, all process start-up included.

    .venv/bin/python benchmarks/round_overhead.py [--rounds 5] [--epochs 320] [--json FILE] [--alone]

Two collaborators and a model of 8 MB (--parameters) that needs no TensorFlow, on a Slurm of its own with Slurm's default
settings (scripts/dev-cluster), in all three executions. A round's wall time is from the commit of the one before it to
its own. Goals: 0.5 s in an allocation, 5 s chained. Slurm by default looks for what may start 3 s after it last did
(`batch_sched_delay`), so a round takes 3 s for each job in a row whatever that does. "chained" is one job in a row, as
its last collaborator commits the round; "chained, two jobs" is a round that its aggregation commits, as of larger updates
(here because a cut-off is set, which nobody reaches); "chained, long" is the first with so many local epochs that its
training, which is taken off, takes longer than a look. Beside them OpenFL 1.9 with as many collaborators, a tensor of the
same size, its default settings and mTLS on loopback (benchmarks/openfl_federation.py); `--alone` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from openfl_federation import overheads

ROOT = Path(__file__).resolve().parents[1]
HPCFLOW = Path(sys.executable).with_name("hpcflow")
CONFIG = """\
name: overhead
flow: federated
resources: {{time: "00:05:00"}}
training: {{model: {{name: bowl, parameters: {parameters}}}, batch_size: 100}}
federation: {{rounds: {rounds}, collaborators: 2, evaluation: {{aggregated: false, tuned: false}}}}
"""
EXECUTIONS = {
    "chained": ["federation.execution=chained"],
    "chained, two jobs": [
        "federation.execution=chained",
        "federation.stragglers={{policy: cutoff, after: '00:05:00'}}",
    ],
    "chained, long": ["federation.execution=chained", "federation.client.epochs={epochs}"],
    "allocation": ["federation.execution=allocation"],
    "inprocess": ["federation.execution=inprocess"],
}


def rounds_of(run: Path, number: int) -> list[dict[str, float]]:
    """Wall time, longest training and their difference of each round, in seconds."""
    found = []
    for round in range(1, number + 1):
        before, here = (run / "rounds" / f"{index:04d}" for index in (round - 1, round))
        wall = (here / "manifest.json").stat().st_mtime - (before / "manifest.json").stat().st_mtime
        times = [json.loads(path.read_text()) for path in (here / "times").glob("c*.json")]
        training = max(item["trained"] - item["started"] for item in times)
        found.append({"round": round, "wall_s": wall, "training_s": training, "overhead_s": wall - training})
    return found


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parameters", type=int, default=2_000_000)
    parser.add_argument("--epochs", type=int, default=320, help='of "chained, long"')
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", action="store_true", help="without OpenFL")
    options = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory(prefix="hf-over-") as name:
        folder = Path(name)
        (folder / "c.yaml").write_text(CONFIG.format(**vars(options)))
        cluster = [ROOT / "scripts/dev-cluster"]
        subprocess.run(
            [*cluster, "up", "--dir", folder / "c", "--nodes", "2"], check=True, stdout=subprocess.DEVNULL
        )
        env = {**os.environ, "SLURM_CONF": str(folder / "c/slurm.conf"), "XDG_STATE_HOME": str(folder / "s")}
        try:
            for number, (execution, said) in enumerate(EXECUTIONS.items()):
                words = ["submit", "c.yaml", "--wait", "--set", f"name=over{number}"]
                words += [word for item in said for word in ("--set", item.format(**vars(options)))]
                subprocess.run([HPCFLOW, *words], env=env, cwd=folder, check=True, capture_output=True)
                (run,) = (folder / "runs" / f"over{number}").iterdir()
                result[execution] = rounds_of(run, options.rounds)
        finally:
            subprocess.run([*cluster, "down", "--dir", folder / "c"], check=False)
        if not options.alone:
            each = overheads(folder, options.rounds, options.parameters, ("c0", "c1"))
            result["OpenFL 1.9"] = [{"overhead_s": value, "training_s": 0.0} for value in each]
    print(
        f"load of the machine: {', '.join(f'{value:.1f}' for value in os.getloadavg())}; {os.cpu_count()} CPUs"
    )
    print("execution          overhead of each round, s" + " " * 20 + "median  longest training, s")
    for execution, rounds in result.items():
        each = [item["overhead_s"] for item in rounds]
        longest = max(item["training_s"] for item in rounds)
        text = "  ".join(f"{value:.2f}" for value in each)
        print(f"{execution:<18} {text:<44} {statistics.median(each):6.2f}  {longest:.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
