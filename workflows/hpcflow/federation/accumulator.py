"""Adding weighted rows to a total in float64: the inner loop of every weighted mean.

Rows of float32 are added by accumulator.c, which is compiled when hpcflow is installed. Where there was no compiler, and
for rows of other types, NumPy does the same in three passes instead of one: the same bits, more slowly.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.native import library
from hpcflow.federation.numbers import Floats, widen


@cache
def compiled() -> Callable[..., None] | None:
    """The function of accumulator.c; None where it was not compiled, or for another kind of machine."""
    try:
        function = ctypes.CDLL(str(library())).add_rows  # whose calls do not hold the interpreter's lock
    except OSError:
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes, function.restype = (pointer, pointer, size, pointer, size, size), None
    added: Callable[..., None] = function
    return added


def add_rows(total: Floats, rows: NDArray[Any], dtype: str, weights: Floats, wide: Floats) -> None:
    """``total += weights[0] * rows[0] + weights[1] * rows[1] + ...``, from left to right.

    ``total`` and ``wide``, room to work in: float64 (n,). ``rows``: (k, n) of ``dtype`` as stored in a file, each row
    contiguous. ``weights``: float64 (k,).
    """
    function = compiled()
    if dtype == "F32" and function is not None:
        stride = rows.strides[0] // rows.itemsize
        function(total.ctypes.data, rows.ctypes.data, stride, weights.ctypes.data, len(rows), total.size)
        return
    for row, weight in zip(rows, weights, strict=True):
        widen(row, dtype, wide)
        np.multiply(wide, weight, wide)
        np.add(total, wide, total)
