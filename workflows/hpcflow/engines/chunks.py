"""queued.json: what was put into Slurm's queue of a job, in the order in which it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hpcflow.engines.commands import Chunk
from hpcflow.errors import RunError
from hpcflow.jobs.rundir import JobDir
from hpcflow.storage.publish import publish_text, read_published


def chunks(where: JobDir) -> list[Chunk]:
    """What was queued of a job; empty where nothing was."""
    try:
        data = json.loads(read_published(where.queued, patience_s=0))
        return [
            Chunk(item["job_id"], item["offset"], item["count"], tuple(item.get("only", ())))
            for item in data["chunks"]
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{where.queued} cannot be read: {error}") from None


def publish(where: JobDir, found: Sequence[Chunk]) -> None:
    """Write them down."""
    publish_text(where.queued, json.dumps({"chunks": [_to_json(chunk) for chunk in found]}) + "\n")


def _to_json(chunk: Chunk) -> Mapping[str, Any]:
    only = {"only": list(chunk.only)} if chunk.only else {}
    return {"job_id": chunk.job_id, "offset": chunk.offset, "count": chunk.count, **only}
