"""Small federated runs through the command itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commands import hpcflow

BOWL = """\
name: fed
flow: federated
resources: {time: "00:05:00"}
training: {model: {name: bowl, parameters: 5000}, learning_rate: 0.05, batch_size: 50}
federation:
  rounds: 3
  collaborators: [{name: north}, {name: south, weight: 2.5}, {name: west}]
"""


def sets(**values: object) -> list[str]:
    """``--set federation.key=value`` for each; two underscores are a dot."""
    return [
        word
        for key, value in values.items()
        for word in ("--set", f"federation.{key.replace('__', '.')}={value}")
    ]


def submit(
    folder: Path, *arguments: str, config: str = BOWL, env: Mapping[str, str] | None = None, wait: bool = True
) -> Path:
    """Submit in ``folder`` and return the run's directory; with ``wait``, once it has ended well."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(config)
    given = {"XDG_STATE_HOME": str(folder / "state"), **(env or {})}
    words = ["submit", path, *arguments, *(["--wait"] if wait else ["--json"])]
    result = hpcflow(*words, env=given, cwd=folder, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = [item for name in (folder / "runs").iterdir() if name.name[0] != "." for item in name.iterdir()]
    return run


def model(run: Path, round: int, arm: str = "") -> str:
    """The digest of a round's aggregate, as its bytes are."""
    rounds = run / "arms" / arm / "rounds" if arm else run / "rounds"
    return hashlib.sha256((rounds / f"{round:04d}" / "model.safetensors").read_bytes()).hexdigest()


def about(run: Path, round: int) -> dict[str, Any]:
    """What a committed round's manifest says."""
    return json.loads((run / "rounds" / f"{round:04d}" / "manifest.json").read_text())["about"]


def chunk(run: Path, job: str) -> str:
    """Slurm's number of a job."""
    return str(json.loads((run / "jobs" / job / "queued.json").read_text())["chunks"][0]["job_id"])


def status(run: Path) -> Sequence[Mapping[str, Any]]:
    """`hpcflow fed status --json`."""
    result = hpcflow("fed", "status", run, "--json")
    assert result.returncode == 0, result.stderr
    told: Sequence[Mapping[str, Any]] = json.loads(result.stdout)["told"]
    return told
