"""Publishing: whole or not at all, whoever dies, races or looks on."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpcflow.errors import RunError
from hpcflow.storage import publish

HOSTILE = "a b'\"$(touch x);\n*"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    return folder


def test_an_exception_leaves_nothing_and_the_old_file(place: Path) -> None:
    publish.publish_text(place / "file", "old")
    with pytest.raises(ZeroDivisionError), publish.publishing(place / "file") as publication:
        publication.write(b"half")
        raise ZeroDivisionError
    assert names(place) == ["file"]
    assert (place / "file").read_text() == "old"


def test_a_full_quota_is_an_error_and_leaves_nothing(place: Path) -> None:
    """The write that the file system refuses is raised, here by the limit on a file's size."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            publish.publish_bytes(place / "file", b"x" * 5000)
        except OSError:
            os._exit(7)
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=limited)
    child.start()
    child.join()
    assert child.exitcode == 7
    assert names(place) == []


def test_a_reader_sees_whole_files_alone(place: Path) -> None:
    path, done = place / "file", threading.Event()
    publish.publish_bytes(path, b"0" * 300_000)

    def write() -> None:
        for digit in b"123456789" * 5:
            publish.publish_bytes(path, bytes([digit]) * 300_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        data = publish.read_published(path, patience_s=0)
        assert len(data) == 300_000 and len(set(data)) == 1
    writer.join()


def test_a_late_file_is_waited_for_and_a_missing_one_is_not_for_ever(place: Path) -> None:
    threading.Timer(0.3, publish.publish_text, (place / "late", "here")).start()
    assert publish.read_published(place / "late", patience_s=10) == b"here"
    with pytest.raises(FileNotFoundError):
        publish.read_published(place / "never", patience_s=0.3)


def test_a_killed_writer_leaves_no_file_and_its_rest_is_swept(place: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from hpcflow.storage.publish import publishing\n"
        "with publishing(Path(sys.argv[1]) / 'file') as p:\n"
        "    p.write(b'x' * 1000); print('written', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(place)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"written\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert not (place / "file").exists()
    assert publish.remove_leftovers(place, older_than_s=3600, now=time.time()) == []
    assert len(publish.remove_leftovers(place, older_than_s=3600, now=time.time() + 4000)) == 1
    assert names(place) == []


def _race(folder: Path, number: int, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    with publish.publishing_directory(folder / "whole") as temporary:
        files = {str(i): publish.publish_text(temporary / str(i), f"{number}") for i in range(5)}
        publish.publish_manifest(temporary, files, {"by": number})


def test_racing_builders_end_with_one_whole_directory(place: Path) -> None:
    context, start = multiprocessing.get_context("fork"), time.time() + 0.2
    racers = [context.Process(target=_race, args=(place, number, start)) for number in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 6
    assert names(place) == ["whole"]
    manifest = publish.read_manifest(place / "whole")
    assert manifest is not None and publish.damage(place / "whole", manifest) is None
    assert {(place / "whole" / str(i)).read_text() for i in range(5)} == {str(manifest.about["by"])}


def test_damage_is_named(place: Path) -> None:
    manifest = publish.publish_manifest(place, {"a": publish.publish_text(place / "a", "content")}, {})
    assert publish.damage(place, manifest) is None
    (place / "a").write_text("Content")
    assert publish.damage(place, manifest, digests=False) is None
    assert publish.damage(place, manifest) == "the digest of a is not the one in the manifest"
    (place / "a").write_text("cut")
    assert publish.damage(place, manifest, digests=False) == "a holds 3 bytes instead of 7"
    (place / "a").unlink()
    assert publish.damage(place, manifest) == "a cannot be read (No such file or directory)"
    (place / publish.MANIFEST).write_text('{"files": {"../a": {"size": 1, "sha256": ""}}, "about": {}}')
    with pytest.raises(RunError, match="leaves the directory"):
        publish.read_manifest(place)
    (place / publish.MANIFEST).write_text("{")
    with pytest.raises(RunError, match="not a manifest"):
        publish.read_manifest(place)
