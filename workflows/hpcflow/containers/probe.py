"""What an image holds, asked inside it: `python probe.py` prints one JSON object. Standard library only.

With `python probe.py size` it is one rank of a preflight: it prints what MPI says of it, and imports what trains.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import runpy
import sys
from pathlib import Path
from typing import Any

# What hpcflow's own code needs inside, and what trains.
NEEDED = ("mpi4py", "numpy", "nibabel", "pydantic", "safetensors", "yaml")
TRAINS = ("tensorflow", "tf_keras", "horovod")
# The libraries in which they compute.
LIBRARIES = {
    "tensorflow": ("*.so*", "python/*.so"),
    "horovod": ("tensorflow/*.so",),
    "numpy": ("_core/*.so", "core/*.so"),
}


def contents() -> dict[str, Any]:
    """Python, C library, processors it is for, packages, and the MPI libraries of mpi4py and Horovod."""
    probes = runpy.run_path(str(Path(__file__).parents[1] / "doctor" / "probes.py"))
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc "),
        "missing": [name for name in (*NEEDED, *TRAINS) if importlib.util.find_spec(name) is None],
        "isa": isa(),
        "baseline": baseline(),
        "mpi4py": probes["mpi4py"](),
        "horovod": probes["horovod"](),
    }


def isa() -> tuple[int, str]:
    """The highest x86-64 level that a library of what trains says it needs, and which library. None is loaded."""
    level = runpy.run_path(str(Path(__file__).with_name("elf.py")))["isa_level"]
    files = [Path(sys.executable)]
    for package, patterns in LIBRARIES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            files += [path for pattern in patterns for path in sorted(Path(folder).glob(pattern))]
    return max(((level(path), str(path)) for path in files), key=lambda found: found[0])


def baseline() -> list[str]:
    """The processor features that NumPy was compiled for; it does not start where one is missing, and names it then."""
    if importlib.util.find_spec("numpy") is None:
        return []
    try:
        says = importlib.import_module("numpy").show_config(mode="dicts")
    except (ImportError, RuntimeError, TypeError) as error:  # TypeError: NumPy before 1.25 only prints it
        lacks = re.search(r"doesn't support[^(]*\(([^)]*)\)", str(error))
        return lacks[1].split() if lacks else []
    return list(says.get("SIMD Extensions", {}).get("baseline", ()))


def rank() -> dict[str, Any]:
    """This rank as MPI sees it; TensorFlow is started, because a wrong processor shows nowhere else.

    It tells on stderr what of the processor it was not compiled for.
    """
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    found = {"rank": world.Get_rank(), "size": world.Get_size()}
    print("mpi " + json.dumps(found), flush=True)
    if found["rank"] == 0 and importlib.util.find_spec("tensorflow"):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
        importlib.import_module("tensorflow").constant(0)
    world.Barrier()
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["size"]:
        rank()
    else:
        print(json.dumps(contents()))
