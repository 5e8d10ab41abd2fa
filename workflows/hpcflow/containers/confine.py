"""A job of a federation that sees one collaborator's data and nothing else of the node.

Everything of the node that Apptainer would show by itself is left out: home, /tmp, the folders that the site binds
into every image, processes, the environment. What is bound instead: the job's own data and the round's public files,
both read-only; the folders it writes; hpcflow's code. A link in the data that points elsewhere leads nowhere.

The image must be trusted, and so must the node's administrator: a collaborator's *training code* is what is confined.
Ranks of one job talk over TCP, because each has a /dev/shm of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hpcflow.containers.command import MPI_PREFIXES, PREFIXES, Inside, inside
from hpcflow.containers.mount import Mount
from hpcflow.errors import InputError
from hpcflow.experiment.container import Container

CONFINED = ("--containall", "--no-home", "--no-privs", "--no-mount", "hostfs,bind-paths")
"""What keeps the node out. bind-paths: a site may bind all of /lustre into every image (apptainer.conf). no-privs: a
root's program could make its read-only folders writable again (mount -o remount,rw,bind)."""

# Without shared memory between ranks: neither Open MPI's transport nor PMIx's store of keys.
SETTINGS: Mapping[str, str] = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_pml": "ob1", "PMIX_MCA_gds": "hash"}
# Flags that show no files.
HARMLESS = frozenset(
    {"--rocm", "--nvccli", "--no-init", "--writable-tmpfs", "--sharens", "--no-privs", "--no-eval"}
)
# What the runtime itself needs of the node: its tools, its user, its caches.
RUNTIME_NEEDS = "PATH LD_LIBRARY_PATH HOME USER LOGNAME LANG TMPDIR"
RUNTIME_FOLDERS = "^(APPTAINER|SINGULARITY)_(CACHEDIR|TMPDIR|CONFIGDIR)$"
# What ranks are told by Slurm. Not all that it says: SLURM_JWT is a token.
SLURM = (
    "SLURM_((JOB|STEP)_?ID|PROCID|LOCALID|NODEID|NTASKS|NPROCS|NNODES|STEP_NUM_(TASKS|NODES)"
    "|(JOB_|STEP_)?NODELIST|(STEP_)?TASKS_PER_NODE|CPUS_PER_TASK|CPUS_ON_NODE|GTIDS|MPI_TYPE)$|SLURM_PMIX?_"
)


def complaint(container: Container) -> tuple[str, str] | None:
    """The key by which an experiment would let in more than confinement is, and why it may not; or None."""
    if container.binds:
        return "container.binds", "every collaborator's job would see them (leave them out of confined jobs)"
    more = [flag for flag in container.flags if flag.partition("=")[0] not in HARMLESS]
    if more:
        return "container.flags", f"{more[0]} could show a confined job more of the node (leave it out)"
    return None


def confine(
    container: Container,
    *,
    package: str,
    mounts: Iterable[Mount],
    mpi_prefix: str | None,
    variables: Iterable[str] = (),
    as_root: bool = False,
) -> Inside:
    """The words that start a program with nothing but ``mounts``. Raises InputError where the experiment would let in
    more.
    """
    wrong = complaint(container)
    if wrong:
        raise InputError(": ".join(wrong))
    made = inside(
        container.model_copy(update={"cleanenv": True, "flags": (*CONFINED, *container.flags)}),
        package=package,
        mounts=mounts,
        mpi_prefix=mpi_prefix,
        variables=variables,
        as_root=as_root,
        wrap=wrapper,
    )
    return replace(made, settings=SETTINGS)


def wrapper(names: Sequence[str], own: Sequence[str]) -> str:
    """The script of a rank whose environment is what is named here and no more: ``names`` and the launcher's variables
    inside; ``own``, which the runtime hands in, and its needs outside.
    """
    keep = [f'    words+=("{prefix}_$name=${{!name}}")\n' for prefix in PREFIXES]
    return (
        "#!/bin/bash\n"
        "# Nothing of the environment reaches the runtime or the image but what is named here: a bind or a token that\n"
        "# the submitter's shell exports would reach whoever trains inside.\n"
        "words=()\n"
        f"for name in {RUNTIME_NEEDS} {' '.join(own)} $(compgen -e | grep -E '{RUNTIME_FOLDERS}'); do\n"
        '  if [ -n "${!name+set}" ]; then words+=("$name=${!name}"); fi\n'
        "done\n"
        f"for name in $(compgen -e | grep -E '^({MPI_PREFIXES}|{SLURM})') {' '.join(names)}; do\n"
        '  if [ -n "${!name+set}" ]; then\n' + "".join(keep) + "  fi\n"
        'done\nexec env -i "${words[@]}" "$@"\n'
    )
