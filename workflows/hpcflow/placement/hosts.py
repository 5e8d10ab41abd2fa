"""Names of hosts, checked where they enter: they go into rankfiles, launch lines and pictures as they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hpcflow.errors import InputError

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """The names. Raises InputError for one that no host can have, and for one that is there twice."""
    for name in names:
        if not NAME.fullmatch(name):
            raise InputError(
                f"hosts: {name!r} is no name of a host (letters, digits, dots, dashes and underscores)"
            )
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"hosts: {', '.join(twice)} is named twice (each host once; its ranks are counted)")
    return tuple(names)
