"""What `render` and `submit` say of a plan."""

from __future__ import annotations

import json as json_format
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from hpcflow.cli import trials_text
from hpcflow.engines import commands
from hpcflow.errors import SiteError
from hpcflow.jobs.job import Job
from hpcflow.submission import Submission

RULE = "=" * 100
TEXT = ("job", "after", "expected_start")


def scripts(submission: Submission) -> str:
    """Every script with how it is queued above it, as shell comments."""
    parts = [f"# {line}\n" for line in _header(submission)]
    if submission.trials:
        parts.append(
            "#\n" + "".join(f"# {line}\n" for line in trials_text.lines(submission.trials, submission.run))
        )
    for job in submission.layout.graph:
        how = _queue_line(submission, job)
        parts += [f"\n# {RULE}\n# {how}\n# {RULE}\n", submission.layout.scripts[job.name]]
    return "".join(parts)


def notes(submission: Submission) -> None:
    """What of the plan its submitter should know, beside the output."""
    for sentence in submission.notes:
        print(f"note: {sentence}", file=sys.stderr)


def write(submission: Submission, folder: Path) -> None:
    """Write the files of the run directory into ``folder``, and say which."""
    for path, text in submission.layout.files.items():
        to = folder / path.relative_to(submission.run.path)
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SiteError(f"{to} cannot be written: {error.strerror}") from None
        print(to)


def _header(submission: Submission) -> list[str]:
    target = submission.target
    version = f" {target.launcher_version}" if target.launcher_version else ""
    return [
        f"engine: {submission.engine.name} ({submission.why})",
        f"launcher: {target.launcher}{version} ({target.why_launcher})",
        f"run directory: {submission.run.path}",
    ]


def _queue_line(submission: Submission, job: Job) -> str:
    script = submission.run.job(job).script.relative_to(submission.run.path)
    if submission.engine.name == "local":
        waits = f" (after {', '.join(after.job for after in job.after)})" if job.after else ""
        return f"bash {script}{waits}"
    terms = [
        commands.dependency(after, 0, [commands.Chunk(f"<{after.job}>", 0, None)]) for after in job.after
    ]
    flags = commands.sbatch_flags(job.tasks, job.max_parallel, terms)
    return " ".join(["sbatch", *flags, shlex.quote(str(script))])


def dry_run(submission: Submission, *, json: bool) -> None:
    """Print the jobs, what they ask for and when Slurm would start them."""
    from hpcflow.cli.table import Column, Table, print_table

    needs = submission.needs()
    starts = submission.preflight()
    node = submission.target.node
    threads = len(node.pus) / sum(map(len, node.sockets))
    rows = [_row(job, starts[job.name], threads) for job in submission.layout.graph]
    if json:
        about: dict[str, Any] = {
            "engine": submission.engine.name,
            "run": str(submission.run.path),
            "jobs": rows,
            "needs": [
                {"folder": need.room.folder, "bytes": need.bytes, "free": need.room.bytes} for need in needs
            ],
        }
        if submission.trials:
            about["trials"] = [trials_text.row(trial, submission.run) for trial in submission.trials.rows]
        print(json_format.dumps(about))
        return
    for line in _header(submission):
        print(line, file=sys.stderr)
    if submission.trials:
        print("\n".join([*trials_text.lines(submission.trials, submission.run), ""]))
    keys = [*rows[0]] if rows else []
    print_table(Table([Column(key, key.replace("_", " "), right=key not in TEXT) for key in keys], rows))
    for need in needs:
        print(need, file=sys.stderr)
    print(
        f"core-hours at most: {sum(row['core_hours'] for row in rows):g}; nothing was queued", file=sys.stderr
    )


def _row(job: Job, start: str, threads: float) -> dict[str, Any]:
    """``threads`` of a core: Slurm counts these and gives whole cores."""
    from hpcflow.experiment.fields import seconds

    allocation = job.allocation
    limit = seconds(allocation.time) or 0
    return {
        "job": job.name,
        "tasks": job.tasks or 1,
        "nodes": allocation.nodes,
        "tasks_per_node": allocation.tasks_per_node,
        "cpus_per_task": allocation.cpus_per_task,
        "time": allocation.time,
        "core_hours": round(math.ceil(allocation.cpus / threads) * limit / 3600 * (job.tasks or 1), 2),
        "after": " ".join(after.job for after in job.after),
        "expected_start": start,
    }


def queued(submission: Submission, *, json: bool) -> None:
    """Say where the run is and how to follow it."""
    run, graph = submission.run, submission.layout.graph
    if json:
        print(json_format.dumps({"run": run.name, "path": str(run.path), "engine": submission.engine.name}))
        return
    if submission.trials:
        print(f"{run.name}: {trials_text.headline(submission.trials, run)}", file=sys.stderr)
    what = f"{len(graph.jobs)} jobs" + (f" of {graph.size} tasks" if graph.size > len(graph.jobs) else "")
    where = "queued on Slurm" if submission.engine.name == "slurm" else "started on this machine"
    print(f"{run.name}: {what} {where} ({submission.why})")
    print(f"  files    {run.path}")
    print("  follow   hpcflow watch last")
