"""Slurm's texts, as 22.05.8 printed them (tests/data), and as other versions are known to."""

import stat
import time
from pathlib import Path

import pytest

from cluster import Cluster
from hpcflow.engines.ask import Answer, ask, ask_all
from hpcflow.engines.slurm_limits import Association, Qos, parse_associations, parse_qos
from hpcflow.engines.slurm_site import (
    Node,
    Partition,
    parse_config,
    parse_nodes,
    parse_partitions,
    parse_ping,
    parse_version,
    probe,
    read,
    scrubbed,
)

DATA = Path(__file__).parent / "data" / "slurm-22.05.8"


def recorded(name: str) -> str:
    return (DATA / f"{name}.txt").read_text(encoding="utf-8")


def answers(**others: Answer) -> dict[str, Answer]:
    said = {name: Answer(0, recorded(name)) for name in ("version", "config", "ping", "nodes", "partitions")}
    return {**said, "accounting": Answer(1, err="Slurm accounting storage is disabled\n"), **others}


def test_a_site_as_it_was_recorded() -> None:
    site = read(answers())
    assert (site.version, site.version_text) == ((22, 5, 8), "22.05.8")
    assert site.ctld_up
    assert site.controllers == (("primary at head1", True),)
    assert site.cluster == "probe"
    assert (site.max_array_size, site.max_job_count, site.min_job_age) == (1001, 10000, 300)
    assert (site.select_type, site.task_plugins, site.mpi_default) == ("cons_tres", (), "")
    assert (site.accounting_storage, site.accounting) == ("", False)
    assert site.accounting_reason == "Slurm accounting storage is disabled"
    assert site.default_partition is not None
    assert site.default_partition.name == "cpu"
    assert [node.name for node in site.in_partition(None)] == ["n1", "n2", "n3"]
    assert [node.name for node in site.in_partition("all")] == ["g1", "n1", "n2", "n3"]
    assert site.in_partition("none") == ()


def test_nodes() -> None:
    """A reason that looks like a field is none; a node that never registered has its planned shape."""
    g1, n1, n2, n3 = parse_nodes(recorded("nodes"))
    assert g1 == Node("g1", 1, 4, 1, 3000, 4, (), ("all",), "", "IDLE", "localhost")
    assert n1 == Node("n1", 2, 8, 2, 5000, 32, ("ib", "avx512"), ("cpu", "all"), "", "IDLE", "localhost")
    assert n2.shape == n3.shape == (2, 8, 2, 5000)
    assert [node.usable for node in (g1, n1, n2, n3)] == [True, True, False, False]
    assert "Sockets=9" in recorded("nodes")
    (gpu,) = parse_nodes(
        "NodeName=g2 CoresPerSocket=32 CPUTot=64 Gres=gpu:a100:4(S:0-1) RealMemory=500000 Sockets=2\n"
    )
    assert (gpu.gres, gpu.threads, gpu.cores) == ("gpu:a100:4(S:0-1)", 1, 32)
    assert parse_nodes("") == ()


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        ("IDLE", True), ("ALLOCATED", True), ("MIXED", True), ("IDLE+CLOUD", True), ("COMPLETING", True),
        ("DOWN", False), ("DOWN*", False), ("IDLE*", False), ("MIXED+DRAIN", False), ("FAIL", False),
        ("IDLE+NOT_RESPONDING", False), ("UNKNOWN", False), ("DOWN+POWERED_DOWN", False),
    ],
)  # fmt: skip
def test_which_nodes_can_be_used(state: str, usable: bool) -> None:
    assert Node("n", 1, 1, 1, 1, 1, state=state).usable is usable


def test_partitions() -> None:
    assert parse_partitions(recorded("partitions")) == (
        Partition("cpu", True, True, None, 0, 2, 1, 3, "n[1-3]"),
        Partition("all", False, True, 7200, 0, 3, 1, 4, "g1,n[1-3]"),
    )
    several = "gpu|up|1-00:00:00|1/2/0/3|g[1-3]\ngpu|up|1-00:00:00|0/1/1/2|g[4-5]\nold|down|30:00|0/0/1/1|o1\nnoise\n"
    assert parse_partitions(several) == (
        Partition("gpu", False, True, 86400, 1, 3, 1, 5, "g[1-3],g[4-5]"),
        Partition("old", False, False, 1800, 0, 0, 1, 1, "o1"),
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("slurm 23.11.4\n", (23, 11, 4)), ("slurm-wlm 22.05.8", (22, 5, 8)), ("slurm 21.08.8-2", (21, 8, 8)),
        ("slurm 24.05.0-0rc1", (24, 5, 0)), ("", ()), ("sbatch: fatal", ()),
    ],
)  # fmt: skip
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_config_values_that_hold_an_equals_sign_or_nothing() -> None:
    config = parse_config(
        "Configuration data as of 2024-01-01T00:00:00\n"
        "SchedulerParameters     = bf_interval=30,max_rpc_cnt=100\n"
        "PowerPlugin             = \n"
        "TaskPluginParam         = (null type)\n"
        "TaskPlugin              = task/affinity,task/cgroup\n"
        "AccountingStorageType   = accounting_storage/slurmdbd\n"
        "MpiDefault              = pmix\n"
        "\nCgroup Support Configuration:\nConstrainCores          = yes\n\nSlurmctld(primary) at head1 is UP\n"
    )
    assert config["SchedulerParameters"] == "bf_interval=30,max_rpc_cnt=100"
    assert (config["PowerPlugin"], config["TaskPluginParam"]) == ("", "")
    site = read(answers(config=Answer(0, "\n".join(f"{key} = {value}" for key, value in config.items()))))
    assert (site.task_plugins, site.accounting_storage, site.mpi_default) == (
        ("affinity", "cgroup"),
        "slurmdbd",
        "pmix",
    )
    assert site.max_array_size == 1001  # not said: Slurm's default


