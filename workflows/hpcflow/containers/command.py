"""A program inside an image: the words between the launcher's and the program's own.

    mpirun ... apptainer exec [flags] --mount ... image.sif python3 -m hpcflow.training ...

The script finds the runtime under either name (HPCFLOW_RUNTIME) and expands the paths; the words refer to them.
Every rank starts the image for itself. As root a user namespace is asked for: an image's root needs nothing of the
node's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcflow.containers.mount import Mount
from hpcflow.experiment.container import Container
from hpcflow.jobs.shell import Variable, Word
from hpcflow.placement.launchers import JobFile

CODE = "/opt/hpcflow/code"
"""Where hpcflow's package is bound; the image is the environment, the code is the submitter's."""

WRAPPER = "container.sh"
IMAGE, RUNTIME, PACKAGE, MPI = "HPCFLOW_IMAGE", "HPCFLOW_RUNTIME", "HPCFLOW_CODE", "HPCFLOW_MPI"
# Every rank starts the image in a user namespace of its own, and ranks of different ones may not read each other's
# memory: Open MPI's shared memory transport must copy twice.
ACROSS_NAMESPACES = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
# What launchers, Slurm and hpcflow say to a rank; without it every rank is rank 0 of 1.
MPI_PREFIXES = "OMPI_|PMIX_|PMI_|PMI2_|PRTE_|HYDRA_|HYDI_|MPI_LOCAL|I_MPI_|MPICH_|FI_|UCX_|CUDA_|TF_CPP_"
LAUNCHERS = f"^({MPI_PREFIXES}|SLURM_|HPCFLOW_)"


@dataclass(frozen=True)
class Inside:
    """What a job adds to run in an image: words before the program's, paths, variables and files of the script.

    ``settings`` are variables for the launcher alone.
    """

    words: tuple[Word, ...]
    paths: Mapping[str, str]
    variables: Mapping[str, str]
    files: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)


def inside(
    container: Container,
    *,
    package: str,
    mounts: Iterable[Mount],
    mpi_prefix: str | None,
    variables: Iterable[str] = (),
    as_root: bool = False,
    wrap: Callable[[Sequence[str], Sequence[str]], str] | None = None,
) -> Inside:
    """The words that start a program in ``container``.

    ``package`` is hpcflow's own folder; ``mounts`` are folders, one below another after it; ``mpi_prefix`` is the MPI
    that the model `bind` binds; ``variables`` are those the job sets, which survive cleanenv. ``wrap`` writes the script
    that hands them through, of their names and those of the runtime's own variables here (None: :func:`wrapper`).
    """
    paths = {IMAGE: container.image, PACKAGE: package}
    mounts = [*mounts, Mount(PACKAGE, f"{CODE}/hpcflow")]
    if container.mpi == "bind":
        prefix = container.mpi_prefix or mpi_prefix
        if prefix:
            mounts.append(Mount(MPI))
            paths |= {
                MPI: prefix,
                **passed(
                    {"LD_LIBRARY_PATH": f"{prefix}/lib", "OPAL_PREFIX": prefix, "PMIX_INSTALL_PREFIX": prefix}
                ),
            }
    for index, bind in enumerate(container.binds):
        source, _, rest = bind.partition(":")
        target, _, mode = rest.partition(":")
        paths[f"HPCFLOW_BIND_{index}"] = source
        mounts.append(Mount(f"HPCFLOW_BIND_{index}", target or None, mode != "ro"))
    names = sorted({*variables, *container.env})
    words: list[Word] = []
    if container.mpi == "hybrid" and mpi_prefix:
        # The mpirun of hpcflow's environment says where its own files are; the image's MPI must not look there.
        # The two belong together: Open MPI 4.1 hangs where they contradict each other.
        words += ["env", "-u", "OPAL_PREFIX", "-u", "PMIX_INSTALL_PREFIX"]
    if container.cleanenv:
        words.append(JobFile(WRAPPER))
    # --no-eval: without it the values of variables are run through a shell inside.
    words += [Variable(RUNTIME), "--quiet", "exec", "--no-eval"]
    words += ["--userns"] * as_root + ["--cleanenv"] * container.cleanenv + ["--nv"] * container.nv
    words += container.flags
    words += [word for mount in mounts for word in ("--mount", mount)]
    words += [Variable(IMAGE), container.python]
    own = passed({"PYTHONPATH": CODE, "PYTHONNOUSERSITE": "1", **container.env})
    files = {}
    if container.cleanenv:
        files[WRAPPER] = (wrap or wrapper)(
            names, [name for name in (*paths, *own) if name.startswith(PREFIXES)]
        )
    return Inside(tuple(words), paths, own, files, ACROSS_NAMESPACES)


PREFIXES = ("APPTAINERENV", "SINGULARITYENV")
"""Apptainer reads both and prefers its own; SingularityCE reads the second."""


def passed(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables of the node that become ``variables`` inside, whatever the image's own environment says."""
    return {f"{prefix}_{name}": value for prefix in PREFIXES for name, value in variables.items()}


def wrapper(names: Sequence[str], _own: Sequence[str] = ()) -> str:
    """The script of a rank that hands ``names`` and the launcher's variables through --cleanenv."""
    return (
        "#!/bin/bash\n"
        "# --cleanenv would take what the launcher says from every rank, and each would be rank 0 of 1. It is handed\n"
        "# on by name, and so is what the job sets.\n"
        f"for name in $(compgen -e | grep -E '{LAUNCHERS}') {' '.join(names)}; do\n"
        '  if [ -n "${!name+set}" ]; then\n'
        + "".join(f'    export "{prefix}_$name=${{!name}}"\n' for prefix in PREFIXES)
        + '  fi\ndone\nexec "$@"\n'
    )
