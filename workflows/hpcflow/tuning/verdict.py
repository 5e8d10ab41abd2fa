"""What the measurements say, and what they do not. Pure.

A setting counts as faster than the experiment's own only if every one of its last runs was faster than every one of the
experiment's own. Of n runs each of two settings that do not differ, that happens by chance once in C(2n, n) times; with
k settings that it may happen to, k times as often at most (Bonferroni). Where that is more than once in 20 times nothing
is called faster: the three finalists take four runs each, 3 / 70.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcflow.tuning.candidates import Candidate

# So few steps as those of the first rung tell the good from the bad, not the best from the second best.
FINALISTS = 3
CHANCE = 1 / 20
# The sections of what is pasted.
ORDER = ("placement", "threads", "training")


@dataclass(frozen=True)
class Measured:
    """A candidate and the images/s of its runs in the last rung; ``failed`` says why there are none."""

    candidate: Candidate
    speeds: tuple[float, ...] = ()
    failed: str = ""

    @property
    def median(self) -> float:
        """Median of the runs; 0 without any."""
        return statistics.median(self.speeds) if self.speeds else 0.0


@dataclass(frozen=True)
class Verdict:
    """The fastest, whether it can be told from the experiment's own setting, and the sentence that says so."""

    best: Measured
    own: Measured
    certain: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """For result.json."""
        return {
            "best": dict(self.best.candidate.values), "certain": self.certain, "sentence": self.sentence,
            "images_per_s": list(self.best.speeds), "own_images_per_s": list(self.own.speeds),
        }  # fmt: skip


def keep(measured: Sequence[Measured], share: int) -> list[Candidate]:
    """The fastest of a rung, one in ``share`` and at least FINALISTS; the experiment's own setting always stays."""
    ranked = sorted((one for one in measured if one.speeds), key=lambda one: -one.median)
    best = [one.candidate for one in ranked[: max(FINALISTS, math.ceil(len(ranked) / share))]]
    own = [one.candidate for one in measured if one.candidate.number == 0 and one.speeds]
    return best + [candidate for candidate in own if candidate not in best]


def judge(measured: Sequence[Measured]) -> Verdict:
    """The verdict on the last rung, in which the experiment's own setting is number 0."""
    own = next((one for one in measured if one.candidate.number == 0), Measured(Candidate(0, {})))
    best = max(measured, key=lambda one: (one.median, -one.candidate.number))
    if not best.speeds:
        return Verdict(best, own, False, "no setting could be measured")
    if best is own:
        return Verdict(best, own, False, f"no setting was faster than yours ({_range(own)}): keep it")
    if not own.speeds:
        return Verdict(
            best, own, True, f"your setting could not be measured; {best.candidate.title}: {_range(best)}"
        )
    gain = 100 * (best.median / own.median - 1)
    runs = f"{_range(best)} against {_range(own)} with yours"
    rivals = sum(bool(one.speeds) for one in measured) - 1
    chance = rivals / math.comb(len(best.speeds) + len(own.speeds), len(own.speeds))
    if chance > CHANCE and min(best.speeds) > max(own.speeds):
        return Verdict(
            best, own, False, f"so few runs tell no setting from yours: the fastest had {runs}; keep yours"
        )
    if min(best.speeds) <= max(own.speeds):
        return Verdict(
            best, own, False, f"no setting can be told from yours: the fastest had {runs}; keep yours"
        )
    near = [
        one
        for one in measured
        if one not in (best, own) and one.speeds and max(one.speeds) >= min(best.speeds)
    ]
    also = f"; {len(near)} other setting{'s' if len(near) > 1 else ''} cannot be told from it" if near else ""
    return Verdict(best, own, True, f"{best.candidate.title}: {runs}, {gain:.0f} % faster{also}")


def _range(one: Measured) -> str:
    return f"{one.median:.4g} images/s ({min(one.speeds):.4g} to {max(one.speeds):.4g} in {len(one.speeds)} runs)"


def snippet(verdict: Verdict, where: str) -> str:
    """What to paste into an experiment, or below `defaults:` of a site profile."""
    lines = [f"# hpcflow tune on {where}:", f"# {verdict.sentence}"]
    if not verdict.certain:
        return "\n".join([*lines, "# Nothing to paste."]) + "\n"
    sections: dict[str, dict[str, Any]] = {}
    for key, value in verdict.best.candidate.values.items():
        section, _, rest = key.partition(".")
        inner = sections.setdefault(section, {})
        *above, last = rest.split(".")
        for part in above:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return (
        "\n".join([*lines, *(f"{name}: {_flow(sections[name])}" for name in ORDER if name in sections)])
        + "\n"
    )


def _flow(values: Mapping[str, Any]) -> str:
    """A mapping in YAML's flow style."""
    cells = (
        f"{key}: {_flow(value) if isinstance(value, Mapping) else json.dumps(value)}"
        for key, value in values.items()
    )
    return "{" + ", ".join(cells) + "}"
