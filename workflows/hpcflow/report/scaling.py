"""Laws of scalability, fitted to what was measured at several sizes, with intervals.

T(n), the time for the same work on n nodes (ranks, cores), by Gunther's universal scalability law (Guerrilla Capacity
Planning, 2007, chapter 6):

    T(n) = T(1) (1 + sigma (n - 1) + kappa n (n - 1)) / n

sigma (contention) is the share of the work that is done one after another, kappa (coherency) what each pair of nodes
costs. Without kappa it is Amdahl's law (AFIPS 1967), sigma his serial fraction. 0 <= sigma <= 1 and kappa >= 0.

The fit is least squares of log T: repeats scatter by a percentage. T(1) drops out. The interval of anything that
follows from the parameters is its range over all parameters with S <= S_min (1 + t^2 / f): S the sum of squares, f the
degrees of freedom, t Student's quantile (profile likelihood; Bates and Watts 1988, chapter 6). The intervals of the
parameters hold together in 95 % of fits (Bonferroni), each by itself more often; others hold in 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hpcflow.report.intervals import LEVEL, Estimate, Floats, f_quantile, t_quantile

_RAYS = 90
_STEPS = 12  # along each ray, for what is largest inside
_FAR = 1e4  # radii; a region as wide as that says nothing
_HALVINGS = 26


@dataclass(frozen=True)
class Law:
    """A law: its name, and whether kappa is free in it (else 0)."""

    name: str
    coherency: bool

    @property
    def parameters(self) -> int:
        """How many are fitted, T(1) among them."""
        return 3 if self.coherency else 2


AMDAHL = Law("Amdahl's law", False)
USL = Law("the universal scalability law", True)
LAWS = (AMDAHL, USL)


@dataclass(frozen=True)
class Parameters:
    """Sets of parameters, as arrays of one length. ``log_time`` is the logarithm of T(1)."""

    sigma: Floats
    kappa: Floats
    log_time: Floats

    def load(self, size: float | Floats) -> Floats:
        """g(n) = n T(n) / T(1): how much more all nodes together work for it than one would."""
        n: Floats = np.asarray(size, np.float64)
        result: Floats = 1.0 + self.sigma * (n - 1.0) + self.kappa * n * (n - 1.0)
        return result

    def time(self, size: float | Floats) -> Floats:
        """T(n), in the unit of the times that were fitted."""
        result: Floats = np.exp(self.log_time) * self.load(size) / np.asarray(size, np.float64)
        return result

    def efficiency(self, size: float | Floats, base: float = 1.0) -> Floats:
        """Parallel efficiency against ``base``: T(base) base / (T(n) n)."""
        return self.load(base) / self.load(size)


@dataclass(frozen=True)
class Fit:
    """A law fitted to ``times`` at ``sizes`` (arrays of one length)."""

    law: Law
    sizes: Floats
    times: Floats
    sigma_hat: float
    kappa_hat: float

    @property
    def freedom(self) -> int:
        """Degrees of freedom that are left."""
        return len(self.sizes) - self.law.parameters

    @cached_property
    def squares(self) -> float:
        """S at the optimum."""
        return float(_squares(self.sizes, self.times, np.array([[self.sigma_hat, self.kappa_hat]]))[0])

    @property
    def noise(self) -> float:
        """Standard deviation of the times about the law, as a share of them."""
        return float(np.sqrt(self.squares / self.freedom))

    @cached_property
    def best(self) -> Parameters:
        """The parameters found."""
        at = np.array([[self.sigma_hat, self.kappa_hat]])
        return Parameters(at[:, 0], at[:, 1], _residuals(self.sizes, self.times, at).mean(axis=1))

    @cached_property
    def parameters(self) -> dict[str, Estimate]:
        """The parameters with intervals that hold together: T(1) as `time`, sigma and, if it is free, kappa."""
        region = self._region(1 - (1 - LEVEL) / self.law.parameters)
        names = ("time", "sigma", "kappa")[: self.law.parameters]
        of: dict[str, Callable[[Parameters], Floats]] = {
            "time": lambda p: np.exp(p.log_time), "sigma": lambda p: p.sigma, "kappa": lambda p: p.kappa,
        }  # fmt: skip
        return {name: self._ranged(of[name], region) for name in names}

    def of(self, quantity: Callable[[Parameters], Floats]) -> Estimate:
        """What follows from the parameters (a function of arrays), with its interval."""
        return self._ranged(quantity, self._plain)

    @cached_property
    def _plain(self) -> Parameters:
        return self._region(LEVEL)

    def _ranged(self, quantity: Callable[[Parameters], Floats], region: Parameters) -> Estimate:
        value, over = float(quantity(self.best)[0]), quantity(region)
        return Estimate(value, min(value, float(over.min())), max(value, float(over.max())))

    def _region(self, level: float) -> Parameters:
        """Points all over the region of parameters that the times do not exclude, dense at its rim."""
        limit = self.squares * (1 + t_quantile(level, self.freedom) ** 2 / self.freedom) + 1e-15
        centre = np.array([self.sigma_hat, self.kappa_hat])
        rays = _rays(self, limit)

        def inside(radius: Floats) -> NDArray[np.bool_]:
            at = centre + rays * radius[:, None]
            allowed = (at[:, 0] >= 0) & (at[:, 0] <= 1) & (at[:, 1] >= 0)
            return allowed & (_squares(self.sizes, self.times, np.maximum(at, 0)) <= limit)

        near, far = np.zeros(len(rays)), np.ones(len(rays))
        while (grows := inside(far) & (far < _FAR)).any():
            near[grows], far[grows] = far[grows], 2 * far[grows]
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            good = inside(middle)
            near, far = np.where(good, middle, near), np.where(good, far, middle)
        shares = np.linspace(0, 1, _STEPS)
        at = (centre + rays[:, None, :] * (near[:, None] * shares)[:, :, None]).reshape(-1, 2)
        at[at < 1e-6 * at.max(axis=0)] = 0  # a bound is approached by halves, and belongs to the region
        at[:, 0][at[:, 0] > 1 - 1e-6] = 1
        left = _residuals(self.sizes, self.times, at)
        spread = np.sqrt(
            np.maximum(limit - ((left - left.mean(axis=1, keepdims=True)) ** 2).sum(axis=1), 0)
            / left.shape[1]
        )
        times = np.concatenate([left.mean(axis=1) + sign * spread for sign in (-1, 1)])
        return Parameters(np.tile(at[:, 0], 2), np.tile(at[:, 1], 2), times)


def fit(law: Law, sizes: Sequence[float], times: Sequence[float]) -> Fit:
    """Fit a law. The times are those of the same work, in any unit; there must be more of them than parameters."""
    n, t = np.asarray(sizes, np.float64), np.asarray(times, np.float64)
    if len(n) <= law.parameters:
        raise ValueError(f"{len(n)} times for {law.parameters} parameters")
    starts = [
        (0.0, 0.0),
        (0.05, 0.0),
        (1.0, 0.0),
        *([(0.05, 0.1 / n.max()), (0.5, 1 / n.max())] if law.coherency else []),
    ]
    found = [_descend(law, n, t, np.array(start)) for start in starts]
    sigma, kappa = min(found, key=lambda at: float(_squares(n, t, at[None])[0]))
    return Fit(law, n, t, float(sigma), float(kappa))


def prefer(amdahl: Fit, usl: Fit | None) -> Fit:
    """The universal law where its kappa explains more than chance does (F test at 5 %), else Amdahl's."""
    if usl is None or usl.squares <= 0:
        return amdahl
    gain = (amdahl.squares - usl.squares) / (usl.squares / usl.freedom)
    return usl if gain > f_quantile(LEVEL, 1, usl.freedom) else amdahl


