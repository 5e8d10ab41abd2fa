"""The packed cache: a data set after preprocessing, in three files that are mapped into memory.

    CACHE/packed-KEY/  images.npy  (subjects, z, x, y, channels) float16
                       labels.npy  (subjects, z, x, y) uint8, all labels: a target is chosen when training
                       voxels.npy  (subjects, z, labels) uint32, how many voxels of each label a slice holds
                       manifest.json  sizes, digests, the subjects' names
KEY is a digest of the data set and of the preprocessing, so another crop is another directory and an old
cache is never wrong, only unused. It is built beside its place and renamed there: any number of builders may
race.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import RunError
from hpcflow.storage import stripes
from hpcflow.storage.publish import (
    damage,
    publish_bytes,
    publish_manifest,
    publishing,
    publishing_directory,
    read_manifest,
    remove_leftovers,
    temporary_name,
)
from hpcflow.storage.stripes import Policy, Striped
from hpcflow.training.data.decathlon import Decathlon
from hpcflow.training.data.preprocess import VERSION, preprocess

LEFTOVERS_S = 24 * 3600.0
"""Age in seconds at which another builder's temporary directory is taken for abandoned."""


@dataclass(frozen=True)
class Packed:
    """An open cache. The arrays are memory maps, read only; see the module for shapes and types."""

    path: Path
    subjects: tuple[str, ...]
    images: NDArray[np.float16]
    labels: NDArray[np.uint8]
    voxels: NDArray[np.uint32]
    phantom: bool


def cache_key(dataset: Decathlon, channels: Sequence[int], crop: Sequence[int]) -> str:
    """32 hexadecimal digits. Opens each of the set's files once; raises InputError for a missing one."""
    parts = [VERSION, dataset.identity(), list(channels), list(crop)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def packed_path(cache: Path, key: str) -> Path:
    return cache / f"packed-{key}"


def open_packed(path: Path, *, patience_s: float | None = 0.0) -> Packed:
    """Map a cache into memory after comparing its files' sizes with its manifest.

    ``patience_s``: how long to wait for a cache that another node published. Raises RunError where there is
    none, or where it is damaged.
    """
    manifest = read_manifest(path, patience_s=patience_s)
    if manifest is None:
        raise RunError(
            f"there is no packed cache at {path}: run python -m hpcflow.training.prepare before the training"
        )
    wrong = damage(path, manifest, digests=False)
    if wrong:
        raise RunError(f"the packed cache {path} is damaged: {wrong}; remove it and prepare again")
    images, labels, voxels = (
        np.load(path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels", "voxels")
    )
    about = manifest.about
    return Packed(path, tuple(about["subjects"]), images, labels, voxels, bool(about["phantom"]))


def build_packed(
    cache: Path,
    dataset: Decathlon,
    channels: Sequence[int],
    crop: tuple[int, int, int],
    progress: Callable[[int, int], None] = lambda *_: None,
    policy: Policy = "auto",
    readers: int = 1,
) -> tuple[Path, bool]:
    """Make the cache of ``dataset`` unless it is there, and return its path and whether this call built it.
    ``readers``: how many processes are going to map it at once.

    A damaged one (a file missing or of another size) is moved aside and built anew. Raises InputError for
    what is wrong with the data set.
    """
    path = packed_path(cache, cache_key(dataset, channels, crop))
    seen = _inode(path)  # before it is read: what another builder puts there afterwards is whole
    manifest = read_manifest(path)
    if manifest is not None and damage(path, manifest, digests=False) is None:
        return path, False
    cache.mkdir(parents=True, exist_ok=True)
    remove_leftovers(cache, LEFTOVERS_S, time.time())
    if seen is not None and _inode(path) == seen:
        path.rename(temporary_name(path))
    with publishing_directory(path) as temporary:
        x, y, z = crop
        size = 2 * len(dataset.subjects) * x * y * z * len(channels)
        striped = stripes.prepare(temporary, size, readers, policy)
        _write(temporary, dataset, channels, crop, progress, striped)
    return path, True


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _write(
    directory: Path,
    dataset: Decathlon,
    channels: Sequence[int],
    crop: tuple[int, int, int],
    progress: Callable[[int, int], None],
    striped: Striped,
) -> None:
    """Write the four files, one subject in memory at a time."""
    x, y, z = crop
    count = len(dataset.subjects)
    kinds = max(dataset.labels) + 1
    voxels = np.zeros((count, z, kinds), np.uint32)
    with publishing(directory / "images.npy") as images, publishing(directory / "labels.npy") as labels:
        images.write(_header((count, z, x, y, len(channels)), np.float16))
        labels.write(_header((count, z, x, y), np.uint8))
        for index, subject in enumerate(dataset.subjects):
            image, label = preprocess(*dataset.load(subject, channels), crop)
            images.write(image.data)
            labels.write(label.data)
            voxels[index] = [np.bincount(section.ravel(), minlength=kinds) for section in label]
            progress(index + 1, count)
    table = publish_bytes(directory / "voxels.npy", _header(voxels.shape, np.uint32) + voxels.tobytes())
    about = {
        "dataset": dataset.name,
        "phantom": dataset.phantom,
        "subjects": [subject.name for subject in dataset.subjects],
        "modalities": [dataset.modalities[channel] for channel in channels],
        "crop": list(crop),
        **({"stripes": striped.count} if striped.count else {}),
    }
    publish_manifest(
        directory, {"images.npy": images.entry, "labels.npy": labels.entry, "voxels.npy": table}, about
    )


def _header(shape: tuple[int, ...], dtype: type[np.generic]) -> bytes:
    """The .npy header of a C-ordered array (NumPy's format version 1.0)."""
    buffer = io.BytesIO()
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
