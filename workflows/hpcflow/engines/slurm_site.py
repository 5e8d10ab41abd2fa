"""What a Slurm installation is: version, limits, plugins, nodes and partitions.

A verb is an argument list (QUERIES) and a pure function that reads its output (parse_*). ``probe`` asks them
all at once. Recorded with 22.05; a key that another version does not print reads as its default.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hpcflow.engines.ask import Answer, ask_all
from hpcflow.experiment.fields import seconds

QUERIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "version": ("scontrol", "--version"),  # answers with no controller and no slurm.conf
        "config": ("scontrol", "show", "config"),
        "ping": ("scontrol", "ping"),
        "nodes": ("scontrol", "show", "node", "--oneliner"),
        "partitions": ("sinfo", "--noheader", "--format=%P|%a|%l|%F|%N"),
        # Fails at once without slurmdbd; job 1 keeps the answer small where accounting works.
        "accounting": ("sacct", "--noheader", "--allocations", "--jobs=1", "--format=JobID"),
    }
)
# Slurm variables that say which cluster is meant; all others (SINFO_FORMAT, SLURM_TIME_FORMAT, ...) change
# the text that is parsed here.
KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS"})
_SLURM_VARIABLE = re.compile(r"(SLURM|SINFO|SACCT|SQUEUE|SCONTROL|SBATCH|SRUN)_")


@dataclass(frozen=True)
class Node:
    """One compute node. ``memory`` in MiB; ``cpus`` as Slurm counts them (a site may count cores)."""

    name: str
    sockets: int
    cores: int  # of a socket
    threads: int  # of a core
    memory: int
    cpus: int
    features: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    gres: str = ""
    state: str = ""
    host: str = ""
    reserved: int = 0  # cores that Slurm keeps for the system (CoreSpecCount)

    @property
    def usable(self) -> bool:
        """Whether it can take a job, now or when its jobs have ended."""
        return not re.search(r"DOWN|DRAIN|FAIL|UNKNOWN|NOT_RESPONDING|POWERED_DOWN|MAINT|\*", self.state)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sockets, cores of a socket, threads of a core, memory: what alike nodes share."""
        return self.sockets, self.cores, self.threads, self.memory


@dataclass(frozen=True)
class Partition:
    """One partition. ``max_time`` in seconds, None without a limit; nodes as sinfo counts them."""

    name: str
    default: bool
    up: bool
    max_time: int | None
    allocated: int
    idle: int
    other: int
    total: int
    nodes: str = ""


@dataclass(frozen=True)
class SlurmSite:
    """A Slurm as it answers now. With ``ctld_up`` False only ``version`` and ``reason`` mean anything."""

    version: tuple[int, ...]
    ctld_up: bool
    reason: str = ""  # why the controller does not answer
    controllers: tuple[tuple[str, bool], ...] = ()  # (role, up), as ("primary at head1", True)
    cluster: str = ""
    max_array_size: int = 1001  # the largest index plus one, not the number of tasks
    max_job_count: int = 10000
    min_job_age: int = 300  # seconds for which the controller remembers a job that has ended
    select_type: str = ""
    task_plugins: tuple[str, ...] = ()
    mpi_default: str = ""
    accounting_storage: str = ""  # "slurmdbd", or "" where nothing is kept
    accounting: bool = False  # sacct answered just now
    accounting_reason: str = ""
    nodes: tuple[Node, ...] = ()
    partitions: tuple[Partition, ...] = ()

    @property
    def version_text(self) -> str:
        """As Slurm writes it: 22.05.8."""
        return "{}.{:02}.{}".format(*self.version) if self.version else "of unknown version"

    @property
    def default_partition(self) -> Partition | None:
        """Where a job without --partition goes."""
        return next((partition for partition in self.partitions if partition.default), None)

    def in_partition(self, name: str | None) -> tuple[Node, ...]:
        """The nodes of partition ``name``; of the default one for None, of all where there is no default."""
        default = self.default_partition
        wanted = name or (default.name if default else None)
        return tuple(node for node in self.nodes if wanted is None or wanted in node.partitions)


def probe(timeout: float = 5.0, environ: Mapping[str, str] = os.environ) -> SlurmSite | None:
    """Ask the Slurm that ``environ`` points at, ``timeout`` seconds at most; None without its commands."""
    conf = environ.get("SLURM_CONF")
    if conf and not Path(conf).exists() and shutil.which("scontrol", path=environ.get("PATH")):
        # Slurm's clients would look for it for a minute.
        return SlurmSite((), False, f"SLURM_CONF names {conf}, which is not there")
    env = scrubbed(environ)
    first = ask_all({name: QUERIES[name] for name in ("version", "ping")}, timeout, env)
    if first["version"].code is None and not first["version"].late:
        return None
    if reason := _down(first["ping"]):
        # `scontrol show config` would try for 9 s (22.05) where ping tells in 7 ms.
        controllers = parse_ping(first["ping"].out)
        return SlurmSite(parse_version(first["version"].out), False, reason, controllers)
    rest = ask_all({name: words for name, words in QUERIES.items() if name not in first}, timeout, env)
    return read({**first, **rest})


def _down(ping: Answer) -> str:
    """Why nothing else needs to be asked; empty where a controller is up, or where that is not said."""
    controllers = parse_ping(ping.out)
    if any(up for _, up in controllers):
        return ""
    if controllers:
        return "slurmctld is down, says `scontrol ping`: " + ", ".join(name for name, _ in controllers)
    return "no answer in time" if ping.late else "" if ping.ok else ping.complaint


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without what would change the text of Slurm's answers."""
    return {key: value for key, value in environ.items() if key in KEPT or not _SLURM_VARIABLE.match(key)}


