"""One pass over the files: every rank its shares of the blocks, every thread a share at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from hpcflow.federation.blocks import Block, View, blocks, mine, segments, shares
from hpcflow.federation.kernels import BLOCK, Scratch, add_products, block_elements, block_of
from hpcflow.federation.numbers import Floats, narrow, widen
from hpcflow.federation.output import Output
from hpcflow.federation.ranks import Ranks
from hpcflow.federation.strategies.base import Called, Linear, Recipe, Server
from hpcflow.federation.tensorfile import DTYPES, FLOATS, TensorFile

T = TypeVar("T")
# More threads than this gain nothing: memory is the limit.
MOST_THREADS = 8


@dataclass(frozen=True)
class Source:
    """Tensors to read, under names with ``prefix``."""

    file: TensorFile
    prefix: str = ""


@dataclass(frozen=True)
class Sink:
    """Tensors to write, under names with ``prefix``."""

    output: Output
    prefix: str = ""


@dataclass(frozen=True)
class Pass:
    """What is made of the tensors ``names`` of ``updates`` and where it goes.

    Without a server: ``into`` = combined + ``base``. With one, for tensors of floating point: its step of the
    combined change + ``base``, its state from ``state`` (or its beginning) to ``state_into``. ``absolute`` says
    that the updates hold weights rather than changes: what is combined then is the new model, and the change is
    that less ``base``.
    """

    names: Sequence[str]
    updates: Sequence[Source]
    recipe: Recipe
    into: Sink
    base: Source | None = None
    server: Server | None = None
    state: Mapping[str, Source] = field(default_factory=dict)
    state_into: Mapping[str, Sink] = field(default_factory=dict)
    absolute: bool = False


def default_threads() -> int:
    """One for each CPU that this process may use, at most MOST_THREADS."""
    return max(1, min(MOST_THREADS, len(os.sched_getaffinity(0))))


def run(task: Pass, ranks: Ranks, threads: int) -> None:
    """This rank's part of a pass. Raises Culprits, and what a user's function raises."""
    worker = _Worker(task)
    # A user's function need not be able to run beside itself.
    for _ in _over_shares(
        worker.share, worker.shares, ranks, 1 if isinstance(task.recipe, Called) else threads
    ):
        pass


def product_shares(names: Sequence[str], updates: Sequence[Source]) -> list[list[Block]]:
    """The grid of :func:`products`."""
    views = [View(update.file.header, update.prefix) for update in updates]
    numbers = [name for name in names if views[0].tensor(name).dtype in FLOATS]
    return shares(list(blocks(segments(numbers, views), block_elements(len(updates)))))


def products(grid: list[list[Block]], updates: Sequence[Source], ranks: Ranks, threads: int) -> list[Floats]:
    """Inner products between updates, (n, n) float64, over the tensors of floating point: a sum for each share of
    this rank, in the order of shares. Rank 0, whose shares are the first, adds its own as they come: alone it holds
    one sum and not one for each share. Raises Culprits.
    """
    files = [update.file for update in updates]

    def of_share(share: Sequence[Block], scratch: Scratch) -> Floats:
        total = np.zeros((len(files), len(files)))
        for block in share:
            add_products(total, files, block, scratch)
        return total

    sums = _over_shares(of_share, grid, ranks, threads)
    if ranks.rank:
        return list(sums)
    whole = np.zeros((len(files), len(files)))
    for total in sums:
        whole += total
    return [whole]


def collect(sums: Sequence[Floats], shares: int, updates: int, ranks: Ranks) -> Floats | None:
    """The sum of all ranks' ``sums`` in the order of shares, on rank 0; None elsewhere."""
    if ranks.rank:
        for total in sums:
            ranks.send(total)
        return None
    whole, buffer = np.zeros((updates, updates)), np.empty((updates, updates))
    for total in sums:
        whole += total
    for rank in range(1, ranks.size):
        for _ in mine(shares, rank, ranks.size):
            ranks.receive(buffer, rank)
            whole += buffer
    return whole


