"""One row of a report: a task, from its files and from what the scheduler says of it."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpcflow.engines.status import TaskStatus
from hpcflow.jobs.job import Job
from hpcflow.jobs.record import Record
from hpcflow.report import experiment, metrics
from hpcflow.report.accounting import Usage, megabytes
from hpcflow.report.metrics import Metrics
from hpcflow.report.trial import Settings, Task

SEED = "training.seed"


@dataclass(frozen=True)
class Places:
    """The ranks of a job, as far as its rank map tells."""

    nodes: int | None = None
    ranks: int | None = None
    ranks_per_node: int | None = None
    cores_per_rank: int | None = None
    launcher: str | None = None


def make(
    task: Task,
    status: TaskStatus,
    settings: Settings,
    common: str,
    places: Places,
    provenance: Mapping[str, Any],
    usage: Usage,
    overridden: Sequence[str],
    complain: Callable[[str], None],
    federated: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The row of a task. ``settings`` are its own, ``common`` is what configuration() makes of those of all trials of a
    sweep, ``provenance`` that of its run, ``federated`` what rounds say of it if it is a federation's.
    """
    found = metrics.read(task.dir.metrics, complain)
    ranks = places.ranks if places.ranks is not None else found.last.get("ranks")
    times = _times(status.record, usage, provenance, places.nodes, found.end.get("cpu_s"))
    wall, cpu = times["wall_s"], times["cpu_s"]
    busy = (wall or 0.0) * (ranks or 0) * (places.cores_per_rank or 0)
    own, trial = vars(places) | {"ranks": ranks}, task.trial
    return {
        "experiment": settings.value("name") or task.run.path.parent.name,
        "run": task.run.path.name,
        "job": task.dir.job,
        "task": task.dir.index,
        "trial": trial.trial if trial else None,
        "repeat": trial.repeat if trial else None,
        "baseline": trial.baseline if trial else None,
        "configuration": _digest(common if settings.known else shared(settings.whole), settings, own),
        "state": str(status.state),
        "reason": status.reason,
        **{key: cell(settings.value(key)) for key in overridden},
        **own,
        **_learned(found),
        **({"epochs": None, **federated} if federated is not None else {}),
        **times,
        "cpu_efficiency": _rounded(cpu / busy) if busy and cpu is not None else None,
        **_memory(usage, found, settings, places),
        **_charged(task.plan, wall, provenance),
        "job_id": status.job_id,
    }


def shared(settings: Mapping[str, Any], swept: Sequence[str] = ()) -> str:
    """What of an experiment makes its results comparable, as text: all but its name, seed, time limit and folders, and
    the keys that its sweep varies.
    """
    kept = {key: value for key, value in settings.items() if key not in ("name", "description", "sweep")}
    for section, unimportant in (
        ("training", ("seed",)),
        ("resources", ("time",)),
        ("storage", ("runs", "cache")),
    ):
        if isinstance(inside := kept.get(section), Mapping):
            kept[section] = {key: value for key, value in inside.items() if key not in unimportant}
    return json.dumps([_without(kept, swept), sorted(swept)], sort_keys=True, default=str)


def _without(settings: Mapping[str, Any], dotted: Sequence[str]) -> dict[str, Any]:
    heads: dict[str, list[str]] = {}
    for key in dotted:
        head, _, rest = key.partition(".")
        heads.setdefault(head, []).append(rest)
    result = {key: value for key, value in settings.items() if "" not in heads.get(key, ())}
    for head, rests in heads.items():
        if isinstance(inside := result.get(head), Mapping):
            result[head] = _without(inside, rests)
    return result


