"""The processors an image is for against those that jobs get: the machine, and what its binaries need of a processor.

Three things are known without disassembling anything: the machine, from the head of a SIF or of a program in it; the
level that a library says it needs and the features that NumPy says it was compiled for, which are read; and the
features that TensorFlow was compiled for, which it tells when it starts, of those that the processor has. Other
libraries that say nothing may still need what a node lacks.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcflow.containers import elf, sif
from hpcflow.doctor.finding import Finding, ok, problem
from hpcflow.flows.target import Target

# Levels of x86-64 -> what each adds, as /proc/cpuinfo names it.
LEVELS = {
    2: ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"),
    3: ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"),
    4: ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}
# NumPy's and TensorFlow's names -> /proc/cpuinfo's, where these differ by more than capitals.
FLAGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("SSE", "SSE2", "SSE3"), ()),  # no x86-64 that runs jobs lacks them
    "SSE41": ("sse4_1",),
    "SSE42": ("sse4_2",),
    "LAHF": ("lahf_lm",),
    "FMA3": ("fma",),
    "AVX512_SKX": LEVELS[4],
    "X86_V2": LEVELS[2],
    "X86_V3": (*LEVELS[2], *LEVELS[3]),
    "X86_V4": (*LEVELS[2], *LEVELS[3], *LEVELS[4]),
}
# What a profile says by naming one of these.
IMPLIES = {
    "sse4_2": LEVELS[2],
    "avx": LEVELS[2],
    "avx2": (*LEVELS[2], *LEVELS[3]),
    "avx512f": (*LEVELS[2], *LEVELS[3]),
}
GUARDED = ("SSE4_1", "SSE4_2", "AVX", "AVX2", "FMA", "AVX512F")
"""What TensorFlow's guard tells, if the processor has it: compiled for it, or not."""
BUILD = "use an image that was built for those processors"


def machine(image: Path, python: str) -> str | None:
    """What ``uname -m`` says where ``image`` runs, without starting it; None where that cannot be told."""
    try:
        if not image.is_dir():
            head = sif.head(image)
            return sif.machine(head) if head else None
        for name in (python, f"/usr/local/bin/{python}", f"/usr/bin/{python}", "/bin/sh"):
            program = _within(image, name)
            if program.is_file() and (found := elf.machine(program)):
                return found
    except OSError:
        pass
    return None


def _within(root: Path, name: str) -> Path:
    """The file that ``name`` is inside ``root``: links there are absolute within it."""
    done, rest = "/", [part for part in name.split("/") if part]
    for _ in range(200):
        if not rest:
            break
        there = posixpath.normpath(posixpath.join(done, rest.pop(0)))
        path = root / there[1:]
        if path.is_symlink():
            target = str(path.readlink())
            done = "/" if target.startswith("/") else done
            rest = [part for part in target.split("/") if part] + rest
        else:
            done = there
    return root / done[1:]


def stranger(image: Path, python: str) -> Finding | None:
    """A problem where the image is for another machine than this one; it would not start."""
    there, here = machine(image, python), os.uname().machine
    if there is None or there == here or (there, here) == ("i686", "x86_64"):
        return None
    what = f"{image} is for {there}, this machine is {here}"
    return problem(
        "architecture", what, "build it on such a machine; where only the nodes are: container.check: false"
    )


def here() -> frozenset[str]:
    """The features of this machine's processor; none where it is no x86."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def nodes(target: Target) -> tuple[frozenset[str], str]:
    """The features of the processors that jobs get, and whose they are: the profile's, else this machine's."""
    if said := target.cpu_flags:
        implied = [flag for name in said for flag in IMPLIES.get(name, ())]
        return frozenset((*said, *implied)), "a node of the site's profile (cpu_flags)"
    return here(), "this machine"


def declared(inside: Mapping[str, Any], target: Target) -> Iterator[Finding]:
    """What the image's binaries say they need, against the processor. Before any of them is started."""
    flags, whose = nodes(target)
    if inside["machine"] != "x86_64" or not flags:
        return
    level, library = inside["isa"]
    wanted = [flag for step in range(2, level + 1) for flag in LEVELS[step]]
    if lacks := _lacking(wanted, flags):
        yield problem("processor", f"{library} needs x86-64-v{level}, and {whose} lacks {lacks}", BUILD)
    if lacks := _lacking(_flags(inside["baseline"]), flags):
        yield problem("processor", f"the image's NumPy was compiled for {lacks}, which {whose} lacks", BUILD)


def compiled(out: str, target: Target) -> Finding | None:
    """What TensorFlow said here of what it was compiled for, against the processors that jobs get.

    It names the features that this processor has and it was not compiled for; the other ones it needs. None where the
    processor is no x86.
    """
    flags, whose = nodes(target)
    mine = here()
    if not mine:
        return None
    match = re.search(r"To enable the following instructions: ([^,\n]*)", out)
    unused = match[1].replace(".", "_").split() if match else []
    needs = [name.lower() for name in GUARDED if name.lower() in mine and name not in unused]
    if lacks := _lacking(needs, flags):
        return problem("processor", f"TensorFlow was compiled for {lacks}, which {whose} lacks", BUILD)
    return ok(
        "processor", f"TensorFlow needs {', '.join(needs) or 'nothing more than x86-64'}; {whose} has it"
    )


def _flags(names: Iterable[str]) -> list[str]:
    return [flag for name in names for flag in FLAGS.get(name, (name.lower(),))]


def _lacking(wanted: Iterable[str], flags: frozenset[str]) -> str:
    return ", ".join(flag for flag in wanted if flag not in flags)
