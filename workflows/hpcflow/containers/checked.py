"""Checking an image once: `submit` need not start two ranks each time in an image that started them before."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import astuple
from pathlib import Path

from hpcflow.containers import check
from hpcflow.containers.tree import summary
from hpcflow.doctor.finding import Finding
from hpcflow.errors import RunError, SiteError
from hpcflow.experiment import Loaded
from hpcflow.experiment.container import Container
from hpcflow.flows.target import Target
from hpcflow.jobs import shell
from hpcflow.storage.publish import publish_text


def ensure(loaded: Loaded, target: Target) -> None:
    """Raise InputError or SiteError, in one sentence, where ranks would not start right in the image."""
    container = loaded.experiment.container
    if container is None or not container.check:
        return
    note = _note(container, target)
    if note and note.exists():
        return
    findings = check.examine(loaded.experiment, target)
    bad = next((finding for finding in findings if finding.level == "problem"), None)
    if bad is not None:
        raise _error(loaded, bad)
    if note:
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            publish_text(note, "")
        except OSError:
            pass  # then it is checked again next time


def _error(loaded: Loaded, bad: Finding) -> Exception:
    message = f"{bad.what} ({bad.do}; container.check: false submits all the same)"
    if bad.name == "runtime":
        return SiteError(f"container: {message}")
    return loaded.problem("container.image", message)


def _note(container: Container, target: Target) -> Path | None:
    """The file that stands for "this was checked": its name changes with whatever the answer depends on."""
    try:
        image = Path(shell.expand(container.image))
        found = (str(image), image.stat().st_ino, *astuple(summary(image)))
    except (OSError, RunError):
        return None
    facts = (
        container.model_dump(mode="json"),
        found,
        (target.launcher, target.launcher_version, target.prefix, target.mpi_plugin, target.as_root),
        (platform.node(), os.environ.get("PATH")),
    )
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "hpcflow" / "checked" / key
