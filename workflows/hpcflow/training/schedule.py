"""The learning rate of each step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LearningRate:
    """Linear scaling with gradual warm-up (Goyal et al., Accurate, Large Minibatch SGD, 2017, section 2.2).

    ``size`` ranks take a ``size`` times larger batch and so a ``size`` times larger rate, reached in equal
    parts from ``base`` over ``warmup_steps`` steps. One rank, or ``scale`` False: ``base`` throughout.
    """

    base: float
    size: int
    scale: bool
    warmup_steps: float

    def at(self, step: int) -> float:
        """The rate of ``step``, counted from 0 over all epochs."""
        if not self.scale or self.size == 1:
            return self.base
        done = 1.0 if self.warmup_steps <= 0 else min(1.0, (step + 1) / self.warmup_steps)
        return self.base * (1 + (self.size - 1) * done)
