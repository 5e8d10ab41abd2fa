"""metrics.jsonl as a task wrote it: an object a line, of which any may be broken or half written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

Line = Mapping[str, Any]
_LEFT_OUT = "; the line is left out"
_DECODER = json.JSONDecoder()


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
        return [float(value) for line in self.epochs if is_number(value := line.get(key))]


NUMBERS = frozenset(
    (
        "loss", "dice", "val_loss", "val_dice", "val_accuracy", "images_per_s", "allreduce_s", "train_s", "epoch_s",
        "input_s", "startup_s", "cpu_s", "peak_memory_mb", "learning_rate", "ranks",
    )
)  # fmt: skip
"""What is a number, or null, in any line that has it."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a metrics line is a number (JSON's true and false are none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


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
            complain(f"{path}:{number}: {why}")
        if item.get("event") == "epoch":
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
    """What is wrong with a line, empty if nothing is, and what of its object can be used. Empty lines and other
    events are fine.
    """
    if not (text := line.strip()):
        return "", {}
    try:
        item = _json(text)
    except (ValueError, RecursionError):
        return f"no JSON{_LEFT_OUT}", {}
    if not isinstance(item, dict):
        return f"no JSON object{_LEFT_OUT}", {}
    if item.get("event") == "epoch" and (type(item.get("epoch")) is not int or item["epoch"] < 1):
        return f"an epoch without its number{_LEFT_OUT}", {}
    return _checked(item) if item.get("event") in ("epoch", "end") else ("", item)


def _json(text: str | bytes) -> Any:
    """json.loads, of stripped text without the looking around that takes half its time for a short line."""
    if isinstance(text, bytes):
        return json.loads(text)
    item, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise ValueError(f"more after it: {text[end:]}")
    return item


def _checked(item: Line) -> tuple[str, Line]:
    """A line with a word for a number is broken; infinity, or what is no number to IEEE 754, is what a training that
    diverges writes, and nothing can be reckoned with it.
    """
    infinite = []
    for key, value in item.items():
        if key not in NUMBERS or value is None or (type(value) is float and value - value == 0.0):
            continue  # as nearly all are, told without a call
        if not is_number(value):
            return f"{key} is no number{_LEFT_OUT}", {}
        if not _is_finite(value):
            infinite.append(key)
    if not infinite:
        return "", item
    return f"{', '.join(sorted(infinite))}: not finite; the value is left out", {
        key: value for key, value in item.items() if key not in infinite
    }
