"""A job of a federation that sees one collaborator's data and nothing else of the node.

Everything of the node that Apptainer would show by itself is left out: home, /tmp, the folders that the site binds
into every image, processes, the environment. What is bound instead: the job's own data and the round's public files,
both read-only; the one folder it writes; hpcflow's code. A link in the data that points elsewhere leads nowhere.

The image must be trusted, and so must the node's administrator: a collaborator's *training code* is what is confined.
Ranks of one job talk over TCP, because each has a /dev/shm of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hpcflow.containers.command import Inside, inside
from hpcflow.errors import InputError
from hpcflow.experiment.container import Container

CONFINED = ("--containall", "--no-home", "--no-mount", "hostfs,bind-paths")
"""What keeps the node out. bind-paths: a site may bind all of /lustre into every image (apptainer.conf)."""

# Without shared memory between ranks: neither Open MPI's transport nor PMIx's store of keys.
SETTINGS: Mapping[str, str] = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_pml": "ob1", "PMIX_MCA_gds": "hash"}
# Flags that show no files.
HARMLESS = frozenset(
    {"--rocm", "--nvccli", "--no-init", "--writable-tmpfs", "--sharens", "--no-privs", "--no-eval"}
)


def confine(
    container: Container,
    *,
    package: str,
    data: str | None,
    public: Iterable[str],
    work: Iterable[str],
    mpi_prefix: str | None,
    variables: Iterable[str] = (),
    as_root: bool = False,
) -> Inside:
    """The words that start a program with nothing but these folders, each named by a shell variable.

    ``data`` is the collaborator's own folder (None: the aggregator has none), ``public`` the round's files for all,
    ``work`` what the job writes. Raises InputError where the experiment would let in more.
    """
    if container.binds:
        raise InputError(
            "container.binds: every collaborator's job would see them (leave them out of a federation, or out of "
            "confinement)"
        )
    more = [flag for flag in container.flags if flag.partition("=")[0] not in HARMLESS]
    if more:
        raise InputError(
            f"container.flags: {more[0]} could show a confined job more of the node (leave it out)"
        )
    closed = container.model_copy(update={"cleanenv": True, "flags": (*CONFINED, *container.flags)})
    made = inside(
        closed,
        package=package,
        writes=work,
        reads=(*([data] if data else []), *public),
        mpi_prefix=mpi_prefix,
        variables=variables,
        as_root=as_root,
    )
    return replace(made, settings=SETTINGS)
