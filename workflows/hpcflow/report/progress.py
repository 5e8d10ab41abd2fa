"""How far training tasks are, from the metrics that they write.

Figures: of a file the last 8 KiB are read, and only when its size or time changed; of an array at most 200 tasks, evenly
over it, stand for all of them. A thousand running tasks thus cost 200 calls of stat a second and a read for each epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hpcflow.jobs.rundir import TaskDir
from hpcflow.report import metrics
from hpcflow.report.cache import Stamp, stamp
from hpcflow.report.metrics import is_number

TAIL = 8192
SAMPLE = 200


@dataclass(frozen=True)
class Progress:
    """The last epoch that ended; of several tasks the mean of these, and medians of the rest. Numbers that were not
    written are None.
    """

    epoch: float
    epochs: int | None
    images_per_s: float | None
    loss: float | None
    val_dice: float | None

    @property
    def count(self) -> str:
        """`3/10`; of several tasks `3.4/10`."""
        done = f"{self.epoch:.0f}" if self.epoch == int(self.epoch) else f"{self.epoch:.1f}"
        return done + (f"/{self.epochs}" if self.epochs else "")

    @property
    def line(self) -> str:
        """In words, for a plain line."""
        parts = [f"epoch {self.count}"]
        values = (("loss", self.loss), ("val_dice", self.val_dice))
        parts += [f"{name} {value:.4f}" for name, value in values if value is not None]
        return "  ".join(
            [*parts, *([f"{self.images_per_s:.1f} images/s"] if self.images_per_s is not None else [])]
        )


class Reader:
    """Reads progress again and again, and only what has changed."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[Stamp, Progress | None]] = {}

    def of(self, task: TaskDir) -> Progress | None:
        """The progress of a task; None while it has no epoch behind it, or trains nothing."""
        now = stamp(task.metrics)
        before = self._seen.get(task.metrics)
        if before is None or before[0] != now:
            before = self._seen[task.metrics] = (now, _read(task) if now else None)
        return before[1]

    def of_all(self, tasks: Sequence[TaskDir]) -> Progress | None:
        """The progress of several tasks together; those without an epoch count as 0. None while none has one."""
        step = max(1, -(-len(tasks) // SAMPLE))
        each = [self.of(task) for task in tasks[::step]]
        found = [one for one in each if one is not None]
        if len(tasks) == 1 or not found:
            return found[0] if found else None
        asked = {one.epochs for one in found}
        medians = (
            _median([getattr(one, name) for one in found]) for name in ("images_per_s", "loss", "val_dice")
        )
        epoch = sum(one.epoch for one in found) / len(each)
        return Progress(epoch, asked.pop() if len(asked) == 1 else None, *medians)


def _read(task: TaskDir) -> Progress | None:
    last = _last(task.metrics)
    if not last:
        return None
    loss, dice, speed = (_number(last.get(key)) for key in ("loss", "val_dice", "images_per_s"))
    return Progress(last["epoch"], epochs_of(task.experiment), speed, loss, dice)


def _last(path: Path) -> metrics.Line:
    """The line of the last epoch, from the end of the file where that will do."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            start = max(0, file.tell() - TAIL)
            file.seek(start)
            lines = file.read().split(b"\n")[1 if start else 0 :]
    except OSError:
        return {}
    epochs = [line for line in (metrics.parsed(text)[1] for text in lines) if line.get("event") == "epoch"]
    if not epochs and start:
        return metrics.read(path).last
    return max(epochs, key=lambda line: int(line["epoch"]), default={})


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    import statistics  # 5 ms, and most tasks of a large run have no epoch yet

    return statistics.median(known)


@cache
def epochs_of(experiment: Path) -> int | None:
    """The epochs that a task is asked for; None where its experiment does not say so."""
    from hpcflow.report.experiment import read, value

    found = value(read(experiment), "training.epochs")
    return found if type(found) is int else None


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
