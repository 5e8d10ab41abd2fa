"""One block of many updates to one block of the result, in float64.

A kernel reads the block of every update by position, never more of them at once than its scratch holds, and adds in
the order in which the files are given, which does not depend on how they were named or listed. Sizes are chosen so
that what is worked on stays in a core's own cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.accumulator import AT_ONCE, add_files, add_row
from hpcflow.federation.blocks import Block
from hpcflow.federation.numbers import Floats, widen
from hpcflow.federation.strategies.base import Called, Coordinate, Linear, Recipe
from hpcflow.federation.tensorfile import DTYPES, BadFile, TensorFile
from hpcflow.federation.update import finite

# Elements of a block of a linear kernel: 128 KiB of float32 are one read. Shorter ones cost more in calls than they
# save in the cache.
BLOCK = 1 << 15
# Elements of a block that is held of every update, at most.
HELD = 1 << 16
# Elements that a product of updates by updates takes at once. With fewer the calls take longer than the memory.
SUB = 1 << 12


class Culprits(Exception):
    """Updates that cannot be used, by their number, and why."""

    def __init__(self, reasons: dict[int, str]) -> None:
        self.reasons = reasons
        super().__init__(str(reasons))


class Scratch:
    """The buffers of one thread, made when they are first asked for."""

    def __init__(self) -> None:
        self._arrays: dict[object, NDArray[Any]] = {}

    def array(self, use: str, shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
        """An array of ``shape`` and ``dtype`` that holds anything; the same one for the same arguments."""
        key = (use, shape, np.dtype(dtype))
        if key not in self._arrays:
            self._arrays[key] = np.empty(shape, dtype)
        return self._arrays[key]


def block_of(recipe: Recipe, files: Sequence[TensorFile], block: Block, scratch: Scratch) -> Floats:
    """The recipe's result for a block, float64 (n,), valid until the scratch is used again.

    View number i of the block is file i. Raises Culprits.
    """
    if isinstance(recipe, Linear):
        return _linear(recipe, files, block, scratch)
    if isinstance(recipe, Coordinate):
        return _coordinate(recipe, files, block, scratch)
    return _called(recipe, files, block)


def _read(files: Sequence[TensorFile], index: int, block: Block, view: memoryview) -> None:
    try:
        files[index].read_bytes(view, block.begin(index))
    except BadFile as error:
        raise Culprits({index: str(error)}) from error
    except OSError as error:
        raise Culprits({index: f"cannot be read: {error.strerror}"}) from error


def _blame(members: Sequence[int], rows: Sequence[NDArray[Any]], block: Block, otherwise: str) -> Culprits:
    dtype, name = block.segment.dtypes[0], block.segment.names[0]
    bad = [index for index, row in zip(members, rows, strict=True) if not finite(row, dtype)]
    more = f" or the {len(block.segment.names) - 1} tensors after it" if len(block.segment.names) > 1 else ""
    if not bad:
        raise OverflowError(otherwise)
    return Culprits(dict.fromkeys(bad, f"holds NaN or an infinity in {name!r}{more}"))


def _linear(recipe: Linear, files: Sequence[TensorFile], block: Block, scratch: Scratch) -> Floats:
    dtype, size = block.segment.dtypes[0], block.size
    members = [index for index, coefficient in enumerate(recipe.coefficients) if coefficient]
    weights = [recipe.coefficients[index] for index in members]
    total = scratch.array("total", (BLOCK,))[:size]
    total[:] = 0.0
    if members and not (dtype == "F32" and _added(total, files, members, weights, block, scratch)):
        # Also where a file could not be read: reading it here tells why.
        total[:] = 0.0
        row = scratch.array("row", (BLOCK,), DTYPES[dtype])[:size]
        wide = scratch.array("wide", (BLOCK,))[:size]
        for index, weight in zip(members, weights, strict=True):
            _read(files, index, block, row.view("u1").data)
            add_row(total, row, dtype, weight, wide)
    total /= recipe.divisor
    # The sum of the squares is NaN or infinite where an element is (or where it is huge): one pass, and no array.
    if not math.isfinite(total.dot(total)) and not np.isfinite(total).all():
        again = [np.empty(size, DTYPES[dtype]) for _ in members]
        for copy, index in zip(again, members, strict=True):
            _read(files, index, block, copy.view("u1").data)
        raise _blame(members, again, block, "the mean of finite updates is not finite")
    return total


def _added(
    total: Floats,
    files: Sequence[TensorFile],
    members: Sequence[int],
    weights: Sequence[float],
    block: Block,
    scratch: Scratch,
) -> bool:
    places = [files[index].place(block.begin(index)) for index in members]
    return add_files(total, places, weights, scratch.array("room", (AT_ONCE * BLOCK,), np.float32))


def _coordinate(recipe: Coordinate, files: Sequence[TensorFile], block: Block, scratch: Scratch) -> Floats:
    dtype, size, count = block.segment.dtypes[0], block.size, len(recipe.members)
    raw = scratch.array("rows", (count, block_elements(len(files))), DTYPES[dtype])[:, :size]
    total = scratch.array("total", (HELD,))[:size]
    for row, index in enumerate(recipe.members):
        _read(files, index, block, raw[row].view("u1").data)
    step = max(2048, min(1 << 14, (1 << 20) // count))
    for start in range(0, size, step):
        rows = raw[:, start : start + step]
        if not finite(rows, dtype):
            raise _blame(recipe.members, list(rows), block, "")
        if dtype not in ("F32", "F64"):
            wide = np.empty(rows.shape)
            widen(rows, dtype, wide)
            rows = wide
        total[start : start + step] = recipe.function(rows)
    return total


def block_elements(files: int) -> int:
    """Elements of a block when it is held of every file at once: 16 MiB of float32 together, but not less than
    4 KiB of each.
    """
    fits = max(1, (4 << 20) // files)
    return max(1 << 10, min(HELD, 1 << (fits.bit_length() - 1)))


def _called(recipe: Called, files: Sequence[TensorFile], block: Block) -> Floats:
    dtype = block.segment.dtypes[0]
    # New arrays for every call: a function may keep or change what it is given.
    raw = np.empty((len(files), block.size), DTYPES[dtype])
    for index in range(len(files)):
        _read(files, index, block, raw[index].view("u1").data)
    if not finite(raw, dtype):
        raise _blame(range(len(files)), list(raw), block, "")
    if dtype not in ("F32", "F64"):
        wide = np.empty(raw.shape)
        widen(raw, dtype, wide)
        raw = wide
    return recipe.function(raw, block.segment.names[0], block.start)


def add_products(total: Floats, files: Sequence[TensorFile], block: Block, scratch: Scratch) -> None:
    """Add the inner products between the files' blocks to ``total`` (files, files). Raises Culprits."""
    dtype, size, count = block.segment.dtypes[0], block.size, len(files)
    raw = scratch.array("rows", (count, block_elements(count)), DTYPES[dtype])[:, :size]
    for index in range(count):
        _read(files, index, block, raw[index].view("u1").data)
    step = max(1 << 10, min(SUB, (1 << 19) // count))
    wide = scratch.array("products", (count, step))
    for start in range(0, size, step):
        width = min(step, size - start)
        widen(raw[:, start : start + width], dtype, wide[:, :width])
        wide[:, width:] = 0.0
        total += wide @ wide.T
    bad = np.flatnonzero(~np.isfinite(np.diagonal(total)))
    if bad.size:
        raise _blame(
            [int(index) for index in bad], [raw[index] for index in bad], block, "updates are too large"
        )


def distances(products: Floats) -> Floats:
    """Squared Euclidean distances (n, n) from inner products: |a|^2 + |b|^2 - 2 a b, no less than 0."""
    norms = np.diagonal(products)
    found: Floats = np.maximum(norms[:, None] + norms[None, :] - 2.0 * products, 0.0)
    np.fill_diagonal(found, 0.0)
    return found
