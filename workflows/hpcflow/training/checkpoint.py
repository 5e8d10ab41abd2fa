"""Checkpoints: weights and optimizer as safetensors, the rest as JSON in the manifest that commits them.

    CHECKPOINTS/epoch-0003/  weights.safetensors  optimizer.safetensors  manifest.json
A checkpoint appears whole, by a rename of its directory. Nothing in it depends on the time or the machine, so
that a run that was restarted ends with the bytes of one that was not. This module alone names files in the
folder.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import RunError
from hpcflow.storage.publish import (
    damage,
    publish_bytes,
    publish_manifest,
    publishing_directory,
    read_manifest,
    temporary_name,
)

Arrays = Mapping[str, NDArray[Any]]
WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
_NAME = re.compile(r"epoch-(\d{4,})")


@dataclass(frozen=True)
class Progress:
    """How far a run is: epochs done, and the one (from 1; 0: none yet) with the best Dice in validation."""

    epoch: int = 0
    best_epoch: int = 0
    best_val_dice: float = -1.0

    def after(self, epoch: int, val_dice: float) -> Progress:
        if val_dice > self.best_val_dice:
            return Progress(epoch, epoch, val_dice)
        return Progress(epoch, self.best_epoch, self.best_val_dice)


def arrays_of(variables: list[Any]) -> dict[str, NDArray[Any]]:
    """TensorFlow variables to arrays under their names, without the ":0"."""
    arrays = {variable.name.removesuffix(":0"): np.asarray(variable.numpy()) for variable in variables}
    if len(arrays) != len(variables):
        raise ValueError("two variables have one name")
    return arrays


def assign(variables: list[Any], arrays: Arrays, where: Path) -> None:
    """The reverse of :func:`arrays_of`. Raises RunError for other names or shapes."""
    shapes = {variable.name.removesuffix(":0"): tuple(variable.shape) for variable in variables}
    if shapes != {name: array.shape for name, array in arrays.items()}:
        raise RunError(f"the checkpoint {where} belongs to another model: its arrays are not this one's")
    for variable in variables:
        variable.assign(arrays[variable.name.removesuffix(":0")])


def save(folder: Path, weights: Arrays, optimizer: Arrays, progress: Progress) -> Path:
    """Commit a checkpoint of ``progress.epoch``; of the older ones keep the one before it and the best."""
    from safetensors.numpy import save as to_bytes

    path = folder / f"epoch-{progress.epoch:04d}"
    with publishing_directory(path) as temporary:
        files = {
            WEIGHTS: publish_bytes(temporary / WEIGHTS, to_bytes(dict(weights))),
            OPTIMIZER: publish_bytes(temporary / OPTIMIZER, to_bytes(dict(optimizer))),
        }
        publish_manifest(temporary, files, asdict(progress))
    _prune(folder, progress)
    return path


def latest(folder: Path) -> tuple[Path, Progress] | None:
    """The last committed checkpoint with files as in its manifest; None where there is none."""
    for _, path in reversed(_committed(folder)):
        with contextlib.suppress(RunError, TypeError):
            manifest = read_manifest(path)
            if manifest is not None and damage(path, manifest) is None:
                return path, Progress(**manifest.about)
    return None


def load(path: Path) -> tuple[Arrays, Arrays]:
    """Weights and optimizer of a committed checkpoint."""
    from safetensors.numpy import load_file

    return load_file(path / WEIGHTS), load_file(path / OPTIMIZER)


def _committed(folder: Path) -> list[tuple[int, Path]]:
    """Epoch and directory of each checkpoint, rising."""
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(item.name), item) for item in folder.iterdir())
    return sorted((int(match[1]), item) for match, item in matches if match)


def _prune(folder: Path, progress: Progress) -> None:
    *old, _, _ = [(-1, folder), (-1, folder), *_committed(folder)]
    for epoch, path in old:
        if epoch >= 0 and epoch != progress.best_epoch:
            hidden = temporary_name(path)
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
