"""The files of a run before it is queued: `render` prints them, `submit` writes them, and they are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hpcflow.errors import SiteError
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.rundir import RunDir
from hpcflow.jobs.script import render
from hpcflow.jobs.trials import Trials
from hpcflow.storage.publish import publish_text


@dataclass(frozen=True)
class Layout:
    """A run directory as text: path -> content, and the script of each job."""

    run: RunDir
    graph: JobGraph
    files: Mapping[Path, str]
    scripts: Mapping[str, str]
    trials: Trials | None = None

    def write(self) -> None:
        """Write every file; the graph, which makes the folder a run, is published last. Raises SiteError."""
        try:
            folders = {path.parent for path in self.files}
            for job in self.graph:
                folders.update(task.path for task in self.run.job(job))
            # Those above first, so that most take one call. Of thousands, Path's own ways cost more than the calls.
            for folder in sorted(map(str, folders)):
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            for path, text in self.files.items():
                with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
                    file.write(text)
                if path.suffix == ".sh":
                    path.chmod(0o755)
            publish_text(self.run.graph_file, _json(self.graph.to_json()))
        except OSError as error:
            raise SiteError(
                f"the run directory {self.run.path} cannot be written: {error.strerror}"
            ) from None


def lay_out(
    run: RunDir,
    graph: JobGraph,
    experiment: str,
    provenance: Mapping[str, Any],
    title: str,
    experiments: Mapping[tuple[str, int], str] = MappingProxyType({}),
    trials: Trials | None = None,
) -> Layout:
    """Every file of ``run``. ``experiment`` is the resolved experiment's YAML, ``title`` the prefix of job names.

    ``experiments`` are those of tasks, by job and index, that have one of their own; ``trials`` is of sweeps.
    """
    scripts = {job.name: render(job, f"{title}.{job.name}") for job in graph}
    files: dict[Path, str] = {run.experiment: experiment, run.provenance: _json(provenance)}
    if trials is not None:
        files[run.trials] = trials.to_json()
    for job in graph:
        where = run.job(job)
        files[where.script] = scripts[job.name]
        files |= {where.path / name: text for name, text in job.files.items()}
        files.update({task.experiment: experiments.get((job.name, task.index), experiment) for task in where})
    return Layout(run, graph, files, scripts, trials)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"
