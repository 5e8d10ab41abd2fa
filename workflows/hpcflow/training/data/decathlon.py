"""Reading a data set in the layout of the Medical Segmentation Decathlon.

A folder with dataset.json (names, modalities, labels, the list of training pairs) and the NIfTI files it
lists: imagesTr/*.nii.gz, 4-D (x, y, z, modality), or 3-D where there is one modality, and labelsTr/*.nii.gz,
3-D integers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import InputError

TARGETS: Mapping[str, tuple[int, ...]] = {
    "whole_tumor": (1, 2, 3),
    "tumor_core": (2, 3),
    "enhancing": (3,),
}
"""BraTS's three regions in the labels of Task01_BrainTumour (1 edema, 2 non-enhancing, 3 enhancing)."""


@dataclass(frozen=True)
class Subject:
    """One training pair. ``name`` is the image's file name without its ending."""

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class Decathlon:
    """What dataset.json says. ``modalities`` and ``labels`` by number; ``phantom``: the set says it is made
    up.
    """

    root: Path
    name: str
    modalities: tuple[str, ...]
    labels: Mapping[int, str]
    subjects: tuple[Subject, ...]
    phantom: bool

    def channels(self, wanted: Sequence[str | int]) -> tuple[int, ...]:
        """Channel numbers of modalities given by name (in any case) or number; InputError for others."""
        known = {name.lower(): index for index, name in enumerate(self.modalities)}
        found = []
        for item in wanted:
            index = known.get(item.lower()) if isinstance(item, str) else item
            if index is None or not 0 <= index < len(self.modalities):
                names = ", ".join(f"{i} {name}" for i, name in enumerate(self.modalities))
                raise InputError(
                    f"{self.root}: there is no modality {item!r} in dataset.json (it has {names})"
                )
            found.append(index)
        return tuple(found)

    def target(self, wanted: str | Sequence[int]) -> tuple[int, ...]:
        """Label numbers of a target given by region name or numbers; InputError for unknown ones."""
        numbers = TARGETS[wanted] if isinstance(wanted, str) else tuple(wanted)
        missing = [number for number in numbers if number not in self.labels]
        if missing:
            names = ", ".join(f"{number} {name}" for number, name in sorted(self.labels.items()))
            raise InputError(f"{self.root}: there is no label {missing[0]} in dataset.json (it has {names})")
        return numbers

    def load(
        self, subject: Subject, channels: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image (x, y, z, len(channels)) float32 and labels (x, y, z) uint8, as stored, of one subject.

        Raises InputError, in one sentence with the file's name, for a file that is missing, is no NIfTI, has
        another shape than its partner or dataset.json promise, or holds a label that dataset.json does not
        name.
        """
        image = _read(subject.image)
        image = image[..., None] if image.ndim == 3 else image
        if image.ndim != 4 or image.shape[3] != len(self.modalities):
            expected = f"(x, y, z, {len(self.modalities)})"
            raise InputError(
                f"{subject.image}: its shape is {image.shape}, and dataset.json promises {expected}"
            )
        labels = _read(subject.labels)
        if labels.shape != image.shape[:3]:
            raise InputError(
                f"{subject.labels}: its shape is {labels.shape}, and its image's is {image.shape[:3]}"
            )
        strange = set(np.unique(labels).tolist()) - set(self.labels)
        if strange:
            raise InputError(
                f"{subject.labels}: it holds label {min(strange):g}, which dataset.json does not name"
            )
        return np.asarray(image[..., list(channels)], np.float32), labels.astype(np.uint8)

    def identity(self) -> str:
        """A digest that changes when the data set does, without reading it: SHA-256 in hexadecimal.

        Of dataset.json's bytes and of each file's size and last 8 bytes, which in a .gz are the CRC-32 and
        length of its content (RFC 1952): equal for copies of a set, whatever their folder and time stamps.
        For an uncompressed .nii it takes the time stamp (ns) as well. Raises InputError for a missing file.
        """
        digest = hashlib.sha256((self.root / "dataset.json").read_bytes())
        for subject in self.subjects:
            for path in (subject.image, subject.labels):
                digest.update(_trait(path))
        return digest.hexdigest()


def open_decathlon(root: Path) -> Decathlon:
    """Read dataset.json. Raises InputError, in one sentence, when it is missing, no JSON, or lacks what is
    needed.
    """
    path = root / "dataset.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        what = "has no dataset.json (a Decathlon folder does)" if root.is_dir() else "is not a directory"
        raise InputError(f"{root} {what}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    try:
        modalities = raw["modality"]
        names = tuple(str(modalities[str(i)]) for i in range(len(modalities)))
        labels = {int(number): str(name) for number, name in raw["labels"].items()}
        subjects = tuple(_subject(root, pair) for pair in raw["training"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        need = "it needs modality {0: name...}, labels {0: name...} and training [{image, label}...]"
        raise InputError(
            f"{path} is no Decathlon dataset.json: {need} ({type(error).__name__}: {error})"
        ) from None
    if len({subject.name for subject in subjects}) < len(subjects) or not subjects:
        raise InputError(f"{path}: its list of training images is empty or names one twice")
    if min(labels) < 0 or max(labels) > 255:
        raise InputError(f"{path}: its labels must be between 0 and 255")
    return Decathlon(root, str(raw.get("name", root.name)), names, labels, subjects, "phantom" in raw)


def _subject(root: Path, pair: Mapping[str, str]) -> Subject:
    for name in (pair["image"], pair["label"]):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{name} leaves the folder")
    name = PurePosixPath(pair["image"]).name.removesuffix(".gz").removesuffix(".nii")
    return Subject(name, root / pair["image"], root / pair["label"])


def _read(path: Path) -> NDArray[Any]:
    import nibabel  # 0.2 s to import: only a build of the cache pays it

    try:
        return np.asarray(nibabel.nifti1.load(path).dataobj)  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise InputError(f"{path} is missing, and dataset.json lists it") from None
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path} cannot be read as NIfTI: {error}") from None


def _trait(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8))
            tail = file.read(8)
            stamp = 0 if path.suffix == ".gz" else path.stat().st_mtime_ns
    except FileNotFoundError:
        raise InputError(f"{path} is missing, and dataset.json lists it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return f"{path.name} {size} {stamp} ".encode() + tail