def test_controllers() -> None:
    out = (
        "Slurmctld(primary) at head1 is DOWN\nSlurmctld(backup) at head2 is UP\n"
        "*****************************************\n** RESTORE SLURMCTLD DAEMON TO SERVICE **\n"
    )
    assert parse_ping(out) == (("primary at head1", False), ("backup at head2", True))


def test_a_controller_that_does_not_answer() -> None:
    refused = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)\n"
    site = read(answers(config=Answer(1, err=refused)))
    assert (site.ctld_up, site.version, site.nodes) == (False, (22, 5, 8), ())
    assert site.reason == "Unable to contact slurm controller (connect failure)"
    late = read(answers(config=Answer(None, late=True)))
    assert (late.ctld_up, late.reason) == (False, "no answer in time")


def test_limits() -> None:
    assert parse_associations(recorded("associations")) == (
        Association("dev", "", ("normal",), 40, None, None),
        Association("root", "", ("normal",), 40, None, None),
    )
    assert parse_qos(recorded("qos")) == (Qos("normal", None, 500, 2000, "2-00:00:00"),)
    assert parse_associations("a|gpu|normal,long|1|2|3\nnoise\n") == (
        Association("a", "gpu", ("normal", "long"), 1, 2, 3),
    )


def test_what_would_change_the_texts_is_left_out_of_the_environment() -> None:
    kept = {"PATH": "/bin", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "x", "SLURMX": "x"}
    assert (
        scrubbed({**kept, "SINFO_FORMAT": "%n", "SLURM_TIME_FORMAT": "relative", "SBATCH_PARTITION": "x"})
        == kept
    )


def test_no_slurm(tmp_path: Path) -> None:
    assert probe(1, {"PATH": str(tmp_path)}) is None


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_asking(tmp_path: Path) -> None:
    """All at once; what hangs is killed with all that it started; nothing raises."""
    hang = program(tmp_path / "hang", "echo so far; echo why >&2; sleep 300 & sleep 300")
    begin = time.monotonic()
    found = ask_all(
        {
            "hang": (str(hang),),
            "hang too": (str(hang),),
            "fails": ("sh", "-c", "echo scontrol: error: one >&2; echo scontrol: fatal: sum >&2; exit 3"),
            "missing": ("no-such-command",),
            "not a program": (str(program(tmp_path / "bad", "")) + "/x",),
            "locale": ("sh", "-c", "echo $LC_ALL; cat"),
        },
        1.0,
    )
    assert time.monotonic() - begin < 60  # the command itself hangs for longer
    assert (found["hang"].late, found["hang"].ok, found["hang"].out, found["hang"].complaint) == (
        True,
        False,
        "so far\n",
        "why",
    )
    assert (found["fails"].code, found["fails"].complaint) == (3, "sum")
    assert found["missing"].complaint == "no-such-command: no such command"
    assert not found["not a program"].ok
    assert found["locale"] == Answer(0, "C\n")
    assert ask(("true",)).ok


@pytest.mark.slurm
def test_the_real_one(cluster: Cluster) -> None:
    site = probe(5, cluster.env)
    assert site is not None
    assert site.ctld_up
    assert site.version >= (20, 11)
    assert not site.accounting
    assert [node.shape[:3] for node in site.nodes] == [(2, 8, 2)] * cluster.nodes
    assert all(node.usable and node.cpus == 32 for node in site.nodes)
    assert site.default_partition is not None
    assert site.default_partition.total == cluster.nodes


@pytest.mark.slurm
def test_the_real_one_with_accounting(accounting_cluster: Cluster) -> None:
    site = probe(5, accounting_cluster.env)
    assert site is not None
    assert (site.accounting_storage, site.accounting, site.accounting_reason) == ("slurmdbd", True, "")


@pytest.mark.slurm
def test_a_conf_that_is_not_there(cluster: Cluster) -> None:
    """At once, although Slurm's clients would look for it for a minute."""
    begin = time.monotonic()
    site = probe(5, {**cluster.env, "SLURM_CONF": "/nonexistent/slurm.conf"})
    assert time.monotonic() - begin < 30
    assert site is not None
    assert (site.ctld_up, site.reason) == (
        False,
        "SLURM_CONF names /nonexistent/slurm.conf, which is not there",
    )
