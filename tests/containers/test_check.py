"""An image is tried before a job is queued in it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from commands import HPCFLOW, hpcflow
from containers.conftest import Image, require
from hpcflow.containers.check import newest_glibc
from hpcflow.containers.place import Place
from hpcflow.containers.preflight import preflight, verdict
from hpcflow.containers.runtime import find
from hpcflow.doctor.mpi import Mpi
from hpcflow.submission import prepare
from placement.oracles.launchers import LAUNCHERS

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


def check(path: Path, *options: str, **more: Any) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the last finding of each name."""
    done = hpcflow("container", "check", path, "--engine", "local", "--json", *options, timeout=300, **more)
    assert done.stdout, done.stderr
    return done.returncode, {each["name"]: each for each in json.loads(done.stdout)["findings"]}


def test_two_ranks_find_each_other_inside(image: Image, tmp_path: Path) -> None:
    code, found = check(config(tmp_path, image))
    assert code == 0, found
    assert "Open MPI 4.1.8" in found["MPI"]["what"]
    assert found["preflight"]["what"].startswith(
        "2 ranks found each other under Open MPI 4.1.8, and TensorFlow"
    )
    assert "this machine has it" in found["processor"]["what"]


def test_a_plan_for_srun_and_nodes_of_another_processor(image: Image, tmp_path: Path) -> None:
    """srun does not start ranks here, so Open MPI's mpirun does. TensorFlow itself says that it was compiled for AVX."""
    path = config(tmp_path, image, ", cleanenv: true, env: {ODD: 'a b $(false) `x`'}")
    (tmp_path / "old.yaml").write_text("name: old\ncpu_flags: [sse4_2]\n")
    options = ("--site", str(tmp_path / "old.yaml"), "--set", "placement.launcher=srun")
    code, found = check(path, *options)
    assert found["preflight"]["what"].startswith("2 ranks found each other under Open MPI 4.1.8")
    assert "srun itself starts ranks in a job alone and was not tried" in found["preflight"]["what"]
    assert found["processor"]["what"].startswith("TensorFlow was compiled for avx, which a node of the site")
    assert code == 3


def test_a_library_that_needs_another_processor_is_seen_before_it_is_loaded(
    image: Image, tmp_path: Path
) -> None:
    """In TensorFlow's place one that the linker marked, as it marks those that are built for AVX-512."""
    require("gcc")
    library, inside = (
        tmp_path / "lib.so",
        "/opt/hpcflow/env/lib/python3.11/site-packages/tensorflow/libtensorflow_cc.so.2",
    )
    (tmp_path / "x.c").write_text("int x(void) { return 1; }\n")
    words = ["gcc", "-shared", "-fPIC", "-Wl,-z,x86-64-v4", "-o", str(library), str(tmp_path / "x.c")]
    subprocess.run(words, check=True, timeout=60)
    (tmp_path / "avx2.yaml").write_text("name: avx2\ncpu_flags: [avx2]\n")
    path = config(tmp_path, image, f", binds: ['{library}:{inside}:ro']")
    code, found = check(path, "--site", str(tmp_path / "avx2.yaml"))
    assert code == 3
    assert found["processor"]["what"].startswith(f"{inside} needs x86-64-v4, and a node of the site")
    assert "lacks avx512f, avx512bw, avx512cd, avx512dq, avx512vl" in found["processor"]["what"]
    assert "preflight" not in found


@pytest.mark.parametrize("kind", ["sif", "sandbox"])
def test_an_image_for_another_machine_is_not_started(system: Path, tmp_path: Path, kind: str) -> None:
    """What tells the machine in a SIF's head, or in that of a program, is made AArch64's."""
    other = tmp_path / "other"
    (tmp_path / "own.def").write_text(f"Bootstrap: localimage\nFrom: {system}\n")
    more = ["--sandbox"] if kind == "sandbox" else []
    done = hpcflow("container", "build", tmp_path / "own.def", "-o", other, *more)
    assert done.returncode == 0, done.stderr
    program, at, mark = (other, 45, b"04") if kind == "sif" else (other / "bin/sh", 18, b"\xb7\0")
    with program.open("r+b") as file:
        file.seek(at)
        file.write(mark)
    code, found = check(config(tmp_path, Image(other, False, 0)))
    assert code == 3
    assert found["architecture"]["what"].startswith(f"{other} is for aarch64, this machine is ")
    assert "image" not in found


@pytest.mark.parametrize(("launcher", "title"), [("mpich", "MPICH 5.0.2"), ("intelmpi", "Intel MPI 2021.18")])
def test_ranks_of_mpich_are_started_by_its_own_mpiexec_and_by_intel_mpis(
    image: Image, mpich: Path, launcher: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, image, f", binds: ['{mpich}'], python: {mpich}/bin/python")
    monkeypatch.setenv("PATH", f"{LAUNCHERS[launcher].folder}:{os.environ['PATH']}")
    plan = prepare(path, [f"placement.launcher={launcher}"], None, "local", datetime.now(UTC))
    container = plan.loaded.experiment.container
    assert container is not None
    place = Place(container, plan.target, image.path, find())
    first, *_ = preflight(place, Mpi("mpich", "5.0.2"), 2)
    assert first.what.startswith(f"2 ranks found each other under {title}"), first


def test_an_interrupt_ends_the_ranks_too(image: Image, tmp_path: Path) -> None:
    named = tmp_path / "named.sif"  # tells these processes from those of other tests
    named.symlink_to(image.path)

    def running(program: str) -> list[str]:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = file.read_bytes().decode(errors="replace").split("\0")
                found += [file.parent.name] if str(named) in words and words[0].endswith(program) else []
        return found

    path = config(tmp_path, Image(named, False, 0))
    # A shell's background jobs ignore the signal, and hand that on.
    words = [
        "env",
        "--default-signal=INT",
        str(HPCFLOW),
        "container",
        "check",
        str(path),
        "--engine",
        "local",
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert wait_until(lambda: bool(running("mpirun"))), "no mpirun"
        time.sleep(1)  # its ranks start
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert wait_until(lambda: not running(""), 10), running("")


def wait_until(true: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


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
    assert "see why: apptainer exec " in done.stderr and f"{broken} python3 -V" in done.stderr
    done = hpcflow("submit", path, "--engine", "local", "--set", "container.image=$NOPE/x.sif", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "container.image: $NOPE/x.sif: the environment variable NOPE is not set (set it here" in done.stderr
    )
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
        ("compiled to use AVX512F instructions, but these aren't available on", 6, "problem", "for AVX512F"),
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
