"""Where the compiled accumulator.c lies, and how it is made.

hatch_build.py runs this file by its path when hpcflow is installed, in an environment without NumPy and without hpcflow:
it imports neither.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("accumulator.c")
FLAGS = ("-O3", "-shared", "-fPIC")


def library() -> Path:
    """Its name holds a digest of the source: what another version was compiled to is not taken for it."""
    return SOURCE.with_name(f"_accumulator-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so")


def build() -> Path:
    """Compile accumulator.c with $CC, cc or gcc, beside it. Raises OSError with the compiler's words."""
    target = library()
    new = target.with_suffix(f".{os.getpid()}")
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"  # modules of compilers often have no cc
    command = [*shlex.split(compiler), *FLAGS, "-o", str(new), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{shlex.join(command)}: {done.stderr.strip()}")
    new.rename(target)
    for old in SOURCE.parent.glob("_accumulator-*.so"):
        if old != target:
            old.unlink()  # whoever uses it has it mapped
    return target
