"""Whether enough have answered for a round to be concluded."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpcflow.federation import rounds
from hpcflow.federation.contribution import usable
from hpcflow.federation.plan import Plan


@dataclass
class Quorum:
    """Of one round. An update is read whole to be judged, so it is judged only where the count depends on it, and
    once as long as its file is the same.
    """

    plan: Plan
    round: int
    judged: dict[tuple[str, int, int, int], bool] = field(default_factory=dict)

    def complete(self) -> bool:
        """Whether all have answered, or as many as the quorum asks for have by an update that can be used."""
        updates, failed = rounds.answered(self.plan, self.round)
        if len(updates) + len(failed) == len(self.plan.participants(self.round)):
            return True
        wanted = self.plan.quorum(self.round)
        return len(updates) >= wanted and sum(map(self._counts, updates)) >= wanted

    def _counts(self, name: str) -> bool:
        try:
            found = self.plan.round(self.round).update(name).stat()
        except OSError:
            return False
        key = (name, found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self.judged:
            self.judged[key] = usable(self.plan, self.round, name)
        return self.judged[key]
