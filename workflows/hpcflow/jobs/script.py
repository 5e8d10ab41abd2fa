"""A Job as the script that is queued, byte for byte."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jinja2

import hpcflow
from hpcflow.experiment.fields import seconds
from hpcflow.jobs import shell
from hpcflow.jobs.job import Job
from hpcflow.jobs.rundir import RunDir

_PACKAGE = Path(hpcflow.__file__).parent


@functools.cache
def _templates() -> jinja2.Environment:
    # In the wheel the templates are package data; in a checkout they stand at its top.
    places = [_PACKAGE / "sbatch_templates", _PACKAGE.parents[1] / "sbatch_templates"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(places),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # shell, not HTML: values pass through shell.word and shell.path
    )
    environment.filters.update(word=shell.word, path=shell.path)
    return environment


# Slurm starts a job where sbatch was called, which is the run directory: the script names files from there. So
# it is the same for every run of an experiment, and holds no path that a directive would have to quote.
_HERE = RunDir(Path())


def render(job: Job, title: str) -> str:
    """The script of ``job``; ``title`` is the job's name in the queue."""
    context: dict[str, Any] = {
        "title": title,
        "version": hpcflow.__version__,
        "directives": directives(job, title),
        "job": job,
        "job_dir": _HERE.job(job).path,
        "command": " \\\n    ".join(shell.lines(part) for part in (job.launch, job.program) if part),
        "enter": shell.lines(job.enter),
        "leave": shell.lines(job.leave),
    }
    text = _templates().get_template("job.sh.j2").render(context)
    return "\n".join(_single_spaced(text.splitlines())).rstrip() + "\n"


def directives(job: Job, title: str) -> list[str]:
    """The #SBATCH flags of ``job``, each as sbatch reads it from a script."""
    allocation, where = job.allocation, _HERE.job(job)
    flags: list[tuple[str, str | None]] = [
        ("job-name", title),
        ("nodes", str(allocation.nodes)),
        ("ntasks-per-node", str(allocation.tasks_per_node)),
        ("cpus-per-task", str(allocation.cpus_per_task)),
        ("time", allocation.time),
        *allocation.flags,
        ("output", str(where.task(0).log if job.tasks is None else where.scheduler_log)),
        # A requeued job must not overwrite what its first attempt said.
        ("open-mode", "append"),
        ("signal", f"B:TERM@{warning(allocation.time)}"),
        ("kill-on-invalid-dep", "yes"),
    ]
    return [f"--{name}" if value is None else f"--{name}={directive_value(value)}" for name, value in flags]


def warning(time: str) -> int:
    """Seconds before the limit at which the script is told: time for the ranks to end and for the record.

    A minute, but no more than a tenth of a short limit.
    """
    limit = seconds(time)
    return 60 if limit is None else max(1, min(60, limit // 10))


def directive_value(value: str) -> str:
    """``value`` in sbatch's own quoting of a script's directives.

    sbatch knows quotes and the backslash (src/sbatch/opt.c, _get_argument) and no other shell syntax: `$()` is inert
    already.
    """
    if all(character.isalnum() or character in "-_./:,=@%+[]&|*" for character in value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _single_spaced(rows: list[str]) -> list[str]:
    """No two empty lines in a row: a partial that renders to nothing leaves none behind."""
    return [row for index, row in enumerate(rows) if row or (index and rows[index - 1])]
