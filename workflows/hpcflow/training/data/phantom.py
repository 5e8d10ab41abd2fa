"""Phantom brains with tumours, written in the layout of the Medical Segmentation Decathlon's
Task01_BrainTumour.

They are phantoms: ellipsoids with the contrasts of four MRI sequences, no patient's data. Their purpose is to
let every part of a run work on any machine, on the same files a real data set has. They say what they are in
dataset.json (name, description, reference), in their file names and in each NIfTI header's ``descrip``.

Labels as in Task01: 1 edema, 2 non-enhancing tumour, 3 enhancing tumour; nested: a non-enhancing core, an
enhancing rim, edema around. Layout: Antonelli et al., The Medical Segmentation Decathlon, Nat Commun 13
(2022).
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import InputError
from hpcflow.experiment.schema import PHANTOM_MODALITIES
from hpcflow.storage.publish import publish_bytes, publish_json

Volume = NDArray[np.float32]
Labels = NDArray[np.uint8]

MODALITIES = PHANTOM_MODALITIES
"""The order of Task01_BrainTumour's dataset.json."""

# Relative brightness of each tissue in each sequence, after the usual look of clinical images; no relaxometry
# model. Columns follow MODALITIES.
_TISSUE = {
    "fluid": (0.15, 0.22, 0.22, 1.00),
    "grey": (0.58, 0.52, 0.53, 0.62),
    "white": (0.46, 0.72, 0.74, 0.45),
    "edema": (0.92, 0.46, 0.47, 0.88),
    "core": (0.62, 0.30, 0.26, 0.80),
    "rim": (0.80, 0.48, 1.15, 0.66),
}


@dataclass(frozen=True)
class PhantomSpec:
    """What a set of phantoms looks like. Two specs that differ stand for two institutions with their
    scanners.

    shape: voxels along x, y, z. brain: the brain's semi-axes as a fraction of the shape, before its own
    variation. tumour_radius: smallest and largest mean radius of a tumour (edema included) as a fraction of
    the shortest edge. contrast: 1 = the full contrast of tumour against white matter, 0 = none. noise:
    standard deviation of each Rician channel relative to white matter. bias: strength of the smooth intensity
    field of the coil. spacing_mm: voxel size written to the NIfTI header. tumour_rate: share of the subjects
    that have a tumour, evenly spread over the set; 0 makes healthy brains.
    """

    shape: tuple[int, int, int] = (64, 64, 48)
    brain: tuple[float, float, float] = (0.38, 0.44, 0.40)
    tumour_radius: tuple[float, float] = (0.14, 0.26)
    contrast: float = 1.0
    noise: float = 0.06
    bias: float = 0.25
    spacing_mm: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0))
    tumour_rate: float = 1.0

    def __post_init__(self) -> None:
        if min(self.shape) < 8 or max(self.shape) > 512:
            shape = ",".join(map(str, self.shape))
            raise InputError(f"a phantom of {shape} voxels cannot be made (8 to 512 an edge)")
        if not 0 < self.tumour_radius[0] <= self.tumour_radius[1] < 0.5:
            raise InputError("tumour_radius must be two rising fractions between 0 and 0.5")
        if not 0 <= self.tumour_rate <= 1:
            raise InputError(f"tumour_rate is {self.tumour_rate:g} (a share from 0 to 1)")
        if not 0 <= self.contrast <= 2:
            raise InputError(f"contrast is {self.contrast:g} (from 0, none, to 2; 1 is a usual scanner's)")

    def has_tumour(self, index: int) -> bool:
        """Whether subject ``index`` of a set has one: of the first n subjects n times the rate have, rounded down."""
        # 10 * 0.3 and the like may end a hair below the whole number that is meant.
        before, after = (math.floor(number * self.tumour_rate + 1e-9) for number in (index, index + 1))
        return after > before


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], modes: int = 4) -> Volume:
    """A random field of low frequencies, mean about 0, standard deviation 1: a sum of ``modes``^3 cosines."""
    coefficients = rng.standard_normal((modes, modes, modes))
    order = np.arange(modes)
    decay = 1.0 / (1.0 + order[:, None, None] ** 2 + order[None, :, None] ** 2 + order[None, None, :] ** 2)
    coefficients *= decay
    coefficients[0, 0, 0] = 0.0
    bases = [np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, order)) for n in shape]
    volume = np.einsum("xi,yj,zk,ijk->xyz", *bases, coefficients, optimize=True)
    return np.asarray(volume / (volume.std() + 1e-9), np.float32)


