"""Launch lines as text: the lecture's three, every dialect's forms, and what is refused."""

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcflow.errors import InputError
from hpcflow.experiment import load
from hpcflow.experiment.schema import Placement, Threads
from hpcflow.placement import drawing
from hpcflow.placement.launchers import DIALECTS, HostList, JobFile, LaunchLine, line
from hpcflow.placement.launchers.base import Nested, version_numbers
from hpcflow.placement.mapping import Answer, Question, answer
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.sources import read
from hpcflow.placement.threads import derive

ROOT = Path(__file__).resolve().parents[2]
Golden = Callable[[str, str], None]


def planned(topology: str = "2x18x2", nodes: int = 2, **kind: Any) -> RankMap:
    """On nodes whose CPU ids are known to run core by core."""
    return plan(Placement(**kind), [replace(read(topology), assumed=False)] * nodes)


def text(name: str, rankmap: RankMap, **more: Any) -> str:
    return line(name, rankmap, ["prog"], **{"scheduler": "slurm", **more}).script()


@pytest.mark.parametrize(
    ("name", "topology", "hosts"),
    [
        ("openmpi", "2x4x2", "hostA hostB hostC"),
        ("intelmpi", "2x24x2", "hostA hostB hostC"),
        ("horovodrun", "2x20x2", "hostA hostB"),
    ],
)
def test_the_lectures_launches(name: str, topology: str, hosts: str, golden: Golden) -> None:
    loaded = load(ROOT / "configs" / f"lecture_{name}.yaml")
    placement = loaded.experiment.placement
    names = tuple(hosts.split())
    assert loaded.experiment.resources.nodes == len(names)
    made = answer(
        Question(
            placement, loaded.experiment.threads, (read(topology),) * len(names), name, placement.launcher_version,
            hosts=names,
        )
    )  # fmt: skip
    said = made.line()
    exports = "".join(f"export {key}={value}\n" for key, value in said.env.items())
    golden(f"placement/lecture_{name}.sh", f"#!/bin/bash\n{exports}{said.script()}\n")
    golden(
        f"placement/lecture_{name}.txt",
        drawing.plain(drawing.picture(made.rankmap, 100, said.grain == "cores")),
    )


def test_the_lectures_picture() -> None:
    made = plan(
        Placement(ranks_per_socket=1, cores_per_rank=2), [read("2x4x2")] * 3, ["hostA", "hostB", "hostC"]
    )
    assert drawing.plain(drawing.rank_lines(made, 100)) == (
        "R0 hostA [BB/BB/../..][../../../..]\n"
        "R1 hostA [../../../..][BB/BB/../..]\n"
        "R2 hostB [BB/BB/../..][../../../..]\n"
        "R3 hostB [../../../..][BB/BB/../..]\n"
        "R4 hostC [BB/BB/../..][../../../..]\n"
        "R5 hostC [../../../..][BB/BB/../..]\n"
    )


REQUESTS: dict[str, dict[str, Any]] = {
    "one rank a socket, two cores": {"ranks_per_socket": 1, "cores_per_rank": 2},
    "four packed ranks of nine cores": {"ranks_per_node": 4, "cores_per_rank": 9},
    "four scattered ranks of nine cores": {"ranks_per_node": 4, "cores_per_rank": 9, "order": "scattered"},
    "three ranks a node, across the sockets": {"ranks_per_node": 3},
    "one rank a socket, all threads": {"ranks_per_socket": 1, "smt": True},
    "the first core of a socket reserved": {"ranks_per_socket": 1, "reserve": {"cores": 1, "per": "socket"}},
    "five ranks in all": {"ranks": 5},
}


SPEAKERS = (
    ("openmpi", "4.1"),
    ("openmpi", "5.0"),
    ("intelmpi", None),
    ("mpich", None),
    ("srun", None),
    ("horovodrun", None),
)


def test_every_dialect_says_every_request(golden: Golden) -> None:
    told = []
    for title, kind in REQUESTS.items():
        told.append(f"# {title}")
        made = planned(**kind)
        for name, version in SPEAKERS:
            told.append(f"{name} {version or ''}".strip() + ":")
            try:
                said = line(name, made, ["prog"], version=version, scheduler="slurm")
            except InputError as error:
                told.append(f"    refused: {error}")
                continue
            told += [f"    {key}={value}" for key, value in said.env.items()]
            told.append(f"    {said.script()}")
            told += [f"    {row}" for body in said.files.values() for row in body.splitlines()]
        told.append("")
    golden("placement/dialects.txt", "\n".join(told))


def test_openmpi_says_the_same_map_in_the_words_of_its_version() -> None:
    scattered = planned(nodes=1, ranks_per_node=4, cores_per_rank=9, order="scattered")
    assert "ppr:2:socket:pe=9 --bind-to core --rank-by socket" in text("openmpi", scattered, version="4.1.4")
    assert "ppr:2:package:pe=9 --bind-to core --rank-by span" in text("openmpi", scattered, version="5.0.11")
    assert "rankfile" in text("openmpi", scattered)  # unknown: no form that the versions read differently
    two = planned(ranks_per_node=4, cores_per_rank=9, order="scattered")
    assert "rankfile:file=" in text("openmpi", two, version="5.0.11")
    with pytest.raises(InputError, match=r"version 1\.10 is not known here"):
        text("openmpi", two, version="1.10")


