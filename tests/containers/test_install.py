"""scripts/install-apptainer leaves a machine that has one alone, and says what it would change."""

import subprocess
from pathlib import Path

from containers.conftest import require

SCRIPT = Path(__file__).parents[2] / "scripts" / "install-apptainer"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_where_there_is_one_nothing_is_done() -> None:
    require("apptainer")
    done = run("--prefix", "/nowhere/at all")
    assert done.returncode == 0
    assert "is there already" in done.stderr
    assert not Path("/nowhere").exists()


def test_help_lists_every_change_and_a_slip_is_told() -> None:
    text = run("--help").stdout
    for change in ("/etc/subuid", "/dev/fuse", "/usr/local/bin/apptainer", "debootstrap", "To undo"):
        assert change in text
    assert run("--prefx=/x").returncode == 2


def test_both_names_are_the_same_runtime() -> None:
    require("apptainer", "singularity")
    said = {
        subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
        for name in ("apptainer", "singularity")
    }
    assert len(said) == 1
