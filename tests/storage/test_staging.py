"""Data copied to the node's disk: once a node, compared with its manifest, gone when it is open everywhere."""

import os
from pathlib import Path

import numpy as np
import pytest

from hpcflow.errors import RunError
from hpcflow.storage import publish
from hpcflow.storage.mounts import Mount
from hpcflow.storage.publish import Manifest
from hpcflow.storage.staging import SMALL, decide, stage

MIB = 2**20
LUSTRE = Mount("/l", "lustre", "mds:/fs")
DISK = Mount("/", "xfs", "/dev/sda")
MEMORY = Mount("/tmp", "tmpfs", "tmpfs")


@pytest.mark.parametrize(
    ("source", "scratch", "size", "free", "copy", "why"),
    [
        (LUSTRE, DISK, 500 * MIB, 9000 * MIB, True, "4 rank(s) of the node would read 500.0 MiB from lustre"),
        (LUSTRE, DISK, SMALL - 1, 9000 * MIB, False, "stay in memory"),
        (LUSTRE, DISK, 500 * MIB, 510 * MIB, False, "do not fit"),
        (LUSTRE, MEMORY, 500 * MIB, 1000 * MIB, False, "is memory"),
        (LUSTRE, LUSTRE, 500 * MIB, 9000 * MIB, False, "TMPDIR is on lustre too"),
        (DISK, DISK, 500 * MIB, 9000 * MIB, False, "on this node already (xfs)"),
    ],
)
def test_auto_decides_by_size_and_file_systems(
    source: Mount, scratch: Mount, size: int, free: int, copy: bool, why: str
) -> None:
    decision = decide("auto", size, 4, source, scratch, free)
    assert decision.copy is copy and why in decision.why


def test_a_copy_that_is_asked_for_and_does_not_fit_is_refused_with_numbers() -> None:
    with pytest.raises(RunError, match=r"needs 110\.0 MiB on the node, and 100\.0 MiB are free"):
        decide("local", 100 * MIB, 1, LUSTRE, DISK, 100 * MIB)


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Manifest]:
    folder = tmp_path / "packed a b'"
    with publish.publishing_directory(folder) as made:
        array = np.arange(100_000)
        entry = publish.publish_bytes(made / "images.npy", array.tobytes())
        publish.publish_manifest(made, {"images.npy": entry}, {"a": 1})
    manifest = publish.read_manifest(folder)
    assert manifest is not None
    return folder, manifest


def test_one_process_of_a_node_copies_and_all_read_the_copy(
    data: tuple[Path, Manifest], tmp_path: Path
) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    out.mkdir()
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            found = stage(*data, "local", 6, scratch=scratch, name="job")
            ok = (found.path / "images.npy").read_bytes() == (data[0] / "images.npy").read_bytes()
            (out / str(number)).write_text(f"{ok} {found.mine} {found.path != data[0]}")
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    said = sorted(path.read_text() for path in out.iterdir())
    assert said == ["True False True"] * 5 + ["True True True"]


def test_the_names_go_and_the_open_data_stays(data: tuple[Path, Manifest], tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    lines: list[str] = []
    found = stage(*data, "local", 1, scratch=tmp_path / "s", name="job", say=lines.append)
    assert lines == ["staging images.npy, 781.2 KiB (1 of 1)"]
    opened = np.memmap(found.path / "images.npy", dtype=np.int64, mode="r")
    found.remove()
    assert list((tmp_path / "s").iterdir()) == []
    assert int(opened[-1]) == 99_999


def test_damaged_data_is_not_taken_for_a_copy(data: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = data
    content = bytearray((folder / "images.npy").read_bytes())
    content[7] ^= 1
    (folder / "images.npy").write_bytes(content)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(RunError, match="is not what its manifest says"):
        stage(folder, manifest, "local", 1, scratch=tmp_path / "a", name="job")
    with pytest.raises(RunError, match="is not what its manifest says"):  # one that would have waited
        stage(folder, manifest, "local", 1, scratch=tmp_path / "a", name="job")
    big = Manifest({n: publish.Entry(SMALL, e.sha256) for n, e in manifest.files.items()}, {})
    mounts = (Mount(str(folder), "lustre", "x"), Mount(str(tmp_path / "b"), "xfs", "y"))
    found = stage(folder, big, "auto", 1, scratch=tmp_path / "b", name="job", table=mounts)
    assert found.path == folder and "the copy failed" in found.why