def _residuals(sizes: Floats, times: Floats, at: Floats) -> Floats:
    """log (T n) - log g, a row for each pair (sigma, kappa) of ``at``: what T(1) is to explain."""
    load = 1 + at[:, :1] * (sizes - 1) + at[:, 1:] * sizes * (sizes - 1)
    result: Floats = np.log(times * sizes) - np.log(load)
    return result


def _squares(sizes: Floats, times: Floats, at: Floats) -> Floats:
    left = _residuals(sizes, times, at)
    result: Floats = ((left - left.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return result


def _slopes(law: Law, sizes: Floats, at: Floats) -> Floats:
    """d log g / d (sigma, kappa), less their means: T(1) takes up the mean."""
    load = 1 + at[0] * (sizes - 1) + at[1] * sizes * (sizes - 1)
    slopes: Floats = np.column_stack([(sizes - 1) / load, sizes * (sizes - 1) / load])
    slopes -= slopes.mean(axis=0)
    return slopes[:, : 2 if law.coherency else 1]


def _descend(law: Law, sizes: Floats, times: Floats, at: Floats) -> Floats:
    """Gauss and Newton's descent within the bounds, with steps that are halved until they help."""
    free = 2 if law.coherency else 1
    best = float(_squares(sizes, times, at[None])[0])
    for _ in range(100):
        left = _residuals(sizes, times, at[None])[0]
        slopes, gap = _slopes(law, sizes, at), left - left.mean()
        downhill = slopes.T @ gap
        # What stands at a bound and would leave it stays there.
        upper = np.array([1.0, np.inf])[:free]
        moves = ~(((at[:free] <= 0) & (downhill < 0)) | ((at[:free] >= upper) & (downhill > 0)))
        if not moves.any():
            break
        step = np.zeros(2)
        step[:free][moves] = np.linalg.lstsq(slopes[:, moves], gap, rcond=None)[0]
        for _ in range(30):
            new = np.clip(at + step, 0.0, [1.0, np.inf])
            value = float(_squares(sizes, times, new[None])[0])
            if value < best:
                break
            step /= 2
        else:
            break
        done = best - value < 1e-14 * best
        at, best = new, value
        if done:
            break
    return at


def _rays(fit: Fit, limit: float) -> Floats:
    """Directions from the optimum, scaled so that the region is about round, and along the bounds."""
    free = 2 if fit.law.coherency else 1
    slopes = _slopes(fit.law, fit.sizes, np.array([fit.sigma_hat, fit.kappa_hat]))
    reach = np.linalg.pinv(np.linalg.qr(slopes)[1]) * np.sqrt(limit)
    if free == 1:
        return np.array([[reach[0, 0], 0.0], [-reach[0, 0], 0.0]])
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
    round_about = np.column_stack([np.cos(angles), np.sin(angles)]) @ reach.T
    along = np.diag(np.sqrt((reach**2).sum(axis=1)))
    return np.concatenate([round_about, along, -along])
