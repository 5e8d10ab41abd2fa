"""Adding weighted blocks of files to a total in float64: the inner loop of every weighted mean.

Blocks of float32 are read and added by accumulator.c, which is compiled when hpcflow is installed. Where there was no
compiler, and for other types, NumPy adds in three passes instead of one: the same bits, more slowly.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.native import library
from hpcflow.federation.numbers import Floats, widen

# Blocks that are read before they are added.
AT_ONCE = 4


@cache
def compiled() -> Callable[..., bool] | None:
    """The function of accumulator.c; None where it was not compiled, or for another kind of machine."""
    try:
        function = ctypes.CDLL(str(library())).add_files  # whose calls do not hold the interpreter's lock
    except OSError:
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = (pointer, pointer, pointer, pointer, pointer, size, size)
    function.restype = ctypes.c_bool
    add: Callable[..., bool] = function
    return add


def add_files(
    total: Floats, places: Sequence[tuple[int, int]], weights: Sequence[float], room: NDArray[np.float32]
) -> bool:
    """``total += weights[0] * block of places[0] + weights[1] * block of places[1] + ...``, from left to right.

    ``total``: float64 (n,). ``places``: descriptors of files, and the byte at which each block, of n float32, begins.
    ``room`` to work in: (AT_ONCE * n,) or more. False if there is no compiled code or a file could not be read; then
    ``total`` is of no use.
    """
    function = compiled()
    if function is None:
        return False
    files = np.array([file for file, _ in places], np.intc)
    offsets = np.array([begin for _, begin in places], np.int64)
    arrays = (total, room, files, offsets, np.array(weights))
    return function(*[array.ctypes.data for array in arrays], len(places), total.size)


def add_row(total: Floats, row: NDArray[Any], dtype: str, weight: float, wide: Floats) -> None:
    """``total += weight * row`` by NumPy. ``total``, and ``wide`` to work in: float64 (n,); ``row``: (n,) as stored in a
    file as ``dtype``.
    """
    widen(row, dtype, wide)
    np.multiply(wide, weight, wide)
    np.add(total, wide, total)
