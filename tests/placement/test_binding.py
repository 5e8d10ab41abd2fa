"""What ranks are given is recorded and compared: real mpirun, real MPI, nodes that are made up where this machine is
too small."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from commands import hpcflow
from hpcflow.errors import InputError
from hpcflow.experiment.schema import Placement
from hpcflow.placement.binding import PlanFile
from hpcflow.placement.compare import compare, overlap, size_problem
from hpcflow.placement.gpus import own_gpus
from hpcflow.placement.launchers import LaunchLine, line
from hpcflow.placement.rankmap import RankMap, plan
from hpcflow.placement.record import Binding, Seat, Told, read, told
from hpcflow.placement.sources import read as read_node
from hpcflow.placement.sysfs import seat
from hpcflow.placement.topology import Gpu, Thread, Topology
from placement.oracles import cluster
from placement.oracles.launchers import LAUNCHERS, cache
from runs import job, lay

RANK = str(Path(__file__).with_name("ranks.py"))
MPIRUN = Path(sys.prefix) / "bin"
NODES = Path(__file__).parent / "nodes"
EXACT = read_node(str(NODES / "hwloc2-2x4x2.xml"))
GUESSED = read_node("2x4x2")
# The node that 2x4x2 is in truth on most machines: core c has the CPUs c and c + 8.
LINUX = Topology.from_threads(Thread(pu, pu % 8 // 4, pu % 8) for pu in range(16))


@dataclass(frozen=True)
class Ended:
    """How a launch ended."""

    code: int
    trains: int
    said: list[str]
    bindings: Path
    out: str = ""


Launch = Callable[..., Ended]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Start a map's ranks by the environment's own Open MPI on made-up nodes; ``words`` changes the line."""
    cluster.build(cache() / "oracles")

    def start(
        rankmap: RankMap,
        verify: str = "fail",
        words: Callable[[Sequence[Any]], Sequence[Any]] = tuple,
        planned: RankMap | None = None,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> Ended:
        (tmp_path / "rankmap.json").write_text((planned or rankmap).to_text())
        bindings = tmp_path / "it's a $(job)" / "bindings"
        program = [sys.executable, RANK, str(tmp_path / "rankmap.json"), str(bindings), verify]
        said = line("openmpi", rankmap, program, version="4.1.8", scheduler="slurm")
        said = LaunchLine(tuple(words(said.argv)), said.env, said.files)
        with cluster.nodes(rankmap, cache() / "oracles") as (here, environment):
            for name, text in said.files.items():
                (here / name).write_text(text)
            environment |= {
                "PATH": f"{MPIRUN}:{environment['PATH']}",
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            # Two "nodes" of one machine: shared memory and UCX take the ranks of the other for neighbours and crash.
            environment |= {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self"}
            environment |= {"LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")}
            environment |= {"HPCFLOW_FAKE_SYSFS": str(sysfs(here, rankmap.shapes[0])), **more}
            done = subprocess.run(
                ["/bin/bash", "-c", said.script()],
                env=environment,
                cwd=here,
                capture_output=True,
                text=True,
                timeout=60,
            )
        lines = [row for row in done.stderr.splitlines() if row.startswith("hpcflow: ")]
        return Ended(done.returncode, done.stdout.count("trains "), lines, bindings, done.stdout)

    return start


def sysfs(folder: Path, node: Topology) -> Path:
    """What the kernel of a node tells of its CPUs."""
    for core in node.cores:
        for pu in core.pus:
            here = folder / "sysfs" / "cpu" / f"cpu{pu}" / "topology"
            here.mkdir(parents=True)
            (here / "thread_siblings_list").write_text(",".join(map(str, core.pus)) + "\n")
            (here / "physical_package_id").write_text(f"{core.package}\n")
    (folder / "sysfs" / "cpu" / "online").write_text(",".join(map(str, sorted(node.pus))) + "\n")
    return folder / "sysfs"


def planned(nodes: int = 2, **kind: Any) -> RankMap:
    return plan(Placement(**kind), [EXACT] * nodes)


def test_a_rank_finds_its_own_line_of_the_rank_map(tmp_path: Path) -> None:
    made = planned(nodes=3, ranks_per_socket=2)
    path = tmp_path / "rankmap.json"
    path.write_text(made.to_text(launcher="srun", verify="warn"))
    assert json.loads(path.read_text()) == {"launcher": "srun", "verify": "warn", **made.to_json()}
    found = PlanFile(path)
    assert (found.size, found.verify) == (made.size, "warn")
    assert [found.place(rank) for rank in range(made.size)] == list(made.ranks)
    assert [found.topology(place.node) for place in made.ranks] == [EXACT] * made.size
    for text in ("", "{}", "[]", "{\n}", path.read_text()[:-3], made.to_text()[10:]):
        path.write_text(text)
        with pytest.raises(InputError, match="no rank map"):
            PlanFile(path)


@pytest.mark.train
@pytest.mark.parametrize(
    "kind", [{"ranks_per_socket": 1, "cores_per_rank": 2}, {"ranks_per_node": 3, "smt": True}]
)
def test_ranks_where_they_were_planned_go_on_and_are_on_record(launch: Launch, kind: dict[str, Any]) -> None:
    made = planned(**kind)
    ended = launch(made)
    assert (ended.code, ended.trains, ended.said) == (0, made.size, [])
    found = read(ended.bindings)
    assert sorted(found) == list(range(made.size))
    for rank, item in found.items():
        place = made.ranks[rank]
        assert item.cpus == tuple(sorted(made.core_pus(place)))
        assert item.planned == place.pus
        assert item.told == Told(rank, made.size, place.local_rank)
        assert not item.problem


@pytest.mark.train
@pytest.mark.parametrize(("verify", "trains"), [("fail", 0), ("warn", 4), ("off", 4)])
def test_unbound_ranks(launch: Launch, verify: str, trains: int) -> None:
    def unbound(words: Sequence[Any]) -> list[Any]:
        at = words.index("--bind-to")
        return [*words[: at + 1], "none", *words[at + 2 :]]

    ended = launch(planned(ranks_per_socket=1, cores_per_rank=2), verify, unbound)
    assert ended.trains == trains
    assert (ended.code != 0) == (verify == "fail")
    if verify == "off":
        assert not ended.said
        return
    (sentence,) = ended.said
    assert "rank 0" in sentence and "planned CPUs 0,2, got 0-15" in sentence
    assert "nothing bound it" in sentence and "4 of 4 ranks" in sentence
    assert len(read(ended.bindings)) == 4


@pytest.mark.train
def test_another_number_of_ranks_than_planned_ends_them_all_with_one_sentence(launch: Launch) -> None:
    ended = launch(planned(ranks_per_socket=1), "warn", planned=planned(nodes=3, ranks_per_socket=1))
    assert (ended.trains, ended.code != 0) == (0, True)
    (sentence,) = ended.said
    assert "6 ranks are planned: the launcher itself started 4" in sentence

    # What each was given is on record although MPI never brought them together.
    found = read(ended.bindings)
    assert sentence.removeprefix("hpcflow: ") in {item.problem for item in found.values()}
    assert [found[rank].cpus for rank in range(4)] == [(0, 1, 2, 3, 4, 5, 6, 7), tuple(range(8, 16))] * 2


def masks(*ranks: Sequence[int]) -> dict[str, str]:
    """An environment in which local ranks are bound to CPU ids."""
    return {"HPCFLOW_FAKE_MASKS": json.dumps(ranks)}


@pytest.mark.train
def test_ranks_on_guessed_ids_are_compared_by_their_cores(launch: Launch) -> None:
    """The plan has counts, the nodes Linux's ids: the cores are right, and no planned id is."""
    kind = {"ranks_per_socket": 1, "cores_per_rank": 2}
    made = plan(Placement.model_validate(kind), [LINUX] * 2)
    ended = launch(made, planned=plan(Placement.model_validate(kind), [GUESSED] * 2))
    assert (ended.code, ended.trains, ended.said) == (0, 4, [])
    found = read(ended.bindings)
    assert found[1].cpus == (4, 5, 12, 13)
    assert found[1].seat == Seat((1,), (4, 5), True, (4, 4))


@pytest.mark.train
@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        # The masks 0x54,0x5400 for cores 1-3 and 5-7 of the guess: three cores each, the same three.
        (
            {"ranks_per_node": 2, "cores_per_rank": 3, "reserve": {"cores": 1, "per": "socket"}},
            ((2, 4, 6), (10, 12, 14)),
            "rank 0 on {host}: planned 3 cores of socket 0, got 3 cores of sockets 0-1 (CPUs 2-6:2)",
        ),
        # Two cores each, of the right sockets or of one: all the same ones.
        ({"ranks": 2, "cores_per_rank": 2}, ((0, 1), (8, 9)), "rank 0 on {host}: rank 1 has core 0-1 too"),
        ({"ranks_per_socket": 1, "cores_per_rank": 2}, ((0, 1), (2, 3)), "rank 1 on {host}: planned 2 cores of socket 1"),
        ({"ranks_per_socket": 1}, (range(8), range(8, 16)), "rank 0 on {host}: planned 4 cores of socket 0, got 8 cores"),
        ({"ranks_per_socket": 1, "smt": True, "cores_per_rank": 1}, ((0, 8), (4, 5)), "rank 1 on {host}: planned 1 core"),
    ],
)  # fmt: skip
def test_two_ranks_on_one_core_end_although_the_ids_are_the_planned_ones(
    launch: Launch, kind: dict[str, Any], given: Sequence[Sequence[int]], sentence: str
) -> None:
    guessed = plan(Placement.model_validate(kind), [GUESSED])
    made = plan(Placement.model_validate(kind), [LINUX])
    ended = launch(made, planned=guessed, more=masks(*map(list, given)))
    assert (ended.code != 0, ended.trains) == (True, 0)
    (said,) = ended.said
    assert sentence.format(host=socket.gethostname()) in said


