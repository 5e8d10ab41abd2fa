"""When to ask the scheduler again.

The figures: the first answer is asked for after 0.2 s, each further delay is 1.5 times the one before it, up
to 15 s on Slurm and 1 s on this machine, each +-10 % at random so that many watchers of one cluster do not
ask in step. A run of an hour thus costs its controller about 250 queries, whatever the number of its jobs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

FIRST = 0.2
FACTOR = 1.5
JITTER = 0.1
LONGEST = {"slurm": 15.0, "local": 1.0}


@dataclass(frozen=True)
class Poll:
    """The delays in seconds before each query: `for delay in Poll(...)` never ends, and sleeps nowhere."""

    longest: float = LONGEST["slurm"]
    first: float = FIRST
    factor: float = FACTOR
    jitter: float = JITTER

    @classmethod
    def of(cls, engine: str) -> Poll:
        """The delays for an engine, by its name."""
        return cls(longest=LONGEST.get(engine, LONGEST["slurm"]))

    def __iter__(self) -> Iterator[float]:
        delay = self.first
        while True:
            yield delay * random.uniform(1 - self.jitter, 1 + self.jitter)
            delay = min(delay * self.factor, self.longest)
