"""Building hpcflow's own definitions: what is unchanged is not built again."""

import json
import subprocess
from pathlib import Path

import pytest

from commands import hpcflow
from containers.conftest import Image, require
from hpcflow.containers import definition
from hpcflow.containers.note import about, read_note
from hpcflow.containers.tree import digest

ROOT = Path(__file__).parents[2]


@pytest.mark.train
def test_an_image_is_built_once_and_knows_where_it_came_from(image: Image) -> None:
    again = hpcflow("container", "build", "unet", "-o", image.path, "--json")
    assert again.returncode == 0 and "unchanged" in again.stderr
    assert json.loads(again.stdout)["new"] is False
    note = read_note(image.path)
    assert note is not None and note.sha256 == digest(image.path)
    assert about(image.path)["sha256"] == note.sha256
    said = subprocess.run(
        ["apptainer", "inspect", "--labels", image.path], capture_output=True, text=True, check=True
    )
    for label in (
        "hpcflow.commit",
        "hpcflow.version: 0",
        "hpcflow.inputs: ",
        "hpcflow.python: 3.",
        "hpcflow.tensorflow-cpu: 2.",
        "hpcflow.horovod: 0.",
        "hpcflow.openmpi: 4.1.",
        "build-date",
    ):
        assert label in said.stdout


@pytest.mark.train
def test_the_versions_inside_are_those_of_the_lock(image: Image) -> None:
    script = (
        "import importlib.metadata as m, json; print(json.dumps({d.name.lower().replace('_', '-'): d.version"
        " for d in m.distributions()}))"
    )
    words = ["apptainer", "--quiet", "exec", "--userns", image.path, "python3", "-c", script]
    inside = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {line.split(" ")[0] for line in lock if line[:1].isalpha() and "==" in line}
    assert {"tensorflow-cpu", "horovod", "openmpi", "mpi4py", "tf-keras"} <= set(inside)
    assert not {"pytest", "mypy", "ruff"} & set(inside)
    assert {f"{name}=={version}" for name, version in inside.items()} - pinned == set()


@pytest.mark.train
def test_a_directory_of_files_from_a_definition_of_ones_own(tmp_path: Path) -> None:
    """--sandbox; and a build that fails ends with 3 and the end of its output, and leaves nothing."""
    require("apptainer")
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    busy = tmp_path / "own.def"
    busy.write_text(f"Bootstrap: localimage\nFrom: {root}\n%post\n    exit 7\n")
    done = hpcflow("container", "build", busy, "-o", tmp_path / "own", "--sandbox")
    assert done.returncode == 3
    assert "the build ended with exit code" in done.stderr
    assert sorted(item.name for item in tmp_path.iterdir()) == ["own.def", "root"]


def test_what_makes_the_image_decides_whether_it_is_built(tmp_path: Path) -> None:
    own = definition.find("unet")
    assert own.inputs({}) == own.inputs({})
    assert own.inputs({}) != own.inputs({"MIRROR": "http://elsewhere"})
    assert own.inputs({}) != definition.find("unet-docker").inputs({})
    text = definition._part("pyproject.toml", (ROOT / "pyproject.toml").read_bytes())
    more = (ROOT / "pyproject.toml").read_text() + "\n[tool.other]\nx = 1\n"
    assert definition._part("pyproject.toml", more.encode()) == text


def test_no_such_definition() -> None:
    done = hpcflow("container", "build", "nothing")
    assert done.returncode == 2
    assert "there is no such definition file (hpcflow's own: unet-docker, unet)" in done.stderr
