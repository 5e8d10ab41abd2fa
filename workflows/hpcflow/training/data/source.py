"""Where a run's data set is: the folder that the user named, or phantoms kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcflow.errors import InputError
from hpcflow.experiment.schema import Data, Phantom
from hpcflow.storage.publish import publishing_directory
from hpcflow.training.data.phantom import PhantomSpec, write_phantoms


def source_folder(data: Data, named: str, cache: Path) -> Path:
    """The data set's folder: ``named`` if it is not empty, else that of the phantoms in ``cache``.

    Nothing is looked at or made. Raises InputError where the experiment names neither.
    """
    if named:
        return Path(named)
    if data.phantom is None:
        raise InputError(
            "no data set: set storage.data to its folder, or training.data.phantom to make phantoms"
        )
    return cache / f"phantom-{_digest(data.phantom)}"


def ensure_phantoms(
    data: Data, named: str, cache: Path, progress: Callable[[int, int], None] = lambda *_: None
) -> Path:
    """:func:`source_folder`, after making the phantoms where they are asked for and missing."""
    folder = source_folder(data, named, cache)
    if not named and data.phantom is not None and not (folder / "dataset.json").exists():
        with publishing_directory(folder) as temporary:
            said = data.phantom
            spec = PhantomSpec(
                shape=said.shape,
                contrast=said.contrast,
                tumour_radius=said.tumour_radius,
                tumour_rate=said.tumour_rate,
            )
            write_phantoms(temporary, said.subjects, spec, said.seed, progress)
    return folder


def _digest(phantom: Phantom) -> str:
    # The leading number is the phantoms' own version: raise it when write_phantoms changes their bytes.
    parts: list[Any] = [1, phantom.subjects, list(phantom.shape), phantom.seed]
    # What looks as it does by default is not named: sets that were made before there was a choice are still found.
    looks = phantom.model_dump(
        mode="json", include={"contrast", "tumour_radius", "tumour_rate"}, exclude_defaults=True
    )
    parts += [looks] if looks else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
