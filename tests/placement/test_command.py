"""`hpcflow map` as it is typed."""

import json
import os
import re
import shlex
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from commands import hpcflow
from hpcflow.experiment.schema import Placement
from hpcflow.placement.launchers import line
from hpcflow.placement.launchers.detect import Found, choose, detect
from hpcflow.placement.rankmap import plan
from hpcflow.placement.sources import parse, read
from hpcflow.placement.verify import document, verify
from placement.oracles.launchers import LAUNCHERS

NODES = Path(__file__).parent / "nodes"
TWO = str(NODES / "hwloc2-2x4x2.xml")


def test_json_is_the_contract() -> None:
    request = ["--ranks-per-socket", "1", "--cores-per-rank", "4", "--launcher", "openmpi"]
    done = hpcflow("map", "--topology", TWO, "--nodes", "2", *request, "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["launcher"] == "openmpi"
    assert document["command"][:5] == ["mpirun", "-np", "4", "--map-by", "ppr:1:socket:pe=4"]
    assert document["env"]["OMP_NUM_THREADS"] == "4"
    assert {key: document["ranks"][2][key] for key in ("rank", "node", "host", "sockets", "cores", "pus")} == {
        "rank": 2, "node": 1, "host": "node1", "sockets": [0], "cores": [0, 1, 2, 3], "pus": [0, 2, 4, 6],
    }  # fmt: skip
    assert shlex.split(document["script"]) == document["command"]


def test_a_picture_as_plain_text_and_as_svg(tmp_path: Path) -> None:
    picture = tmp_path / "a b.svg"
    done = hpcflow(
        "map", "--topology", "2x18x2", "--ranks-per-node", "4", "--launcher", "openmpi", "--svg", picture
    )
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "  socket 1 [2 2 2 2 2 2 2 2 2 3 3 3 3 3 3 3 3 3]" in done.stdout
    root = ET.parse(picture).getroot()
    labels = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert labels.count("3") == 9


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_wide_nodes_are_folded_to_the_terminal(columns: int) -> None:
    done = hpcflow(
        "map",
        "--topology",
        "2x96x2",
        "--ranks-per-node",
        "12",
        "--launcher",
        "openmpi",
        env={"COLUMNS": str(columns)},
    )
    picture = done.stdout.partition("\n\n")[2].partition("\nopenmpi")[0]
    assert max(map(len, picture.splitlines())) <= columns
    assert picture.count(" 11") == 16 + picture.count("R11")


def test_all_launchers_side_by_side() -> None:
    done = hpcflow("map", "--topology", "2x18x2", "--nodes", "2", "--ranks", "5", "--all-launchers", "--json")
    lines = json.loads(done.stdout)["launchers"]
    assert set(lines) == {"openmpi", "intelmpi", "mpich", "srun", "horovodrun"}
    assert "refused" in lines["srun"] and "command" in lines["openmpi"]
    text = hpcflow("map", "--topology", "2x18x2", "--ranks-per-socket", "1", "--all-launchers").stdout
    assert text.count("export OMP_NUM_THREADS=18") == 1
    assert "\nhorovodrun:\n  horovodrun --mpi -np 2" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "nowhere"], "nowhere: no topology: no such file"),
        (["--topology", "2x18x2", "--ranks-per-node", "40"], "asked 40 ranks on node0, available 36 cores"),
        (["--ranks", "2", "--ranks-per-node", "1"], "said twice"),
        (["--reserve", "x"], "--reserve: x is not as in 1/socket/last"),
        (["--cores-per-rank", "many"], "--cores-per-rank: "),
        (["--hosts", "a,b", "--nodes", "3"], "said twice: --nodes says 3, --hosts says 2"),
        (
            ["--topology", "2x4x1:2", "--topology", "1x4x1", "--nodes", "2"],
            "--nodes says 2, --topology says 3",
        ),
        (["--hosts", "a b"], "--hosts: `a b` is no name of a host"),
        (["--program", "it's"], "--program it's: no closing quotation"),
        (["--program", " "], "--program: there is no command in it"),
        (["--cores-per-rank", "\u00b2"], "--cores-per-rank: "),
        (["--reserve", "\u00b2"], "--reserve: \u00b2 is not as in 1/socket/last"),
        (["--site", "x"], "--site is about an experiment"),
        (
            ["--run", "r", "--svg", "x", "--verify", "--topology", "y"],
            "leave out --topology, --verify, --svg",
        ),
        (["--run", "no-such-run"], "no-such-run"),
        (["--topology", "2x4x1", "--launcher", "nompi"], "--launcher: "),
    ],
)
def test_wrong_input_is_a_sentence(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = hpcflow("map", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_an_experiment_with_options_over_it(tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "configs" / "lecture_openmpi.yaml"
    done = hpcflow(
        "map",
        config,
        "--topology",
        "2x4x2",
        "--set",
        "resources.nodes=2",
        "--smt",
        "--ranks-per-node",
        "1",
        "--json",
    )
    document = json.loads(done.stdout)
    assert [rank["pus"] for rank in document["ranks"]] == [[0, 1, 2, 3]] * 2


def written(tmp_path: Path, text: str = "") -> Path:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"name: c\nresources: {{nodes: 2}}\ntraining: {{data: {{phantom: {{subjects: 2}}}}}}\n{text}"
    )
    return config


def only(tmp_path: Path, name: str, says: str) -> str:
    """A PATH with a launcher that only says what it is, and none beside it."""
    tool = tmp_path / "bin" / name
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\necho '{says}'\n")
    tool.chmod(0o755)
    return f"{tool.parent}:/usr/bin:/bin"


@pytest.mark.parametrize("engine", ["local", "auto"])
def test_an_experiment_is_mapped_as_it_is_rendered(tmp_path: Path, engine: str) -> None:
    """Whatever mpirun is on PATH: the target's launcher and nodes, not those of a look of its own."""
    config = written(tmp_path, "placement: {ranks_per_node: 1}\n")
    env = {"PATH": only(tmp_path, "mpirun", "Intel(R) MPI Library for Linux* OS, Version 2021.9")}
    script = hpcflow("render", config, "--engine", engine, env=env).stdout
    document = json.loads(hpcflow("map", config, "--engine", engine, "--json", env=env).stdout)
    assert f"# launcher: {document['launcher']} {document['version']} (" in script
    said = shlex.split(script.replace("\\\n", " ").partition("\nmpirun ")[2].partition("\n")[0])
    words = document["command"][1 : -len(["python", "train.py"])]
    assert said[: len(words)] == words
    if engine == "local":
        assert {rank["node"] for rank in document["ranks"]} == {0}


def test_threads_that_oversubscribe_are_told_wherever_a_plan_is(tmp_path: Path) -> None:
    config = written(tmp_path, "threads: {omp: 999, intra_op: 500}\n")
    for command in (["render"], ["submit", "--dry-run"], ["validate"], ["map"], ["map", "--all-launchers"]):
        done = hpcflow(command[0], config, *command[1:], "--engine", "local")
        assert done.returncode == 0
        notes = [row for row in done.stderr.splitlines() if row.startswith("note: ")]
        assert [re.search(r"THREADS is ([0-9]+)", row)[1] for row in notes] == ["999", "500"]  # type: ignore[index]
    assert "THREADS is 999" in hpcflow("validate", config).stderr  # the place that `auto` finds


def test_all_launchers_are_refused_what_would_name_guessed_ids() -> None:
    asked = ["map", "--topology", "2x4x2", "--ranks-per-socket", "1", "--reserve", "1", "--all-launchers"]
    document = json.loads(hpcflow(*asked, "--json").stdout)
    assert "does not tell the CPU ids" in document["launchers"]["srun"]["refused"]


def test_validate_asks_a_place_that_is_named(tmp_path: Path) -> None:
    config = written(tmp_path, "placement:\n  ranks_per_node: 5000\n")
    assert hpcflow("validate", config).returncode == 0
    done = hpcflow("validate", config, "--engine", "local")
    assert (done.returncode, done.stdout) == (2, "")
    assert "c.yaml:5:19: placement.ranks_per_node: asked 10000 ranks" in done.stderr


def test_nodes_of_several_shapes(tmp_path: Path) -> None:
    shapes = ["--topology", "2x18x2", "--topology", "4x8x1:2"]
    done = hpcflow("map", *shapes, "--ranks-per-socket", "1", "--all-launchers", "--json")
    document = json.loads(done.stdout)
    assert [len(rank["cores"]) for rank in document["ranks"]] == [18] * 2 + [8] * 8
    rankfile = document["launchers"]["openmpi"]["files"]["rankfile.txt"].splitlines()
    assert rankfile[1:3] == ["rank 1=+n0 slot=18-35", "rank 2=+n1 slot=0-7"]
    assert "2 and 4 ranks" in document["launchers"]["mpich"]["refused"]
    config = written(tmp_path)
    mixed = json.loads(hpcflow("map", config, *shapes, "--ranks-per-node", "1", "--json").stdout)
    assert [rank["host"] for rank in mixed["ranks"]] == ["node0", "node1", "node2"]
    refused = hpcflow("map", config, *shapes, "--engine", "local")
    assert refused.returncode == 2 and "--engine local has one node" in refused.stderr


def test_the_command_that_was_found_is_the_one_that_is_called(tmp_path: Path) -> None:
    only(tmp_path, "mpiexec", "mpiexec (OpenRTE) 4.1.4")
    path = only(tmp_path, "mpiexec.mpich", "HYDRA build details: Version: 4.0.2")
    asked = ["map", "--topology", "2x4x1", "--launcher", "mpich", "--json"]
    document = json.loads(hpcflow(*asked, env={"PATH": path}).stdout)
    assert (document["command"][0], document["version"]) == ("mpiexec.mpich", "4.0.2")
    assert json.loads(hpcflow(*asked, env={"PATH": "/usr/bin:/bin"}).stdout)["command"][0] == "mpiexec"


REQUESTS = (
    ["--ranks-per-socket", "1", "--cores-per-rank", "2"],
    ["--ranks-per-node", "3"],
    ["--ranks-per-socket", "2", "--order", "scattered"],
    ["--ranks-per-socket", "1", "--smt"],
)


@pytest.mark.parametrize("request_", REQUESTS, ids=" ".join)
@pytest.mark.parametrize("key", sorted(LAUNCHERS))
def test_verify_asks_the_launchers_own_mapper(key: str, request_: list[str]) -> None:
    real = LAUNCHERS[key]
    done = hpcflow(
        "map", "--topology", TWO, "--nodes", "2", *request_, "--launcher", real.dialect, "--verify",
        env={"PATH": f"{real.folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"verified: {real.dialect} {real.version}, asked about" in done.stdout
    assert done.stdout.rstrip().endswith("exact")


def test_verify_tells_cpus_of_one_core_apart() -> None:
    """Cores alone would be right here: with CELL=unit a rank gets both hardware threads where one was meant."""
    real, node = LAUNCHERS["intelmpi"], read(TWO)
    made = plan(Placement(ranks_per_socket=1, cores_per_rank=2), [node])
    said = line("intelmpi", made, ["prog"], version=real.version)
    command = real.folder / "mpirun"
    assert verify("intelmpi", real.version, said, made, command).exact
    wrong = {"I_MPI_PIN_DOMAIN": "4:scatter", "I_MPI_PIN_CELL": "unit"}
    words = [wrong.get(str(said.argv[at - 1]), word) for at, word in enumerate(said.argv)]
    told = verify(
        "intelmpi", real.version, replace(said, argv=tuple(words), env={**said.env, **wrong}), made, command
    )
    assert told.different[0] == "rank 0: planned CPUs 0,2 of node0, intelmpi gives CPUs 0-3"


def test_verify_reads_the_users_own_file() -> None:
    assert document(read(TWO)) == Path(TWO).read_text()
    older = read(str(NODES / "hwloc1-2x4x2.xml"))
    assert parse(document(older)) == older and '<topology version="2.0">' in document(older)


def test_verify_asks_about_every_kind_of_node() -> None:
    asked = [
        "map",
        "--topology",
        TWO,
        "--topology",
        "2x8x1",
        "--ranks-per-socket",
        "1",
        "--cores-per-rank",
        "2",
    ]
    outcome = {
        "openmpi4": "asked about all nodes: exact\n",
        "openmpi5": "cannot be asked about nodes of several shapes",
    }
    for key, end in outcome.items():
        real = LAUNCHERS[key]
        env = {"PATH": f"{real.folder}:{os.environ['PATH']}"}
        done = hpcflow(*asked, "--launcher", "openmpi", "--verify", env=env)
        assert end in done.stdout + done.stderr


def test_verify_without_the_launcher() -> None:
    done = hpcflow("map", "--topology", TWO, "--launcher", "intelmpi", "--verify", env={"PATH": "/nowhere"})
    assert (done.returncode, done.stderr) == (3, "--verify: intelmpi is not on PATH here\n")


def test_detection_goes_by_what_the_command_says() -> None:
    for real in LAUNCHERS.values():
        found = detect(str(real.folder))
        assert (real.dialect, real.version) in [(item.name, item.version) for item in found]
    assert detect("/nowhere") == ()


def test_the_choice_has_a_reason() -> None:
    here = (Found("openmpi", Path("/bin/mpirun"), "4.1.4"), Found("srun", Path("/bin/srun"), "22.05.8"))
    assert choose("auto", None, here, "slurm") == ("openmpi", "4.1.4", "openmpi 4.1.4 is the mpirun on PATH")
    assert choose("auto", None, here[1:], "slurm")[0] == "srun"
    assert choose("auto", None, here, None, {"intelmpi": "2021.9"})[:2] == ("intelmpi", "2021.9")
    assert choose("srun", None, here, "slurm") == ("srun", "22.05.8", "srun is asked for")
    assert choose("mpich", None, here, "slurm")[2] == "mpich is asked for; its version is not known here"
