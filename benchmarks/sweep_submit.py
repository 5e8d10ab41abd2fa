"""What hpcflow itself costs a sweep of 1,000 trials on Slurm.

    eval "$(scripts/dev-cluster up)"
    .venv/bin/python benchmarks/sweep_submit.py

Goals: submission of 1,000 trials within 1 s of wall time besides sbatch itself; their states, by one query, within
0.3 s. The command as a user types it, from the start of Python on; sbatch is timed by a wrapper around it. CPU time (of
the command and of what it calls) is printed beside: on a machine that others use, too, wall time says little.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HPCFLOW = Path(sys.executable).with_name("hpcflow")
TRIALS, TURNS = 1000, 3
CONFIG = f"""\
name: thousand
resources: {{time: "00:10:00", extra: [--hold]}}
placement: {{ranks_per_node: 1, cores_per_rank: 1}}
training: {{data: {{phantom: {{subjects: 4}}}}}}
sweep: {{matrix: {{training.learning_rate: {[round(0.001 + i * 1e-5, 6) for i in range(TRIALS)]}}}}}
"""
# Seconds of every call, one a line; sbatch is found by its own path.
WRAPPER = """\
#!/bin/bash
start=$(date +%s.%N)
"{real}" "$@"
code=$?
echo "$start $(date +%s.%N)" >>"$TIMES"
exit "$code"
"""


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(command: list[str | Path], env: dict[str, str], folder: Path) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    return taken, done.stdout


def busy(spans: list[tuple[float, float]]) -> float:
    """Seconds in which at least one sbatch ran: several run at once."""
    total, until = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def main() -> None:
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "thousand.yaml").write_text(CONFIG)
        (folder / "bin").mkdir()
        (folder / "bin" / "sbatch").write_text(WRAPPER.format(real=real))
        (folder / "bin" / "sbatch").chmod(0o755)
        times = folder / "times"
        env = {**os.environ, "XDG_STATE_HOME": name, "TIMES": str(times)}
        env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
        own, status, plain, cpus = [], [], [], []
        for _ in range(TURNS):
            times.write_text("")
            before = cpu()
            wall, out = seconds(
                [HPCFLOW, "submit", "thousand.yaml", "--json", "--engine", "slurm"], env, folder
            )
            calls = [tuple(map(float, line.split())) for line in times.read_text().splitlines()]
            in_sbatch = busy(calls)  # type: ignore[arg-type]
            own.append(wall - in_sbatch)
            run = json.loads(out)["path"]
            submitted = cpu()
            taken, text = seconds([HPCFLOW, "status", run], env, folder)
            status.append(taken)
            cpus.append((submitted - before, cpu() - submitted))
            plain.append(seconds([HPCFLOW, "status", "--help"], env, folder)[0])
            assert "1001 pending" in text, text  # and prepare
            print(
                f"submit {wall:.2f} s, of it {in_sbatch:.2f} s in {len(calls)} calls of sbatch, CPU {cpus[-1][0]:.2f} s; "
                f"status {taken:.2f} s, CPU {cpus[-1][1]:.2f} s"
            )
            seconds([HPCFLOW, "cancel", run], env, folder)
    submits, looks = (statistics.median(column) for column in zip(*cpus, strict=True))
    print(f"submission besides sbatch, against 1 s: {statistics.median(own):.2f} (CPU {submits:.2f})")
    print(
        f"states of {TRIALS} trials, against 0.3 s: {statistics.median(status) / 0.3:.2f} (CPU {looks / 0.3:.2f})"
    )
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(f"  of which Python and imports (status --help): {statistics.median(plain):.2f} s")


if __name__ == "__main__":
    main()
