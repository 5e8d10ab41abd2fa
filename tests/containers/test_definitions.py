"""Definitions of a user's own: what they name lies beside them, and no build loses what is no image of hpcflow's."""

import json
import subprocess
from pathlib import Path

import pytest

from commands import hpcflow
from hpcflow.containers import checked
from hpcflow.containers.note import about
from hpcflow.containers.tree import digest
from hpcflow.experiment.container import Container
from hpcflow.flows.target import Target
from hpcflow.placement.topology import Topology

TEXT = """\
Bootstrap: localimage
From: {system}
%arguments
    WHAT=app.py
%files
    {{{{ WHAT }}}} /srv/
    # a comment
    "more of it" /srv/more
%post
    cat /srv/app.py
"""


@pytest.fixture
def own(system: Path, tmp_path: Path) -> Path:
    """own.def with a file and a folder beside it, in a folder that no command is called in."""
    folder = tmp_path / "its folder"
    (folder / "more of it" / "deep").mkdir(parents=True)
    (folder / "more of it" / "deep" / "file").write_text("deep")
    (folder / "app.py").write_text("one")
    (folder / "own.def").write_text(TEXT.format(system=system))
    return folder / "own.def"


def built(definition: Path, image: Path, *options: str) -> bool:
    """Whether it was built now."""
    done = hpcflow("container", "build", definition, "-o", image, "--json", *options, cwd=image.parent)
    assert done.returncode == 0, done.stderr
    return bool(json.loads(done.stdout)["new"])


def test_what_it_names_is_found_beside_it_and_decides_whether_it_is_built(own: Path, tmp_path: Path) -> None:
    image = tmp_path / "box"
    assert built(own, image, "--sandbox")
    assert about(image)["sha256"] == digest(image)
    assert (image / "srv/app.py").read_text() == "one"
    assert (image / "srv/more/deep/file").read_text() == "deep"
    assert not built(own, image, "--sandbox")
    for changed in (own.parent / "app.py", own.parent / "more of it" / "deep" / "file"):
        changed.write_text("two")
        assert built(own, image, "--sandbox"), changed
    assert (image / "srv/more/deep/file").read_text() == "two"
    assert built(own, image)  # now a SIF, in the sandbox's place
    assert image.is_file()
    words = ["apptainer", "inspect", "--labels", image]
    labels = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "hpcflow.version: 0" in labels and "hpcflow.commit: " in labels and "hpcflow.inputs: " in labels


def test_a_sandbox_that_was_changed_is_neither_unchanged_nor_lost(own: Path, tmp_path: Path) -> None:
    image = tmp_path / "box"
    assert built(own, image, "--sandbox")
    container = Container.model_validate({"image": str(image)})
    place = Target("local", "/", False, Topology.from_counts(1, 1, 1), "openmpi", "4.1.8")
    before = checked._note(container, place)
    assert before == checked._note(container, place)
    (image / "srv/app.py").unlink()
    assert before != checked._note(container, place)  # `submit` tries it again
    done = hpcflow("container", "build", own, "-o", image, "--sandbox")
    assert done.returncode == 2 and "was changed since it was built (--force builds it anew" in done.stderr
    assert not (image / "srv/app.py").exists()
    assert built(own, image, "--sandbox", "--force")
    assert (image / "srv/app.py").exists()


def test_what_is_no_image_of_hpcflow_stays_even_with_force(own: Path, system: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("years")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "new.json").write_text("[]")
    for target, why in (
        (precious, "is a folder that hpcflow did not build"),
        (tmp_path / "notes.txt", "is no image and would be overwritten"),
        (tmp_path / "new", "new.json is no note of an image"),
        (own, "is what the image is made from"),
        (system, "is what the image is made from"),
    ):
        done = hpcflow("container", "build", own, "-o", target, "--force")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert why in done.stderr
    assert (precious / "thesis").read_text() == "years"
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert own.read_text().startswith("Bootstrap")
    assert (system / "bin/sh").exists()


def test_a_place_that_cannot_be_written_is_said(own: Path) -> None:
    done = hpcflow("container", "build", own, "-o", "/proc/x.sif")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr
    assert "/proc/x.sif cannot be built: " in done.stderr
