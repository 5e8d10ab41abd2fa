"""Folders reach the image under whatever name they have, and only as writable as they were meant."""

import os
import subprocess
from pathlib import Path

import pytest

from containers.conftest import Image
from hpcflow.containers.mount import Mount, words
from hpcflow.jobs import shell

pytestmark = pytest.mark.train
HOSTILE = "a b'\"$(touch hacked),;:&#*`id`\\"


def run(
    image: Image, mounts: list[Mount], script: str, env: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    options = " ".join(f"--mount {shell.word(mount)}" for mount in mounts)
    userns = "--userns" if os.geteuid() == 0 else ""
    line = f'apptainer --quiet exec {userns} {options} "$IMAGE" sh -c "$SCRIPT"'
    variables = {**os.environ, **env, "IMAGE": str(image.path), "SCRIPT": script}
    return subprocess.run(
        ["bash", "-c", line], env=variables, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_hostile_folder_is_seen_and_read_only(image: Image, tmp_path: Path) -> None:
    mine, works = tmp_path / HOSTILE, tmp_path / f"w{HOSTILE}"
    for folder in (mine, works):
        folder.mkdir()
    (mine / "file").write_text("data")
    mounts = [Mount("MINE"), Mount("WORKS", writable=True), Mount("MINE", "/else where")]
    script = 'cat "$MINE/file" "/else where/file" && echo made >"$WORKS/out"; touch "$MINE/no"'
    done = run(image, mounts, script, {"MINE": str(mine), "WORKS": str(works)})
    assert done.stdout == "datadata", done.stderr
    assert "Read-only file system" in done.stderr
    assert (works / "out").read_text() == "made\n"
    assert not list(Path.cwd().glob("hacked"))


def test_the_words_without_a_shell_are_the_same(image: Image, tmp_path: Path) -> None:
    mine = tmp_path / HOSTILE
    mine.mkdir()
    (mine / "file").write_text("data")
    userns = ["--userns"] if os.geteuid() == 0 else []
    command = [
        "apptainer",
        "--quiet",
        "exec",
        *userns,
        *words(str(mine), "/in"),
        str(image.path),
        "cat",
        "/in/file",
    ]
    assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout == "data"
