"""What a request gives on a node, what it refuses, and what holds for every request."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcflow.errors import InputError
from hpcflow.experiment.schema import Placement
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.requirements import requirements
from hpcflow.placement.sources import read
from hpcflow.placement.topology import Gpu, Thread, Topology
from placement.generate import case

NODE = read("2x18x2")


def sockets(kind: dict[str, Any], node: Topology = NODE, nodes: int = 1) -> list[list[int]]:
    return [list(place.sockets) for place in plan(Placement(**kind), [node] * nodes).ranks]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({"ranks_per_node": 4, "cores_per_rank": 9}, [[0], [0], [1], [1]]),
        ({"ranks_per_node": 4, "cores_per_rank": 9, "order": "scattered"}, [[0], [1], [0], [1]]),
        ({"ranks_per_socket": 2, "order": "scattered"}, [[0], [1], [0], [1]]),
        ({"ranks_per_node": 3}, [[0], [0, 1], [1]]),
        ({"ranks_per_node": 2, "cores_per_rank": 12}, [[0], [1]]),  # not across sockets: both fit in one each
        ({"ranks_per_node": 1}, [[0, 1]]),
        ({}, [[0, 1]]),
    ],
)
def test_sockets_of_ranks(kind: dict[str, Any], expected: list[list[int]]) -> None:
    assert sockets(kind) == expected


def test_smt_is_all_threads_of_a_core_or_one() -> None:
    one = plan(Placement(ranks_per_socket=1, cores_per_rank=2), [NODE]).ranks[1]
    both = plan(Placement(ranks_per_socket=1, cores_per_rank=2, smt=True), [NODE]).ranks[1]
    assert (one.cores, one.pus) == ((18, 19), (36, 38))
    assert (both.cores, both.pus) == ((18, 19), (36, 37, 38, 39))


@pytest.mark.parametrize(
    ("reserve", "first", "last"),
    [
        ({"cores": 2}, (2, 17), (18, 35)),
        ({"cores": 2, "at": "last"}, (0, 17), (18, 33)),
        ({"cores": 2, "per": "socket"}, (2, 17), (20, 35)),
        ({"cores": 2, "per": "socket", "at": "last"}, (0, 15), (18, 33)),
    ],
)
def test_reserved_cores(reserve: dict[str, Any], first: tuple[int, int], last: tuple[int, int]) -> None:
    made = plan(Placement(ranks_per_socket=1, reserve=reserve), [NODE])  # type: ignore[arg-type]
    assert [(place.cores[0], place.cores[-1]) for place in made.ranks] == [first, last]


UNFIT: list[tuple[dict[str, Any], str]] = [
    (
        {"ranks_per_socket": 4, "cores_per_rank": 5},
        "asked 4 ranks of 5 cores on socket 0 of node0 = 20 cores, available 18; "
        "nearest that fits: 3 ranks of 5 cores, or 4 ranks of 4 cores",
    ),
    (
        {"ranks_per_node": 40},
        "asked 40 ranks on node0, available 36 cores; nearest that fits: 36 ranks of 1 core, or oversubscribe: true",
    ),
    (
        {"ranks_per_node": 1, "cores_per_rank": 37},
        "asked 1 rank of 37 cores on node0 = 37 cores, available 36; nearest that fits: 1 rank of 36 cores",
    ),
    ({"ranks_per_numa": 1}, "does not tell its NUMA nodes"),
    ({"ranks_per_node": 2, "gpus_per_rank": 1}, "asked 2 ranks of 1 GPU on node0 = 2 GPUs, available 0"),
    (
        {"ranks_per_socket": 1, "reserve": {"cores": 18, "per": "socket"}},
        r"available 0 cores \(18 reserved\); no number of ranks fits",
    ),
    ({"ranks_per_node": 1, "cores_per_rank": 40, "oversubscribe": True}, "asked 1 rank of 40 cores"),
]


@pytest.mark.parametrize(("kind", "message"), UNFIT)
def test_what_does_not_fit_is_refused_with_the_numbers(kind: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(Placement(**kind), [NODE])


def test_a_total_is_spread_over_the_nodes_and_no_node_goes_without() -> None:
    assert plan(Placement(ranks=7), [NODE] * 3).counts == (3, 2, 2)
    with pytest.raises(InputError, match=r"asked 2 ranks on 3 nodes.*nearest that fits: 2 nodes, or 3 ranks"):
        plan(Placement(ranks=2), [NODE] * 3)


def test_nodes_of_different_shapes() -> None:
    made = plan(Placement(ranks_per_socket=1), [NODE, read("4x8x1")], ["big", "small"])
    assert made.counts == (2, 4)
    assert not made.uniform
    assert [place.host for place in made.ranks] == ["big"] * 2 + ["small"] * 4


def test_gpus_are_the_nearest_free_ones() -> None:
    node = Topology(
        NODE.cores,
        (
            Gpu("g0", NODE.sockets[1]),
            Gpu("g1", NODE.sockets[0]),
            Gpu("g2", NODE.sockets[1]),
            Gpu("g3", NODE.sockets[0]),
        ),
    )
    made = plan(Placement(ranks_per_socket=1, gpus_per_rank=2), [node])
    assert [place.gpus for place in made.ranks] == [(1, 3), (0, 2)]
    assert requirements(made).directives()["gres"] == "gpu:4"


def test_oversubscribed_ranks_share_cores() -> None:
    made = plan(Placement(ranks_per_node=3, oversubscribe=True), [read("1x2x1")])
    assert [place.cores for place in made.ranks] == [(0,), (1,), (0,)]
    assert made.overlapping


def test_allocation_counts_logical_cpus_and_whole_nodes() -> None:
    assert requirements(plan(Placement(ranks_per_node=4, cores_per_rank=9), [NODE] * 2)).directives() == {
        "nodes": "2", "ntasks": "8", "ntasks-per-node": "4", "cpus-per-task": "18", "exclusive": None,
    }  # fmt: skip
    crowded = requirements(plan(Placement(ranks_per_node=4, oversubscribe=True), [read("1x2x1")]))
    assert (crowded.cpus_per_task, crowded.overcommit) == (1, True)


# A case is all that its number makes of it: generated requests fit their nodes.
NUMBERS = st.integers(0, 2**32)
HOSTS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(NUMBERS)
def test_no_core_twice_all_ranks_placed_and_ids_from_the_topology(number: int) -> None:
    found = case(number, 160)
    asked, nodes, made = found.request, found.nodes, found.rankmap
    assert [place.rank for place in made.ranks] == list(range(made.size))
    assert sum(made.counts) == made.size
    if asked.ranks is not None:
        assert made.size == asked.ranks
    for index, ranks in enumerate(made.by_node):
        node = nodes[index]
        cores = [core for place in ranks for core in place.cores]
        assert len(set(cores)) == len(cores)
        assert [place.local_rank for place in ranks] == list(range(len(ranks)))
        for place in ranks:
            assert place.cores and set(place.pus) <= set(node.pus)
            assert place.pus == tuple(
                pu
                for core in place.cores
                for pu in (node.cores[core].pus if asked.smt else node.cores[core].pus[:1])
            )
            assert place.sockets == tuple(sorted({node.cores[core].package for core in place.cores}))
            if asked.cores_per_rank != "auto":
                assert len(place.cores) == asked.cores_per_rank


@settings(max_examples=150, deadline=None)
@given(NUMBERS)
def test_auto_leaves_no_more_idle_than_the_remainder(number: int) -> None:
    found = case(number, 160, auto=True)
    asked, nodes, made = found.request, found.nodes, found.rankmap
    domain_ranks = {"socket": asked.ranks_per_socket, "numa": asked.ranks_per_numa, "l3": asked.ranks_per_l3}
    level, ranks = next(((name, value) for name, value in domain_ranks.items() if value), ("node", None))
    for index, node in enumerate(nodes):
        used = {core for place in made.by_node[index] for core in place.cores}
        reserved = set()
        for domain in node.domains(asked.reserve.per):
            count = asked.reserve.cores
            reserved |= set(
                domain[:count]
                if asked.reserve.at == "first"
                else domain[len(domain) - count :]
                if count
                else ()
            )
        for domain in node.domains(level):  # type: ignore[arg-type]
            free = set(domain) - reserved
            idle = len(free - used)
            assert idle <= len(free) % (ranks or made.counts[index])


@settings(max_examples=60, deadline=None)
@given(NUMBERS, st.lists(HOSTS, min_size=4, max_size=4, unique=True))
def test_hosts_do_not_change_a_map(number: int, names: list[str]) -> None:
    found = case(number, 160)
    asked, nodes, made = found.request, found.nodes, found.rankmap
    renamed = plan(asked, nodes, names[: len(nodes)])
    assert [(p.rank, p.node, p.cores, p.pus) for p in renamed.ranks] == [
        (p.rank, p.node, p.cores, p.pus) for p in made.ranks
    ]


@settings(max_examples=60, deadline=None)
@given(NUMBERS)
def test_a_map_survives_json(number: int) -> None:
    made = case(number, 160).rankmap
    assert RankMap.from_json(made.to_json()) == made


@pytest.mark.parametrize("data", [{}, {"format": 2}, {"format": 1, "ranks": [{}]}])
def test_a_broken_map_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        RankMap.from_json(data)


def test_two_threads_with_one_id_are_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        Topology.from_threads([Thread(0, 0, 0), Thread(0, 0, 1)])
