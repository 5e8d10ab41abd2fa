"""Environments of the peers that benchmarks compare with: each of its own, made on the first run and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# OpenFL 1.9 calls np.reshape(newshape=...), which NumPy 2.1 deprecated and 2.4 took away.
REQUIREMENTS = {"openfl": ("openfl==1.9", "numpy<2.1"), "flwr": ("flwr==1.41.0",)}
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpcflow" / "peers"


def environment(name: str, folder: Path = FOLDER) -> Path:
    """The Python of the peer's environment below ``folder``."""
    python, complete = folder / name / "bin" / "python", folder / name / "complete"
    wanted = " ".join(REQUIREMENTS[name])
    if not complete.exists() or complete.read_text() != wanted:
        shutil.rmtree(folder / name, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        command = [python, "-m", "pip", "install", "-q", *REQUIREMENTS[name], "safetensors"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        complete.write_text(wanted)
    return python
