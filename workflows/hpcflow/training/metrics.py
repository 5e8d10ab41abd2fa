"""metrics.jsonl and what is seen of an epoch on the terminal. Rank 0 writes; nobody else does.

A line of "event": "epoch" holds epoch (from 1); loss, dice, val_loss, val_dice over all ranks (loop.Trained
and loop.Validated say how); images_per_s, training images (3-D: volumes) of all ranks a second of train_s;
train_s, the training steps; allreduce_s, the seconds of them spent averaging gradients, mean over ranks (see
strategies.horovod.HorovodTape); epoch_s, training and validation without the checkpoint; learning_rate of the
last step; ranks; time, UTC.

The last line, "event": "end", repeats the last epoch's values and adds best_epoch and best_val_dice;
startup_s, from the start of the process to the first step (imports, MPI, data, model, tracing); input_s, what
steps waited for input, mean over ranks; total_s of this attempt; resumed_from, the epoch of the checkpoint it
went on from, or 0; stripes, what was done for the folder of checkpoints (storage/stripes.py); and, where data is staged,
stage_s and staged_bytes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from hpcflow.storage.publish import publish_bytes


class MetricsLog:
    """One JSON object a line: {"event": "epoch", ...} for each epoch and {"event": "end", ...} last.

    A line is appended and flushed to the disk before the checkpoint of its epoch is committed, so that no
    committed epoch lacks its line; :meth:`rewind` removes the lines of epochs that were not committed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, epoch: int, *, finished: bool) -> list[dict[str, Any]]:
        """Keep the lines of epochs up to ``epoch``, drop what follows or is broken, and return those kept.

        Unless the training is ``finished`` with that epoch, the line of an earlier end goes as well.
        """
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        kept = [line for line in lines if _epoch_of(line) <= epoch]
        kept = [line for line in kept if finished or json.loads(line).get("event") != "end"]
        if kept != lines:
            publish_bytes(self.path, b"".join(kept))
        return [json.loads(line) for line in kept]

    def append(self, event: str, values: Mapping[str, Any]) -> None:
        """Write one line, with the time (UTC) of writing."""
        record = {"event": event, **values, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with self.path.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _epoch_of(line: bytes) -> float:
    """The epoch of a line; infinity for one that is broken. The end counts as its last epoch."""
    try:
        return int(json.loads(line)["epoch"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")


@dataclass
class Terminal:
    """A progress line that is written over on a terminal, and one plain line for each epoch everywhere.

    The progress goes to stderr: mpirun gives every rank a pseudo-terminal as its stdout, also in a batch job.
    """

    epochs: int
    out: TextIO = sys.stdout
    live: TextIO = sys.stderr

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Show that ``step`` of ``steps`` is done (both from 1)."""
        if self.live.isatty():
            text = f"epoch {epoch}/{self.epochs}  step {step}/{steps}  loss {loss:.4f}"
            print(f"\r\x1b[K{text}", end="", file=self.live, flush=True)

    def epoch(self, values: Mapping[str, Any]) -> None:
        """Print the line of an epoch."""
        if self.live.isatty():
            print("\r\x1b[K", end="", file=self.live, flush=True)
        print(
            f"epoch {values['epoch']}/{self.epochs}  loss {values['loss']:.4f}  dice {values['dice']:.4f}  "
            f"val_loss {values['val_loss']:.4f}  val_dice {values['val_dice']:.4f}  "
            f"{values['images_per_s']:.1f} images/s  allreduce {values['allreduce_s']:.2f} s  "
            f"{values['epoch_s']:.1f} s",
            file=self.out,
            flush=True,
        )

    def say(self, text: str) -> None:
        """Print one plain line."""
        print(text, file=self.out, flush=True)
