"""Writes docs/launcher-evidence.md: how many maps were compared with which launcher, and how many differ.

scripts/launcher-evidence runs it; about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from placement.oracles import slurm_compare
from placement.oracles.compare import Score, compare
from placement.oracles.launchers import LAUNCHERS, Real, cache

ROOT = Path(__file__).resolve().parents[3]
TEXT = """\
# Rank maps compared with the real launchers

Written by `scripts/launcher-evidence`; do not edit. Each row: generated requests on generated nodes, planned, written in
the launcher's words, and *started* by the real launcher. Every process then said which CPUs it had been given. A map
differs when one rank of it has one CPU more or less than planned, or is on another node. "Cannot say" are maps that the
dialect refuses with a sentence.

For every mpirun and mpiexec the nodes have 1-8 sockets of 1-96 cores with 1, 2 or 4 hardware threads, NUMA nodes and L3
groups, and OS ids in several orders, some with holes; a job has 1-3 nodes, now and then of two shapes. They are made up
(tests/placement/oracles): a topology file for hwloc, a preloaded library in place of sched_setaffinity, a remote shell
that starts the launcher's daemons on one machine, the variables of a Slurm allocation.

srun runs in allocations of a real slurmctld with a slurmd for every made-up node, under task/affinity. Its row is of
@KINDS@ shapes, jobs of 1 or 2 nodes of one shape, with sockets of one size, cores of one kind and OS ids without holes
(in any order): Slurm describes no others.

| launcher | maps compared | ranks | differ | no answer | cannot say | forms |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""


FOOT = """
Not compared: horovodrun has no mapper of its own (its Open MPI words are those of the Open MPI rows, and a test starts
it); Slurm of other versions than the one above, and every launcher version that is not named here.
"""


KINDS = 24  # shapes of srun's nodes


def row(title: str, score: Score) -> str:
    """One line of the table."""
    forms = ", ".join(f"{name} {count}" for name, count in score.forms.most_common())
    cells = (
        title,
        score.compared,
        score.ranks,
        len(score.differing),
        len(score.silent),
        score.refused,
        forms,
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def system_openmpi() -> Real | None:
    """The distribution's Open MPI, if there is one."""
    try:
        said = subprocess.run(
            ["/usr/bin/mpirun", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\(Open MPI\) ([0-9.]+)", said)
    return Real("system", "openmpi", version[1], "", f"Open MPI {version[1]} (Debian)") if version else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=400, help="maps a launcher (default 400)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "launcher-evidence.md")
    parser.add_argument("--without-system", action="store_true", help="leave the distribution's Open MPI out")
    options = parser.parse_args()
    built = cache() / "oracles"
    text, wrong = TEXT.replace("@KINDS@", str(KINDS)), []
    system = system_openmpi()
    if system is None and not options.without_system:
        print(
            "there is no Open MPI at /usr/bin/mpirun, and its row would be missing (Debian: apt-get install openmpi-bin; "
            "or say --without-system)",
            file=sys.stderr,
        )
        return 3
    for real in (*([system] if system else []), *LAUNCHERS.values()):
        start = time.monotonic()
        score = compare(real, options.maps, built, limit=3072)
        wrong += [f"{real.title}: {sentence}" for sentence in (*score.differing, *score.silent)]
        text += row(real.title, score)
        print(row(real.title, score), f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="hpcflow-slurm-") as folder:
        score = slurm_compare.compare(
            Path(folder) / "s", built, kinds=KINDS, each=max(1, options.maps // KINDS)
        )
    clean = {"PATH": "/usr/sbin:/usr/bin:/bin"}
    said = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=False, env=clean)
    version = re.search(r"[0-9.]+", said.stdout)
    text += row(f"srun {version[0] if version else ''} (task/affinity)", score)
    wrong += [f"srun: {sentence}" for sentence in (*score.differing, *score.silent)]
    text += FOOT
    options.output.write_text(text, encoding="utf-8")
    print("\n".join(wrong) or "no map differs", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
