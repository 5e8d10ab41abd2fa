"""What a collaborator's training code and a user's aggregation could try, put into a copy of hpcflow's package.

In a job the copy is what runs inside of the image; outside of it nothing here is ever called. What it got at is printed.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

# As mount(2) spells: mount -o remount,rw,bind.
REMOUNT_RW = 0x20 | 0x1000


def spy(who: str, place: str, run: str) -> None:
    """Look for the data, the cache, the updates and the files of others below ``place`` and in ``run``."""
    got = {}

    def attempt(how: str, what: Callable[[], object]) -> None:
        try:
            found = what()
        except OSError:
            return
        if found:
            got[how] = repr(found)[:200]

    others = [f"{place}/data/{name}" for name in ("A", "B b") if name[0] != who]
    own = f"{place}/data/{'B b' if who == 'B' else who}"
    for other in others:
        attempt(f"by its path {other}", lambda other=other: Path(other, "dataset.json").read_text())
        attempt(f"by listing {other}", lambda other=other: list(Path(other).iterdir()))
        for root in [*Path("/proc").glob("[0-9]*/root"), *Path("/proc").glob("[0-9]*/cwd")]:
            attempt(f"by {root}", lambda at=f"{root}{other}": Path(at, "dataset.json").read_text())
    attempt("by a link in the own data", lambda: Path(own, "link", "dataset.json").read_text())
    # One cache is its own.
    attempt("the packed data of others", lambda: sorted(Path(place, "runs/.cache").glob("*"))[1:])
    if who != "aggregate":
        attempt("the updates of others", lambda: list(Path(run).glob("rounds/*/updates/*")))
    attempt("the files of other tasks", lambda: list(Path(run).glob("jobs/*")))
    ctypes.CDLL(None).mount(None, own.encode(), None, REMOUNT_RW, None)
    attempt("writing to the own data", lambda: Path(own, "new").write_text("x"))
    attempt("changing the model of all", lambda: os.open(f"{run}/rounds/0000/model.safetensors", os.O_RDWR))
    secrets = {name: value for name, value in os.environ.items() if "secret" in value}
    attempt("secrets of the environment", lambda: secrets)
    print("SPY", json.dumps({"who": who, "own": Path(own, "dataset.json").exists(), "got": got}), flush=True)


def leave_a_link(update: Path, place: str) -> None:
    """Instead of an update: what the aggregation, or whoever takes it over, may read."""
    update.unlink()
    update.symlink_to(f"{place}/data/A/dataset.json")


def merge(local_tensors: Sequence[object]) -> object:
    """The mean, after a look around."""
    if not hasattr(merge, "looked"):
        merge.looked = True  # type: ignore[attr-defined]
        run = next(word for word in sys.argv if "/runs/" in word and ".cache" not in word)
        spy("aggregate", run.partition("/runs/")[0], run)
    return np.sum([item.weight * item.tensor for item in local_tensors], axis=0)  # type: ignore[attr-defined]
