"""What is kept of an image: IMAGE.json beside it. With it, what lies at a name is known to be what was built there.

The note goes into the provenance of every run that uses the image.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcflow.containers import sif
from hpcflow.containers.tree import Summary, digest, summary
from hpcflow.storage.publish import read_published

LABEL = "hpcflow.inputs"
"""The label that says of an image that hpcflow built it, and from what."""


@dataclass(frozen=True)
class Note:
    """What is kept of an image. ``sha256`` is that of a SIF, or of all names, modes and bytes in a directory (None
    where some of them may not be read).
    """

    definition: str
    inputs: str
    sha256: str | None
    files: int
    size: int
    mtime_ns: int
    built: str
    seconds: float
    runtime: str
    hpcflow: str
    commit: str

    def of(self, image: Path) -> bool:
        """Whether this is the note of what is there now, as it was built."""
        return summary(image) == Summary(self.files, self.size, self.mtime_ns)


def note_path(image: Path) -> Path:
    """IMAGE.json."""
    return image.with_name(image.name + ".json")


def read_note(image: Path) -> Note | None:
    """The note beside an image, if it is of this very image."""
    try:
        note = Note(**json.loads(read_published(note_path(image), patience_s=0)))
        return note if note.of(image) else None
    except (OSError, ValueError, TypeError):
        return None


def about(image: Path) -> dict[str, Any]:
    """An image for the provenance of a run: its digest and where it came from."""
    note = read_note(image)
    if note:
        return {"image": str(image), **asdict(note)}
    return {"image": str(image), "sha256": None if image.is_dir() else digest(image)}


def obstacle(image: Path, *, force: bool) -> str:
    """Why an image may not be put at ``image``: what lies there is no image, or one that was changed by hand.

    Empty where nothing would be lost: there is nothing, a SIF, or a sandbox as hpcflow built it (with ``force``, any
    sandbox that hpcflow built). Raises OSError.
    """
    note = note_path(image)
    if note.exists() and not _is_note(note):
        return f"{note} is no note of an image and would be overwritten (name another image with -o)"
    if not image.exists():
        return ""
    if not image.is_dir():
        known = image.is_file() and sif.head(image) is not None
        return "" if known else f"{image} is no image and would be overwritten (name another file with -o)"
    if not _is_ours(image):
        return f"{image} is a folder that hpcflow did not build (name another image with -o, or remove it)"
    if not force and read_note(image) is None:
        return f"{image} was changed since it was built (--force builds it anew, without the changes)"
    return ""


def _is_note(path: Path) -> bool:
    try:
        return {"definition", "inputs", "built"} <= set(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return False


def _is_ours(sandbox: Path) -> bool:
    try:
        return LABEL in json.loads((sandbox / ".singularity.d" / "labels.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False
