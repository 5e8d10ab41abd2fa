"""Data copied to the node's disk: once a node, compared with its manifest, gone when it is open everywhere."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cluster import Cluster
from hpcflow.errors import RunError
from hpcflow.storage import publish, staging
from hpcflow.storage.broadcast import broadcast
from hpcflow.storage.mounts import Mount
from hpcflow.storage.publish import Manifest
from hpcflow.storage.staging import SMALL, Readers, decide, stage

MIB = 2**20
LUSTRE = Mount("/l", "lustre", "mds:/fs")
DISK = Mount("/", "xfs", "/dev/sda")
MEMORY = Mount("/tmp", "tmpfs", "tmpfs")


@pytest.mark.parametrize(
    ("source", "scratch", "size", "free", "copy", "why"),
    [
        (LUSTRE, DISK, 500 * MIB, 9000 * MIB, True, "4 of 8 rank(s) read 2.4 GiB from lustre in 10 epoch(s)"),
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
    decision = decide("auto", size, Readers(4, 8, 10), source, scratch, free)
    assert decision.copy is copy and why in decision.why


@pytest.mark.parametrize(
    ("readers", "copy"),
    [
        (Readers(1, 64, 10), False),  # each reads a sixth of the data in all: a copy would read all of it
        (Readers(8, 64, 10), True),
        (Readers(1, 64, 100), True),
        (Readers(4, 4, 1), False),
    ],
)
def test_auto_decides_by_how_often_the_node_would_read_the_data(readers: Readers, copy: bool) -> None:
    decision = decide("auto", 500 * MIB, readers, LUSTRE, DISK, 9000 * MIB)
    assert decision.copy is copy
    assert ("and the copy alone would read 500.0 MiB" in decision.why) is not copy


def test_a_copy_that_is_asked_for_and_does_not_fit_is_refused_with_numbers() -> None:
    with pytest.raises(RunError, match=r"needs 110\.0 MiB on the node, and 100\.0 MiB are free"):
        decide("local", 100 * MIB, Readers(), LUSTRE, DISK, 100 * MIB)


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
    all_read, everybody = os.pipe()
    for number in range(6):
        child = os.fork()
        if child == 0:
            os.close(everybody)
            found = stage(*data, "local", Readers(), scratch=scratch, name="job")
            ok = (found.path / "images.npy").read_bytes() == (data[0] / "images.npy").read_bytes()
            publish.publish_text(out / str(number), f"{ok} {found.claim is not None} {found.path != data[0]}")
            os.read(all_read, 1)  # as ranks wait for each other
            os._exit(0)
        children.append(child)
    while len(list(out.glob("[0-9]"))) < 6:
        time.sleep(0.01)
    os.close(everybody)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    os.close(all_read)
    said = sorted(path.read_text() for path in out.iterdir())
    assert said == ["True False True"] * 5 + ["True True True"]


RANK = """
import sys, time
from pathlib import Path
from hpcflow.errors import RunError
from hpcflow.storage import publish, staging
place, source, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
time.sleep(number * 0.4)
try:
    found = staging.stage(
        source, publish.read_manifest(source), "local", staging.Readers(), scratch=place, name="job"
    )
    print(number, found.path == place / "hpcflow-stage-job" / source.name, found.claim is not None, flush=True)
    time.sleep(1.5)
except RunError as error:
    print(number, error, flush=True)
    time.sleep(1.5)
