"""Rounds as they lie in a run directory: which are committed, what one begins with, how one is committed.

A round is committed by its manifest, which is published last; round 0 holds the initial model. What the manifest
says ``about`` the round:

    round strategy base            number, name, SHA-256 of the model it began with
    asked                          names of those who were asked
    accepted                       {name: {samples, weight, round, metrics}}; round is an earlier one of a late update
    refused                        {name: reason} of those who made no update that could be used
    late                           names of those who had not answered when the quorum was complete
    num_samples                    sum of the weights
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import RunError
from hpcflow.federation.learners import Learner
from hpcflow.federation.plan import Plan
from hpcflow.federation.tensorfile import TensorFile, publish_tensors
from hpcflow.jobs.rundir import RoundDir
from hpcflow.storage.publish import (
    Manifest,
    damage,
    publish_json,
    publish_manifest,
    read_manifest,
    read_published,
)

MODEL = "model.safetensors"
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Base:
    """A committed round as the beginning of the next one."""

    where: RoundDir
    digest: str
    about: Mapping[str, Any]

    def weights(self) -> Arrays:
        """The model, whole."""
        return read_tensors(self.where.model)


def read_tensors(path: Path, prefix: str = "") -> Arrays:
    """The tensors whose names begin with ``prefix``, without it."""
    with TensorFile(path) as file:
        return {
            name.removeprefix(prefix): file.read(name)
            for name in file.header.tensors
            if name.startswith(prefix)
        }


def last_committed(plan: Plan) -> int:
    """The number of the last round that is committed, and all before it; -1 where not even round 0 is."""
    folder = plan.run.rounds(plan.arm)
    numbers = (
        [int(item.name) for item in folder.iterdir() if item.name.isdecimal()] if folder.is_dir() else []
    )
    return max((number for number in numbers if manifest(plan, number)), default=-1)


def manifest(plan: Plan, round: int, patience_s: float | None = 0.0) -> Manifest | None:
    """A round's manifest; None where it is not committed. Raises RunError where it is damaged."""
    return read_manifest(plan.round(round).path, patience_s=patience_s)


def base_of(plan: Plan, round: int, patience_s: float | None = 0.0) -> Base:
    """What ``round`` begins with. Raises RunError where the round before it is not committed, or damaged."""
    where = plan.round(round - 1)
    found = manifest(plan, round - 1, patience_s)
    if found is None:
        raise RunError(
            f"round {round} cannot begin: round {round - 1} is not committed in {where.path.parent}"
        )
    kept = Manifest({name: entry for name, entry in found.files.items() if name == MODEL}, {})
    wrong = damage(where.path, kept)
    if wrong or MODEL not in found.files:
        raise RunError(f"round {round} cannot begin: {where.path}: {wrong or 'its manifest names no model'}")
    return Base(where, found.files[MODEL].sha256, found.about)


def begin(plan: Plan, learner: Learner, given: Path | None = None) -> None:
    """Commit round 0: the initial model, or that of ``given``. Does nothing where it is there."""
    where = plan.round(0)
    if manifest(plan, 0) is not None or not learner.leads:
        return
    weights = read_tensors(given) if given else learner.initial()
    where.path.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    entry = publish_tensors(
        where.model, arrays, {"format": "hpcflow-aggregate/1", "round": "0", "kind": "weights"}
    )
    publish_manifest(
        where.path, {MODEL: entry}, {"round": 0, "strategy": "initial", "asked": [], "accepted": {}}
    )


def fail(plan: Plan, round: int, name: str, reason: str) -> None:
    """Say why ``name`` made no update."""
    where = plan.round(round)
    where.failures.mkdir(parents=True, exist_ok=True)
    publish_json(where.failure(name), {"reason": reason})


def failures(plan: Plan, round: int) -> dict[str, str]:
    """What collaborators said of why they made no update."""
    found = {}
    for name in plan.participants(round):
        reason = read_object(plan.round(round).failure(name)).get("reason")
        if reason is not None:
            found[name] = str(reason)
    return found


def answered(plan: Plan, round: int) -> tuple[list[str], list[str]]:
    """Those asked whose update is there, and those who said that there will be none."""
    where = plan.round(round)
    updates, failed = _stems(where.updates, ".safetensors"), _stems(where.failures, ".json")
    asked = plan.participants(round)
    return [n for n in asked if n in updates], [n for n in asked if n in failed and n not in updates]


def _stems(folder: Path, suffix: str) -> set[str]:
    # Listing makes an NFS client look anew, where asking for one name may not.
    try:
        return {item.name.removesuffix(suffix) for item in folder.iterdir() if _visible(item.name, suffix)}
    except OSError:
        return set()


def _visible(name: str, suffix: str) -> bool:
    return bool(re.match(r"[^.]", name)) and name.endswith(suffix)


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        data = json.loads(read_published(path, patience_s=0))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
