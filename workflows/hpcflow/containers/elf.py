"""What an ELF file says of the processors it is for. Standard library only: probe.py reads it inside an image."""

from __future__ import annotations

import struct
from pathlib import Path

# e_machine -> what `uname -m` says there, big- and little-endian where there are both.
MACHINES = {
    3: ("i686", "i686"),
    20: ("ppc", "ppc"),
    21: ("ppc64", "ppc64le"),
    22: ("s390x", "s390x"),
    40: ("armv7b", "armv7l"),
    62: ("x86_64", "x86_64"),
    183: ("aarch64_be", "aarch64"),
    243: ("riscv64", "riscv64"),
}
_GNU_PROPERTY = 0x6474E553
_X86_ISA_NEEDED = 0xC0008002


def machine(path: Path) -> str | None:
    """What ``uname -m`` says where the program ``path`` runs; None for what is no ELF file, or of a machine not known."""
    with path.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    little = head[5] == 1
    names = MACHINES.get(struct.unpack("<H" if little else ">H", head[18:20])[0])
    return names[little] if names else None


def isa_level(path: Path) -> int:
    """The x86-64 level (1 to 4) that a 64-bit library says it needs; 0 where it says nothing, as most do.

    The linker writes it down where it was told to (`-z x86-64-v3`, or gcc's -mneeded); the loader then refuses to
    start it on less.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01" or struct.unpack("<H", head[18:20])[0] != 62:
            return 0
        (table,) = struct.unpack("<Q", head[32:40])
        size, count = struct.unpack("<HH", head[54:58])
        for index in range(count):
            file.seek(table + index * size)
            entry = file.read(40)
            if len(entry) < 40:
                break
            kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", entry)
            if kind == _GNU_PROPERTY:
                file.seek(offset)
                return _needed(file.read(min(length, 4096)))
    return 0


def _needed(note: bytes) -> int:
    """The level in a .note.gnu.property: a note's head, its owner "GNU", then properties padded to eight bytes."""
    at = 16
    while at + 8 <= len(note):
        kind, length = struct.unpack("<II", note[at : at + 8])
        if kind == _X86_ISA_NEEDED:
            return int.from_bytes(note[at + 8 : at + 8 + length], "little").bit_length()
        at += 8 + (length + 7) // 8 * 8
    return 0
