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


@dataclass(frozen=True, slots=True)
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


@dataclass
class _Run:
    """A segment in the making: its names, its first tensor in every table, and its elements so far."""

    names: list[str]
    first: list[Tensor]
    count: int

    def goes_on(self, tensors: Sequence[Tensor]) -> bool:
        return all(
            tensor.dtype == first.dtype and tensor.begin == first.begin + self.count * first.itemsize
            for tensor, first in zip(tensors, self.first, strict=True)
        )


def segments(names: Iterable[str], views: Sequence[View], *, merge: bool = True) -> list[Segment]:
    """The segments of ``names``, in the order of the first view. All views hold them with equal shapes (checked
    before). ``merge`` False keeps a segment a tensor.
    """
    # Most updates of a round share one table, see tensorfile.py: each is looked at once.
    tables = {(id(view.header.tensors), view.prefix): view for view in views}
    numbers = {key: number for number, key in enumerate(tables)}
    table_of = [numbers[id(view.header.tensors), view.prefix] for view in views]
    runs: list[_Run] = []
    for name in sorted(names, key=lambda name: (views[0].tensor(name).begin, name)):
        tensors = [view.tensor(name) for view in tables.values()]
        if merge and runs and runs[-1].goes_on(tensors):
            runs[-1].names.append(name)
            runs[-1].count += tensors[0].count
        else:
            runs.append(_Run([name], tensors, tensors[0].count))
    return [_segment(run, [run.first[number] for number in table_of]) for run in runs if run.count]


def _segment(run: _Run, firsts: Sequence[Tensor]) -> Segment:
    return Segment(
        tuple(run.names),
        run.count,
        tuple(tensor.dtype for tensor in firsts),
        tuple(tensor.itemsize for tensor in firsts),
        tuple(tensor.begin for tensor in firsts),
    )


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
