"""Publishing under faults: killed at every system call, a full disk, short writes, a stale listing, two writers; and
a real client that goes on not seeing a name."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from hpcflow.storage import mounts, publish

CALLS = ("open", "write", "fsync", "close", "rename", "unlink", "mkdir", "rmdir")


def dies_at(call: int, after: bool, work: Callable[[], Any]) -> int | None:
    """Run ``work`` in a child that is killed before or after its ``call``-th system call; its signal, or None."""
    child = os.fork()
    if child == 0:
        try:
            done = 0

            def counted(function: Callable[..., Any]) -> Callable[..., Any]:
                def call_it(*arguments: Any, **named: Any) -> Any:
                    nonlocal done
                    done += 1
                    if done == call and not after:
                        os.kill(os.getpid(), signal.SIGKILL)
                    mine = done == call and after
                    try:
                        return function(*arguments, **named)
                    finally:
                        if mine:
                            os.kill(os.getpid(), signal.SIGKILL)

                return call_it

            for name in CALLS:
                setattr(os, name, counted(getattr(os, name)))
            work()
            os._exit(0)
        except BaseException:
            os._exit(9)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return -code or None


def deaths(work: Callable[[], Any]) -> Iterator[tuple[int, bool]]:
    """Yield after every possible death of ``work``, until it lives."""
    for call in range(1, 500):
        for after in (False, True):
            if dies_at(call, after, work) is None:
                assert call > 5
                return
            yield call, after
    pytest.fail("the work never ended")


def test_a_publisher_killed_at_any_call_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path, old, new = tmp_path / "file", b"old" * 1000, b"new" * 2000
    publish.publish_bytes(path, old)
    seen = set()
    for call, after in deaths(lambda: publish.publish_bytes(path, new)):
        data = publish.read_published(path, patience_s=0)
        assert data in (old, new), (call, after)
        seen.add(data)
        publish.publish_bytes(path, old)
    assert seen == {old, new}
    assert publish.read_published(path, patience_s=0) == new


def test_a_folder_killed_at_any_call_is_whole_or_absent_and_can_be_made_again(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def build() -> None:
        with publish.publishing_directory(target) as made:
            files = {name: publish.publish_text(made / name, name * 100) for name in "ab"}
            publish.publish_manifest(made, files, {})

    whole = 0
    for _ in deaths(build):
        manifest = publish.read_manifest(target)
        if manifest is None:
            assert not target.exists()
        else:
            whole += 1
            assert publish.damage(target, manifest) is None
            subprocess.run(["rm", "-rf", target], check=True)
    assert whole > 0
    build()
    publish.remove_leftovers(tmp_path, 0, time.time() + 10)
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """write(2) may take less than it was given (NFS with a soft quota, a signal)."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    data = os.urandom(1000)
    entry = publish.publish_bytes(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == data and entry.size == 1000


@pytest.mark.parametrize("call", ["fsync", "close", "rename"])
def test_what_only_a_later_call_reports_is_raised_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """NFS and Lustre report a full quota when the file is flushed or closed."""
    publish.publish_text(tmp_path / "file", "old")
    real = getattr(os, call)

    def full(*arguments: Any) -> None:
        if call == "close":
            real(*arguments)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="quota"):
        publish.publish_text(tmp_path / "file", "new")
    monkeypatch.undo()
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_full_file_system_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    """A real one: a file system of 64 KiB in memory, in a namespace of its own."""
    script = """
import os, sys
from pathlib import Path
from hpcflow.storage import publish
place = Path(sys.argv[1])
publish.publish_bytes(place / "file", b"old")
try:
    publish.publish_bytes(place / "file", b"x" * 1_000_000)
except OSError as error:
    print(error.strerror, sorted(os.listdir(place)), (place / "file").read_bytes())
"""
    mount = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", tmp_path]
    done = subprocess.run([*command, sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout == "No space left on device ['file'] b'old'\n", done.stderr


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_a_reader_outlasts_a_stale_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """For some tries the client goes on saying that there is no such name, until the folder is listed again."""
    publish.publish_text(tmp_path / "file", "here")
    listed, opened = 0, 0
    real_open, real_iter = Path.open, Path.iterdir

    def stale(self: Path, *arguments: Any, **named: Any) -> Any:
        nonlocal opened
        if self.name == "file" and listed < 3:
            opened += 1
            raise OSError(number, os.strerror(number))
        return real_open(self, *arguments, **named)

    def listing(self: Path) -> Any:
        nonlocal listed
        listed += 1
        return real_iter(self)

    monkeypatch.setattr(Path, "open", stale)
    monkeypatch.setattr(Path, "iterdir", listing)
    assert publish.read_published(tmp_path / "file", patience_s=5) == b"here"
    assert (opened, listed) == (3, 3)


@contextlib.contextmanager
def caching_client(back: Path, mount: Path, seconds: int) -> Iterator[None]:
    """``back`` mounted once more, by a client that remembers absent names for so long, as NFS's does: the kernel's own
    cache of names, over FUSE.
    """
    if not which("bindfs"):
        reason = "bindfs is missing (Debian: apt-get install bindfs fuse3)"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(reason)
    back.mkdir()
    mount.mkdir()
    cache = ",".join(f"{kind}_timeout={seconds}" for kind in ("negative", "entry", "attr"))
    client = subprocess.Popen(["bindfs", "-f", "-o", cache, back, mount])
    try:
        while not mount.is_mount():
            assert client.poll() is None
            time.sleep(0.02)
        yield
    finally:
        client.terminate()  # it unmounts
        client.wait()


def test_a_reader_outlasts_a_kernel_that_remembers_absent_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back, here = tmp_path / "back", tmp_path / "a mount"
    monkeypatch.setenv(mounts.VARIABLE, json.dumps({str(here): {"type": "nfs", "attribute_cache": 2}}))
    with caching_client(back, here, 2):
        names = ["a", "b", publish.MANIFEST]
        assert not any((here / name).exists() for name in ["late", *names])  # and this is remembered
        publish.publish_text(back / "late", "here")
        publish.publish_manifest(back, {n: publish.publish_text(back / n, n) for n in names[:2]}, {})
        assert not (here / "late").exists() and publish.read_manifest(here) is None
        with pytest.raises(FileNotFoundError):
            publish.read_published(here / "late", patience_s=0)
        manifest = publish.read_manifest(back)
        assert manifest is not None and "a cannot be read" in str(
            publish.damage(here, manifest, patience_s=0)
        )
        with ThreadPoolExecutor() as pool:
            late = pool.submit(publish.read_published, here / "late")
            whole = pool.submit(publish.damage, here, manifest)
            assert publish.read_manifest(here, patience_s=None) == manifest
            assert late.result() == b"here" and whole.result() is None


def test_patience_is_what_the_profile_or_the_mount_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE", "/store")
    said = {
        "${STORE}/fast": {"attribute_cache": 4},
        "/store": {"type": "lustre", "stripes": False},
        "$NO/x": {},
    }
    table = mounts.over(
        said,
        [
            mounts.Mount("/", "ext4", "/dev/sda"),
            mounts.Mount("/store/home", "nfs4", "server:/home", {"actimeo": "9"}),
            mounts.Mount("/else", "nfs", "server:/else", {"acdirmax": "30", "acregmax": "20"}),
        ],
    )

    def seen(path: str) -> tuple[str, int | None, bool]:
        mount = mounts.under(path, table)
        assert mount is not None
        return mount.kind, mount.attribute_cache, mount.stripes

    assert seen("/store/x") == ("lustre", None, False)
    assert seen("/store/home/me") == ("lustre", None, False)
    assert seen("/store/fast/x") == ("ext4", 4, True)
    assert seen("/else/x") == ("nfs", 30, True) and seen("/x") == ("ext4", None, True)
    for kind, seconds in (("nfs", 60.0), ("lustre", 60.0), ("ext4", 0.0)):
        monkeypatch.setattr(mounts, "here", lambda kind=kind: (mounts.Mount("/", kind, "x"),))
        assert publish.patience(tmp_path / "not" / "yet") == seconds


def test_names_are_flushed_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents before the name, and the name before anybody is told: else a crash of the server takes one of them."""
    calls: list[tuple[str, str]] = []
    names: dict[int, str] = {}
    real = {name: getattr(os, name) for name in ("open", "fsync", "close", "rename")}

    def opened(path: Any, *arguments: Any, **named: Any) -> int:
        descriptor: int = real["open"](path, *arguments, **named)
        names[descriptor] = Path(path).name
        return descriptor

    def noted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            first = arguments[0]
            what = names[first] if isinstance(first, int) else Path(arguments[1]).name
            calls.append((name, "temporary" if what.endswith(".tmp") else what))
            return real[name](*arguments)

        return call

    monkeypatch.setattr(os, "open", opened)
    for name in ("fsync", "close", "rename"):
        monkeypatch.setattr(os, name, noted(name))
    publish.publish_text(tmp_path / "file", "text")
    flushed = [("fsync", "temporary"), ("close", "temporary"), ("rename", "file")]
    assert calls == [*flushed, ("fsync", tmp_path.name), ("close", tmp_path.name)]
    calls.clear()
    with publish.publishing_directory(tmp_path / "folder") as made:
        publish.publish_text(made / "file", "text")
    assert calls[:5] == [*flushed, ("fsync", "temporary"), ("close", "temporary")]
    assert calls[5:] == [
        ("fsync", "temporary"), ("close", "temporary"),
        ("rename", "folder"), ("fsync", tmp_path.name), ("close", tmp_path.name),
    ]  # fmt: skip


def test_a_rename_whose_answer_was_lost_is_found_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS server that is asked again after it has renamed says that there is no such name."""
    real = os.rename

    def lost(source: Any, target: Any) -> None:
        real(source, target)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def swept(source: Any, target: Any) -> None:
        Path(source).unlink()
        real(source, target)

    monkeypatch.setattr(os, "rename", lost)
    for text in ("ours", "ours again"):
        publish.publish_text(tmp_path / "file", text)
        assert (tmp_path / "file").read_text() == text
    monkeypatch.setattr(os, "rename", swept)
    with pytest.raises(FileNotFoundError):
        publish.publish_text(tmp_path / "file", "never")
    assert (tmp_path / "file").read_text() == "ours again"


def test_two_writers_of_one_name_leave_the_whole_of_one(tmp_path: Path) -> None:
    path, ended = tmp_path / "file", threading.Event()
    publish.publish_bytes(path, b"0" * 50_000)

    def write(digit: bytes) -> int:
        child = os.fork()
        if child == 0:
            for _ in range(30):
                publish.publish_bytes(path, digit * 50_000)
            os._exit(0)
        return child

    children = [write(digit) for digit in (b"1", b"2", b"3")]

    def wait() -> None:
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        ended.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not ended.is_set():
        data = publish.read_published(path, patience_s=0)
        assert len(data) == 50_000 and len(set(data)) == 1
    waiter.join()
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