def _grid(shape: tuple[int, int, int]) -> tuple[Volume, Volume, Volume]:
    """Coordinates of voxel centres from -1 to 1 along each edge, three arrays that broadcast to ``shape``."""
    axes = [((2 * np.arange(n) + 1) / n - 1).astype(np.float32) for n in shape]
    return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


def _blur(volume: Volume) -> Volume:
    """A 1-2-1 filter along each axis: the partial volume effect at tissue borders."""
    for axis in range(3):
        padded = np.pad(volume, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        low, mid, high = (np.take(padded, range(i, i + volume.shape[axis]), axis=axis) for i in range(3))
        volume = ((low + 2 * mid + high) / 4).astype(np.float32)
    return volume


def _tumour(rng: np.random.Generator, spec: PhantomSpec, inside: NDArray[np.bool_]) -> Labels:
    """Labels (x, y, z) uint8 of one tumour whose centre lies in ``inside`` (never empty)."""
    centres = np.argwhere(inside)
    centre = centres[rng.integers(len(centres))]
    radius = rng.uniform(*spec.tumour_radius) * min(spec.shape)
    stretch = rng.uniform(0.8, 1.25, size=3)
    offsets = np.ogrid[tuple(slice(0, n) for n in spec.shape)]
    squares = [((o - c) / (radius * s)) ** 2 for o, c, s in zip(offsets, centre, stretch, strict=True)]
    distance = np.sqrt(squares[0] + squares[1] + squares[2]).astype(np.float32)
    edge = 1 + 0.12 * smooth_field(rng, spec.shape, modes=6)
    labels = np.zeros(spec.shape, np.uint8)
    labels[distance < edge] = 1
    labels[distance < 0.68 * edge] = 3
    labels[distance < 0.40 * edge] = 2
    labels[tuple(centre)] = 2
    return labels


def phantom(spec: PhantomSpec, seed: int, index: int) -> tuple[NDArray[np.int16], Labels]:
    """One phantom: images (x, y, z, 4) int16 in MODALITIES' order, background 0; labels (x, y, z) uint8, 0 to
    3.

    The same spec, seed and index give the same arrays on every machine and whatever other phantoms are made.
    """
    rng = np.random.default_rng([seed, index])
    x, y, z = _grid(spec.shape)
    half = [2 * fraction * rng.uniform(0.93, 1.07) for fraction in spec.brain]
    shift = rng.uniform(-0.06, 0.06, size=3)
    depth = np.sqrt(
        ((x - shift[0]) / half[0]) ** 2 + ((y - shift[1]) / half[1]) ** 2 + ((z - shift[2]) / half[2]) ** 2
    )
    folds = 1 + 0.05 * smooth_field(rng, spec.shape, modes=8)
    brain = depth < 1.0
    tissue = {"fluid": brain, "grey": depth < 0.93 * folds, "white": depth < 0.76 * folds}
    ventricles = np.zeros(spec.shape, bool)
    for side in (-1, 1):
        centre = shift[0] + side * 0.13 * half[0]
        ventricles |= ((x - centre) / (0.09 * half[0])) ** 2 + ((y - shift[1]) / (0.34 * half[1])) ** 2 + (
            (z - shift[2]) / (0.22 * half[2])
        ) ** 2 < 1
    labels = _tumour(rng, spec, depth < 0.62) if spec.has_tumour(index) else np.zeros(spec.shape, np.uint8)
    labels[~brain] = 0
    return _render(rng, spec, tissue, ventricles, labels), labels


def _render(
    rng: np.random.Generator,
    spec: PhantomSpec,
    tissue: dict[str, Any],
    ventricles: NDArray[np.bool_],
    labels: Labels,
) -> NDArray[np.int16]:
    """Tissue masks and labels to int16 images with a bias field and Rician noise, skull-stripped as Task01
    is.
    """
    images = np.zeros((*spec.shape, len(MODALITIES)), np.int16)
    brain = tissue["fluid"]
    for channel in range(len(MODALITIES)):
        white = _TISSUE["white"][channel]
        clean = np.zeros(spec.shape, np.float32)
        for name, mask in tissue.items():
            clean[mask & brain] = _TISSUE[name][channel] * rng.uniform(0.95, 1.05)
        clean[ventricles & brain] = _TISSUE["fluid"][channel]
        for label, name in ((1, "edema"), (2, "core"), (3, "rim")):
            clean[labels == label] = white + spec.contrast * (_TISSUE[name][channel] - white)
        clean = _blur(clean) * np.exp(spec.bias * 0.5 * smooth_field(rng, spec.shape, modes=3))
        real, imaginary = (spec.noise * rng.standard_normal(spec.shape, dtype=np.float32) for _ in range(2))
        signal = np.hypot(clean + real, imaginary) * (600 * rng.uniform(0.7, 1.4))
        images[..., channel] = np.where(brain, np.clip(signal, 1, 32000), 0).astype(np.int16)
    return images


def nifti_bytes(array: NDArray[Any], spacing_mm: tuple[float, float, float]) -> bytes:
    """``array`` as the bytes of a .nii.gz; equal arrays give equal bytes (no time in the header)."""
    import nibabel

    image = nibabel.nifti1.Nifti1Image(array, np.diag([*spacing_mm, 1.0]))  # type: ignore[no-untyped-call]
    image.header["descrip"] = b"hpcflow phantom, not a patient"
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as packed:
        packed.write(image.to_bytes())
    return buffer.getvalue()


def write_phantoms(
    out: Path,
    subjects: int,
    spec: PhantomSpec,
    seed: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Write ``subjects`` phantoms and their dataset.json into the directory ``out`` (exists, empty).

    dataset.json goes last, so that a directory with one is whole. ``progress`` is called with (done, all).
    """
    (out / "imagesTr").mkdir()
    (out / "labelsTr").mkdir()
    training = []
    for index in range(subjects):
        images, labels = phantom(spec, seed, index)
        name = f"PHANTOM_{index + 1:03d}.nii.gz"
        publish_bytes(out / "imagesTr" / name, nifti_bytes(images, spec.spacing_mm))
        publish_bytes(out / "labelsTr" / name, nifti_bytes(labels, spec.spacing_mm))
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
        progress(index + 1, subjects)
    publish_json(out / "dataset.json", _dataset_json(training, spec, seed))


def _dataset_json(training: list[dict[str, str]], spec: PhantomSpec, seed: int) -> dict[str, Any]:
    return {
        "name": "PHANTOM brain tumours (hpcflow)",
        "description": "PHANTOMS: computer-made brains with tumours for testing. No patient's data.",
        "reference": "hpcflow data phantom",
        "licence": "CC0-1.0",
        "release": "1",
        "tensorImageSize": "4D",
        "modality": {str(i): name for i, name in enumerate(MODALITIES)},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
        "phantom": {
            "shape": list(spec.shape),
            "seed": seed,
            "contrast": spec.contrast,
            "noise": spec.noise,
            **_tumours(spec),
        },
    }


def _tumours(spec: PhantomSpec) -> dict[str, Any]:
    """The tumours' statistics, where they are not the usual ones: the usual set's bytes are older than the choice."""
    said = {"tumour_radius": spec.tumour_radius, "tumour_rate": spec.tumour_rate}
    return {key: value for key, value in said.items() if value != getattr(PhantomSpec, key)}
