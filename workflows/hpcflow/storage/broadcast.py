"""Small packed data brought to every node of a job by Slurm's sbcast: one reader of the shared storage, not one a node.

The first rank broadcasts before anybody stages. The files lie under plain names in the node's own folder, where
`staging` compares them with their manifest and takes them over; what did not arrive is copied as ever. Where there is
no sbcast (another launcher's cluster, inside most images) nothing is broadcast.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from hpcflow.storage.publish import Manifest
from hpcflow.storage.space import human
from hpcflow.storage.staging import PREFIX, scratch_folder, token

MOST = 2**30  # bytes; beyond, every node reading for itself from a parallel file system may be faster
SBCAST_S = 300.0


def broadcast(source: Path, manifest: Manifest, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """What the paths of the files on the nodes begin with, empty where nothing was sent, and a sentence on it."""
    size = sum(entry.size for entry in manifest.files.values())
    if not environ.get("SLURM_JOB_ID") or which("sbcast") is None:
        return "", "there is no sbcast here: every node copies for itself"
    if size > MOST:
        return "", f"{human(size)} are more than sbcast is good for: every node copies for itself"
    begin = str(scratch_folder(environ) / f"{PREFIX}{token(environ)}.{secrets.token_hex(4)}.")
    for name in sorted(manifest.files):
        argv = ["sbcast", "--force", str(source / name), begin + name]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=SBCAST_S, check=False)
            error = " ".join(done.stderr.split())[:200] if done.returncode else ""
        except (OSError, subprocess.SubprocessError) as caught:
            error = str(caught)
        if error:
            return begin, f"sbcast: {error}: every node copies what it lacks"
    return begin, f"{human(size)} were broadcast by sbcast"
