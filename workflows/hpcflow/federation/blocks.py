"""The grid of blocks in which files are streamed.

Tensors of one type that follow each other in every file alike are one *segment*; a segment is cut into *blocks* of
a fixed number of elements; consecutive blocks form *shares*, which are dealt to ranks and threads. Segments,
blocks and shares depend on the tensors and the number of updates, never on the number of ranks: whatever is
summed over a share is the same number however many ranks there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hpcflow.federation.tensorfile import Header, Tensor

# Shares of a model: an upper bound on the ranks that have work.
SHARES = 64


@dataclass(frozen=True)
class View:
    """The tensors of a file whose names begin with ``prefix``, seen without it."""

    header: Header
    prefix: str = ""

    def tensor(self, name: str) -> Tensor:
        """The tensor ``name``."""
        return self.header.tensors[self.prefix + name]


@dataclass(frozen=True)
class Segment:
    """Tensors ``names`` that follow each other, ``count`` elements altogether; of every view the type of the
    elements, their bytes, and the byte at which they begin in its data.
    """

    names: tuple[str, ...]
    count: int
    dtypes: tuple[str, ...]
    itemsizes: tuple[int, ...]
    begins: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Elements ``start`` to ``stop`` of a segment."""

    segment: Segment
    start: int
    stop: int

    def begin(self, view: int) -> int:
        """Where it begins in the data of view number ``view`` (bytes)."""
        return self.segment.begins[view] + self.start * self.segment.itemsizes[view]

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.stop - self.start


def segments(names: Iterable[str], views: Sequence[View], *, merge: bool = True) -> list[Segment]:
    """The segments of ``names``, in the order of the first view. All views hold them with equal shapes (checked
    before). ``merge`` False keeps a segment a tensor.
    """
    found: list[Segment] = []
    for name in sorted(names, key=lambda name: (views[0].tensor(name).begin, name)):
        tensors = [view.tensor(name) for view in views]
        dtypes = tuple(tensor.dtype for tensor in tensors)
        begins = tuple(tensor.begin for tensor in tensors)
        last = found[-1] if found and merge else None
        if last and last.dtypes == dtypes:
            ends = tuple(b + last.count * i for b, i in zip(last.begins, last.itemsizes, strict=True))
            if begins == ends:
                count = last.count + tensors[0].count
                found[-1] = Segment((*last.names, name), count, dtypes, last.itemsizes, last.begins)
                continue
        itemsizes = tuple(tensor.itemsize for tensor in tensors)
        found.append(Segment((name,), tensors[0].count, dtypes, itemsizes, begins))
    return [segment for segment in found if segment.count]


def blocks(parts: Sequence[Segment], size: int) -> Iterator[Block]:
    """Cut segments into blocks of ``size`` elements; the last of a segment may be shorter."""
    for segment in parts:
        for start in range(0, segment.count, size):
            yield Block(segment, start, min(segment.count, start + size))


def shares(grid: Sequence[Block]) -> list[list[Block]]:
    """At most SHARES runs of consecutive blocks, of nearly equal numbers of them."""
    number = min(SHARES, len(grid))
    cuts = [len(grid) * index // number for index in range(number + 1)] if number else [0]
    return [list(grid[low:high]) for low, high in itertools.pairwise(cuts)]


def mine(number: int, rank: int, size: int) -> range:
    """Which of ``number`` shares a rank of ``size`` has."""
    return range(number * rank // size, number * (rank + 1) // size)