def test_openmpi_names_hosts_only_where_nobody_else_does() -> None:
    made = planned(ranks_per_socket=1)
    assert "-H" not in text("openmpi", made)
    assert "-H a:2,b:2" in text("openmpi", made, scheduler=None, hosts=["a", "b"])
    assert "-H localhost:2" in text("openmpi", planned(nodes=1, ranks_per_socket=1), scheduler="local")
    named = line("openmpi", planned(ranks=5), ["prog"], scheduler=None, hosts=["a", "b"])
    assert named.files["rankfile.txt"].startswith("rank 0=a slot=0-11\n")
    local = line(
        "openmpi", planned(nodes=1, ranks_per_socket=1, reserve={"cores": 1}), ["p"], scheduler="local"
    )
    assert local.files["rankfile.txt"] == "rank 0=localhost slot=1-17\nrank 1=localhost slot=18-35\n"


def test_openmpi_as_root_and_with_an_environment() -> None:
    said = line("openmpi", planned(), ["prog"], env={"B": "it's", "A": "1,2"}, as_root=True)
    assert said.argv[-6:] == ("--allow-run-as-root", "-x", "A", "-x", "B", "prog")
    assert said.env == {"A": "1,2", "B": "it's"}


def test_a_rankfile_in_too_many_pieces_is_refused() -> None:
    with pytest.raises(InputError, match="fewer pieces"):
        text("openmpi", planned("8x32x2", 1, ranks=1, reserve={"cores": 1, "per": "socket"}), version="4.1")


def test_intel_mpi_forwards_every_variable_and_says_its_cells() -> None:
    said = line("intelmpi", planned(ranks_per_socket=1), ["prog"], env={"A": "a b"}, scheduler="slurm")
    assert "-genv A 'a b'" in said.script()
    assert said.env["I_MPI_PIN_DOMAIN"] == "socket"
    assert said.env["I_MPI_PIN_CELL"] == "core"
    smt = line("intelmpi", planned(ranks_per_node=4, smt=True), ["prog"])
    assert (smt.env["I_MPI_PIN_DOMAIN"], smt.env["I_MPI_PIN_CELL"]) == ("18:compact", "unit")
    assert "-hosts a,b" in text("intelmpi", planned(), scheduler=None, hosts=["a", "b"])


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("intelmpi", planned(ranks=5), "-ppn is one number"),
        ("mpich", planned(ranks=5), "-ppn is one number"),
        ("srun", planned(ranks=5), "different CPU masks"),
        ("horovodrun", planned(ranks=5), "not known before the job starts"),
        ("nompi", planned(), "unknown \\(known: horovodrun, intelmpi, mpich, openmpi, srun\\)"),
    ],
)
def test_what_a_launcher_cannot_say_is_refused(name: str, made: RankMap, message: str) -> None:
    with pytest.raises(InputError, match=message):
        text(name, made)


@pytest.mark.parametrize("version", ["intelmpi", "impi-2021.9", "mpich 4.2", "mpich"])
def test_horovodrun_refuses_where_it_would_drop_the_binding(version: str) -> None:
    with pytest.raises(InputError, match="drops --binding-args and the environment"):
        text("horovodrun", planned(), version=version)


def test_horovodrun_uses_double_dashes_and_one_word_for_the_binding() -> None:
    said = text("horovodrun", planned(ranks_per_socket=1), version="5.0.11")
    assert """--binding-args='--map-by ppr:1:package:pe=18 --bind-to core'""" in said
    assert not re.search(r"\s-(bind-to|map-by|mca)", said)
    assert '-H "${HPCFLOW_HOSTS//,/:2,}:2"' in said


def test_srun_counts_logical_cpus_and_owns_the_node_for_masks() -> None:
    assert "--cpus-per-task=18 --distribution=block:block --cpu-bind=verbose,cores" in text(
        "srun", planned(ranks_per_node=4, cores_per_rank=9)
    )
    masks = text("srun", planned(ranks_per_socket=1, reserve={"cores": 1}))
    assert masks.startswith("srun ")
    assert "--cpus-per-task=36 " in masks
    odd = text("srun", planned(ranks_per_node=5))
    assert odd.startswith("env -u SLURM_CPUS_PER_TASK srun ")
    assert "--cpus-per-task" not in odd
    assert "--mpi=pmix" in text("srun", planned(), mpi="pmix")
    assert "--export=ALL" in odd


