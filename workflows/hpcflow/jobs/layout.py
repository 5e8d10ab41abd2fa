"""The files of a run before it is queued: `render` prints them, `submit` writes them, and they are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any

from hpcflow.errors import SiteError
from hpcflow.jobs.job import JobGraph
from hpcflow.jobs.rundir import RunDir
from hpcflow.jobs.script import render
from hpcflow.jobs.trials import Trials
from hpcflow.storage.publish import publish_text

# So many files are written one after another; of more, so many at once if one takes as long as a server far away.
FEW, AT_ONCE, FAR = 64, 8, 0.0005


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
            # Of thousands, Path's own ways cost more than the calls.
            files = {str(path): text for path, text in self.files.items()}
            _each(_make, sorted({os.path.dirname(path) for path in files}))  # noqa: PTH120
            _each(_write, files.items())
            publish_text(self.run.graph_file, _json(self.graph.to_json()))
        except OSError as error:
            raise SiteError(
                f"the run directory {self.run.path} cannot be written: {error.strerror}"
            ) from None


def _each(action: Callable[[Any], None], items: Collection[Any]) -> None:
    """Do it to all of ``items``, of many to several at once where each waits for a server; on a disk of this machine
    they would only wait for each other.
    """
    queue = iter(items)  # whoever is free takes the next

    def work(most: int | None = None) -> None:
        for item in islice(queue, most):
            action(item)

    start = monotonic()
    work(FEW)
    if len(items) <= FEW or monotonic() - start < FEW * FAR:
        work()
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(work) for _ in range(AT_ONCE)]:
            done.result()


def _make(folder: str) -> None:
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103


def _write(file: tuple[str, str]) -> None:
    path, text = file
    with open(path, "w", encoding="utf-8") as stream:  # noqa: PTH123
        stream.write(text)
    if path.endswith(".sh"):
        os.chmod(path, 0o755)  # noqa: PTH101


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
