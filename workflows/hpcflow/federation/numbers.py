"""Elements of every type as float64 and back: what aggregation computes in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.tensorfile import DTYPES, FLOATS

Floats = NDArray[np.float64]


def widen(raw: NDArray[Any], dtype: str, out: Floats) -> None:
    """Write ``raw`` (elements as stored, any shape) to ``out`` (float64, same shape). Exact but for integers
    beyond 2^53.
    """
    if dtype == "BF16":
        out[...] = (raw.astype("<u4") << 16).view("<f4")
    else:
        out[...] = raw  # np.copyto is slower by a microsecond a call


def narrow(values: Floats, dtype: str) -> NDArray[Any]:
    """float64 to elements as stored, rounded to nearest even once (BF16: by way of float32); integers are
    rounded and kept in their range. Raises FloatingPointError for what is too large for the type.
    """
    with np.errstate(over="raise"):
        return _narrow(values, dtype)


def _narrow(values: Floats, dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        bits = values.astype("<f4").view("<u4")
        return np.asarray((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, "<u2")
    if dtype in FLOATS:
        return values.astype(DTYPES[dtype])
    if dtype == "BOOL":
        return values >= 0.5
    limits = np.iinfo(DTYPES[dtype])
    rounded = np.rint(values)
    # The largest int64 is no float64: 2^63 itself must not be converted.
    top = np.nextafter(float(limits.max) + 1.0, 0.0)
    return np.clip(rounded, float(limits.min), top).astype(DTYPES[dtype])
