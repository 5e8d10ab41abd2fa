"""What an image costs at the start: `import tensorflow` from a SIF, and from the same image as a directory of files.

    .venv/bin/python benchmarks/container_startup.py [IMAGE.sif] [--repeats 3] [--in FOLDER]

The directory is unpacked from the SIF into FOLDER (of the SIF's file system by default: name one on the storage in
question) and removed at the end. Without a SIF, `unet` is built there first. The environment of this command, outside
of any image, is the third place. The page cache is left as it is: the first start of each is shown apart.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hpcflow.containers import build
from hpcflow.containers.definition import find as definition
from hpcflow.containers.runtime import clean, find

PROGRAM = "import tensorflow"


def seconds(words: Sequence[str], repeats: int) -> list[float]:
    """Wall time of each run of a command."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, env={**clean(), "TF_CPP_MIN_LOG_LEVEL": "3"})
        times.append(time.perf_counter() - begun)
    return times


def offset(image: Path) -> str:
    """Where the files begin in a SIF. Not every installation can unpack one: hpcflow's own on Debian 12 cannot."""
    words = [find().path, "sif", "list", str(image)]
    listed = subprocess.run(words, check=True, capture_output=True, text=True, env=clean()).stdout
    found = re.search(r"(\d+)-\d+\s*\|FS \(Squashfs", listed)
    if found is None:
        raise SystemExit(f"{image} has no squashfs in it")
    return found[1]


def line(name: str, times: Sequence[float]) -> float:
    """Print one place's times; the median of all but the first."""
    first, *rest = times
    median = statistics.median(rest or [first])
    print(f"{name:<22} first {first:6.2f} s, then {median:6.2f} s (median of {len(rest) or 1})", flush=True)
    return median


def main() -> None:
    """Print a line a place, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, nargs="?", default=Path("unet.sif"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--in", type=Path, dest="folder")
    options = parser.parse_args()
    runtime, image = find(), options.image.absolute()
    if not image.exists():
        build.build(definition("unet"), image, runtime)
    with tempfile.TemporaryDirectory(prefix=".startup-", dir=options.folder or image.parent) as folder:
        directory = Path(folder, "sandbox")
        unpacking = seconds(["unsquashfs", "-q", "-o", offset(image), "-d", str(directory), str(image)], 1)[0]
        files = sum(1 for path in directory.rglob("*") if path.is_file())
        print(
            f"{image.stat().st_size >> 20} MiB SIF; {files} files in the directory, unpacked in {unpacking:.0f} s"
        )
        medians = {}
        for name, place in (("SIF", image), ("directory", directory)):
            inside = runtime.exec(str(place))
            line(f"{name}: nothing", seconds([*inside, "true"], options.repeats))
            start = [*inside, "python3", "-c", PROGRAM]
            medians[name] = line(f"{name}: {PROGRAM[7:]}", seconds(start, options.repeats))
        line(f"no image: {PROGRAM[7:]}", seconds([sys.executable, "-c", PROGRAM], options.repeats))
        print(f"SIF / directory: {medians['SIF'] / medians['directory']:.2f}")


if __name__ == "__main__":
    main()
