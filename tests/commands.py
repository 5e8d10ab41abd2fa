"""Running the command itself, as a user would."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HPCFLOW = Path(sys.executable).with_name("hpcflow")
CONFIGS = Path(__file__).parents[1] / "configs"


def hpcflow(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 120,
) -> "subprocess.CompletedProcess[str]":
    """Output and exit code of `hpcflow ARGUMENTS`."""
    return subprocess.run(
        [HPCFLOW, *map(str, arguments)],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
