"""Questions that are asked in a process of their own, because the answer may hang, crash or leave MPI behind.

Run by path: `python -P probes.py mpi4py | horovod | folder PATH`. Prints one JSON object. Standard library only.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any


def mpi4py() -> dict[str, Any]:
    """The MPI library that mpi4py loads."""
    if importlib.util.find_spec("mpi4py") is None:
        return {"installed": False}
    import mpi4py as package

    package.rc.initialize = package.rc.finalize = False
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return {"installed": True, "error": str(error).splitlines()[0]}
    return {"installed": True, "library": _mapped(), "version": MPI.Get_library_version()}


def horovod() -> dict[str, Any]:
    """The MPI library that Horovod's TensorFlow part is linked to, and its version. TensorFlow is not imported."""
    spec = importlib.util.find_spec("horovod")
    folders = list(spec.submodule_search_locations or []) if spec else []
    built = [path for folder in folders for path in sorted(Path(folder, "tensorflow").glob("mpi_lib*.so"))]
    if not built:
        return {"installed": bool(folders), "error": "without TensorFlow" if folders else ""}
    linked = subprocess.run(
        [which("ldd") or "/usr/bin/ldd", str(built[0])], capture_output=True, text=True, check=False
    ).stdout
    match = re.search(r"^\s*(libmpi\S*\.so\S*) => (not found|\S+)", linked, re.MULTILINE)
    if match is None:
        return {"installed": True, "error": "built without MPI"}
    if match[2] == "not found":
        return {"installed": True, "error": f"{match[1]} is not found"}
    library = os.path.realpath(match[2])
    try:
        return {"installed": True, "library": library, "version": _version(library)}
    except OSError as error:
        return {"installed": True, "library": library, "error": str(error)}


def _version(library: str) -> str:
    text = ctypes.create_string_buffer(8192)
    length = ctypes.c_int()
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL).MPI_Get_library_version(text, ctypes.byref(length))
    return text.value.decode(errors="replace")


def _mapped() -> str:
    """The libmpi that this process has loaded."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"(/\S*/libmpi\.so\S*)$", maps, re.MULTILINE)
    return str(found[0]) if found else ""


def folder(path: str) -> dict[str, Any]:
    """The nearest folder of ``path`` that exists: where it really is, its space, whether one may write there."""
    real = Path(os.path.realpath(path))
    while not real.is_dir() and real != real.parent:
        real = real.parent
    space = os.statvfs(real)
    return {
        "real": str(real),
        "free": space.f_bavail * space.f_frsize,
        "inodes": space.f_favail if space.f_files else None,
        "writable": os.access(real, os.W_OK | os.X_OK),
    }


VERBS: dict[str, Callable[..., dict[str, Any]]] = {"mpi4py": mpi4py, "horovod": horovod, "folder": folder}

if __name__ == "__main__":
    json.dump(VERBS[sys.argv[1]](*sys.argv[2:]), sys.stdout)
