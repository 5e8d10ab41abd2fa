"""Sharing a data set among collaborators: by institution, alike, or with a known kind of difference.

A partition is a mapping of collaborator to the positions of its items, rising; every item is somebody's, once. It
is a function of its arguments alone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcflow.errors import InputError
from hpcflow.federation.seeds import generator

Partition = dict[str, NDArray[np.int64]]
# Headings of the two columns, as FeTS's partitioning files and others have them.
SUBJECT_COLUMNS = ("Subject_ID", "subject", "subject_id", "id", "name", "item")
INSTITUTION_COLUMNS = ("Partition_ID", "institution", "Institution", "collaborator", "site", "center")
_TRIES = 1000


def names(number: int) -> list[str]:
    """c00, c01, ...: what collaborators are called who have no names."""
    digits = max(2, len(str(number - 1)))
    return [f"c{index:0{digits}d}" for index in range(number)]


def iid(items: int, collaborators: int, seed: int = 0) -> Partition:
    """Shuffled and cut into shares of equal sizes, to one item."""
    _enough(items, collaborators)
    order = generator(seed, "partition", "iid").permutation(items)
    return _named(np.array_split(order, collaborators))


def by_sizes(items: int, sizes: Sequence[int | float], seed: int = 0) -> Partition:
    """Shuffled and cut by ``sizes``: whole numbers that add up to ``items``, or shares that add up to 1 (rounded by
    largest remainder). Raises InputError otherwise.
    """
    shares = np.asarray(sizes, np.float64)
    if not len(shares) or not np.isfinite(shares).all() or (shares <= 0).any():
        raise InputError("sizes: each must be a positive number")
    if abs(float(shares.sum()) - 1.0) < 1e-6 and items != 1:
        exact = shares / shares.sum() * items
        counts = np.floor(exact).astype(np.int64)
        for index in np.argsort(counts - exact, kind="stable")[: items - int(counts.sum())]:
            counts[index] += 1
    else:
        counts = shares.astype(np.int64)
        if (counts != shares).any() or int(counts.sum()) != items:
            raise InputError(
                f"sizes: they add up to {shares.sum():g} (whole numbers that add up to the {items} items, or shares "
                "that add up to 1)"
            )
    order = generator(seed, "partition", "sizes").permutation(items)
    return _named(np.split(order, np.cumsum(counts)[:-1]))


def dirichlet(
    labels: Sequence[object], collaborators: int, alpha: float, seed: int = 0, minimum: int = 1
) -> Partition:
    """Of every label each collaborator gets a share drawn from a symmetric Dirichlet(``alpha``) (Hsu et al. 2019;
    in the form of Yurochkin et al. 2019 and Li et al. 2022): small alpha, few labels each; large alpha, alike.

    Drawn anew until everybody has ``minimum`` items; raises InputError when that does not come about.
    """
    _enough(len(labels), collaborators * minimum)
    if not alpha > 0 or not np.isfinite(alpha):
        raise InputError(f"alpha is {alpha} (a positive number; 0.1 is very uneven, 100 is nearly even)")
    groups = _groups(labels)
    draw = generator(seed, "partition", "dirichlet")
    for _ in range(_TRIES):
        parts: list[list[NDArray[np.int64]]] = [[] for _ in range(collaborators)]
        for members in groups:
            shuffled = draw.permutation(members)
            shares = draw.dirichlet(np.full(collaborators, alpha))
            cuts = np.rint(np.cumsum(shares)[:-1] * len(shuffled)).astype(np.int64)
            for part, piece in zip(parts, np.split(shuffled, cuts), strict=True):
                part.append(piece)
        whole = [np.concatenate(part) for part in parts]
        if min(map(len, whole)) >= minimum:
            return _named(whole)
    raise InputError(
        f"no Dirichlet({alpha:g}) draw of {_TRIES} leaves {minimum} items for each of {collaborators} collaborators "
        "(a larger alpha, or fewer collaborators)"
    )


def by_labels(labels: Sequence[object], collaborators: int, each: int, seed: int = 0) -> Partition:
    """Every collaborator has ``each`` labels (McMahan et al. 2017's pathological split has 2) and an equal share of
    the items of each. Labels are dealt so that all are used alike. Raises InputError where it does not work out.
    """
    groups = _groups(labels)
    if not 1 <= each <= len(groups):
        raise InputError(f"{each} labels a collaborator: the data has {len(groups)}")
    if collaborators * each < len(groups):
        raise InputError(
            f"{collaborators} collaborators of {each} labels cannot hold all {len(groups)} labels (more of either)"
        )
    draw = generator(seed, "partition", "labels")
    holders: list[list[int]] = [[] for _ in groups]
    # Each takes the labels that the fewest hold; draws decide among equals.
    for collaborator in draw.permutation(collaborators):
        ties = draw.random(len(groups))
        for label in sorted(range(len(groups)), key=lambda index: (len(holders[index]), ties[index]))[:each]:
            holders[label].append(int(collaborator))
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(collaborators)]
    for members, owners in zip(groups, holders, strict=True):
        _enough(len(members), len(owners))
        for owner, piece in zip(owners, np.array_split(draw.permutation(members), len(owners)), strict=True):
            parts[owner].append(piece)
    return _named([np.concatenate(part) for part in parts])


def by_institution(subjects: Sequence[str], table: Mapping[str, str]) -> Partition:
    """As ``table`` says of each subject. Raises InputError naming those of which it says nothing."""
    missing = [subject for subject in subjects if subject not in table]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(f"no institution is named for {', '.join(missing[:3])}{more}")
    parts: dict[str, list[int]] = {}
    for index, subject in enumerate(subjects):
        parts.setdefault(table[subject], []).append(index)
    return {name: np.array(parts[name], np.int64) for name in sorted(parts)}


def read_institutions(
    path: Path, subject: str | None = None, institution: str | None = None
) -> dict[str, str]:
    """Subject to institution from a CSV file with a heading, as FeTS's partitioning_1.csv (Partition_ID,
    Subject_ID). Raises InputError.
    """
    rows, columns = read_csv(path)
    key = column(path, columns, subject, SUBJECT_COLUMNS, "subject")
    value = column(path, columns, institution, INSTITUTION_COLUMNS, "institution")
    table: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, where = (row[key] or "").strip(), (row[value] or "").strip()
        if not name or not where:
            raise InputError(f"{path}:{number}: a subject or an institution is missing")
        if table.setdefault(name, where) != where:
            raise InputError(f"{path}:{number}: {name} is in {table[name]} and in {where}")
    return table


def read_csv(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Rows and headings of a CSV file. Raises InputError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
            return rows, list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None


def column(path: Path, columns: Sequence[str], wanted: str | None, usual: Sequence[str], what: str) -> str:
    """The heading ``wanted``, or the first of the ``usual`` ones that is there. Raises InputError."""
    for name in (wanted,) if wanted else usual:
        if name in columns:
            return name
    raise InputError(f"{path}: which column is the {what}? (it has {', '.join(columns) or 'none'})")


def _named(parts: Sequence[NDArray[np.int64]]) -> Partition:
    return {name: np.sort(part) for name, part in zip(names(len(parts)), parts, strict=True)}


def _groups(labels: Sequence[object]) -> list[NDArray[np.int64]]:
    _, codes = np.unique(np.asarray([str(label) for label in labels]), return_inverse=True)
    return [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)]


def _enough(items: int, needed: int) -> None:
    if needed < 1 or items < needed:
        raise InputError(f"{items} items cannot be shared among {needed} collaborators")
