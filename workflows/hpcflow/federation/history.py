"""What a federation has done so far, round by round, from its files alone: `hpcflow fed status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcflow.errors import RunError
from hpcflow.federation import rounds
from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.storage.publish import Manifest


@dataclass(frozen=True)
class Told:
    """One round. ``aggregated``, ``tuned`` and ``holdout`` are metrics, means over collaborators weighted by their
    samples; ``bytes`` is what the round's files take.
    """

    round: int
    state: str
    took_part: tuple[str, ...] = ()
    late_used: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    late: tuple[str, ...] = ()
    waited_for: tuple[str, ...] = ()
    aggregated: Mapping[str, float] = field(default_factory=dict)
    tuned: Mapping[str, float] = field(default_factory=dict)
    holdout: Mapping[str, float] = field(default_factory=dict)
    collaborators: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    bytes: int = 0


def history(plan: Plan) -> list[Told]:
    """Every round that has begun, from 0."""
    folder = plan.run.rounds(plan.arm)
    numbers = (
        sorted(int(item.name) for item in folder.iterdir() if item.name.isdecimal())
        if folder.is_dir()
        else []
    )
    return [tell(plan, number) for number in numbers]


def tell(plan: Plan, number: int) -> Told:
    """One round."""
    where = plan.round(number)
    size = bytes_of(where.path)
    try:
        found = rounds.manifest(plan, number)
    except RunError as error:
        return Told(number, f"damaged: {error}", bytes=size)
    held = rounds.read_object(where.evaluation(HOLDOUT)).get("metrics", {})
    if found is None:
        stopped = rounds.read_object(where.stopped)
        updates, failed = rounds.answered(plan, number) if number else ([], [])
        reasons = dict(stopped.get("refused", {})) or rounds.failures(plan, number) if number else {}
        asked = plan.participants(number) if number else ()
        waited = tuple(name for name in asked if name not in {*updates, *failed})
        state = "stopped" if stopped else "under way"
        return Told(number, state, tuple(updates), refused=reasons, waited_for=waited, bytes=size)
    about = found.about
    accepted: Mapping[str, Any] = about.get("accepted", {})
    return Told(
        number,
        "committed",
        tuple(accepted),
        {name: item["round"] for name, item in accepted.items() if item["round"] != number},
        dict(about.get("refused", {})),
        tuple(about.get("late", ())),
        aggregated=_aggregated(plan, number),
        tuned=mean(accepted, "tuned/"),
        holdout=held,
        collaborators={name: item["metrics"] for name, item in accepted.items()},
        bytes=size,
    )


def _aggregated(plan: Plan, number: int) -> dict[str, float]:
    """The model of a round on everybody's data: after the last round by jobs of their own, else as the next round's
    participants found it.
    """
    judged: dict[str, Any] = {}
    for name in plan.members:
        metrics = rounds.read_object(plan.round(number).evaluation(name)).get("metrics")
        if metrics:
            judged[name] = {
                "samples": _samples(plan, number, name),
                "metrics": {f"aggregated/{key}": value for key, value in metrics.items()},
            }
    if judged:
        return mean(judged, "aggregated/")
    following = _manifest(plan, number + 1)
    fresh = {
        name: item
        for name, item in (following.about.get("accepted", {}) if following else {}).items()
        if item["round"] == number + 1
    }
    return mean(fresh, "aggregated/")


def _samples(plan: Plan, number: int, name: str) -> float:
    """As many as it had when it last took part; whose data was never told of weighs nothing."""
    for earlier in range(number, 0, -1):
        found = _manifest(plan, earlier)
        if found and name in found.about.get("accepted", {}):
            return float(found.about["accepted"][name]["samples"])
    return 0.0


def _manifest(plan: Plan, number: int) -> Manifest | None:
    try:
        return rounds.manifest(plan, number)
    except RunError:
        return None


def mean(accepted: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The mean of the metrics whose names begin with ``prefix``, weighted by samples."""
    sums: dict[str, tuple[float, float]] = {}
    for item in accepted.values():
        for key, value in item["metrics"].items():
            if key.startswith(prefix):
                total, weight = sums.get(key, (0.0, 0.0))
                sums[key] = total + value * item["samples"], weight + item["samples"]
    return {key.removeprefix(prefix): total / weight for key, (total, weight) in sums.items() if weight}


def bytes_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path
