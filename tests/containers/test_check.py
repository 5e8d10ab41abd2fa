"""An image is tried before a job is queued in it."""

import json
from pathlib import Path

import pytest

from commands import hpcflow
from containers.conftest import Image
from hpcflow.containers.check import newest_glibc, verdict

pytestmark = pytest.mark.train

CONFIG = """\
name: inside
resources: {{time: 20}}
placement: {{ranks_per_node: 2, launcher: openmpi}}
container: {{image: {image}{more}}}
training:
  data: {{phantom: {{subjects: 6, shape: [32, 32, 16]}}, crop: [32, 32, 16]}}
  model: {{filters: 4, depth: 2}}
  epochs: 1
  limit_batches: 2
"""


def config(folder: Path, image: Image, more: str = "") -> Path:
    path = folder / "c.yaml"
    path.write_text(CONFIG.format(image=image.path, more=more))
    return path


@pytest.mark.parametrize("more", ["", ", cleanenv: true, env: {ODD: 'a b $(false) `x`'}"])
def test_two_ranks_find_each_other_inside(image: Image, tmp_path: Path, more: str) -> None:
    path = config(tmp_path, image, more)
    done = hpcflow("container", "check", path, "--engine", "local", "--json", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["name"]: finding["what"] for finding in json.loads(done.stdout)["findings"]}
    assert "Open MPI 4.1.8" in found["MPI"]
    assert found["preflight"].startswith("2 ranks found each other")


def test_an_image_of_another_mpi_family_is_refused_in_one_sentence(
    image: Image, mpich: Path, tmp_path: Path
) -> None:
    """Its Python has an mpi4py on MPICH (libmpi.so.12); the launcher is Open MPI's."""
    path = config(tmp_path, image, f", binds: ['{mpich}'], python: {mpich}/bin/python")
    # The packages that hpcflow itself needs would be the first complaint; here the MPI is in question.
    (mpich / "lib" / "python3.11" / "site-packages" / "image.pth").write_text(
        "/opt/hpcflow/env/lib/python3.11/site-packages\n"
    )
    done = hpcflow("submit", path, "--engine", "local", cwd=tmp_path, timeout=300)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"{path}:4:")
    assert "container.image: mpi4py in the image uses MPICH" in done.stderr
    assert "cannot be started by Open MPI 4.1.8: every rank would be rank 0 of 1" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_what_is_not_there_is_said(image: Image, tmp_path: Path) -> None:
    nothing = Image(tmp_path / "no.sif", False, 0)
    done = hpcflow("submit", config(tmp_path, nothing), "--engine", "local", cwd=tmp_path)
    assert done.returncode == 2
    assert "container.image: there is no " in done.stderr
    broken = tmp_path / "broken.sif"
    broken.write_bytes(b"no image")
    path = config(tmp_path, Image(broken, False, 0))
    done = hpcflow("submit", path, "--engine", "local", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not start: " in done.stderr
    lonely = {"PATH": f"{Path(__import__('sys').executable).parent}:/bin"}
    done = hpcflow("submit", config(tmp_path, image), "--engine", "local", cwd=tmp_path, env=lonely)
    assert done.returncode == 3
    assert "apptainer and singularity not found" in done.stderr


@pytest.mark.parametrize(
    ("out", "code", "level", "text"),
    [
        ('mpi {"rank": 0, "size": 1}\nmpi {"rank": 0, "size": 1}\n', 0, "problem", "MPI says 1"),
        ('mpi {"rank": 0, "size": 2}\nmpi {"rank": 1, "size": 2}\n', 0, "ok", "found each other"),
        ('mpi {"rank": 0, "size": 2}\nexited on signal 4 (Illegal instruction)', 132, "problem", "processor"),
        ("no such option\nfatal error: x\n", 1, "problem", "fatal error: x"),
    ],
)
def test_what_a_preflight_says(out: str, code: int, level: str, text: str) -> None:
    finding = verdict(out, code, 2)
    assert finding.level == level and text in finding.what


def test_the_c_library_that_bound_libraries_need(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "liba.so").write_bytes(b"\x7fELF..GLIBC_2.17\0GLIBC_2.99\0")
    assert newest_glibc(tmp_path) == ((2, 99), str(tmp_path / "lib" / "liba.so"))
    assert newest_glibc(tmp_path / "none") == ((0,), "")
