"""Which jobs of a federation are confined, and what their programs are given: see containers/confine.py for what keeps
the rest of the node out, and federation/enclosure.py for what is laid out and taken over.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpcflow.containers.confine import complaint
from hpcflow.containers.mount import Mount
from hpcflow.experiment import Experiment, Loaded
from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.flows.target import Target
from hpcflow.flows.train import arguments
from hpcflow.jobs.job import Job
from hpcflow.jobs.rundir import RoundDir, RunDir, TaskDir
from hpcflow.jobs.shell import Variable, Word

# Set by sbatch_templates/enter.sh.j2.
MEMBER, DATA, CACHE = "HPCFLOW_MEMBER", "HPCFLOW_DATA", "HPCFLOW_CACHE"
RUN, VIEW, MADE, ROUND = "HPCFLOW_RUN", "HPCFLOW_VIEW", "HPCFLOW_MADE", "HPCFLOW_ROUND"
UPDATES, FAILURES = "HPCFLOW_UPDATES", "HPCFLOW_FAILURES"
# What a confined part of a round is told beside what every program is.
OWN: tuple[Word, ...] = ("--confined", "--name", Variable(MEMBER), "--data", Variable(DATA))


def is_confined(loaded: Loaded) -> bool:
    """Whether the jobs of a federation are. Raises InputError where the experiment asks for what cannot be, or leaves
    open whether one job may see the data of several collaborators.
    """
    experiment, container = loaded.experiment, loaded.experiment.container
    if container is None or container.confine is False:
        return False
    plan = Plan(RunDir(Path()), experiment)
    if experiment.flow == "federated" and plan.rules.execution == "chained":
        wrong = complaint(container)
        if wrong:
            raise loaded.problem(wrong[0], f"{wrong[1]}; container.confine: false does without confinement")
        return True
    if container.confine or any(plan.own_data(name) for name in (*plan.members, HOLDOUT)):
        of_jobs = experiment.flow == "federated"
        what = f"execution: {plan.rules.execution}" if of_jobs else f"flow: {experiment.flow}"
        raise loaded.problem(
            "container.confine",
            f"with {what} a job is shown the data of all collaborators: they cannot be confined from each other "
            "(say flow: federated and execution: chained, or container.confine: false)",
        )
    return False


def mounts(part: str) -> list[Mount]:
    """All that it is given, each laid over those before it."""
    run = [Mount(VIEW, at=RUN), Mount(MADE, writable=True, at=ROUND)]
    if part == "aggregate":
        return [*run, Mount(UPDATES), Mount(FAILURES)]
    return [Mount(DATA), *run, Mount(CACHE, writable=True)]


def confined(job: Job, experiment: Experiment, target: Target, program: str, part: str, round: str) -> Job:
    """``job``, which does ``part``, with what hpcflow does before and after it; ``round`` is the folder's name."""
    view = TaskDir(Path("$HPCFLOW_TASK_DIR"), Path(), job.name, 0).view
    inside, outside = (_round(Path(top), round) for top in (f"${VIEW}", f"${RUN}"))
    own = {VIEW: view, MADE: inside.path, ROUND: outside.path}
    if part == "aggregate":
        own |= {UPDATES: outside.updates, FAILURES: outside.failures}
    call = (f"{target.prefix}/bin/python", "-m", program)
    return replace(
        job,
        paths={**job.paths, **{name: str(path) for name, path in own.items()}},
        enter=(*call, "enter", *arguments(experiment)),
        leave=(*call, "leave", *arguments(experiment)),
    )


def _round(run: Path, number: str) -> RoundDir:
    return RoundDir(RunDir(run).rounds() / number, 0)