@pytest.mark.parametrize("name", ["srun", "intelmpi", "mpich"])
def test_ids_are_not_guessed(name: str) -> None:
    """Masks made core by core would put two ranks on one core of a node that Linux numbers."""
    kind = Placement(ranks_per_node=2, cores_per_rank=3, reserve={"cores": 1, "per": "socket"})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"topology 2x4x2 does not tell the CPU ids \(give an hwloc file"):
        text(name, plan(kind, [read("2x4x2")]))
    assert text(
        name, planned("2x4x2", **kind.model_dump(include={"ranks_per_node", "cores_per_rank", "reserve"}))
    )
    assert text(name, plan(Placement(ranks_per_socket=1), [read("2x4x2")]))  # no id is needed


def test_srun_gives_a_rank_that_has_the_node_all_of_it_without_masks() -> None:
    said = text("srun", plan(Placement(ranks_per_node=1), [read("2x4x2")] * 2))
    assert "--cpus-per-task=16 --distribution=block:block --cpu-bind=verbose,cores" in said


def test_srun_takes_hosts_in_the_order_in_which_slurm_has_them() -> None:
    assert "--nodelist=n2,n10" in text("srun", planned(), scheduler=None, hosts=["n2", "n10"])
    with pytest.raises(InputError, match=r"other hosts than planned \(name them as a,b\)"):
        text("srun", planned(), scheduler=None, hosts=["b", "a"])


@pytest.mark.parametrize(
    "names", [["a", "a"], ["a", "b\n"], ["a", "b slots=9"], ["a", "\x00"], ["a", "-x"], ["a", ""]]
)
def test_names_that_no_host_has_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"^hosts: "):
        plan(Placement(), [read("2x4x2")] * 2, names)
    with pytest.raises(InputError, match=r"^hosts: "):
        text("openmpi", planned(), scheduler=None, hosts=names)


@pytest.mark.parametrize("folder", ["plain", 'it\'s $(touch x) "q" \\ *', "a b"])
def test_words_of_the_job_arrive_unharmed(folder: str) -> None:
    words = (
        JobFile("a file", "rankfile:file="),
        HostList(),
        HostList(3),
        "it's $HOME",
        Nested(("--x", "a b", JobFile("f'", "p=")), "--binding-args="),
    )
    said = LaunchLine(("printf", "%s\\n", *words)).script()
    done = subprocess.run(
        ["/bin/bash", "-c", said], env={"HPCFLOW_JOB_DIR": f"/r/{folder}", "HPCFLOW_HOSTS": "n1,n2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *first, nested = done.stdout.splitlines()
    assert first == [f"rankfile:file=/r/{folder}/a file", "n1,n2", "n1:3,n2:3", "it's $HOME"]
    prefix, _, inner = nested.partition("=")
    again = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {inner}"], capture_output=True, text=True, check=True
    )
    assert (prefix, again.stdout.splitlines()) == ("--binding-args", ["--x", "a b", f"p=/r/{folder}/f'"])


def test_versions() -> None:
    assert version_numbers("5.0.11rc2") == (5, 0, 11)
    assert version_numbers("23.02.7-1") == (23, 2, 7, 1)
    assert version_numbers("v5") == ()


def test_threads_follow_the_rank() -> None:
    found = derive(planned(ranks_per_socket=1), Threads())
    assert (found.omp, found.intra_op, found.inter_op) == (18, 18, 1)
    assert found.env == {
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
        "KMP_BLOCKTIME": "1",
        "OMP_NUM_THREADS": "18",
        "OMP_PLACES": "cores",
        "OMP_PROC_BIND": "true",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "18",
    }
    assert not found.lint()
    assert derive(planned(ranks_per_socket=1, smt=True), Threads()).env["OMP_PLACES"] == "threads"
    assert derive(planned(ranks_per_socket=1, smt=True), Threads()).omp == 36
    alone = derive(planned(nodes=1), Threads())  # one rank on two sockets, no MPI
    assert alone.inter_op == 2
    assert not alone.lint()
    assert derive(planned(ranks=5), Threads()).omp == 12  # the smallest rank


@pytest.mark.parametrize(
    ("threads", "sentence"),
    [
        ({"intra_op": 24}, "TF_NUM_INTRAOP_THREADS is 24 and a rank has 9 hardware threads on 9 cores"),
        ({"omp": 24}, "OMP_NUM_THREADS is 24"),
        ({"inter_op": 2}, "2 operations at once with 9 threads each are 18 threads"),
        ({"env": {"OMP_NUM_THREADS": "24"}}, "OMP_NUM_THREADS is 24"),
    ],
)
def test_threads_that_oversubscribe_a_rank_are_named(threads: dict[str, Any], sentence: str) -> None:
    found = derive(planned(ranks_per_node=4), Threads(**threads)).lint()
    assert [said for said in found if sentence in said]


def test_all_launchers_of_an_answer() -> None:
    made: Answer = answer(Question(Placement(ranks=5), Threads(), (read("2x18x2"),) * 2, "openmpi", "4.1"))
    lines = made.everywhere()
    assert set(lines) == set(DIALECTS)
    assert isinstance(lines["openmpi"], LaunchLine) and isinstance(lines["mpich"], str)
