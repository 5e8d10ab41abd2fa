"""What a run will write at most, known from its plan, against the room there is."""

from __future__ import annotations

from pathlib import Path

from hpcflow.errors import RunError
from hpcflow.experiment import Loaded
from hpcflow.jobs import shell
from hpcflow.storage.space import human, room
from hpcflow.training.models.size import KEPT, checkpoint_bytes

UNETS = ("unet2d", "unet3d")
FILES = 40  # of a task: script, records, metrics, a file a rank, checkpoints


def bytes_needed(loaded: Loaded, tasks: int) -> int:
    """Checkpoints that ``tasks`` trainings keep at once. What else they write is little beside it."""
    training = loaded.experiment.training
    if training.model.name not in UNETS:
        return 0
    return tasks * KEPT * checkpoint_bytes(training.model, len(training.data.modalities))


def ensure(loaded: Loaded, tasks: int) -> None:
    """Raise InputError, with the numbers, where the run does not fit into its folder's file system or quota."""
    wanted = bytes_needed(loaded, tasks)
    try:
        free = room(Path(shell.expand(loaded.experiment.storage.runs)))
    except (OSError, RunError):
        return  # what is wrong with the folder is said by whoever writes there
    if free.bytes is not None and free.bytes < wanted:
        each = human(wanted // (tasks * KEPT))
        raise loaded.problem(
            "storage.runs",
            f"the run needs {human(wanted)} ({tasks} x {KEPT} checkpoints of {each}), and {free.whose} in "
            f"{free.folder} is {human(free.bytes)} (make room, or name another folder)",
        )
    if free.files is not None and free.files < tasks * FILES:
        raise loaded.problem(
            "storage.runs",
            f"the run makes about {tasks * FILES} files, and {free.whose} in {free.folder} is {free.files} of them "
            "(make room, or name another folder)",
        )
