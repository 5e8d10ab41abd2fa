"""Kill a federated run at random moments and resume it: the final model must have the digest of an undisturbed run.

    benchmarks/kill_federation.py --times 100 [--seed 0] [--parallel 2]

Starts a Slurm of its own (scripts/dev-cluster). Each time a run is submitted; at a random moment of its life one of
these happens, and then `hpcflow resume` until the run ends well:

    kill     kill -9 of the process group of a running job's script
    scancel  scancel of a job of the run that is queued or runs
    slurmd   kill -9 of a node's slurmd, which is started again 2 s later

Prints a line each time and a summary; ends with 1 if any digest differs.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HPCFLOW = Path(sys.executable).with_name("hpcflow")
CONFIG = """\
name: killed
flow: federated
resources: {time: "00:05:00"}
training: {model: {name: digits, width: 4}, learning_rate: 0.1}
federation:
  rounds: 3
  collaborators: 3
  strategy: fedadam
  options: {learning_rate: 0.05}
  evaluation: {aggregated: false}
"""
KINDS = ("kill", "scancel", "slurmd")
EXECUTIONS = ("chained", "chained", "chained", "allocation", "inprocess")
# What a scheduler waits on purpose would only make the test longer.
CLUSTER = ["--nodes", "4", "--conf", "SchedulerParameters=batch_sched_delay=0,sched_interval=2"]


class Trial:
    """One run that is disturbed once."""

    def __init__(self, number: int, seed: int, folder: Path, env: dict[str, str], longest: float) -> None:
        self.draw = random.Random(f"{seed}/{number}")
        self.number, self.folder = number, folder / f"{number:04d}"
        self.env = {**env, "XDG_STATE_HOME": str(self.folder / "state")}
        self.execution, self.kind = self.draw.choice(EXECUTIONS), self.draw.choice(KINDS)
        self.moment = self.draw.uniform(0.0, longest if self.execution == "chained" else longest / 3)

    def hpcflow(self, *words: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """The command, as a user types it."""
        return subprocess.run(
            [HPCFLOW, *map(str, words)],
            env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def go(self) -> tuple[str, int, str]:
        """Digest, number of resumes, what was done."""
        self.folder.mkdir(parents=True)
        (self.folder / "c.yaml").write_text(CONFIG)
        submitted = self.hpcflow(
            "submit", "c.yaml", "--json", "--set", f"federation.execution={self.execution}"
        )
        if submitted.returncode:
            raise SystemExit(submitted.stderr)
        run = Path(json.loads(submitted.stdout)["path"])
        time.sleep(self.moment)
        what = getattr(self, f"_{self.kind}")(run)
        ended, resumes = self.hpcflow("watch", run).returncode, 0
        while ended and resumes < 8:
            resumes += 1
            ended = self.hpcflow("resume", run, "--wait").returncode
        return digest(run), resumes, what

    def _kill(self, run: Path) -> str:
        for path in self.draw.sample(records := sorted(run.rglob("record.json")), len(records)):
            try:
                found = json.loads(path.read_text())
                if found["ended"] is None:
                    os.killpg(os.getpgid(found["pid"]), signal.SIGKILL)
                    return f"killed {path.parent.relative_to(run / 'jobs')}"
            except (OSError, ValueError):
                continue
        return "nothing ran"

    def _scancel(self, run: Path) -> str:
        listed = subprocess.run(
            ["squeue", "--me", "-h", "-o", "%A %Z"], env=self.env, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        mine = [line.split(" ", 1)[0] for line in listed if line.split(" ", 1)[1] == str(run)]
        if not mine:
            return "nothing was queued"
        job = self.draw.choice(mine)
        subprocess.run(["scancel", job], env=self.env, check=False, capture_output=True)
        return f"cancelled job {job}"

    def _slurmd(self, run: Path) -> str:
        node = f"n{self.draw.randint(1, 4)}"
        recorded = Path(self.env["SLURM_CONF"]).with_name("processes")
        pids = [
            int(row.split()[0]) for row in recorded.read_text().splitlines() if row.endswith(f"slurmd-{node}")
        ]
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not alive:
            return f"slurmd of {node} was down"
        os.kill(alive[-1], signal.SIGKILL)
        time.sleep(2)
        new = subprocess.Popen(
            ["slurmd", "-D", "-N", node], env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        with recorded.open("a") as file:
            start = Path(f"/proc/{new.pid}/stat").read_text().rpartition(")")[2].split()[19]
            file.write(f"{new.pid} {start} slurmd-{node}\n")
        return f"killed the slurmd of {node}"


def digest(run: Path) -> str:
    """Of the final model."""
    try:
        return hashlib.sha256((run / "rounds/0003/model.safetensors").read_bytes()).hexdigest()
    except OSError:
        return "none"


def main() -> int:
    """Returns 1 if a digest differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hf-kill-") as name:
        folder = Path(name)
        up = [ROOT / "scripts/dev-cluster", "up", "--dir", folder / "c", *CLUSTER]
        subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
        env = {**os.environ, "SLURM_CONF": str(folder / "c/slurm.conf")}
        env["PATH"] += ":/usr/sbin:/sbin"
        try:
            return judge(options, folder, env)
        finally:
            subprocess.run([ROOT / "scripts/dev-cluster", "down", "--dir", folder / "c"], check=False)


def judge(options: argparse.Namespace, folder: Path, env: dict[str, str]) -> int:
    """Run all trials."""
    whole = Trial(0, options.seed, folder / "whole", env, 0.0)
    whole.execution, whole.kind, begun = "chained", "none", time.monotonic()
    setattr(whole, "_none", lambda run: "undisturbed")  # noqa: B010
    expected, resumes, _ = whole.go()
    longest = time.monotonic() - begun
    print(f"undisturbed: {expected} in {longest:.1f} s, {resumes} resumes", flush=True)
    done, hits, resumed, wrong = 0, 0, 0, []

    def one(number: int) -> tuple[Trial, tuple[str, int, str]]:
        trial = Trial(number, options.seed, folder, env, longest)
        return trial, trial.go()

    numbers = iter(range(1, 10 * options.times))
    with ThreadPoolExecutor(options.parallel) as pool:
        # A moment at which nothing was there to be disturbed does not count.
        while hits < options.times:
            for trial, (found, resumes, what) in pool.map(
                one, list(itertools.islice(numbers, options.parallel))
            ):
                ok = found == expected
                done, resumed = done + 1, resumed + bool(resumes)
                hits += not what.startswith("nothing")
                wrong += [] if ok else [trial.number]
                place = f"{trial.execution:10} after {trial.moment:5.2f} s: {what}"
                print(
                    f"{trial.number:3} {place}; {resumes} resumes; {'same' if ok else 'DIFFERS'}", flush=True
                )
    print(
        f"{done - len(wrong)} of {done} runs, {hits} of them disturbed, ended with the digest of the undisturbed run; "
        f"{resumed} needed a resume"
    )
    return 1 if wrong or expected == "none" else 0


if __name__ == "__main__":
    sys.exit(main())
