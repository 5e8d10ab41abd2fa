"""The head of a SIF: enough to tell that a file is one, and which processors it is for, without starting anything."""

from __future__ import annotations

from pathlib import Path

_MAGIC = slice(32, 41)  # behind the line that lets a SIF be run as a command
_MACHINE = slice(45, 47)
# SIF's numbers of architectures -> what `uname -m` says there.
MACHINES = {
    b"01": "i686",
    b"02": "x86_64",
    b"03": "armv7l",
    b"04": "aarch64",
    b"05": "ppc64",
    b"06": "ppc64le",
    b"11": "s390x",
    b"12": "riscv64",
}


def head(path: Path) -> bytes | None:
    """The first bytes of the SIF ``path``; None for a file that is none. Raises OSError."""
    with path.open("rb") as file:
        found = file.read(64)
    return found if found[_MAGIC] == b"SIF_MAGIC" else None


def machine(head: bytes) -> str | None:
    """What ``uname -m`` says on the machines that a SIF is for; None for one that is not known here."""
    return MACHINES.get(head[_MACHINE])
