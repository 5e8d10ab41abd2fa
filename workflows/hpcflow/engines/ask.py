"""Ask a command one question: its output in the C locale, by a deadline, and no exception for any answer."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a command said. ``code`` None: it could not be started, or did not end in time (``late``)."""

    code: int | None
    out: str = ""
    err: str = ""
    late: bool = False

    @property
    def ok(self) -> bool:
        """Whether it ended, and ended well."""
        return self.code == 0

    @property
    def complaint(self) -> str:
        """The line that says why it did not, its own name and the word "error" in front of it taken off."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        # What Slurm's clients call fatal is the sum of the errors that they listed before.
        lines = [line for line in lines if "fatal: " in line] or lines
        text = lines[0] if lines else ("no answer in time" if self.late else f"ended with {self.code}")
        for prefix in ("fatal: ", "error: "):
            text = text.rpartition(prefix)[2]
        return text


def ask(command: Sequence[str], timeout: float = 5.0, environ: Mapping[str, str] | None = None) -> Answer:
    """Run ``command`` and wait ``timeout`` seconds at most; it and whatever it started are killed then."""
    if shutil.which(command[0], path=(environ or os.environ).get("PATH")) is None:
        return Answer(None, err=f"{command[0]}: no such command")
    env = {**(os.environ if environ is None else environ), "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command, env=env, text=True, errors="replace", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        return Answer(None, err=f"{command[0]}: {error.strerror}")
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # The group: a wrapper script's child would hold the pipes open for as long as it likes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return Answer(None, out, err, late=True)
    return Answer(process.returncode, out, err)


def ask_all(
    commands: Mapping[str, Sequence[str]], timeout: float = 5.0, environ: Mapping[str, str] | None = None
) -> dict[str, Answer]:
    """Ask all of them at once; no slower than the slowest, and that one no slower than ``timeout``."""
    with ThreadPoolExecutor(max_workers=max(1, len(commands))) as pool:
        futures = {name: pool.submit(ask, command, timeout, environ) for name, command in commands.items()}
        return {name: future.result() for name, future in futures.items()}
