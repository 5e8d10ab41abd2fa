"""Which subjects validate. By subject, never by slice: two slices of one brain are nearly one image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from hpcflow.errors import InputError


@dataclass(frozen=True)
class Split:
    """Positions in the list of subjects; together all of them, none in both."""

    training: tuple[int, ...]
    validation: tuple[int, ...]


def split_subjects(subjects: Sequence[str], fraction: float, seed: int) -> Split:
    """Hold out round(``fraction`` x subjects) for validation, at least one and not all.

    Subjects are ordered by the SHA-256 of seed and name and the first ones validate. So the split depends on
    names, seed and fraction alone: not on the number of ranks, the order of the list, the machine or a
    library's generator; and a subject that is added moves few others. Raises InputError for fewer than two
    subjects.
    """
    if len(subjects) < 2:
        raise InputError(
            f"the data set has {len(subjects)} subject: one to train and one to validate are needed"
        )
    held = min(len(subjects) - 1, max(1, round(fraction * len(subjects))))
    digests = [hashlib.sha256(f"{seed}\n{name}".encode()).digest() for name in subjects]
    order = sorted(range(len(subjects)), key=digests.__getitem__)
    return Split(tuple(sorted(order[held:])), tuple(sorted(order[:held])))