def _digest(common: str, settings: Settings, places: Mapping[str, Any]) -> str:
    """The column `configuration`."""
    given = {key: value for key, value in settings.given.items() if key != SEED} if settings.known else {}
    digest = _started(common).copy()
    digest.update(json.dumps([given, list(places.values())], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:8]


@lru_cache(maxsize=16)
def _started(common: str) -> hashlib._Hash:
    """What all trials of a sweep have in common is some kilobytes."""
    return hashlib.sha256(common.encode() + b"\n")


def places_of(rankmap: Mapping[str, Any], job: Job, provenance: Mapping[str, Any]) -> Places:
    """From the rank map; where there is none, nodes from the plan of the job and the launcher from provenance."""
    launcher = rankmap.get("launcher") or experiment.value(provenance, "launcher.name")
    try:
        ranks = [(int(rank["node"]), len(rank["cores"])) for rank in rankmap["ranks"]]
    except (KeyError, TypeError, ValueError):
        ranks = []
    if not ranks:
        return Places(nodes=job.allocation.nodes, launcher=launcher)
    nodes = [node for node, _ in ranks]
    counts = {nodes.count(node) for node in set(nodes)}
    even = counts.pop() if len(counts) == 1 else None
    return Places(len(set(nodes)), len(ranks), even, min(cores for _, cores in ranks), launcher)


def load_object(path: Path) -> Mapping[str, Any]:
    """The JSON object at ``path``; empty where there is none, or it is damaged."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def cell(value: Any) -> Any:
    """A value as a cell: lists and mappings are JSON."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _learned(found: Metrics) -> dict[str, Any]:
    """What the epochs say."""
    last, speed, dice = found.last, found.values("images_per_s"), found.values("val_dice")
    best = max(dice, default=None)
    return {
        "epochs": last.get("epoch", 0),
        **{key: last.get(key) for key in ("loss", "dice", "val_loss", "val_dice")},
        **{f"best_{key}": min(found.values(key), default=None) for key in ("loss", "val_loss")},
        "best_dice": max(found.values("dice"), default=None),
        "best_val_dice": best,
        "best_epoch": next((line["epoch"] for line in found.epochs if line.get("val_dice") == best), None),
        "images_per_s": _rounded(statistics.median(speed[1:] or speed)) if speed else None,
        **{
            key: _rounded(sum(values)) if (values := found.values(key)) else None
            for key in ("allreduce_s", "train_s", "epoch_s")
        },
        **{key: found.end.get(key) for key in ("input_s", "startup_s")},
    }


def _times(
    record: Record | None, usage: Usage, provenance: Mapping[str, Any], nodes: int | None, used: float | None
) -> dict[str, Any]:
    """When, how long, and with how much CPU time; all empty for a task whose script never began.

    Start and end come from one source, since accounting counts whole seconds: from the record, or from accounting
    where the script was killed too hard to record its end.
    """
    if record is None:
        names = ("started", "ended", "wall_s", "queue_s", "cpu_s", "exit_code", "attempt", "host")
        return dict.fromkeys(names)
    ended, wall = record.ended, None
    if ended is not None:
        wall = ended - record.started
    elif usage.started is not None and usage.ended is not None:
        ended, wall = usage.ended, usage.ended - usage.started
    if usage.submitted is not None and usage.started is not None:
        queue: float | None = usage.started - usage.submitted
    else:
        queued = record.queued or _submitted(provenance)
        queue = None if queued is None else max(0.0, record.started - queued)
    # The script counts what it waited for: nothing of other nodes, and on its own no ranks that srun or Slurm's daemons
    # started. The ranks have told what they used if they ended well, and nothing of what ran beside them.
    recorded = [value for value in (record.cpu_seconds if nodes == 1 else None, used) if value is not None]
    cpu = usage.cpu_s if usage.cpu_s is not None else max(recorded, default=None)
    return {
        "started": _iso(record.started),
        "ended": _iso(ended),
        "wall_s": _rounded(wall),
        "queue_s": _rounded(queue),
        "cpu_s": _rounded(cpu),
        "exit_code": record.exit_code,
        "attempt": record.attempt,
        "host": record.host,
    }


def _memory(usage: Usage, found: Metrics, settings: Settings, places: Places) -> dict[str, Any]:
    """The peak, and its share of what was asked for: accounting tells that of one node, the ranks of all nodes."""
    peak = usage.peak_memory_mb or found.end.get("peak_memory_mb")
    text = str(settings.value("resources.memory") or "").upper()
    asked = megabytes(text if text[-1:].isalpha() else f"{text}M")  # sbatch's unit, where none is said
    if peak is None or not asked:
        return {"peak_memory_mb": _rounded(peak), "memory_efficiency": None}
    nodes = 1 if usage.peak_memory_mb else places.nodes or 1
    return {"peak_memory_mb": _rounded(peak), "memory_efficiency": _rounded(peak / (asked * nodes))}


def _charged(plan: Job, wall: float | None, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the allocation came to: as the dry run counts it, but for the time that it took."""
    allocation, prices = plan.allocation, provenance.get("prices")
    core_hours = None if wall is None else allocation.cpus * wall / 3600
    cost = None
    if wall is not None and core_hours is not None and isinstance(prices, Mapping):
        hour = {key: prices.get(key) or 0.0 for key in ("core_hour", "node_hour")}
        cost = core_hours * hour["core_hour"] + allocation.nodes * wall / 3600 * hour["node_hour"]
    return {"cpus": allocation.cpus, "core_hours": _rounded(core_hours, 5), "cost": _rounded(cost, 4)}


def _submitted(provenance: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(provenance["submitted"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _iso(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(float(value), digits)