"""


@pytest.mark.parametrize("size", [12, 19])
def test_the_copying_process_alone_looks_at_the_room(tmp_path: Path, size: int) -> None:
    """A file system of 20 MiB: one that comes when the copy is there would find no room for it, and has no need to."""
    source = tmp_path / "packed"
    with publish.publishing_directory(source) as made:
        entry = publish.publish_bytes(made / "images.npy", bytes(size * MIB))
        publish.publish_manifest(made, {"images.npy": entry}, {})
    script = 'mount -t tmpfs -o size=20m none "$1"; shift; for n in 0 1 2; do "$@" $n & done; wait'
    (tmp_path / "scratch").mkdir()
    rank = [sys.executable, "-c", RANK, tmp_path / "scratch", source]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", tmp_path / "scratch", *rank],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    said = sorted(done.stdout.splitlines())
    if size == 12:
        assert said == ["0 True True", "1 True False", "2 True False"], done.stderr
    else:
        assert len(said) == 3 and len({line[1:] for line in said}) == 1
        assert "it needs 20.9 MiB on the node, and 20.0 MiB are free there" in said[0]


class Copying:
    """A child that is in the midst of a copy, made by a pipe in the place of a file."""

    def __init__(self, data: tuple[Path, Manifest], scratch: Path) -> None:
        folder, manifest = data
        (folder / "images.npy").rename(folder / "whole")
        os.mkfifo(folder / "images.npy")
        self.child = os.fork()
        if self.child == 0:
            stage(folder, manifest, "local", Readers(), scratch=scratch, name="job")
            os._exit(0)
        self.pipe = os.open(folder / "images.npy", os.O_WRONLY)
        os.write(self.pipe, b"half")
        while not list(scratch.glob("hpcflow-stage-job/.*")):
            time.sleep(0.01)

    def kill(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        os.close(self.pipe)


def test_who_waits_for_a_killed_copy_is_told_and_the_next_job_clears_it_away(
    data: tuple[Path, Manifest], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    copying = Copying(data, scratch)
    waits = os.fork()
    if waits == 0:
        try:
            stage(*data, "local", Readers(), scratch=scratch, name="job")
        except RunError as error:
            os._exit(0 if "has ended without a word" in str(error) else 1)
        os._exit(2)
    staging.remove_leftovers(scratch)
    assert (scratch / "hpcflow-stage-job").is_dir(), "it is alive"
    time.sleep(0.3)  # the other one waits
    copying.kill()
    assert os.waitpid(waits, 0)[1] == 0
    left = scratch / "hpcflow-stage-job"
    assert left.is_dir()
    (data[0] / "whole").rename(data[0] / "images.npy")
    found = stage(*data, "local", Readers(), scratch=scratch, name="next")
    assert [item.name for item in scratch.iterdir()] == ["hpcflow-stage-next"]
    found.remove()


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_whatever_ends_the_copy_is_told_to_the_others(
    data: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(staging, "_copy_file", fails)
    with pytest.raises(RunError if isinstance(error, MemoryError) else KeyboardInterrupt):
        stage(*data, "local", Readers(), scratch=tmp_path, name="job")
    begun = time.monotonic()
    with pytest.raises(RunError, match="MemoryError" if isinstance(error, MemoryError) else "interrupted"):
        stage(*data, "local", Readers(), scratch=tmp_path, name="job")
    assert time.monotonic() - begun < 5
    assert not list(tmp_path.glob("hpcflow-stage-job/packed*")), "no half of a copy"


def test_a_claim_of_another_user_is_not_waited_for_nor_read(
    data: tuple[Path, Manifest], tmp_path: Path
) -> None:
    """Names in /tmp can be guessed. A link is as much somebody else's, and can be made without being another user."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "hpcflow-stage-job").symlink_to("theirs")
    with pytest.raises(RunError, match="hpcflow-stage-job is somebody else's"):
        stage(*data, "local", Readers(), scratch=tmp_path, name="job")


def test_old_broadcasts_and_half_made_claims_go(tmp_path: Path) -> None:
    (tmp_path / "hpcflow-stage-0-7.images.npy").write_text("new")
    (tmp_path / "hpcflow-stage-0-6.images.npy").write_text("old")
    (tmp_path / ".hpcflow-stage-0-6.host.1.tmp").mkdir()
    (tmp_path / "other").mkdir()
    for name in ("hpcflow-stage-0-6.images.npy", ".hpcflow-stage-0-6.host.1.tmp", "other"):
        os.utime(tmp_path / name, (0, 0))
    staging.remove_leftovers(tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["hpcflow-stage-0-7.images.npy", "other"]


BROADCAST = """
import json
from pathlib import Path
import sys
from hpcflow.storage import broadcast, publish, staging
source = Path(sys.argv[1])
manifest = publish.read_manifest(source)
begin, how = broadcast.broadcast(source, manifest)
sent = sorted(Path(begin).parent.glob(Path(begin).name + "*"))
(source / "images.npy").unlink()  # so that what is staged is what was broadcast
found = staging.stage(source, manifest, "sbcast", staging.Readers(), brought=begin)
made = json.dumps([how, len(sent), publish.damage(found.path, manifest), found.bytes])
left = [path for path in sent if path.exists()]
found.remove()
Path(sys.argv[2]).write_text(json.dumps([made, len(left), found.path.exists()]))
"""


@pytest.mark.slurm
def test_sbcast_brings_small_data_to_the_node(
    cluster: Cluster, data: tuple[Path, Manifest], tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-c", BROADCAST, data[0], out]
    done = cluster.run("sbatch", "--wait", "--output=/dev/null", write_script(tmp_path, command))
    assert out.exists(), done
    made, left, there = json.loads(out.read_text())
    assert json.loads(made) == ["781.2 KiB were broadcast by sbcast", 1, None, 800_000]
    assert (left, there) == (0, False)


def write_script(folder: Path, command: list[object]) -> Path:
    (folder / "job.sh").write_text("#!/bin/bash\n" + shlex.join(map(str, command)) + "\n")
    return folder / "job.sh"


def test_where_there_is_no_sbcast_every_node_copies(
    data: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert broadcast(*data) == ("", "there is no sbcast here: every node copies for itself")
    found = stage(*data, "sbcast", Readers(), scratch=tmp_path, name="job")
    assert found.bytes == 800_000
    found.remove()


def test_the_names_go_and_the_open_data_stays(data: tuple[Path, Manifest], tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    lines: list[str] = []
    found = stage(*data, "local", Readers(), scratch=tmp_path / "s", name="job", say=lines.append)
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
        stage(folder, manifest, "local", Readers(), scratch=tmp_path / "a", name="job")
    with pytest.raises(RunError, match="is not what its manifest says"):  # one that would have waited
        stage(folder, manifest, "local", Readers(), scratch=tmp_path / "a", name="job")
    big = Manifest({n: publish.Entry(SMALL, e.sha256) for n, e in manifest.files.items()}, {})
    mounts = (Mount(str(folder), "lustre", "x"), Mount(str(tmp_path / "b"), "xfs", "y"))
    found = stage(folder, big, "auto", Readers(2, 2, 9), scratch=tmp_path / "b", name="job", table=mounts)
    assert found.path == folder and "the copy failed" in found.why
