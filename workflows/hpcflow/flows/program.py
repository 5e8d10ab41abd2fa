"""A module of hpcflow's as a job runs it: in hpcflow's own environment, or in the image that the experiment names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpcflow.containers.command import inside
from hpcflow.experiment import Experiment
from hpcflow.flows.target import Target
from hpcflow.jobs.shell import Word

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
) -> Program:
    """`python ARGUMENTS`. ``reads`` and ``writes`` are the shell variables that name its folders, ``variables`` those
    that the job sets for it."""
    container = experiment.container
    if container is None:
        return Program((f"{target.prefix}/bin/python", *arguments))
    if experiment.storage.stage != "none":
        writes = (*writes, SCRATCH)
    own_mpi = target.prefix if target.own_mpi else None
    image = inside(
        container,
        package=target.code,
        writes=writes,
        reads=reads,
        mpi_prefix=own_mpi,
        variables=(*experiment.environment.variables, *variables),
        as_root=target.as_root,
    )
    return Program(
        (*image.words, *arguments),
        image.paths,
        image.variables,
        image.settings,
        image.files,
        tuple(name for name in writes if name != SCRATCH),
        container.runtime,
    )
