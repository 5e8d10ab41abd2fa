"""python -m hpcflow.tuning RUN: the job that tries the candidates. It may be run again: what is measured stays."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcflow.jobs import record
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage.publish import publish_json, publish_text
from hpcflow.tuning.candidates import Candidate
from hpcflow.tuning.plan import FOLDER, Rung
from hpcflow.tuning.verdict import Measured, judge, keep, snippet

TRAIN = "train"


def tune(run: RunDir) -> int:
    """Run all rungs, print what they say and write it down; the exit code."""
    folder = run.path / FOLDER
    plan = json.loads((folder / "plan.json").read_text())
    left = [Candidate(item["number"], item["values"]) for item in plan["candidates"]]
    measured: list[Measured] = []
    for number, values in enumerate(plan["rungs"]):
        rung = Rung(**values)
        measured = _rung(folder, number, rung, plan["epochs"], left)
        left = keep(measured, rung.share)
        if not left:
            break
    verdict = judge(measured)
    publish_json(folder / "result.json", verdict.to_json())
    publish_text(folder / "best.yaml", snippet(verdict, plan["where"]))
    print(f"\n{snippet(verdict, plan['where'])}", end="", flush=True)
    return 0 if verdict.best.speeds else 1


def _rung(folder: Path, number: int, rung: Rung, epochs: int, left: Sequence[Candidate]) -> list[Measured]:
    print(
        f"rung {number}: {len(left)} settings, {rung.steps} steps an epoch, {rung.repeats} run(s) each",
        flush=True,
    )
    speeds: dict[int, list[float]] = {one.number: [] for one in left}
    failed: dict[int, str] = {}
    for repeat in range(rung.repeats):
        for one in left:
            if one.number in failed:
                continue
            trial = folder / "trials" / f"{number}-{one.number:02d}-{repeat}"
            speed = _measure(folder / "candidates" / f"{one.number:02d}", trial, rung.steps, epochs)
            if speed is None:
                failed[one.number] = f"failed (see {trial})"
                print(f"  {one.number:2d}  {one.title}: {failed[one.number]}", flush=True)
            else:
                speeds[one.number].append(speed)
                print(f"  {one.number:2d}  {speed:9.4g} images/s  {one.title}", flush=True)
    return [
        Measured(one, () if one.number in failed else tuple(speeds[one.number]), failed.get(one.number, ""))
        for one in left
    ]


def _measure(mould: Path, trial: Path, steps: int, epochs: int) -> float | None:
    """Images/s of one training: the median over its epochs but the first; None where it failed."""
    run = RunDir(trial)
    if not run.graph_file.exists():
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(mould, trial)
        task = run.task(TRAIN, 0)
        settings: dict[str, Any] = json.loads(task.experiment.read_text())
        settings["training"] |= {"limit_batches": steps, "epochs": epochs, "checkpoint_every": epochs}
        task.experiment.write_text(json.dumps(settings, ensure_ascii=False))
    task = run.task(TRAIN, 0)
    found = record.read(task.record)
    if not (found and found.succeeded):
        with task.log.open("ab") as log:
            # The script names its run by where sbatch was called: here by this folder, not by that of our own job.
            environment = {**_clean(os.environ), "SLURM_SUBMIT_DIR": str(trial)}
            script = str(run.job(TRAIN).script)
            subprocess.run(["bash", script], cwd=trial, env=environment, stdout=log, stderr=log, check=False)
        shutil.rmtree(task.checkpoints, ignore_errors=True)  # of no use to anyone
        found = record.read(task.record)
    if not (found and found.succeeded):
        return None
    speeds = [line["images_per_s"] for line in _epochs(task.metrics)]
    return statistics.median(speeds[1:] or speeds) if speeds else None


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Less what our own script set for us alone: an array's number, and the thread variables of no candidate."""
    return {key: value for key, value in environ.items() if not key.startswith(("HPCFLOW_", "SLURM_ARRAY_"))}


def _epochs(path: Path) -> Iterator[Mapping[str, Any]]:
    for line in path.read_text().splitlines():
        values = json.loads(line)
        if values.get("event") == "epoch":
            yield values


if __name__ == "__main__":
    sys.exit(tune(RunDir(Path(sys.argv[1]))))
