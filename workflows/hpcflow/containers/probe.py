"""What an image holds, asked inside it: `python probe.py` prints one JSON object. Standard library only.

With `python probe.py size` it is one rank of a preflight: it prints what MPI says of it, and imports what trains.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import runpy
import sys
from pathlib import Path
from typing import Any

# What hpcflow's own code needs inside, and what trains.
NEEDED = ("mpi4py", "numpy", "nibabel", "pydantic", "safetensors", "yaml")
TRAINS = ("tensorflow", "tf_keras", "horovod")


def contents() -> dict[str, Any]:
    """Python, C library, processor, packages, and the MPI libraries of mpi4py and Horovod."""
    probes = runpy.run_path(str(Path(__file__).parents[1] / "doctor" / "probes.py"))
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc "),
        "missing": [name for name in (*NEEDED, *TRAINS) if importlib.util.find_spec(name) is None],
        "mpi4py": probes["mpi4py"](),
        "horovod": probes["horovod"](),
    }


def rank() -> dict[str, Any]:
    """This rank as MPI sees it; TensorFlow is imported, because a wrong processor shows nowhere else."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    found = {"rank": world.Get_rank(), "size": world.Get_size()}
    print("mpi " + json.dumps(found), flush=True)
    if found["rank"] == 0 and importlib.util.find_spec("tensorflow"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        importlib.import_module("tensorflow")
    world.Barrier()
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["size"]:
        rank()
    else:
        print(json.dumps(contents()))
