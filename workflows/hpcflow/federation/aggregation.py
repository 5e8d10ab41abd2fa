"""Merging the updates of a round: who takes part, one or two passes over the files, what is published.

Every rank runs :func:`aggregate` with the same arguments. A rank reads its byte ranges of every update and writes
its ranges of the result; what ranks tell each other is names, reasons and, for strategies that look at distances,
matrices of updates by updates. The result is a function of the updates' contents and weights: not of their names
and order, nor of the number of ranks and threads.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import hpcflow
from hpcflow.errors import InputError, RunError
from hpcflow.federation.blas import one_thread
from hpcflow.federation.kernels import Culprits, distances
from hpcflow.federation.numbers import Floats
from hpcflow.federation.output import Output, Shapes
from hpcflow.federation.ranks import Alone, Ranks
from hpcflow.federation.selection import Candidate, Chosen, Refusal, canonical, choose
from hpcflow.federation.statistics import is_statistic
from hpcflow.federation.strategies import options_of
from hpcflow.federation.strategies.base import Contribution, Strategy
from hpcflow.federation.strategies.means import Scaffold
from hpcflow.federation.stream import (
    Pass,
    Sink,
    Source,
    collect,
    default_threads,
    product_shares,
    products,
    run,
)
from hpcflow.federation.tensorfile import FLOATS, BadFile, Header, TensorFile
from hpcflow.federation.update import AGGREGATE_FORMAT, CONTROL, Kind
from hpcflow.storage.publish import Entry

T = TypeVar("T")
STATE_FORMAT = "hpcflow-state/1"


class TooFew(RunError):
    """Fewer usable updates than are needed. ``refused`` says what was wrong with the others."""

    def __init__(self, message: str, refused: Sequence[Refusal]) -> None:
        self.refused = tuple(refused)
        super().__init__("\n".join([message, *map(str, refused)]))


@dataclass(frozen=True)
class Files:
    """Where things are. ``base`` is the round's base model, to which the step is added; ``state`` the server's
    state before the round and ``state_into`` after it.
    """

    into: Path
    base: Path | None = None
    state: Path | None = None
    state_into: Path | None = None


@dataclass(frozen=True)
class Aggregate:
    """What was done. ``entries`` has manifest entries by path where digests were asked for; ``seconds`` wall
    times of the stages on this rank.
    """

    accepted: tuple[str, ...]
    refused: tuple[Refusal, ...]
    num_samples: float
    kind: Kind
    entries: Mapping[Path, Entry] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def aggregate(
    candidates: Sequence[Candidate],
    strategy: Strategy,
    files: Files,
    *,
    round: int = 0,
    minimum: int = 1,
    verify: bool = True,
    digest: bool = False,
    about: Mapping[str, str] | None = None,
    ranks: Ranks | None = None,
    threads: int | None = None,
    patience_s: float | None = 0.0,
) -> Aggregate:
    """Merge ``candidates`` by ``strategy`` into ``files.into`` and publish it, and the server's state.

    Without a base the result is the combined change (or weights, where the updates hold weights); with one it is
    the new model. Updates that cannot be used are refused and the others merged, as long as ``minimum`` and the
    strategy's own least number are there; else raises :class:`TooFew`. ``about`` is kept in the metadata.
    ``patience_s`` is how long updates may be invisible (None: as their file system says). Raises
    InputError for what strategy and updates do not agree on, and RunError for a base or state that cannot be used.
    """
    _more_files(len(candidates))
    work = _Work(strategy, files, ranks or Alone(), threads or default_threads(), dict(about or {}), round)
    with ExitStack() as stack, one_thread():
        work.open(stack)
        began = time.perf_counter()
        chosen, refused = choose(
            candidates,
            work.ranks,
            stack,
            model=work.model,
            strategy=strategy,
            verify=verify,
            threads=work.threads,
            patience_s=patience_s,
        )
        # Reads a few pages of each, which may fail on one rank alone.
        unsorted = chosen
        chosen = together(work.ranks, lambda: canonical(unsorted))
        work.seconds["select"] = time.perf_counter() - began
        while True:
            least = max(1, minimum, strategy.least())
            if len(chosen) < least:
                raise TooFew(
                    f"{len(chosen)} of {len(candidates)} updates can be used, and {least} are needed", refused
                )
            try:
                return work.merge(chosen, refused, digest)
            except Culprits as culprits:
                bad = culprits.reasons
                refused += [
                    Refusal(chosen[i].candidate.name, chosen[i].candidate.path, bad[i]) for i in sorted(bad)
                ]
                chosen = [item for index, item in enumerate(chosen) if index not in bad]


def _more_files(number: int) -> None:
    """Raise the soft limit of open files to what is needed, as far as the hard one lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + 256
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(hard, wanted), hard))