@pytest.mark.train
@pytest.mark.parametrize(
    ("devices", "shown"),
    [({}, ["CUDA_VISIBLE_DEVICES=1", "CUDA_VISIBLE_DEVICES=0"]),
     ({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, ["CUDA_VISIBLE_DEVICES=GPU-b", "CUDA_VISIBLE_DEVICES=GPU-a"]),
     ({"CUDA_VISIBLE_DEVICES": "4,6", "ROCR_VISIBLE_DEVICES": "4,6"},
      ["CUDA_VISIBLE_DEVICES=6 ROCR_VISIBLE_DEVICES=6", "CUDA_VISIBLE_DEVICES=4 ROCR_VISIBLE_DEVICES=4"])],
)  # fmt: skip
def test_every_rank_sees_its_own_gpus(launch: Launch, devices: dict[str, str], shown: list[str]) -> None:
    """No GPU is here: what a rank's environment says when TensorFlow would be imported."""
    node = replace(EXACT, gpus=(Gpu("gpu0", EXACT.sockets[1]), Gpu("gpu1", EXACT.sockets[0])))
    ended = launch(plan(Placement(ranks_per_socket=1, gpus_per_rank=1), [node]), more=devices)
    assert (ended.code, ended.said) == (0, [])
    assert [f"trains {rank} of 2 {text}" for rank, text in enumerate(shown)] == sorted(ended.out.splitlines())


@pytest.mark.train
def test_fewer_gpus_than_planned_end_the_job(launch: Launch) -> None:
    node = replace(EXACT, gpus=(Gpu("gpu0", EXACT.sockets[0]), Gpu("gpu1", EXACT.sockets[1])))
    made = plan(Placement(ranks_per_socket=1, gpus_per_rank=1), [node])
    ended = launch(made, more={"CUDA_VISIBLE_DEVICES": "0"})
    assert (ended.trains, ended.code != 0) == (0, True)
    assert "rank 1: planned GPU 1 of its node, and CUDA_VISIBLE_DEVICES has 0" in ended.said[0]


def test_the_numbering_of_gpus() -> None:
    made = planned(nodes=1, ranks_per_socket=1)
    place = replace(made.ranks[0], gpus=(0,))
    assert own_gpus(made.ranks[0], EXACT, {}) == {}
    for name, variables in {
        "cuda0": {"CUDA_VISIBLE_DEVICES": "0"},
        "rsmi0": {"ROCR_VISIBLE_DEVICES": "0"},
        "gpu0": {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    }.items():
        assert own_gpus(place, replace(EXACT, gpus=(Gpu(name, (0,)),)), {}) == variables


@pytest.mark.train
@pytest.mark.parametrize("reserve", [0, 1], ids=["ppr", "rankfile"])
def test_horovodrun_binds_and_forwards(tmp_path: Path, reserve: int) -> None:
    made = planned(nodes=1, ranks_per_socket=1, cores_per_rank=2, reserve={"cores": reserve})
    (tmp_path / "rankmap.json").write_text(made.to_text())
    job_dir = tmp_path / "it's a $(job)"
    bindings = job_dir / "bindings"
    job_dir.mkdir()
    program = [sys.executable, RANK, str(tmp_path / "rankmap.json"), str(bindings), "fail"]
    said = line("horovodrun", made, program, version="4.1.8", env={"OMP_NUM_THREADS": "2"}, scheduler="local")
    for name, text in said.files.items():
        (job_dir / name).write_text(text)
    assert bool(said.files) == bool(reserve)
    with cluster.nodes(made, cache() / "oracles") as (_, environment):
        kept = {key: value for key, value in environment.items() if not key.startswith("SLURM")}
        kept |= {"PATH": f"{MPIRUN}:{kept['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path), **said.env}
        kept |= {"LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib"), "HPCFLOW_JOB_DIR": str(job_dir)}
        done = subprocess.run(
            ["/bin/bash", "-c", said.script()], env=kept, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    found = read(bindings)
    assert [found[rank].cpus for rank in (0, 1)] == [
        tuple(sorted(made.core_pus(place))) for place in made.ranks
    ]


@pytest.mark.train
@pytest.mark.parametrize("verify", ["fail", "warn", "off"])
def test_lonely_ranks_end_with_one_sentence_between_them(tmp_path: Path, verify: str) -> None:
    """What a container that cleans the environment makes of a launch: N times "rank 0 of 1"."""
    (tmp_path / "map").write_text(planned(ranks_per_socket=1).to_text())
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, RANK, str(tmp_path / "map"), str(tmp_path / "bindings"), verify]
    processes = [
        subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [1] * 4
    assert not any(out for out, _ in ended)
    (sentence,) = [err for _, err in ended if err]
    assert sentence.count("\n") == 1
    assert "4 ranks are planned" in sentence and "--cleanenv" in sentence


def test_a_federations_ranks_check_in_too(tmp_path: Path) -> None:
    """Else each of them would take itself for the only one, and train alone."""
    files = {"rankmap.json": planned(nodes=1, ranks_per_socket=1).to_text()}
    run = lay(tmp_path, [job("r0001-train", "true", files=files)])
    done = subprocess.run(
        [sys.executable, "-m", "hpcflow.federation", "train", "--cache", "c", str(run.path), "r0001-train", "0"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "2 ranks are planned, and no launcher's variables" in done.stderr
    item = read(run.task("r0001-train", 0).bindings)[0]
    assert item.cpus and "no launcher's variables" in item.problem


@pytest.mark.train
def test_hydra_with_an_open_mpi_program_ends_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "map").write_text(planned(nodes=1, ranks_per_socket=1).to_text())
    mpiexec = LAUNCHERS["mpich"].folder / "mpiexec"
    done = subprocess.run(
        [str(mpiexec), "-n", "2", sys.executable, RANK, str(tmp_path / "map"), str(tmp_path / "bindings"), "fail"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "trains" not in done.stdout
    assert (done.stdout + done.stderr).count(
        "hpcflow: Hydra (MPICH, Intel MPI) started an Open MPI program"
    ) == 1


def here(rank: int, cpus: Sequence[int], **kind: Any) -> Binding:
    return Binding(rank, 2, "n1", tuple(cpus), Told(rank, 2, rank), **kind)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((0, 2), ""),
        ((0, 1, 2, 3), ""),  # whole cores: what Open MPI and Hydra bind
        ((0, 1), "planned CPUs 0,2, got 0-1; likely cause: the job's cgroup is smaller"),
        (
            (8, 9, 10, 11),
            "planned CPUs 0,2, got 8-11; likely cause: the launcher mapped it elsewhere than on cores 0-1",
        ),
        (tuple(range(16)), "nothing bound it, it may use all CPUs of the node"),
        (tuple(range(8)), "nothing bound it, it may use 8 CPUs"),
    ],
)
def test_the_likely_cause(given: Sequence[int], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    made = planned(nodes=1, ranks_per_socket=1, cores_per_rank=2)
    said = compare(here(0, given), made.ranks[0], made)
    assert sentence in said if sentence else not said


def test_a_plan_for_a_larger_node_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    made = planned(nodes=1, ranks_per_socket=1)
    assert "n1 has 2 CPUs" in compare(here(1, (0, 1)), made.ranks[1], made)


def test_other_ranks_than_the_launchers_are_named() -> None:
    made = planned(nodes=1, ranks_per_socket=1)
    item = here(0, (0, 2, 4, 6))
    assert "calls it rank 1" in compare(replace(item, told=Told(1, 2, 1)), made.ranks[0], made)
    assert "is local rank 1" in compare(replace(item, told=Told(0, 2, 1)), made.ranks[0], made)


def sitting(rank: int, cpus: Sequence[int]) -> Binding:
    """A rank on a node with Linux's ids."""
    return here(rank, cpus, seat=seat(cpus))


def test_guessed_ids_are_judged_by_cores_sockets_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcflow.placement.sysfs.SYSTEM", sysfs(tmp_path, LINUX))
    made = plan(Placement(ranks_per_socket=1), [GUESSED])
    right, place = sitting(1, (4, 5, 6, 7)), made.ranks[1]
    assert not compare(right, place, made)
    assert not compare(sitting(1, (*range(4, 8), *range(12, 16))), place, made)
    for wrong, part in (
        ((3, 4, 5, 6), "planned 4 cores of socket 1, got 4 cores of sockets 0-1 (CPUs 3-6)"),
        ((0, 1, 2, 3), "got 4 cores of socket 0 (CPUs 0-3)"),
        ((4, 5), "got 2 cores of socket 1 (CPUs 4-5); likely cause: the job's cgroup is smaller"),
        ((4, 5, 6, 7, 12), "got 4 cores of socket 1 (CPUs 4-7,12)"),  # a thread too many
        (range(16), "it may use all cores of the node"),
        ((16,), "the kernel does not tell where CPUs 16 are"),
    ):
        assert part in compare(sitting(1, tuple(wrong)), place, made)
    assert not overlap(right, [sitting(0, (0, 1, 2, 3)), right], made)
    assert "rank 0 has core 4-5 too" in overlap(right, [sitting(0, (12, 13, 0)), right], made)
    elsewhere = replace(sitting(0, (12, 13)), host="n2")
    assert not overlap(right, [elsewhere, right], made)
    shared = plan(Placement(ranks=9, oversubscribe=True), [GUESSED])
    assert not overlap(sitting(0, (0,)), [sitting(8, (0,))], shared)


def test_what_launchers_tell() -> None:
    assert told(
        {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
    ) == Told(3, 8, 1)
    assert told({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0"}) == Told(2, 4, 0)
    assert told({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}) == Told(2, 4, 0)
    assert told({}) == Told(None, None, None)


@pytest.mark.parametrize(
    ("item", "part"),
    [
        (Binding(0, 1, "n", (), Told(2, 4, 0)), "MPI library is not the launcher's"),
        (Binding(0, 1, "n", (), Told(None, None, None)), "--cleanenv"),
        (Binding(1, 3, "n", (), Told(1, 3, 0)), "the launcher itself started 3"),
    ],
)
def test_size_problems(item: Binding, part: str) -> None:
    assert part in size_problem(item, 4)


def test_map_of_a_run_draws_planned_and_actual(tmp_path: Path) -> None:
    made = planned(nodes=1, ranks_per_socket=1, cores_per_rank=2)
    run = lay(
        tmp_path,
        [job("train", "true", files={"rankmap.json": made.to_text(launcher="openmpi")})],
    )
    task = run.task("train", 0)
    before = hpcflow("map", "--run", run.path, env={"COLUMNS": "80"})
    assert before.returncode == 0 and "no rank has started yet" in before.stdout
    task.bindings.mkdir()
    for item in (
        Binding(0, 2, "n1", (0, 1, 2, 3), Told(0, 2, 0), (0, 2)),
        Binding(1, 2, "n1", (4, 5), Told(1, 2, 1), (8, 10), "rank 1 on n1: planned CPUs 8,10, got 4-5"),
    ):
        task.binding(item.rank).write_text(json.dumps(item.to_json()))
    after = hpcflow("map", "--run", run.path, env={"COLUMNS": "80"})
    assert after.returncode == 1
    actual = after.stdout.partition("actual")[2]
    assert "socket 0 [0 0 1 .]" in actual and "socket 1 [. . . .]" in actual
    assert "R1 on n1: planned CPUs 8,10, got 4-5" in actual
    document = json.loads(hpcflow("map", "--run", run.path, "--json").stdout)
    assert document["tasks"][0]["ranks"][1]["cpus"] == [4, 5]


def test_map_of_a_run_with_guessed_ids_draws_the_nodes_own_cores(tmp_path: Path) -> None:
    made = plan(Placement(ranks_per_socket=1, cores_per_rank=2), [GUESSED])
    run = lay(tmp_path, [job("train", "true", files={"rankmap.json": made.to_text()})])
    task = run.task("train", 0)
    task.bindings.mkdir()
    for rank, (cpus, cores) in enumerate((((0, 1, 8, 9), (0, 1)), ((4, 5, 12, 13), (4, 5)))):
        item = Binding(rank, 2, "n1", cpus, Told(rank, 2, rank), seat=Seat((rank,), cores, True, (4, 4)))
        task.binding(rank).write_text(json.dumps(item.to_json()))
        done = hpcflow("map", "--run", run.path, env={"COLUMNS": "80"})
        actual = done.stdout.partition("actual")[2]
        assert done.returncode == 0 and "socket 0 [0 0 . .]" in actual
        assert ("1 of 2 ranks have reported, those as planned" in actual) == (rank == 0)
    assert "socket 1 [1 1 . .]" in actual and "all as planned" in actual


def test_map_of_a_run_says_why_no_rank_began(tmp_path: Path) -> None:
    files = {"rankmap.json": planned(nodes=1, ranks_per_socket=1).to_text()}
    run = lay(tmp_path, [job("train", "true", files=files)])
    task = run.task("train", 0)
    task.bindings.mkdir()
    (task.bindings / "refused-1").write_text("mpi4py finds no MPI library\n")
    done = hpcflow("map", "--run", run.path)
    assert done.returncode == 1 and "the ranks ended at once: mpi4py finds no MPI library" in done.stdout


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000.json").write_text("{}")
    with pytest.raises(InputError, match="no binding"):
        read(tmp_path)
