"""A cluster of made-up nodes on one machine, on which the real launchers start real processes.

Three things make it: HWLOC_XMLFILE, a node's topology; a preloaded library (affinity.c) that remembers what a
process was bound to although the machine has no such CPUs; and a remote shell that starts a launcher's daemon
right here, as the host that it was asked for. The launch line runs as its script text, under the variables of
a Slurm allocation, and every process prints the CPUs that it was given.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpcflow.placement.hwlocwrite import write
from hpcflow.placement.launchers import LaunchLine
from hpcflow.placement.rankmap import RankMap

HERE = Path(__file__).parent
ROOT = dict.fromkeys(
    (
        "OMPI_ALLOW_RUN_AS_ROOT",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
        "PRTE_ALLOW_RUN_AS_ROOT",
        "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
    ),
    "1",
)
REMOTE_SHELL = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
export HPCFLOW_FAKE_HOST=$1 HWLOC_XMLFILE="$HPCFLOW_FAKE_NODES/$1.xml" TMPDIR="$HPCFLOW_FAKE_NODES/$1"
mkdir -p "$TMPDIR"
shift
exec /bin/sh -c "$*"
"""
SECONDS = 20


@dataclass(frozen=True)
class Got:
    """What one rank said: its host and CPUs."""

    host: str
    cpus: tuple[int, ...]


def build(into: Path) -> None:
    """Compile the library and the program that every rank runs, where they are older than their sources."""
    into.mkdir(parents=True, exist_ok=True)
    for source, target, flags in (
        ("affinity.c", "affinity.so", ["-shared", "-fPIC"]),
        ("show.c", "show", []),
    ):
        made, wanted = into / target, HERE / source
        if not made.exists() or made.stat().st_mtime < wanted.stat().st_mtime:
            beside = into / f"{target}.{os.getpid()}"
            subprocess.run(["gcc", "-O1", *flags, "-o", str(beside), str(wanted)], check=True)
            beside.replace(made)
    shell = into / f"rsh.{os.getpid()}"
    shell.write_text(REMOTE_SHELL)
    shell.chmod(0o755)
    shell.replace(into / "rsh")


@contextmanager
def nodes(rankmap: RankMap, built: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with the nodes' topologies, and the environment in which they are the cluster."""
    with tempfile.TemporaryDirectory(prefix="hpcflow-nodes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        texts = [write(shape) for shape in rankmap.shapes]
        for node, host in enumerate(rankmap.hosts):
            (folder / f"{host}.xml").write_text(texts[rankmap.shape_of[node]])
        (folder / "all").write_bytes(
            sum(1 << pu for pu in {pu for shape in rankmap.shapes for pu in shape.pus}).to_bytes(
                1024, "little"
            )
        )
        hosts = ",".join(rankmap.hosts)
        counts = ",".join(map(str, rankmap.counts))
        yield (
            folder,
            {
                **ROOT,
                "PATH": os.environ["PATH"],
                "HOME": name,
                "LD_PRELOAD": str(built / "affinity.so"),
                "HPCFLOW_FAKE_CPUS": name,
                "HPCFLOW_FAKE_NODES": name,
                "HPCFLOW_FAKE_HOST": rankmap.hosts[0],
                "HPCFLOW_JOB_DIR": name,
                "HPCFLOW_HOSTS": hosts,
                "HWLOC_XMLFILE": str(folder / f"{rankmap.hosts[0]}.xml"),
                "HWLOC_THISSYSTEM": "1",
                "SLURM_JOBID": "1",
                "SLURM_JOB_ID": "1",
                "SLURM_NODELIST": hosts,
                "SLURM_JOB_NODELIST": hosts,
                "SLURM_NNODES": str(rankmap.nodes),
                "SLURM_JOB_NUM_NODES": str(rankmap.nodes),
                "SLURM_TASKS_PER_NODE": counts,
                "SLURM_JOB_CPUS_PER_NODE": counts,
                "SLURM_CPUS_ON_NODE": str(rankmap.counts[0]),
                "OMPI_MCA_plm": "rsh",
                "OMPI_MCA_plm_rsh_agent": str(built / "rsh"),
                "PRTE_MCA_plm": "ssh",
                "PRTE_MCA_plm_ssh_agent": str(built / "rsh"),
                "HYDRA_LAUNCHER": "rsh",
                "HYDRA_LAUNCHER_EXEC": str(built / "rsh"),
                "HYDRA_RMK": "slurm",
                "I_MPI_HYDRA_BOOTSTRAP": "ssh",
                "I_MPI_HYDRA_BOOTSTRAP_EXEC": str(built / "rsh"),
                "TMPDIR": name,
            },
        )


def run(
    line: LaunchLine,
    rankmap: RankMap,
    built: Path,
    path: Path,
    more: Mapping[str, str],
    seconds: float = SECONDS,
) -> dict[int, Got]:
    """Run a launch line with the launcher in folder ``path``; what every rank got.

    Raises RuntimeError with the output when not every rank answered.
    """
    with nodes(rankmap, built) as (folder, environment):
        for name, text in line.files.items():
            (folder / name).write_text(text)
        environment |= {**line.env, **more, "PATH": f"{path}:{environment['PATH']}"}
        output = _output(line.script(), environment, folder, rankmap.size, seconds)
    found = _answers(output)
    if len(found) != rankmap.size:
        raise RuntimeError(
            f"{len(found)} of {rankmap.size} ranks answered\n{line.script()}\n{output[-3000:]}"
        )
    return found


def _answers(output: str) -> dict[int, Got]:
    return {
        int(rank): Got(host, tuple(map(int, cpus.split(","))))
        for rank, host, cpus in re.findall(r"@([0-9]+) (\S+) ([0-9,]+)$", output, re.MULTILINE)
    }


def _output(script: str, environment: Mapping[str, str], folder: Path, ranks: int, seconds: float) -> str:
    """What a line printed until it ended, or until every rank has answered: Open MPI 5 hangs at the end now
    and then when all its daemons are on one host.
    """
    log = folder / "output"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["/bin/bash", "-c", script], env=environment, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
            if len(_answers(log.read_text(errors="replace"))) == ranks:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                break
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return log.read_text(errors="replace")


def differences(line: LaunchLine, rankmap: RankMap, got: Mapping[int, Got]) -> list[str]:
    """A sentence for every rank that is not exactly where the map has it, in the line's own grain."""
    found = []
    for place in rankmap.ranks:
        wanted = place.pus if line.grain == "pus" else rankmap.core_pus(place)
        there = got[place.rank]
        if there.host != place.host or sorted(there.cpus) != sorted(wanted):
            found.append(
                f"rank {place.rank}: planned {place.host} {sorted(wanted)}, got {there.host} {sorted(there.cpus)}"
            )
    return found
