"""Random numbers that are a function of what they are for: a rerun of any part gives the same ones."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for, say, (seed, "order", round, collaborator). Equal arguments give equal numbers, on every
    machine; other arguments independent ones.
    """
    text = json.dumps([seed, *purpose], ensure_ascii=True)
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")))


def sample(names: list[str], fraction: float, minimum: int, seed: int, round: int) -> list[str]:
    """The collaborators of a round: ceil(``fraction`` of them), at least ``minimum``, in the order of ``names``.

    A function of (seed, round, name): each name draws a number, and the smallest take part. So it does not depend
    on the order of the list.
    """
    number = max(1, min(len(names), max(minimum, int(np.ceil(fraction * len(names) - 1e-9)))))
    drawn = {name: float(generator(seed, "participation", round, name).random()) for name in names}
    chosen = set(sorted(names, key=lambda name: (drawn[name], name))[:number])
    return [name for name in names if name in chosen]
