"""How many nodes to use: one sentence with its uncertainty, or an honest refusal.

The answers follow from a law that is fitted to all repeats (scaling.py). There is none where

- fewer than four sizes were measured: any law of two or three parameters goes through them;
- the noise is above the effect: the interval of the efficiency at the largest size is wider than half of what lies
  between ideal scaling and none, on a logarithmic scale;
- no law fits: the sizes differ from it by more than their repeats can (F test of lack of fit at 1 %) and by more than
  10 %.

Sizes beyond the largest that was measured are never recommended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hpcflow.report.intervals import Estimate, Floats, f_quantile
from hpcflow.report.scaling import AMDAHL, USL, Fit, Parameters, fit, prefer

LEAST_SIZES = 4
THRESHOLD = 0.7
_MISFIT = 0.10

Quantity = Callable[[Parameters], Floats]


@dataclass(frozen=True)
class Measured:
    """Times for the same work (any unit) at several sizes, a pair for each repeat. ``unit`` is what is counted: nodes."""

    unit: str
    sizes: tuple[float, ...]
    times: tuple[float, ...]
    base: float = 0.0  # the size that efficiency is against; 0: the smallest

    @property
    def counts(self) -> list[float]:
        """The sizes, each once."""
        return sorted(set(self.sizes))

    @property
    def reference(self) -> float:
        """The size that efficiency is against."""
        return self.base or min(self.sizes)

    def say(self, count: float) -> str:
        """`1 node`, `8 nodes`."""
        unit = self.unit[:-1] if count == 1 and self.unit.endswith("s") else self.unit
        return f"{count:g} {unit}"


@dataclass(frozen=True)
class Scaling:
    """The laws that were fitted, or why there is no answer. ``fits`` are there as soon as they could be made."""

    measured: Measured
    refusal: str = ""
    fits: tuple[Fit, ...] = field(default=())

    @property
    def chosen(self) -> Fit:
        """The law that the answers follow from."""
        return prefer(self.fits[0], self.fits[1] if len(self.fits) > 1 else None)

    @cached_property
    def _widest(self) -> Fit:
        """The law with most freedom: its region holds what any of them allows."""
        return self.fits[-1]

    def estimate(self, quantity: Quantity) -> Estimate:
        """A quantity by the chosen law, with the interval that also the other one leaves."""
        value, wide = self.chosen.of(quantity).value, self._widest.of(quantity)
        low, high = bounds(wide)
        return Estimate(value, min(value, low), max(value, high))

    @cached_property
    def parameters(self) -> dict[str, Estimate]:
        """Those of the chosen law, and kappa where only another law has it (then as 0), with the intervals that the
        law with most freedom leaves: a kappa that was not significant may be there all the same.
        """
        best, wide = self.chosen.parameters, self._widest.parameters
        found = {}
        for name, estimate in wide.items():
            value = best[name].value if name in best else 0.0
            low, high = bounds(estimate)
            found[name] = Estimate(value, min(value, low), max(value, high))
        return found

    def fastest(self) -> int:
        """The size up to the largest measured at which the chosen law has the least time: less, where it turns back."""
        counts, best = self.measured.counts, self.chosen.best
        smallest, largest = math.ceil(counts[0]), math.floor(counts[-1])
        sigma, kappa = float(best.sigma[0]), float(best.kappa[0])
        turn = math.sqrt((1 - sigma) / kappa) if kappa > 0 else math.inf
        near = (math.floor(min(turn, largest)), math.ceil(min(turn, largest)))
        return min((min(max(n, smallest), largest) for n in near), key=lambda n: float(best.time(n)[0]))

    def efficiency(self, size: float) -> Estimate:
        """Parallel efficiency at a size, against the measured reference."""
        return self.estimate(lambda p: p.efficiency(size, self.measured.reference))

    def time(self, size: float) -> Estimate:
        """The time at a size."""
        return self.estimate(lambda p: p.time(size))

    def limit(self, threshold: float) -> Estimate:
        """The (fractional) size at which efficiency falls to ``threshold``; infinite where it never does."""
        return self.estimate(lambda p: largest_efficient(p, threshold, self.measured.reference))

    def within(self, deadline: float) -> Estimate:
        """The smallest size whose time is at most ``deadline``; infinite where none is."""
        return self.estimate(lambda p: smallest_within(p, deadline))


def examine(measured: Measured) -> Scaling:
    """Fit the laws, or say why nothing can be said."""
    counts, number = measured.counts, len(measured.sizes)
    if len(counts) < LEAST_SIZES:
        few = f"{len(counts)} size{'s were' if len(counts) != 1 else ' was'} measured"
        return Scaling(measured, f"{few}, and a law of scaling needs {LEAST_SIZES}")
    laws = [law for law in (AMDAHL, USL) if number > law.parameters]
    found = Scaling(measured, "", tuple(fit(law, measured.sizes, measured.times) for law in laws))
    reason = _too_noisy(found) or _misfit(found)
    return Scaling(measured, reason, found.fits)


def _too_noisy(found: Scaling) -> str:
    measured = found.measured
    first, last = measured.reference, max(measured.counts)
    if last == first:
        first = min(measured.counts)
    low, high = bounds(found.estimate(lambda p: p.efficiency(last, first)))
    width, span = math.log(high / low), abs(math.log(last / first))
    if width <= span / 2:
        return ""
    at = f"efficiency at {measured.say(last)} lies anywhere between {100 * low:.0f} and {100 * high:.0f} %"
    return f"the noise is above the effect: {at} (more repeats, or longer runs)"


def _misfit(found: Scaling) -> str:
    """The F test of lack of fit, against the scatter of repeats (Draper and Smith 1998, section 2.1)."""
    measured, law = found.measured, found.chosen
    sizes, logs = np.asarray(measured.sizes), np.log(np.asarray(measured.times))
    gaps = logs - np.log([float(law.best.time(size)[0]) for size in sizes])
    means = {count: gaps[sizes == count].mean() for count in measured.counts}
    pure = float(sum(((gaps[sizes == count] - mean) ** 2).sum() for count, mean in means.items()))
    above, below = len(means) - law.law.parameters, len(sizes) - len(means)
    worst = max(means, key=lambda count: abs(means[count]))
    if below < 1 or above < 1 or abs(means[worst]) < _MISFIT or pure <= 0:
        return ""
    ratio = ((law.squares - pure) / above) / (pure / below)
    if ratio <= f_quantile(0.99, above, below):
        return ""
    off = f"{100 * abs(math.expm1(means[worst])):.0f} % {'more' if means[worst] > 0 else 'less'}"
    return f"no law describes the times: {measured.say(worst)} took {off} than {law.law.name} has it"


def largest_efficient(p: Parameters, threshold: float, base: float) -> Floats:
    """The size n with g(n) = g(base) / threshold: the positive root of kappa n^2 + (sigma - kappa) n + 1 - sigma = g."""
    kappa, linear, constant = p.kappa, p.sigma - p.kappa, 1 - p.sigma - p.load(base) / threshold
    return _root(kappa, linear, constant)


def smallest_within(p: Parameters, deadline: float) -> Floats:
    """The smallest n with T(n) <= deadline, in T(1) (1 - sigma + (sigma - kappa) n + kappa n^2) = deadline n."""
    one = np.exp(p.log_time)
    a, b, c = p.kappa, p.sigma - p.kappa - deadline / one, 1 - p.sigma
    with np.errstate(divide="ignore", invalid="ignore"):
        under = b * b - 4 * a * c
        # The smaller root, in the form that does not cancel.
        root = 2 * c / (-b + np.sqrt(under))
    good = (under >= 0) & (b < 0)
    result: Floats = np.maximum(np.where(good, root, np.inf), 1.0)
    return result


def _root(a: Floats, b: Floats, c: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        root = 2 * -c / (b + np.sqrt(b * b - 4 * a * c))
    result: Floats = np.where(np.isfinite(root), root, np.inf)
    return result


def bounds(found: Estimate) -> tuple[float, float]:
    """Its interval; the value itself twice where it has none."""
    low = found.value if found.low is None else found.low
    return low, found.value if found.high is None else found.high
