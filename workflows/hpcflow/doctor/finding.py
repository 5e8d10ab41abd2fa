"""What one check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """``what`` is so; ``do`` is what to do about it, where something can be done."""

    name: str
    level: Level
    what: str
    do: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `hpcflow doctor --json` prints it."""
        return asdict(self)


def ok(name: str, what: str) -> Finding:
    """As it should be."""
    return Finding(name, "ok", what)


def warning(name: str, what: str, do: str) -> Finding:
    """It works, and less well than it could, or not in every case."""
    return Finding(name, "warning", what, do)


def problem(name: str, what: str, do: str) -> Finding:
    """A run would fail."""
    return Finding(name, "problem", what, do)


def worst(findings: Sequence[Finding]) -> Level:
    """The gravest level among ``findings``."""
    levels = {finding.level for finding in findings}
    return "problem" if "problem" in levels else "warning" if "warning" in levels else "ok"


def text(findings: Sequence[Finding]) -> str:
    """A line a finding, what to do below it, and the sum at the end."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<7}  {finding.name:<{width}}  {finding.what}")
        if finding.do:
            lines.append(f"{'':<{width + 11}}-> {finding.do}")
    counts = {level: sum(finding.level == level for finding in findings) for level in ("problem", "warning")}
    said = [f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items() if count]
    return "\n".join([*lines, "", ", ".join(said) or "all is well"]) + "\n"
