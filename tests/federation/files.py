"""Update files for the tests of this folder."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.aggregation import Aggregate, Files, aggregate
from hpcflow.federation.selection import Candidate
from hpcflow.federation.strategies import make
from hpcflow.federation.tensorfile import TensorFile
from hpcflow.federation.update import UpdateInfo, write_update

Arrays = dict[str, NDArray[Any]]
# More than a block of the kernels, an odd number of elements, a scalar and an empty tensor.
SHAPES = {"dense/kernel": (401, 331), "dense/bias": (331,), "scale": (), "none": (0, 3), "last": (5, 7, 11)}


def tensors(seed: int, scale: float = 1.0) -> Arrays:
    draw = np.random.default_rng(seed)
    return {
        name: np.asarray(draw.standard_normal(shape) * scale, np.float32) for name, shape in SHAPES.items()
    }


def write(folder: Path, name: str, arrays: Arrays, samples: float = 1, **info: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    control = info.pop("control", None)
    write_update(path, arrays, UpdateInfo(Fraction(samples), name, **info), control)
    return path


def merge(paths: list[Path], strategy: str, into: Path, **more: Any) -> Aggregate:
    options = more.pop("options", {})
    files = Files(into, more.pop("base", None), more.pop("state", None), more.pop("state_into", None))
    return aggregate([Candidate(path) for path in paths], make(strategy, options), files, **more)


def read(path: Path) -> Arrays:
    with TensorFile(path) as file:
        return {name: file.read(name) for name in file.header.tensors}


def equal(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)
