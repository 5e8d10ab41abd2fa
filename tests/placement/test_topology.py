"""Nodes read from what tools print."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcflow.errors import InputError
from hpcflow.experiment.schema import Placement
from hpcflow.experiment.site import NodeShape
from hpcflow.placement import hwlocxml, probe, sources, sysfs
from hpcflow.placement.cpulist import brief, cpu_list, ranges
from hpcflow.placement.hwlocwrite import write
from hpcflow.placement.rankmap import plan
from hpcflow.placement.topology import Thread, Topology
from placement.generate import topology

NODES = Path(__file__).parent / "nodes"


def node(name: str) -> Topology:
    return sources.read(str(NODES / name))


@pytest.mark.parametrize("name", ["hwloc1-2x4x2.xml", "hwloc2-2x4x2.xml"])
def test_both_versions_of_hwloc_files_say_the_same(name: str) -> None:
    found = node(name)
    assert found == Topology.from_threads(
        Thread(pu, pu // 8, pu // 2, numa=0) for pu in range(16)
    )  # one NUMA node, two packages
    assert found.sentence() == "2 sockets x 4 cores x 2 threads"
    assert not found.assumed


@pytest.mark.parametrize("name", ["hwloc1-numa-l3.xml", "hwloc2-numa-l3.xml"])
def test_numa_nodes_and_caches(name: str) -> None:
    found = node(name)
    assert [len(found.domains(level)) for level in ("socket", "numa", "l3")] == [
        2,
        2 if "1" in name[:6] else 4,
        4 if "1" in name[:6] else 8,
    ]
    assert all(len(cores) == 3 for cores in found.domains("l3"))


def test_os_ids_are_kept_as_the_file_has_them() -> None:
    assert [core.pus for core in node("hwloc2-linux-ids.xml").cores] == [(0, 4), (1, 5), (2, 6), (3, 7)]


def test_what_is_not_allowed_is_left_out_before_numbering() -> None:
    found = node("hwloc2-gpus.xml")  # CPU 1 is not allowed
    assert [core.pus for core in found.cores] == [(0,), (2,), (3,)]
    assert found.disallowed == (1,)
    assert found.sockets == ((0,), (1, 2))


def test_gpus_come_by_their_own_number_with_the_cores_next_to_them() -> None:
    assert [(gpu.name, gpu.cores) for gpu in node("hwloc2-gpus.xml").gpus] == [
        ("cuda0", (1, 2)),
        ("cuda1", (0,)),
    ]


def test_lscpu_extended_is_exact() -> None:
    found = node("lscpu-extended.json")
    assert [(core.package, core.numa, core.l3, core.pus) for core in found.cores] == [
        (0, 0, 0, (0, 4)),
        (0, 0, 0, (1, 5)),
        (1, 1, 1, (2, 6)),
        (1, 1, 1, (3,)),  # CPU 7 is offline
    ]
    assert not found.assumed


def test_lscpu_plain_knows_counts_and_numa_lists() -> None:
    found = node("lscpu.json")
    assert [(core.package, core.numa, core.pus) for core in found.cores] == [
        (0, 0, (0, 4)),
        (0, 0, (1, 5)),
        (1, 1, (2, 6)),
        (1, 1, (3, 7)),
    ]
    assert found.assumed


@pytest.mark.parametrize(("name", "gpus"), [("slurmd-C.txt", 0), ("scontrol.txt", 4)])
def test_slurm_gives_counts_and_says_that_the_ids_are_a_guess(name: str, gpus: int) -> None:
    found = node(name)
    assert found.sentence() == "2 sockets x 18 cores x 2 threads"
    assert found.assumed
    assert len(found.gpus) == gpus
    with pytest.raises(InputError, match="does not tell its NUMA nodes"):
        found.domains("numa")


def lscpu(**fields: object) -> Topology:
    rows = [{"field": name.replace("_", " ") + ":", "data": str(value)} for name, value in fields.items()]
    return sources.lscpu(json.dumps({"lscpu": rows}))


@pytest.mark.parametrize(("sockets", "shape"), [("-", [8]), ("2", [4, 4])])
def test_lscpu_of_an_arm_node_counts_clusters(sockets: str, shape: list[int]) -> None:
    found = lscpu(
        **{
            "CPU(s)": 8,
            "Thread(s)_per_core": 1,
            "Core(s)_per_cluster": 4,
            "Cluster(s)": 2,
            "Socket(s)": sockets,
        }
    )
    assert [len(cores) for cores in found.sockets] == shape


def test_lscpu_plain_does_not_tell_which_socket_a_cpu_is_on() -> None:
    numa = {"NUMA_node0_CPU(s)": "0,2", "NUMA_node1_CPU(s)": "1,3"}
    found = lscpu(**{"CPU(s)": 4, "Thread(s)_per_core": 1, "Core(s)_per_socket": 2, "Socket(s)": 2}, **numa)
    assert found.assumed
    assert not lscpu(
        **{"CPU(s)": 4, "Thread(s)_per_core": 1, "Core(s)_per_socket": 4, "Socket(s)": 1}
    ).assumed


@pytest.mark.parametrize(
    ("gres", "near"),
    [
        ("gpu:a100:2,gpu:v100:2", [(0, 7)] * 4),
        ("gpu:a100:1(S:1),gpu:v100:2(S:0),tmpdir:1", [(4, 7), (0, 3), (0, 3)]),
        ("gpu:4(S:0-1)", [(0, 7)] * 4),
        ("(null)", []),
    ],
)
def test_gpus_of_slurm_are_all_counted_and_near_their_sockets(gres: str, near: list[tuple[int, int]]) -> None:
    text = f"NodeName=a CoresPerSocket=4 Sockets=2 ThreadsPerCore=2 Gres={gres}"
    assert [(gpu.cores[0], gpu.cores[-1]) for gpu in sources.parse(text).gpus] == near


def test_cores_that_slurm_keeps_for_the_system_are_not_the_jobs() -> None:
    found = sources.parse(
        "NodeName=a CoresPerSocket=4 Sockets=2 ThreadsPerCore=2 CoreSpecCount=3 Gres=gpu:1(S:1)"
    )
    assert [len(cores) for cores in found.sockets] == [3, 2]
    assert found.disallowed == (6, 7, 12, 13, 14, 15)
    assert found.gpus[0].cores == (3, 4)


def test_a_site_profile_that_does_not_tell_numa_nodes_has_none() -> None:
    node = NodeShape(sockets=2, cores=4).model_dump(exclude_none=True)
    with pytest.raises(InputError, match=r"does not tell its NUMA nodes.*numa_per_socket"):
        plan(Placement(ranks_per_numa=1), [sources.profile(node)])
    told = NodeShape(sockets=2, cores=4, l3_per_socket=2).model_dump(exclude_none=True)
    assert plan(Placement(ranks_per_l3=1), [sources.profile(told)]).size == 4


def test_a_site_profile_says_numbers_or_names_a_file() -> None:
    found = sources.profile(
        {"sockets": 2, "cores": 8, "threads": 2, "numa_per_socket": 2, "l3_per_socket": 4, "gpus": 4}
    )
    assert [len(found.domains(level)) for level in ("socket", "numa", "l3")] == [2, 4, 8]
    assert [gpu.cores[0] for gpu in found.gpus] == [0, 0, 8, 8]
    assert sources.profile({"hwloc": str(NODES / "hwloc2-2x4x2.xml")}) == node("hwloc2-2x4x2.xml")
    with pytest.raises(InputError, match="do not divide into 3"):
        sources.profile({"sockets": 2, "cores": 8, "numa_per_socket": 3})
    with pytest.raises(InputError, match="unknown core"):
        sources.profile({"sockets": 2, "core": 8})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<topology><object", "no well-formed XML"),
        ("<html/>", "no hwloc XML file"),
        ('<!DOCTYPE t [<!ENTITY a "b">]><topology/>', "no entities"),
        ('<topology><object type="Machine" allowed_cpuset="0xf...f"/></topology>', "has no end"),
        ('<topology><object type="Machine"/></topology>', "no usable core"),
        ("{}", "not as lscpu writes it"),
        ("[", "not as lscpu writes it"),
        ('{"lscpu": [{"field": "CPU(s):", "data": "x"}]}', "not as lscpu writes it"),
        ("NodeName=a CPUs=4", "without sockets and cores"),
        (
            "NodeName=a Sockets=1 CoresPerSocket=2\nNodeName=b Sockets=2 CoresPerSocket=2",
            "2 different shapes",
        ),
        (
            '<topology><object type="Machine"><object type="PU" os_index="-3"/></object></topology>',
            "number -3",
        ),
        (
            "<topology>" + "<object>" * 3000 + "</object>" * 3000 + "</topology>",
            "not as hwloc writes it: Recursion",
        ),
        ('{"lscpu": ' + "[" * 100000 + "]" * 100000 + "}", "not as lscpu writes it: Recursion"),
        ('{"lscpu": [{"field": "CPU(s):", "data": "4"}]}', r"no field 'Thread\(s\) per core'"),
        ("hello", "neither hwloc XML nor"),
        ("", "neither hwloc XML nor"),
    ],
)
def test_what_is_no_topology_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sources.parse(text, "node.txt")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        sources.parse(text)
    except InputError as error:
        assert "\n" not in str(error).split(": ")[0]


@given(st.randoms(use_true_random=False))
def test_what_is_written_is_read_back_the_same(rng: object) -> None:
    made = topology(rng, 128)  # type: ignore[arg-type]
    back = hwlocxml.parse(write(made))
    assert [core.pus for core in back.cores] == [core.pus for core in made.cores]
    assert back.sockets == made.sockets
    for level in ("numa", "l3"):
        if made.knows(level):
            assert back.domains(level) == made.domains(level)
    assert Topology.from_json(made.to_json()) == made


def test_restricted_is_what_a_process_in_a_cgroup_sees() -> None:
    found = node("hwloc2-gpus.xml").restricted(frozenset({2, 3}))
    assert [(core.package, core.pus) for core in found.cores] == [(0, (2,)), (0, (3,))]
    assert found.disallowed == (0, 1)
    assert [gpu.cores for gpu in found.gpus] == [(0, 1), (0, 1)]
    with pytest.raises(InputError, match="no usable core"):
        found.restricted(frozenset({99}))


def test_this_machine_is_what_the_process_may_use() -> None:
    assert set(probe.this_machine().pus) == os.sched_getaffinity(0)
    assert set(sysfs.node().pus) >= os.sched_getaffinity(0)


def test_counts() -> None:
    assert sources.read("2x18x2") == Topology.from_counts(2, 18, 2)
    assert sources.read("2x18") == Topology.from_counts(2, 18)
    with pytest.raises(InputError, match="does not exist"):
        sources.read("0x18x2")
    with pytest.raises(InputError, match="no such file"):
        sources.read("nowhere.xml")


def test_uneven_sockets_holes_and_smt_are_numbered_as_hwloc_does() -> None:
    made = Topology.from_threads(
        [
            Thread(pu, package, core)
            for pu, package, core in [(8, 1, 0), (2, 0, 5), (10, 0, 5), (0, 0, 3), (9, 1, 1), (20, 1, 0)]
        ]
    )
    assert [(core.package, core.pus) for core in made.cores] == [
        (0, (0,)),
        (0, (2, 10)),
        (1, (8, 20)),
        (1, (9,)),
    ]


def test_lists_of_cpus() -> None:
    assert cpu_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert brief([0, 2, 4, 6, 36]) == "0-6:2,36"
    assert brief([3, 9]) == "3,9"
    assert brief([]) == ""
