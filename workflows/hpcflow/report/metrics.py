"""metrics.jsonl as a task wrote it: an object a line, of which any may be broken or half written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Metrics:
    """The epochs in order, of each its last line, and the line of the end; both as far as they were
    written."""

    epochs: tuple[Line, ...] = ()
    end: Line = field(default_factory=dict)

    @property
    def last(self) -> Line:
        """The line of the last epoch; empty before there is one."""
        return self.epochs[-1] if self.epochs else {}

    def values(self, key: str) -> list[float]:
        """The numbers that the epochs have under ``key``."""
        return [float(line[key]) for line in self.epochs if is_number(line.get(key))]


def is_number(value: Any) -> bool:
    """Whether a value of a metrics line is a number (JSON's true and false are none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read(path: Path, complain: Callable[[str], None] = lambda _: None) -> Metrics:
    """The metrics at ``path``, empty where there are none; ``complain`` gets `FILE:LINE: why` for a broken
    line."""
    try:
        lines = _lines(path.read_bytes())
    except FileNotFoundError:
        return Metrics()
    except OSError as error:
        complain(f"{path}: {error.strerror}")
        return Metrics()
    epochs: dict[int, Line] = {}
    end: Line = {}
    for number, line in enumerate(lines, 1):
        why, item = parsed(line)
        if why:
            complain(f"{path}:{number}: {why}; the line is left out")
        elif item.get("event") == "epoch":
            epochs[item["epoch"]] = item
        elif item.get("event") == "end":
            end = item
    return Metrics(tuple(epochs[epoch] for epoch in sorted(epochs)), end)


def _lines(data: bytes) -> Sequence[str | bytes]:
    """Text is parsed twice as fast as bytes; where not all is text, each line is left to break by itself."""
    try:
        return data.decode().split("\n")
    except UnicodeDecodeError:
        return data.split(b"\n")


def parsed(line: str | bytes) -> tuple[str, Line]:
    """What is wrong with a line, empty if nothing is, and its object. Empty lines and other events are
    fine."""
    if not line.strip():
        return "", {}
    try:
        item = json.loads(line)
    except (ValueError, RecursionError):
        return "no JSON", {}
    if not isinstance(item, dict):
        return "no JSON object", {}
    if item.get("event") == "epoch" and type(item.get("epoch")) is not int:
        return "an epoch without its number", {}
    return "", item
