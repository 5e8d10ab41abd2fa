"""A module of hpcflow's as a job runs it: in hpcflow's own environment, or in the image that the experiment names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcflow.containers.command import inside
from hpcflow.containers.confine import confine
from hpcflow.containers.mount import Mount
from hpcflow.experiment import Experiment
from hpcflow.flows.target import Target
from hpcflow.jobs.shell import Word, references

SCRATCH = "HPCFLOW_SCRATCH"  # set by sbatch_templates/container.sh.j2


@dataclass(frozen=True)
class Program:
    """What a job must know of a program: its words, and what its script adds for them.

    ``variables`` go to every rank, ``settings`` to the launcher alone; ``folders`` are variables naming folders that
    must exist before an image can be given them; ``runtime`` is the container runtime to look for.
    """

    words: tuple[Word, ...]
    paths: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    runtime: str | None = None


def python(
    experiment: Experiment,
    target: Target,
    arguments: Sequence[Word],
    *,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    variables: Sequence[str] = (),
    confined: Sequence[Mount] | None = None,
) -> Program:
    """`python ARGUMENTS`. ``reads`` and ``writes`` are the shell variables that name its folders, ``variables`` those
    that the job sets for it. ``confined`` is all that a confined one is given instead (see flows/confinement.py)."""
    container = experiment.container
    if container is None:
        return Program((f"{target.prefix}/bin/python", *arguments))
    more = {} if confined is not None else _told_by_name(experiment)
    if experiment.storage.stage != "none":
        writes = (*writes, SCRATCH)
    image = (inside if confined is None else confine)(
        container,
        package=target.code,
        mounts=_mounts(writes, (*reads, *more)) if confined is None else confined,
        mpi_prefix=target.prefix if target.own_mpi else None,
        variables=(*experiment.environment.variables, *variables, *references(more.values())),
        as_root=target.as_root,
    )
    return Program(
        (*image.words, *arguments),
        {**more, **image.paths},
        image.variables,
        image.settings,
        image.files,
        () if confined is not None else tuple(name for name in writes if name != SCRATCH),
        container.runtime,
    )


def _mounts(writes: Iterable[str], reads: Iterable[str]) -> list[Mount]:
    return [*(Mount(name, writable=True) for name in writes), *map(Mount, reads)]


def _told_by_name(experiment: Experiment) -> dict[str, str]:
    """The files and folders that a federation's experiment names beside storage.data, each by a variable."""
    rules = experiment.federation
    if rules is None:
        return {}
    held = rules.evaluation.holdout
    said = [*(member.data for member in rules.members), held.data if held else None, rules.partition.file]
    named = dict.fromkeys(text for text in (*said, *rules.models) if text)
    return {f"HPCFLOW_NAMED_{index}": text for index, text in enumerate(named)}
