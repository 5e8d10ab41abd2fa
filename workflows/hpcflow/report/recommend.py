"""The recommended size in one sentence with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcflow.report.advice import Scaling, bounds
from hpcflow.report.intervals import Estimate
from hpcflow.report.tasks import duration


@dataclass(frozen=True)
class Recommendation:
    """A size, or None with the reason in the sentence. ``low`` and ``high`` are the interval of the size."""

    sentence: str
    size: int | None = None
    low: int | None = None
    high: int | None = None
    measured: int | None = None
    """The nearest measured size that does as well, where ``size`` itself was not measured."""


def by_efficiency(found: Scaling, threshold: float) -> Recommendation:
    """The largest size up to the largest measured whose parallel efficiency is at least ``threshold``."""
    if found.refusal:
        return Recommendation(f"No size is recommended: {found.refusal}.")
    measured = found.measured
    limit, smallest, largest = found.limit(threshold), min(measured.counts), max(measured.counts)
    size, (low, high) = _inside(limit.value, smallest, largest), bounds(limit)
    least, most = _inside(low, smallest, largest), _inside(high, smallest, largest)
    base = measured.reference
    if size <= base:
        why = f"with more, each runs at less than {100 * threshold:g} % of the efficiency"
    else:
        there = found.efficiency(size)
        faster = there.scaled(size / base)
        why = (
            f"the most that keep parallel efficiency at {100 * threshold:g} % or above (it is {percent(there)} there, "
            f"{times(faster)} the speed of {measured.say(base)})"
        )
    if size == largest and limit.value > largest + 1:
        beyond = "would allow more" if math.isinf(limit.value) else f"would allow {_about(limit)}"
        why += f"; the law {beyond}, but no more than {largest:g} were measured"
    near = _nearest(size, [count for count in measured.counts if count <= size][-1:])
    return Recommendation(
        f"Use {measured.say(size)}{_or(near)}: {why}; {_interval(least, most)}, by {_law(found)}.",
        size, least, most, near,
    )  # fmt: skip


def by_deadline(
    found: Scaling, deadline: float, price: float | None = None, currency: str = ""
) -> Recommendation:
    """The cheapest size that ends within ``deadline`` seconds: more nodes never cost less (they are less efficient), so
    it is the smallest. ``price`` is that of one of the unit for an hour.
    """
    if found.refusal:
        return Recommendation(
            f"No size is recommended for a deadline of {duration(deadline)}: {found.refusal}."
        )
    measured, within = found.measured, found.within(deadline)
    smallest, largest = min(measured.counts), max(measured.counts)
    fastest = found.fastest()
    if (best := found.time(fastest)).value > deadline * (1 + 1e-9):
        that = "that takes" if fastest == largest else f"the fastest, {measured.say(fastest)}, takes"
        return Recommendation(
            f"No size up to {measured.say(largest)} ends within {duration(deadline)}: {that} {_clock(best)}."
        )
    low, high = bounds(within)
    size, least, most = (
        max(int(smallest), math.ceil(min(n, largest) - 1e-9)) for n in (within.value, low, high)
    )
    there = found.time(size)
    hours = size * there.value / 3600
    cost = f", {hours * price:.4g} {currency}".rstrip() if price else ""
    more = f" (where it must not be missed: {measured.say(most)})" if size < most and high <= largest else ""
    near = _nearest(
        size, [n for n in measured.counts if n >= size and found.time(n).value <= deadline * (1 + 1e-9)][:1]
    )
    takes = f"{measured.say(size)}{_or(near)}, which take{'s' if size == 1 else ''} {_clock(there)}"
    spent = f"{hours:.4g} {measured.unit.removesuffix('s')}-hours{cost}"
    sure = f"{_interval(least, most)}{more}, by {_law(found)}"
    return Recommendation(
        f"Cheapest within {duration(deadline)}: {takes} and {spent}; {sure}.", size, least, most, near
    )


def percent(estimate: Estimate) -> str:
    """`74 % (71 to 77 %)`."""
    low, high = (f"{100 * bound:.0f}" for bound in bounds(estimate))
    return f"{100 * estimate.value:.0f} %" + (f" ({low} to {high} %)" if low != high else "")


def times(estimate: Estimate) -> str:
    """`5.9 times (5.8 to 6.2)`."""
    low, high = (f"{bound:.2g}" for bound in bounds(estimate))
    return f"{estimate.value:.2g} times" + (f" ({low} to {high})" if low != high else "")


def _nearest(size: int, counts: Sequence[float]) -> int | None:
    return next((int(count) for count in counts if count != size), None)


def _or(near: int | None) -> str:
    """Not every size can run a strong scaling: its batch has to be shared by all ranks. A measured one has run."""
    return "" if near is None else f" (of the measured sizes {near})"


def _law(found: Scaling) -> str:
    law, parameters = found.chosen.law, found.parameters
    if law.coherency:
        return f"{law.name} with contention {_short(parameters['sigma'])} and coherency {_short(parameters['kappa'])}"
    beside = (
        f" (a coherency up to {bounds(kappa)[1]:.2g} beside it)" if (kappa := parameters.get("kappa")) else ""
    )
    return f"{law.name} with serial share {_short(parameters['sigma'])}{beside}"


def _short(estimate: Estimate) -> str:
    low, high = bounds(estimate)
    return f"{estimate.value:.2g} ({low:.2g} to {high:.2g})"


def _clock(estimate: Estimate) -> str:
    low, high = (duration(bound) for bound in bounds(estimate))
    return f"{duration(estimate.value)}" + (f" ({low} to {high})" if low != high else "")


def _about(limit: Estimate) -> str:
    low, high = bounds(limit)
    return f"{limit.value:.0f} ({low:.0f} to {'any number' if math.isinf(high) or high > 1e4 else f'{high:.0f}'})"


def _interval(least: int, most: int) -> str:
    return f"95 % interval {least} to {most}" if least != most else f"95 % interval {least} alone"


def _inside(limit: float, smallest: float, largest: float) -> int:
    return int(max(smallest, math.floor(min(limit, largest) + 1e-9)))
