"""Why a job waits, in words: Slurm's reasons (22.05: job_reason_string in slurm_protocol_defs.c).

The limits of QOS and associations are named by a pattern (QOSMaxCpuPerUserLimit, AssocGrpMemRunMinutes) of which there
are over a hundred; they are read by their parts. A reason that is not known here is shown as Slurm says it.
"""

from __future__ import annotations

import re

REASONS: dict[str, str] = {
    "None": "",
    "Resources": "waits for free nodes",
    "Priority": "jobs of higher priority go first",
    "Dependency": "waits for the jobs before it",
    "DependencyNeverSatisfied": "a job before it failed, it will never start",
    "JobHeldUser": "held by its user (scontrol release)",
    "JobHeldAdmin": "held by the site's staff",
    "JobHoldMaxRequeue": "held: it was requeued too often (scontrol release)",
    "BeginTime": "may not start before its begin time",
    "JobArrayTaskLimit": "as many tasks of the array run as may at once",
    "Licenses": "waits for licences",
    "Reservation": "waits for its reservation to begin",
    "ReservationDeleted": "its reservation was deleted, it will never start",
    "ReqNodeNotAvail": "a node that it needs is down, drained or reserved",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node has what it asks for",
    "Prolog": "its nodes are being prepared",
    "Cleaning": "its nodes are still cleaned up after its last start",
    "FrontEndDown": "no front-end node is up",
    "SchedDefer": "the scheduler looks at it in its next round",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition takes no jobs now",
    "PartitionNodeLimit": "asks for more nodes than the partition gives",
    "PartitionTimeLimit": "asks for more time than the partition gives",
    "PartitionConfig": "asks for what the partition does not give",
    "AccountNotAllowed": "the account may not use the partition",
    "QOSNotAllowed": "the account or the partition may not use the QOS",
    "InvalidAccount": "the account is not valid",
    "InvalidQOS": "the QOS is not valid",
    "QOSMinCpuNotSatisfied": "asks for fewer CPUs than the QOS wants of a job",
    "QOSUsageThreshold": "the account has used so much that the QOS lets others go first",
    "MaxCpuPerAccount": "jobs of your account use as many CPUs as it may",
    "MaxNodePerAccount": "jobs of your account use as many nodes as it may",
    "MaxMemPerLimit": "asks for more memory than a CPU or node gives",
    "BurstBufferResources": "waits for space in the burst buffer",
    "BurstBufferStageIn": "its data is being staged into the burst buffer",
    "launch failed requeued held": "could not be started on its node and is held",
}
_LIMIT = re.compile(
    r"(?P<whose>QOS|Assoc)(?P<kind>Grp|Max|Min)(?P<what>CPU|Cpu|GRES|Gres|Memory|Mem|Node|Jobs?|SubmitJobs?|Submit|Wall"
    r"|WallDuration|Billing|BB|Energy|License|Licenses)(?P<minutes>RunMinutes|Minutes)?(?P<per>Per(?:User|Job|Account|Node"
    r"|JobLimit|UserLimit))?(?:Limit)?"
)
_WHAT = {
    "cpu": "CPUs", "gres": "generic resources", "mem": "memory", "memory": "memory", "node": "nodes", "job": "jobs",
    "jobs": "jobs", "submitjob": "queued jobs", "submitjobs": "queued jobs", "submit": "queued jobs", "wall": "wall time",
    "wallduration": "wall time", "billing": "budget", "bb": "burst buffer", "energy": "energy", "license": "licences",
    "licenses": "licences",
}  # fmt: skip
_WHOSE = {"QOS": "the QOS", "Assoc": "your account"}


def in_words(reason: str) -> str:
    """A reason of a pending job in words. They come with details at times: "ReqNodeNotAvail, UnavailableNodes:n3"."""
    key = reason.strip("()").split(",")[0]
    if key in REASONS:
        return REASONS[key]
    found = _LIMIT.fullmatch(key)
    return _limit(found) if found else reason


def _limit(found: re.Match[str]) -> str:
    what, whose = _WHAT[found["what"].lower()], _WHOSE[found["whose"]]
    per = (found["per"] or "").removesuffix("Limit").removeprefix("Per")
    if found["kind"] == "Min":
        return f"asks for less of what {whose} wants of a job: {what}"
    if found["minutes"] == "RunMinutes":
        return f"what runs already may use all that {whose} has left: {what}"
    if found["minutes"] or what == "budget":
        return f"{whose} has nothing left: {what}" + (" x time" if found["minutes"] else "")
    if per == "Job" or (found["kind"] == "Max" and what == "wall time"):
        return f"asks for more than {whose} allows a job: {what}"
    if found["kind"] == "Grp":
        return f"all jobs under {whose} together have as much as it allows: {what}"
    return f"your jobs have as much as {whose} allows: {what}"
