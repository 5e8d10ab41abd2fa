"""The number of threads of NumPy's OpenBLAS.

A rank's own threads each work on a block of a few hundred KiB. OpenBLAS would split every product over threads
again and make the others wait for its one pool.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any

from numpy.linalg import _umath_linalg  # type: ignore[attr-defined]  # the extension that links to BLAS

# Of NumPy's own wheels (64-bit integers, prefixed), and of distributions.
_NAMES = ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads")


@cache
def _functions() -> tuple[Any, Any] | None:
    library = ctypes.CDLL(_umath_linalg.__file__)
    for name in _NAMES:
        with contextlib.suppress(AttributeError):
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within the block OpenBLAS uses the calling thread alone. Another BLAS is left as it is: it changes the
    speed, not the result.
    """
    functions = _functions()
    if functions is None:
        yield
        return
    get, set_number = functions
    before = get()
    set_number(1)
    try:
        yield
    finally:
        set_number(before)