def together(ranks: Ranks, action: Callable[[], T]) -> T:
    """Run ``action`` on every rank; if it fails on one, it fails on all, with one error.

    Raises Culprits with all ranks' reasons, or the first rank's other error. A rank that raised alone would leave
    the others waiting for ever.
    """
    error: BaseException | None = None
    try:
        value = action()
    except (Culprits, InputError, RunError) as caught:
        error = caught
    except (BadFile, OSError, ArithmeticError) as caught:
        error = RunError(f"the aggregation failed: {caught}")
    except Exception as caught:
        if ranks.size == 1:
            raise
        error = RunError(f"the aggregation failed on rank {ranks.rank}: {caught!r}")
    errors = [found for found in ranks.share(error) if found is not None]
    reasons: dict[int, str] = {}
    for found in errors:
        if not isinstance(found, Culprits):
            raise found
        reasons |= found.reasons
    if reasons:
        raise Culprits(reasons)
    return value


@dataclass
class _Work:
    strategy: Strategy
    files: Files
    ranks: Ranks
    threads: int
    about: dict[str, str]
    round: int
    base: TensorFile | None = None
    state: TensorFile | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def model(self) -> Header | None:
        return self.base.header if self.base else None

    def open(self, stack: ExitStack) -> None:
        def act() -> None:
            for key in ("base", "state"):
                path: Path | None = getattr(self.files, key)
                if path is None:
                    continue
                try:
                    setattr(self, key, stack.enter_context(TensorFile(path)))
                except BadFile as error:
                    raise RunError(f"{path} cannot be used as the {key}: it {error}") from error
                except OSError as error:
                    raise RunError(f"{path} cannot be used as the {key}: {error.strerror}") from error

        together(self.ranks, act)

    def merge(self, chosen: Sequence[Chosen], refused: Sequence[Refusal], digest: bool) -> Aggregate:
        kinds = {item.update.info.kind for item in chosen}
        if len(kinds) > 1:
            raise InputError("some updates hold weights and others deltas, which cannot be merged")
        kind = kinds.pop()
        absolute = kind == "weights"
        if absolute and (self.strategy.deltas or (self.strategy.server and self.base is None)):
            more = " (or a base to take from them)" if self.strategy.server else ""
            raise InputError(f"{self.strategy.name} needs deltas, and the updates hold weights{more}")
        # A base makes a model of the changes.
        result: Kind = "weights" if self.base else kind
        contributions = [Contribution(item.candidate.name, item.weight, item.update.info) for item in chosen]
        model = self.model or chosen[0].update.header
        shapes = [(n, t.dtype, t.shape) for n, t in model.tensors.items() if not n.startswith(CONTROL)]
        names = [name for name, _, _ in shapes]
        began = time.perf_counter()
        found = self._distances(names, chosen) if self.strategy.distances else None
        recipe = together(self.ranks, lambda: self.strategy.recipe(contributions, found, self.round))
        plain = together(self.ranks, lambda: self.strategy.statistics(contributions))
        spared = [name for name in names if plain and is_statistic(name)]
        trained = [name for name in names if name not in set(spared)]
        total = sum((item.weight for item in chosen), Fraction(0))
        outputs = [Output(self.files.into, shapes, self._metadata(chosen, result, total), self.ranks)]
        try:
            state = self._state_output(shapes)
            outputs += [state] if state else []
            for output in outputs:
                together(self.ranks, output.create)
                together(self.ranks, output.join)
            server = self.strategy.server
            prefixes = [f"{key}/" for key in server.state] if server else []
            sources, base = (
                [Source(item.update.file) for item in chosen],
                Source(self.base) if self.base else None,
            )
            task = Pass(
                trained,
                sources,
                recipe,
                Sink(outputs[0]),
                base,
                server,
                {p[:-1]: Source(self.state, p) for p in prefixes} if self.state else {},
                {p[:-1]: Sink(state, p) for p in prefixes} if state else {},
                absolute,
            )
            together(self.ranks, lambda: run(task, self.ranks, self.threads))
            if plain and spared:
                aside = Pass(spared, sources, plain, Sink(outputs[0]), base, absolute=absolute)
                together(self.ranks, lambda: run(aside, self.ranks, self.threads))
            if state and isinstance(self.strategy, Scaffold):
                self._control(self.strategy, trained, chosen, contributions, state)
            self.seconds["stream"] = time.perf_counter() - began
            entries = self._publish(outputs, digest)
        except BaseException:
            for output in outputs:
                output.discard()
            raise
        accepted = tuple(sorted(item.candidate.name for item in chosen))
        return Aggregate(accepted, tuple(refused), float(total), result, entries, dict(self.seconds))

    def _distances(self, names: Sequence[str], chosen: Sequence[Chosen]) -> Floats:
        updates = [Source(item.update.file) for item in chosen]
        grid = product_shares(names, updates)
        sums = together(self.ranks, lambda: products(grid, updates, self.ranks, self.threads))
        whole = self.ranks.share(collect(sums, len(grid), len(chosen), self.ranks))[0]
        return distances(whole)

    def _control(
        self,
        strategy: Scaffold,
        names: Sequence[str],
        chosen: Sequence[Chosen],
        contributions: Sequence[Contribution],
        state: Output,
    ) -> None:
        task = Pass(
            names,
            [Source(item.update.file, CONTROL) for item in chosen],
            together(self.ranks, lambda: strategy.control_recipe(contributions)),
            Sink(state, CONTROL),
            Source(self.state, CONTROL) if self.state else None,
        )
        together(self.ranks, lambda: run(task, self.ranks, self.threads))

    def _state_output(self, shapes: Shapes) -> Output | None:
        strategy = self.strategy
        wanted: Shapes = []
        shapes = [shape for shape in shapes if not is_statistic(shape[0])]
        if strategy.server:
            floats = [(n, "F64" if d == "F64" else "F32", s) for n, d, s in shapes if d in FLOATS]
            wanted = [(f"{key}/{n}", d, s) for key in strategy.server.state for n, d, s in floats]
        elif strategy.control:
            wanted = [(CONTROL + n, d, s) for n, d, s in shapes]
        if self.state and {n: (d, s) for n, d, s in wanted} != {
            n: (t.dtype, t.shape) for n, t in self.state.header.tensors.items()
        }:
            raise RunError(
                f"{self.files.state} is the state of another strategy or model than {strategy.name}'s"
            )
        if not wanted or self.files.state_into is None:
            return None
        about = {"format": STATE_FORMAT, "strategy": strategy.name, "round": str(self.round)}
        return Output(self.files.state_into, wanted, about, self.ranks)

    def _metadata(self, chosen: Sequence[Chosen], kind: Kind, total: Fraction) -> dict[str, str]:
        updates = sorted(
            [{"collaborator": item.candidate.name, "weight": float(item.weight)} for item in chosen],
            key=lambda entry: (str(entry["collaborator"]), entry["weight"]),
        )
        return {
            **self.about,
            "format": AGGREGATE_FORMAT,
            "kind": kind,
            "strategy": self.strategy.name,
            "options": json.dumps(options_of(self.strategy), sort_keys=True),
            "round": str(self.round),
            "num_samples": str(total) if total.denominator == 1 else repr(float(total)),
            "updates": json.dumps(updates, sort_keys=True),
            "code": hpcflow.__version__,
        }

    def _publish(self, outputs: Sequence[Output], digest: bool) -> dict[Path, Entry]:
        began = time.perf_counter()
        for output in outputs:
            together(self.ranks, output.flush)

        def act() -> dict[Path, Entry]:
            if self.ranks.rank:
                return {}
            # The state first: a model without its state would be the worse half.
            entries = {output.path: output.publish(digest=digest) for output in reversed(outputs)}
            return {path: entry for path, entry in entries.items() if entry}

        entries = together(self.ranks, act)
        self.seconds["publish"] = time.perf_counter() - began
        shared: dict[Path, Entry] = self.ranks.share(entries)[0]
        return shared
