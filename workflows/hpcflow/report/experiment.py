"""A task's resolved experiment as plain data: a report must also read what an older or newer schema wrote."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(path: Path) -> Mapping[str, Any]:
    """The mapping at ``path``; empty where there is none, or it is damaged."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return {}


def parse(text: bytes) -> Mapping[str, Any]:
    """The mapping that ``text`` is; empty where it is none. JSON, in which trials are kept, is read 50 times as fast."""
    with contextlib.suppress(ValueError, RecursionError):
        made = json.loads(text)
        return made if isinstance(made, dict) else {}
    import yaml

    loader: Any = getattr(
        yaml, "CSafeLoader", yaml.SafeLoader
    )  # C: 10 times as fast, absent from some builds
    try:
        data = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def value(data: Any, dotted: str) -> Any:
    """What stands under a dotted key; None where nothing does."""
    for key in dotted.split("."):
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list) and key.isdecimal() and int(key) < len(data):
            data = data[int(key)]
        else:
            return None
    return data
