"""`flow: train`: pack the data once, then train on every rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcflow.containers.mount import Mount
from hpcflow.errors import InputError
from hpcflow.experiment import Experiment, Loaded
from hpcflow.experiment.schema import FLAG_OF_KEY, Placement
from hpcflow.flows.program import python
from hpcflow.flows.target import Target
from hpcflow.jobs.job import After, Allocation, Job, JobGraph
from hpcflow.jobs.shell import Variable, Word
from hpcflow.placement.launchers import HostList, line
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.requirements import Allocation as Needs
from hpcflow.placement.requirements import requirements
from hpcflow.placement.threads import derive
from hpcflow.storage import mounts

# What jobs/script.py writes of every job.
ALLOCATION = {"nodes", "ntasks", "ntasks-per-node", "cpus-per-task"}
COUNTS = ("ranks_per_node", "ranks_per_socket", "ranks_per_numa", "ranks_per_l3")
RANKMAP = "rankmap.json"
# What jobs of one process may set for it (flows/federated.py).
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# The packer reads NIfTI and writes arrays: one process, no TensorFlow.
PACK_TIME = "01:00:00"
PREPARING: tuple[Word, ...] = ("hpcflow.training.prepare",)
TRAINING: tuple[Word, ...] = ("hpcflow.training",)


def train(loaded: Loaded, target: Target) -> JobGraph:
    """`prepare`, which makes phantoms where they are asked for and packs the data, and `train`, which needs it."""
    experiment = loaded.experiment
    return JobGraph((prepare_job(experiment, target), train_job(loaded, target)))


def prepare_job(
    experiment: Experiment,
    target: Target,
    name: str = "prepare",
    module: tuple[Word, ...] = PREPARING,
    confined: Sequence[Mount] | None = None,
) -> Job:
    """The job that packs the data of an experiment; or another of one process that a federation needs."""
    program = python(
        experiment,
        target,
        ("-m", *module, *arguments(experiment)),
        reads=_data(experiment),
        writes=("HPCFLOW_RUN", "HPCFLOW_CACHE"),
        variables=THREADS,
        confined=confined,
    )
    return Job(
        name=name,
        allocation=Allocation(time=PACK_TIME, flags=_flags(experiment)),
        program=program.words,
        modules=experiment.environment.modules,
        variables={**experiment.environment.variables, **_site(target), **program.variables},
        paths={**_paths(experiment), **program.paths},
        files=program.files,
        folders=program.folders,
        runtime=program.runtime,
    )


def train_job(
    loaded: Loaded,
    target: Target,
    name: str = "train",
    module: tuple[Word, ...] = TRAINING,
    after: tuple[After, ...] = (After("prepare"),),
    confined: Sequence[Mount] | None = None,
) -> Job:
    """The job that trains, all ranks. Raises InputError where they do not fit the target."""
    experiment = loaded.experiment
    ranks = rank_map(loaded, target)
    threads = derive(ranks, experiment.threads)
    program = python(
        experiment,
        target,
        ("-m", *module, *arguments(experiment)),
        reads=(*_data(experiment), "HPCFLOW_CACHE"),
        writes=("HPCFLOW_RUN",),
        variables=tuple(threads.env),
        confined=confined,
    )
    variables = {**experiment.environment.variables, **threads.env, **_site(target), **program.variables}
    launch = line(
        target.launcher,
        ranks,
        program.words,  # type: ignore[arg-type]
        version=target.launcher_version,
        env=variables,
        scheduler=target.scheduler,
        as_root=target.as_root,
        mpi=target.mpi_plugin,
        command=target.launcher_command,
    )
    needs = requirements(ranks)
    return Job(
        name=name,
        allocation=Allocation(
            nodes=needs.nodes,
            tasks_per_node=needs.ntasks_per_node,
            cpus_per_task=needs.cpus_per_task,
            time=experiment.resources.time,
            flags=_flags(experiment, needs),
        ),
        program=program.words,
        launch=launch.argv[: -len(program.words)],
        mpi_prefix=target.prefix if target.own_mpi else None,
        needs_hosts=any(isinstance(word, HostList) for word in launch.argv),
        after=after,
        modules=experiment.environment.modules,
        variables={**variables, **program.settings, **launch.env},
        paths={**_paths(experiment), **program.paths},
        files={
            RANKMAP: ranks.to_text(launcher=target.launcher, verify=experiment.placement.verify),
            **launch.files,
            **program.files,
        },
        folders=program.folders,
        runtime=program.runtime,
        notes=tuple(threads.lint()),
    )


def rank_map(loaded: Loaded, target: Target) -> RankMap:
    """Every rank's place on the target. Raises InputError at the key that asks for too much.

    The local engine has one node: it takes the ranks of all nodes that the experiment asks for.
    """
    experiment = loaded.experiment
    request, nodes = experiment.placement, experiment.resources.nodes
    if target.scheduler == "local" and nodes > 1:
        folded = {key: getattr(request, key) * nodes for key in COUNTS if getattr(request, key)}
        if not folded and request.ranks is None:
            folded = {"ranks_per_node": nodes}
        request, nodes = request.model_copy(update=folded), 1
    try:
        return plan(request, [target.node] * nodes)
    except InputError as error:
        if error.problems:
            raise
        asked = experiment.resources.nodes
        here = f" (this machine takes the ranks of all {asked} nodes)" if nodes < asked else ""
        message = str(error).removeprefix("placement: ") + here
        raise loaded.problem(_culprit(request, target, nodes, loaded), message) from None


def _culprit(request: Placement, target: Target, nodes: int, loaded: Loaded) -> str:
    """The key that asks for too much: the cores of a rank where the ranks alone would fit, else their number."""
    try:
        plan(request.model_copy(update={"cores_per_rank": "auto"}), [target.node] * nodes)
    except InputError:
        said = [f"placement.{key}" for key in (*COUNTS, "ranks") if f"placement.{key}" in loaded.said]
        return said[0] if said else "placement"
    return "placement.cores_per_rank"


def _data(experiment: Experiment) -> tuple[str, ...]:
    return ("HPCFLOW_DATA",) if experiment.storage.data else ()


def arguments(experiment: Experiment) -> tuple[Word, ...]:
    """What every program of a job is told: its data, the cache, its run, its job and its task."""
    data = ("--data", Variable("HPCFLOW_DATA")) if experiment.storage.data else ()
    names = ("HPCFLOW_RUN", "HPCFLOW_JOB", "HPCFLOW_TASK")
    return (*data, "--cache", Variable("HPCFLOW_CACHE"), *map(Variable, names))


def _site(target: Target) -> dict[str, str]:
    """What a job must know of the site's file systems."""
    return {mounts.VARIABLE: target.file_systems} if target.file_systems else {}


def _paths(experiment: Experiment) -> dict[str, str]:
    storage = experiment.storage
    cache = storage.cache or str(Path(storage.runs) / ".cache")
    return {**({"HPCFLOW_DATA": storage.data} if storage.data else {}), "HPCFLOW_CACHE": cache}


def _flags(experiment: Experiment, needs: Needs | None = None) -> tuple[tuple[str, str | None], ...]:
    """sbatch's flags that are not written by every script; ``needs`` of a job that places ranks."""
    resources = experiment.resources
    flags: dict[str, str | None] = {}
    if needs:
        flags = {name: value for name, value in needs.directives().items() if name not in ALLOCATION}
    named = {name: getattr(resources, key) for name, key in FLAG_OF_KEY.items() if key != "exclusive"}
    flags.update({name: value for name, value in named.items() if value})
    if resources.exclusive:
        flags["exclusive"] = None
    for flag in resources.extra:
        name, equals, value = flag.removeprefix("--").partition("=")
        flags[name] = value if equals else None
    return tuple(flags.items())
