"""`hpcflow map` as it is typed."""

import json
import os
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from commands import hpcflow
from hpcflow.placement.launchers.detect import Found, choose, detect
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
        (["--hosts", "a,b", "--nodes", "3"], "--hosts names 2 nodes, and 3 are asked for"),
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
