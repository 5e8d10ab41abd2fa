"""Calling one of Slurm's commands, in an environment without what would steer it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcflow.engines import commands
from hpcflow.errors import SiteError

# slurmctld answers within its MessageTimeout (10 s) or not at all; a busy one is retried by sbatch.
TIMEOUT_S = 60


def call(
    argv: Sequence[str],
    *,
    text: str | None = None,
    extra: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run one of Slurm's commands in a scrubbed environment; its output. Raises SiteError."""
    environment = {**commands.environment(os.environ), **(extra or {})}
    try:
        result = subprocess.run(
            argv, input=text, stdin=None if text is not None else subprocess.DEVNULL, capture_output=True,
            text=True, env=environment, timeout=TIMEOUT_S, close_fds=False, cwd=folder,
        )  # fmt: skip
    except FileNotFoundError:
        raise SiteError(f"there is no `{argv[0]}` here (is Slurm loaded? `hpcflow doctor` tells)") from None
    except subprocess.TimeoutExpired as error:
        # sbatch tries again by itself, for minutes, where slurmctld holds as many jobs as MaxJobCount lets it.
        said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else error.stderr
        why = f" and says: {commands.refusal(said)}" if said else " (is slurmctld up?)"
        raise SiteError(f"{argv[0]} gave no answer in {TIMEOUT_S} s{why}", transient=True) from None
    if result.returncode:
        transient = any(
            word in result.stderr for word in ("Unable to contact", "Socket timed out", "Connection refused")
        )
        raise SiteError(f"{argv[0]}: {commands.refusal(result.stderr)}", transient=transient)
    return result.stdout + (result.stderr if "--test-only" in argv else "")
