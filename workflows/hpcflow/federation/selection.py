"""Which of the candidate updates of a round can be used, and in what order they are added."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from hpcflow.errors import InputError
from hpcflow.federation.ranks import Ranks
from hpcflow.federation.strategies.base import Strategy
from hpcflow.federation.tensorfile import BadFile, Header
from hpcflow.federation.update import CONTROL, Expected, Update, complaint, damage, mismatch
from hpcflow.storage.publish import patience, persistently

_PROBES, _PROBE = 16, 1 << 12


@dataclass(frozen=True)
class Candidate:
    """An update that may take part: what is expected of it, and a weight that replaces its number of samples."""

    path: Path
    expected: Expected = field(default_factory=Expected)
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"{self.path}: {self.weight} is no weight (a finite number from 0 on)")

    @property
    def name(self) -> str:
        """Who should have written it, or the file's name."""
        return self.expected.collaborator or self.path.stem


@dataclass(frozen=True)
class Refusal:
    """An update that is not used; ``reason`` completes "the update ..."."""

    name: str
    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: the update {self.reason}"


@dataclass(frozen=True)
class Chosen:
    """An update that is used, and its weight."""

    candidate: Candidate
    update: Update
    weight: Fraction


def choose(
    candidates: Sequence[Candidate],
    ranks: Ranks,
    files: ExitStack,
    *,
    model: Header | None,
    strategy: Strategy,
    verify: bool,
    threads: int,
    patience_s: float | None,
) -> tuple[list[Chosen], list[Refusal]]:
    """Open and check all candidates; every rank comes to the same answer.

    Chosen ones are in the order of the candidates. Files are closed with ``files``. ``model`` None takes the tensors
    that most of them have. With ``verify`` each is read whole by one of the ranks, where it says its digest.
    """
    updates: list[Update | None] = []
    reasons: list[str | None] = []
    if patience_s is None:
        patience_s = max((patience(candidate.path) for candidate in candidates[:1]), default=0.0)
    deadline = time.monotonic() + patience_s
    for candidate in candidates:
        opened = _open(candidate, deadline)
        updates.append(None if isinstance(opened, str) else files.enter_context(opened))
        reasons.append(opened if isinstance(opened, str) else None)
    reference = model or _most_common([update for update in updates if update], strategy.control)
    for index, (candidate, update) in enumerate(zip(candidates, updates, strict=True)):
        if update and reasons[index] is None:
            reasons[index] = _complaint(candidate, update, reference, strategy)
    reasons = _agree(reasons, ranks)
    if verify:
        dealt = [
            (index, update)
            for index, update in enumerate(updates)
            if update and reasons[index] is None and index % ranks.size == ranks.rank and update.info.sha256
        ]
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for (index, _), found in zip(dealt, pool.map(lambda item: _damage(item[1]), dealt), strict=True):
                reasons[index] = found
        reasons = _agree(reasons, ranks)
    chosen, refused = [], []
    for candidate, update, reason in zip(candidates, updates, reasons, strict=True):
        if update and reason is None:
            chosen.append(Chosen(candidate, update, _weight(candidate, update)))
        else:
            refused.append(Refusal(candidate.name, candidate.path, reason or "cannot be read"))
    return chosen, refused


def _open(candidate: Candidate, deadline: float) -> Update | str:
    by_hand = candidate.expected.collaborator is None

    def opened(path: Path) -> Update:
        return Update(path, links=by_hand)

    try:
        return persistently(opened, candidate.path, max(0.0, deadline - time.monotonic()))
    except BadFile as error:
        return str(error)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _most_common(updates: Sequence[Update], control: bool) -> Header | None:
    def key(update: Update) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        return tuple(sorted((name, t.dtype, t.shape) for name, t in update.header.tensors.items()))

    # Most updates of a round share one table, see tensorfile.py.
    keys = {
        id(update.header.tensors): key(update)
        for update in {id(u.header.tensors): u for u in updates}.values()
    }
    counts = Counter(keys[id(update.header.tensors)] for update in updates)
    if not counts:
        return None
    best = max(counts, key=lambda table: (counts[table], table))
    header = next(u.header for u in updates if keys[id(u.header.tensors)] == best)
    if not control:
        return header
    plain = {name: tensor for name, tensor in header.tensors.items() if not name.startswith(CONTROL)}
    return Header(plain, {}, header.start)


def _complaint(
    candidate: Candidate, update: Update, reference: Header | None, strategy: Strategy
) -> str | None:
    found = complaint(update, candidate.expected)
    if found is None and reference is not None:
        found = mismatch(update.header, reference, control=strategy.control)
    if found is None:
        found = strategy.complaint(update.info)
    weighted = getattr(strategy, "by", "uniform") == "samples"
    if found is None and weighted and candidate.weight is None and update.info.num_samples is None:
        found = (
            "does not say its num_samples (in its metadata, or weigh uniformly with the option by=uniform)"
        )
    return found


def _agree(reasons: Sequence[str | None], ranks: Ranks) -> list[str | None]:
    """Where one rank has a reason, all have it."""
    everyone = ranks.share(list(reasons))
    return [next((reason for reason in column if reason), None) for column in zip(*everyone, strict=True)]


def _damage(update: Update) -> str | None:
    try:
        return damage(update)
    except BadFile as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _weight(candidate: Candidate, update: Update) -> Fraction:
    return (
        Fraction(candidate.weight) if candidate.weight is not None else update.info.num_samples or Fraction(1)
    )


def canonical(chosen: Sequence[Chosen]) -> list[Chosen]:
    """Sorted by weight and contents: names and the order of arguments make no difference to the sum.

    Contents are compared by the digest of a few pages, and where those are equal by the digest of everything.
    """
    probes = [(item.weight, _probe(item.update)) for item in chosen]
    twins = {probe for probe, count in Counter(probes).items() if count > 1}
    keys = [
        (*probe, _whole(item.update) if probe in twins else b"")
        for probe, item in zip(probes, chosen, strict=True)
    ]
    return [chosen[index] for index in sorted(range(len(chosen)), key=keys.__getitem__)]


def _probe(update: Update) -> bytes:
    size = update.header.size - update.header.start
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    buffer = np.empty(min(_PROBE, size), "u1")
    for number in range(_PROBES if size else 0):
        update.file.read_into(buffer, (size - len(buffer)) * number // (_PROBES - 1))
        digest.update(buffer.data)
    return digest.digest()


def _whole(update: Update) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(update.header.tensors):
        tensor = update.header.tensors[name]
        for at in range(tensor.begin, tensor.end, 1 << 20):
            buffer = np.empty(min(1 << 20, tensor.end - at), "u1")
            update.file.read_into(buffer, at)
            digest.update(buffer.data)
    return digest.digest()
