"""What an image costs at the start: `import tensorflow` from a SIF and from a directory of files.

    .venv/bin/python benchmarks/container_startup.py unet.sif [--repeats 3]

The page cache is left as it is: the first of each is shown apart.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hpcflow.containers.runtime import clean, find

PROGRAM = "import tensorflow"


def seconds(words: Sequence[str], repeats: int) -> list[float]:
    """Wall time of each start."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run(
            [*words, "-c", PROGRAM],
            check=True,
            capture_output=True,
            env={**clean(), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        times.append(time.perf_counter() - begun)
    return times


def main() -> None:
    """Print one line a place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sif = find().exec(str(options.image.absolute()))
    places = {"SIF": [*sif, "python3"], "directory": [sys.executable]}
    for name, words in places.items():
        first, *rest = seconds(words, options.repeats)
        median = statistics.median(rest or [first])
        print(f"{name:<10} first {first:5.1f} s, then {median:5.1f} s (median of {len(rest)})", flush=True)
    words = [*sif, "true"]
    begun = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env=clean())
    print(f"{'apptainer':<10} alone {time.perf_counter() - begun:5.2f} s")


if __name__ == "__main__":
    main()
