"""Checks of Slurm: does it answer, what does it allow, what does it run on."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator

from hpcflow.doctor.finding import Finding, ok, problem, warning
from hpcflow.doctor.survey import Survey
from hpcflow.engines.slurm_limits import parse_associations, parse_qos
from hpcflow.engines.slurm_site import SlurmSite

OLDEST = (20, 11)  # --export, folded squeue output and kill-on-invalid-dep are as expected from here on
# What the client says when there is no slurm.conf at all: a machine with the package and no cluster.
NOT_CONFIGURED = ("cannot stat file", "configuration source", "SLURM_CONF", "ClusterName needs")


def controller(survey: Survey) -> Iterator[Finding]:
    """Version, and whether the controller answers."""
    slurm = survey.slurm
    if slurm is None:
        yield ok("scheduler", "no Slurm on this machine: jobs run here (engine local)")
        return
    if not slurm.ctld_up:
        if any(text in slurm.reason for text in NOT_CONFIGURED):
            what = f"Slurm's commands are installed, and there is no cluster behind them: {slurm.reason}"
            yield warning("scheduler", what, "set SLURM_CONF if there is one; jobs run here (engine local)")
        else:
            what = f"Slurm {slurm.version_text}: the controller does not answer: {slurm.reason}"
            yield problem("scheduler", what, "try again later or ask the site; --engine local runs here")
        return
    what = f"Slurm {slurm.version_text}, cluster {slurm.cluster or 'without a name'}, the controller answers"
    if slurm.version[:2] < OLDEST:
        yield warning(
            "scheduler", f"{what}; it is older than hpcflow knows", "check the first job's placement"
        )
    else:
        yield ok("scheduler", what)
    for name, up in slurm.controllers:
        if not up:
            yield warning("scheduler", f"the controller {name} is down, another one answers", "tell the site")


def accounting(survey: Survey) -> Iterator[Finding]:
    """Whether sacct answers, and what is left where it does not."""
    slurm = answering(survey)
    if slurm is None:
        return
    if slurm.accounting:
        yield ok("accounting", "sacct answers")
    elif slurm.accounting_storage:
        what = f"kept by {slurm.accounting_storage}, and sacct fails: {slurm.accounting_reason}"
        yield warning("accounting", what, "tell the site; states come from squeue and the jobs' own records")
    else:
        yield ok("accounting", "none kept here: states come from squeue and the jobs' own records")
        if slurm.min_job_age < 30:
            what = f"the controller forgets ended jobs after {slurm.min_job_age} s (MinJobAge)"
            yield warning("accounting", what, "`hpcflow status` then relies on the jobs' own records alone")


def limits(survey: Survey) -> Iterator[Finding]:
    """MaxArraySize, MaxJobCount, and what accounting allows this user."""
    slurm = answering(survey)
    if slurm is None:
        return
    if slurm.max_array_size < 2:
        what, do = "job arrays are switched off (MaxArraySize)", "sweeps are refused here; ask the site"
        yield problem("limits", what, do)
    else:
        what = (
            f"arrays of {slurm.max_array_size} tasks (longer ones are cut), {slurm.max_job_count} jobs in all"
        )
        yield ok("limits", what)
    if not slurm.accounting:
        return
    mine = parse_associations(survey.answers["associations"].out)
    qos = {one.name: one for one in parse_qos(survey.answers["qos"].out)}
    if not mine:
        yield warning(
            "limits", "accounting knows no account of yours", "sbatch may refuse; ask the site for one"
        )
    for one in mine:
        bounds = {"jobs at once": one.max_jobs, "jobs in the queue": one.max_submit}
        bounds |= {"jobs in the queue of the whole account": one.group_submit}
        for name in one.qos:
            if name in qos:
                bounds |= {
                    f"jobs at once under qos {name}": qos[name].max_jobs,
                    f"jobs in the queue under qos {name}": qos[name].max_submit,
                    f"jobs in the queue of all users under qos {name}": qos[name].group_submit,
                }
        said = [f"{number} {text}" for text, number in bounds.items() if number is not None]
        where = f"account {one.account}" + (f" in {one.partition}" if one.partition else "")
        yield ok("limits", f"{where}: {', '.join(said) or 'no limit of jobs'}")


def nodes(survey: Survey) -> Iterator[Finding]:
    """Partitions and the shapes of nodes."""
    slurm = answering(survey)
    if slurm is None:
        return
    if not slurm.partitions:
        yield problem("nodes", "there is no partition that you may use", "ask the site")
    for partition in slurm.partitions:
        inside = slurm.in_partition(partition.name)
        usable = [node for node in inside if node.usable]
        shapes = Counter(node.shape for node in inside)
        text = "; ".join(
            f"{count} x {sockets} sockets x {cores} cores x {threads} threads, {memory} MiB"
            for (sockets, cores, threads, memory), count in shapes.items()
        )
        name = f"partition {partition.name}" + (" (default)" if partition.default else "")
        what = f"{name}: {text or f'{partition.total} nodes'}; {partition.idle} idle"
        if not partition.up:
            yield warning("nodes", f"{name} is closed", "name another one in resources.partition")
        elif inside and not usable:
            yield warning("nodes", f"{what}, none can be used now", "name another partition, or wait")
        else:
            down = len(inside) - len(usable)
            yield ok("nodes", what + (f", {down} cannot be used now" if down else ""))
    if slurm.partitions and slurm.default_partition is None:
        yield warning("nodes", "there is no default partition", "name one in resources.partition")


def binding(survey: Survey) -> Iterator[Finding]:
    """Whether srun can keep ranks on their cores."""
    slurm = answering(survey)
    if slurm is None or {"affinity", "cgroup"} & set(slurm.task_plugins):
        return
    what = "srun cannot bind ranks to cores here (TaskPlugin has neither affinity nor cgroup)"
    if survey.choice.launcher == "srun":
        yield problem("binding", what, "use an mpirun: placement.launcher openmpi, intelmpi or mpich")
    else:
        yield ok("binding", f"{what}; mpirun binds by itself")


def answering(survey: Survey) -> SlurmSite | None:
    """Slurm, if its controller answers."""
    return survey.slurm if survey.slurm and survey.slurm.ctld_up else None


def only_this_machine(slurm: SlurmSite) -> bool:
    """Whether every node is this very machine, as in a cluster for trying things out."""
    me = {"localhost", "127.0.0.1", socket.gethostname(), socket.gethostname().partition(".")[0]}
    return bool(slurm.nodes) and all(node.host in me for node in slurm.nodes)
