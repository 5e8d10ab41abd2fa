"""submitit's executor with our scripts, and its job handles. Importing it costs more than a look at a run may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedSubmissionError
from submitit.slurm.slurm import SlurmInfoWatcher

from hpcflow.engines import commands
from hpcflow.engines.call import call
from hpcflow.errors import SiteError


class SqueueWatcher(SlurmInfoWatcher):
    """States from squeue, not sacct: submitit's own shows UNKNOWN for ever where there is no slurmdbd."""

    def _make_command(self) -> list[str] | None:
        return list(commands.SQUEUE) if self._registered - self._finished else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        text = string if isinstance(string, str) else string.decode()
        rows: dict[str, dict[str, str]] = {}
        for row in text.splitlines():
            for (base, index), seen in commands.squeue(row).items():
                name = base if index is None else f"{base}_{index}"
                rows[name] = {"JobID": name, "State": row.split("|")[3] if seen.state else "UNKNOWN"}
        return rows


class ScriptJob(submitit.SlurmJob[Any]):
    """submitit's handle (state, done, wait, cancel) of a job whose script is ours."""

    watcher = SqueueWatcher(delay_s=60)


class ScriptExecutor(submitit.SlurmExecutor):
    """submitit's executor, which queues a script as it is instead of one that it writes around a pickle."""

    job_class = ScriptJob

    def __init__(
        self, run: Path, script: Path, flags: Sequence[str] = (), arguments: Sequence[str] = ()
    ) -> None:
        super().__init__(run)
        self._script, self._flags, self._arguments = script, flags, arguments

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        sbatch, _ = super()._make_submission_command(submission_file_path)
        return [sbatch, *self._flags, str(submission_file_path), *self._arguments]

    def queue(self) -> ScriptJob:
        """Queue the script, from the run directory, which its names start at. Raises SiteError with Slurm's reason."""
        queued = {"HPCFLOW_QUEUED": f"{time.time():.3f}"}
        output = call(self._make_submission_command(self._script), extra=queued, folder=self.folder)
        try:
            return ScriptJob(self.folder, self._get_job_id_from_submission_command(output))
        except FailedSubmissionError:
            raise SiteError(f"sbatch printed no job id: {output.strip()}") from None