def read(answers: Mapping[str, Answer]) -> SlurmSite:
    """The site, from the answers to QUERIES."""
    version = parse_version(answers["version"].out)
    config = parse_config(answers["config"].out) if answers["config"].ok else {}
    if not config:
        return SlurmSite(
            version, False, answers["config"].complaint, controllers=parse_ping(answers["ping"].out)
        )
    accounting = answers["accounting"]
    return SlurmSite(
        version=parse_version(config.get("SLURM_VERSION", "")) or version,
        ctld_up=True,
        controllers=parse_ping(answers["ping"].out),
        accounting=accounting.ok,
        accounting_reason="" if accounting.ok else accounting.complaint,
        nodes=parse_nodes(answers["nodes"].out),
        partitions=parse_partitions(answers["partitions"].out),
        **facts(config),
    )


def facts(config: Mapping[str, str]) -> dict[str, Any]:
    """What `scontrol show config` answers of a SlurmSite; a key it lacks is left to its default."""
    return {name: convert(config[key]) for name, (key, convert) in _FACTS.items() if config.get(key)}


def parse_config(out: str) -> dict[str, str]:
    """`scontrol show config`: `Key = value` lines; Slurm's "(null)" and "(null type)" are empty."""
    pairs = re.findall(r"^(\S+)[ \t]+=[ \t]?(.*?)[ \t]*$", out, re.MULTILINE)
    return {key: "" if value.startswith("(null") else value for key, value in pairs}


def parse_ping(out: str) -> tuple[tuple[str, bool], ...]:
    """`scontrol ping`: `Slurmctld(primary) at HOST is UP`, a line a controller."""
    found = re.findall(r"^Slurmctld\((\w+)\) at (\S+) is (UP|DOWN)", out, re.MULTILINE)
    return tuple((f"{role} at {host}", state == "UP") for role, host, state in found)


def parse_version(text: str) -> tuple[int, ...]:
    """`slurm 23.11.4`, `slurm-wlm 22.05.8`, `21.08.8-2`: (23, 11, 4); empty where no version stands."""
    match = re.search(r"\b(\d{2})\.(\d{2})\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else ()


def parse_nodes(out: str) -> tuple[Node, ...]:
    """`scontrol show node --oneliner`. The fields read here stand before the free texts (Reason, Comment)."""
    return tuple(_node(line) for line in out.splitlines() if line.startswith("NodeName="))


def _node(line: str) -> Node:
    values: dict[str, str] = {}
    for key, value in re.findall(r"(?:^|\s)([A-Z]\w*)=(\S*)", line):
        values.setdefault(key, "" if value == "(null)" else value)
    return Node(
        name=values["NodeName"],
        sockets=int(values.get("Sockets", 1)),
        cores=int(values.get("CoresPerSocket", 1)),
        threads=int(values.get("ThreadsPerCore", 1)),
        memory=int(values.get("RealMemory", 0)),
        cpus=int(values.get("CPUTot", 0)),
        features=_list(values.get("ActiveFeatures", "")),
        partitions=_list(values.get("Partitions", "")),
        gres=values.get("Gres", ""),
        state=values.get("State", ""),
        host=values.get("NodeHostName", ""),
        reserved=int(values.get("CoreSpecCount", 0)),
    )


def parse_partitions(out: str) -> tuple[Partition, ...]:
    """`sinfo --format=%P|%a|%l|%F|%N`, as `cpu*|up|infinite|0/3/0/3|n[1-3]`; a partition's lines add up."""
    found: dict[str, Partition] = {}
    for line in out.splitlines():
        fields = line.split("|", 4)
        if len(fields) < 5 or not re.fullmatch(r"\d+(/\d+){3}", fields[3]):
            continue
        name, up, limit, counts, nodes = fields
        known = found.get(name)
        allocated, idle, other, total = map(int, counts.split("/"))
        new = Partition(
            name.removesuffix("*"), name.endswith("*"), up == "up", _limit(limit),
            allocated, idle, other, total, nodes,
        )  # fmt: skip
        found[name] = _added(known, new) if known else new
    return tuple(found.values())


def _added(one: Partition, two: Partition) -> Partition:
    return replace(
        one,
        allocated=one.allocated + two.allocated,
        idle=one.idle + two.idle,
        other=one.other + two.other,
        total=one.total + two.total,
        nodes=f"{one.nodes},{two.nodes}",
    )


def _limit(text: str) -> int | None:
    try:
        return seconds("UNLIMITED" if text in ("infinite", "n/a") else text)
    except ValueError:
        return None


def _list(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


def _plugin(text: str) -> str:
    """`select/cons_tres`: cons_tres; `none` is nothing."""
    name = text.rpartition("/")[2]
    return "" if name == "none" else name


def _plugins(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(_plugin, text.split(","))))


_FACTS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "cluster": ("ClusterName", str),
        "max_array_size": ("MaxArraySize", _number),
        "max_job_count": ("MaxJobCount", _number),
        "min_job_age": ("MinJobAge", _number),
        "select_type": ("SelectType", _plugin),
        "task_plugins": ("TaskPlugin", _plugins),
        "mpi_default": ("MpiDefault", _plugin),
        "accounting_storage": ("AccountingStorageType", _plugin),
    }
)