def _over_shares(
    work: Callable[[Sequence[Block], Scratch], T], grid: list[list[Block]], ranks: Ranks, threads: int
) -> Iterator[T]:
    """``work`` on this rank's shares by ``threads`` threads, results in the order of shares."""
    part = [grid[index] for index in mine(len(grid), ranks.rank, ranks.size)]
    if threads <= 1 or len(part) <= 1:
        scratch = Scratch()
        for share in part:
            yield work(share, scratch)
        return
    idle: list[Scratch] = []

    def with_scratch(share: Sequence[Block]) -> T:
        scratch = idle.pop() if idle else Scratch()
        try:
            return work(share, scratch)
        finally:
            idle.append(scratch)

    with ThreadPoolExecutor(min(threads, len(part))) as pool:
        futures = [pool.submit(with_scratch, share) for share in part]
        try:
            for index, future in enumerate(futures):
                yield future.result()
                futures[index] = future.__class__()  # let the result go
        finally:
            for future in futures:
                future.cancel()


class _Worker:
    """A pass with its views numbered: updates first, then what else is read, then what is written."""

    def __init__(self, task: Pass) -> None:
        self.task = task
        self.files = [update.file for update in task.updates]
        views = [View(update.file.header, update.prefix) for update in task.updates]
        self.base: tuple[int, TensorFile] | None = None
        if task.base:
            self.base = (len(views), task.base.file)
            views.append(View(task.base.file.header, task.base.prefix))
        self.into = len(views)
        views.append(View(task.into.output.header, task.into.prefix))
        stateful = (
            [name for name in task.names if views[0].tensor(name).dtype in FLOATS] if task.server else []
        )
        plain = [name for name in task.names if name not in set(stateful)]
        merge = not isinstance(task.recipe, Called)
        size = BLOCK if isinstance(task.recipe, Linear) else block_elements(len(self.files))
        parts = segments(plain, views, merge=merge)
        self.state: dict[str, tuple[int, TensorFile]] = {}
        self.state_into: dict[str, tuple[int, Output]] = {}
        extended = list(views)
        for key, source in task.state.items():
            self.state[key] = (len(extended), source.file)
            extended.append(View(source.file.header, source.prefix))
        for key, sink in task.state_into.items():
            self.state_into[key] = (len(extended), sink.output)
            extended.append(View(sink.output.header, sink.prefix))
        self.stateful = frozenset(stateful)
        parts += segments(stateful, extended, merge=merge)
        self.shares = shares(list(blocks(parts, size)))

    def share(self, share: Sequence[Block], scratch: Scratch) -> None:
        """Make the blocks of one share."""
        for block in share:
            self._block(block, scratch)

    def _block(self, block: Block, scratch: Scratch) -> None:
        task = self.task
        value = block_of(task.recipe, self.files, block, scratch)
        base = self._read(block, *self.base) if self.base else None
        if task.server is not None and block.segment.names[0] in self.stateful:
            change = value - base if task.absolute and base is not None else value
            value = self._step(task.server, change, block)
            value = value + base if base is not None else value
        elif base is not None and not task.absolute:
            value = value + base
        self._write(block, self.into, task.into.output, value)

    def _step(self, server: Server, change: Floats, block: Block) -> Floats:
        state = {
            key: self._read(block, *self.state[key]) if key in self.state else np.full(block.size, begin)
            for key, begin in server.state.items()
        }
        step = server.step(change, state)
        for key, (view, output) in self.state_into.items():
            self._write(block, view, output, state[key])
        return step

    def _read(self, block: Block, view: int, file: TensorFile) -> Floats:
        raw = np.empty(block.size, DTYPES[block.segment.dtypes[view]])
        file.read_into(raw, block.begin(view))
        values = np.empty(block.size)
        widen(raw, block.segment.dtypes[view], values)
        return values

    def _write(self, block: Block, view: int, output: Output, values: Floats) -> None:
        output.write(narrow(values, block.segment.dtypes[view]), block.begin(view))
