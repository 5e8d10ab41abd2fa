"""A Slurm whose nodes are made up: every slurmd reads its own hwloc file and binds through the preloaded
library.

It is started by hand and not by scripts/dev-cluster, because every node has a shape of its own and
task/affinity has to bind to CPUs that are not there. No munge: auth/none and cred/none, all on one machine.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpcflow.placement.hwlocwrite import write
from hpcflow.placement.launchers import LaunchLine
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.requirements import requirements
from hpcflow.placement.topology import Topology
from placement.oracles.cluster import ROOT, Got

CONF = """\
ClusterName=oracle
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={dir}/state
SlurmctldPidFile={dir}/ctld.pid
SlurmdPidFile={dir}/%n.pid
SlurmdSpoolDir={dir}/spool-%n
SlurmctldLogFile={dir}/ctld.log
SlurmdLogFile={dir}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdTimeout=300
InactiveLimit=0
"""


@dataclass
class FakeSlurm:
    """``shapes`` with ``each`` nodes of each; node j of shape i is called s{i}n{j}."""

    folder: Path
    built: Path
    shapes: Sequence[Topology]
    each: int = 2
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def hosts(self, shape: int, count: int) -> list[str]:
        """The names of the first nodes of a shape."""
        return [f"s{shape}n{node}" for node in range(count)]

    def start(self) -> None:
        """Start the controller and the nodes. Raises RuntimeError when they are not idle within a minute."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "state").mkdir(exist_ok=True)
        ports = _free_ports(1 + len(self.shapes) * self.each)
        port = ports.pop()
        lines = [CONF.format(port=port, dir=self.folder, user=_user())]
        everything = set().union(*(shape.pus for shape in self.shapes))
        (self.folder / "all").write_bytes(sum(1 << pu for pu in everything).to_bytes(1024, "little"))
        names = []
        for number, shape in enumerate(self.shapes):
            (self.folder / f"shape{number}.xml").write_text(write(shape))
            (self.folder / f"cpus{number}").mkdir(exist_ok=True)
            mine = sum(1 << pu for pu in shape.pus).to_bytes(1024, "little")
            (self.folder / f"cpus{number}" / "all").write_bytes(mine)
            for host in self.hosts(number, self.each):
                names.append((number, host))
                lines.append(
                    f"NodeName={host} NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports.pop()} "
                    f"Sockets={len(shape.sockets)} CoresPerSocket={len(shape.sockets[0])} "
                    f"ThreadsPerCore={shape.threads_per_core} RealMemory=100 State=UNKNOWN"
                )
        lines.append(
            "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=EXCLUSIVE"
        )
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        self._spawn(["slurmctld", "-D", "-f", str(self.folder / "slurm.conf"), "-c"], {})
        for number, host in names:
            (self.folder / f"spool-{host}").mkdir(exist_ok=True)
            fake = {
                "LD_PRELOAD": str(self.built / "affinity.so"),
                "HPCFLOW_FAKE_CPUS": str(self.folder / f"cpus{number}"),
                "HWLOC_XMLFILE": str(self.folder / f"shape{number}.xml"),
                "HWLOC_THISSYSTEM": "1",
            }
            self._spawn(["slurmd", "-D", "-N", host, "-f", str(self.folder / "slurm.conf")], fake)
        seen: dict[str, str] = {}
        end = time.monotonic() + 60
        while time.monotonic() < end and all(process.poll() is None for process in self.processes):
            seen = dict(re.findall(r"^(\S+) (\S+)$", self._call(["sinfo", "-hNo%N %T"]).stdout, re.MULTILINE))
            if list(seen.values()) == ["idle"] * len(names):
                return
            time.sleep(0.2)
        missing = [host for _, host in names if seen.get(host) != "idle"]
        raise RuntimeError(f"nodes not idle: {missing} of {seen}\n{self._logs('ctld', 'daemons', *missing)}")

    def run(self, line: LaunchLine, rankmap: RankMap, shape: int, path: Path | None = None) -> dict[int, Got]:
        """Run a line in an allocation with the map's own directives; what every rank got.

        ``path`` is the folder of an mpirun, which starts its daemons through Slurm.
        """
        flags = requirements(rankmap).directives()
        asked = [f"--{name}" if value is None else f"--{name}={value}" for name, value in flags.items()]
        hosts = ",".join(self.hosts(shape, rankmap.nodes))
        job = self.folder / "job"
        job.mkdir(exist_ok=True)
        for name, text in line.files.items():
            (job / name).write_text(text)
        fake = {
            **ROOT,
            **line.env,
            "LD_PRELOAD": str(self.built / "affinity.so"),
            "HPCFLOW_FAKE_CPUS": str(self.folder / f"cpus{shape}"),
            "HWLOC_XMLFILE": str(self.folder / f"shape{shape}.xml"),
            "HWLOC_THISSYSTEM": "1",
            "HPCFLOW_JOB_DIR": str(job),
            "PATH": f"{path or '/usr/bin'}:{os.environ['PATH']}",
        }
        exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in fake.items())
        done = self._call(
            ["salloc", "-Q", *asked, f"--nodelist={hosts}", "bash", "-c", exports + line.script()]
        )
        found = {
            int(rank): Got(host, tuple(map(int, cpus.split(","))))
            for rank, host, cpus in re.findall(r"@([0-9]+) (\S+) ([0-9,]+)$", done.stdout, re.MULTILINE)
        }
        if len(found) != rankmap.size:
            raise RuntimeError(
                f"{len(found)} of {rankmap.size} ranks answered\n{line.script()}\n"
                f"{done.stdout[-800:]}{done.stderr[-1500:]}"
            )
        return found

    def stop(self) -> None:
        """Stop what was started, and nothing else."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SLURM", "SBATCH", "SALLOC"))
        }
        return {
            **clean,
            "PATH": f"{clean['PATH']}:/usr/sbin:/sbin",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            **more,
        }

    def _spawn(self, argv: Sequence[str], more: Mapping[str, str]) -> None:
        log = (self.folder / "daemons.log").open("ab")
        self.processes.append(
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *argv],  # none of them outlives a test that was killed
                env=self._environment(more),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        log.close()

    def _call(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            env=self._environment({}),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def _logs(self, *names: str) -> str:
        """The ends of the logs of these daemons."""
        paths = [self.folder / f"{name}.log" for name in names]
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in paths if path.exists()
        )


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until the last is found, so that none comes twice.

    They lie below those that the kernel gives to outgoing connections: a daemon that has started could
    otherwise be given the port that the next one is about to listen on.
    """
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(range(10000, below), below - 10000):
            made = held.enter_context(socket.socket())
            with suppress(OSError):
                made.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                break
    return found


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
