"""Who concludes a round: the aggregation, or, of a small round, the collaborator whose update completes it.

Slurm looks for what may start 3 s after it last did (batch_sched_delay), so each job of a chain waits for up to 3 s. A
collaborator that concludes the round in its own job spares the next one such a wait. The aggregation begins all the
same: it finds the round committed, and queues what is to be queued; it commits the round where the collaborator was
killed at that.

Two never conclude at once. One file says whose it is to do so, and who creates it wins; and the aggregation begins when
whoever that file names has released it, or when all jobs of the round have ended.
"""

from __future__ import annotations

import sys

from hpcflow.errors import HpcflowError
from hpcflow.federation import rounds
from hpcflow.federation.conclusion import conclude
from hpcflow.federation.plan import Plan
from hpcflow.federation.tensorfile import BadFile
from hpcflow.storage.publish import publish_text, read_published

# As the aggregation signs. No collaborator is called so (experiment/federation.py).
AGGREGATION = "aggregate"
# So many bytes of updates are merged in a second or so from slow storage: no longer than the wait that it spares, and
# in memory that a collaborator's job has.
SMALL = 128 << 20


def may_conclude(plan: Plan, round: int) -> bool:
    """Whether the collaborator whose update is the last may conclude ``round``: the aggregation would do so in a process
    of its own, nobody has cause to release it earlier, and it is a matter of a second.
    """
    rules = plan.rules
    if plan.run.engine != "slurm":
        return False  # there is no wait
    if rules.aggregation.ranks > 1 or rules.stragglers.policy == "cutoff":
        return False
    updates, _ = rounds.answered(plan, round)
    if not len(updates) == plan.quorum(round) == len(plan.participants(round)):
        return False
    return sum(plan.round(round).update(name).stat().st_size for name in updates) <= SMALL


def claim(plan: Plan, round: int, who: str) -> bool:
    """Whether it is for ``who`` to conclude ``round``, or to let it be concluded: of the first who asks."""
    path = plan.round(round).concluder
    try:
        with path.open("x") as file:
            file.write(who)
        return True
    except FileExistsError:
        # One who was killed before it could sign is nobody: the aggregation begins when the round's jobs have ended.
        return read_published(path).decode() == who


def hand_over(plan: Plan, round: int) -> None:
    """From here on it is for the aggregation. Nothing where nobody has begun the round."""
    where = plan.round(round)
    if where.path.is_dir():
        publish_text(where.concluder, AGGREGATION)


def conclude_in_its_place(plan: Plan, round: int) -> bool:
    """Commit ``round``; False where that fails, which the aggregation may try then."""
    try:
        conclude(plan, round, patience_s=None)
    except (HpcflowError, BadFile, OSError, ArithmeticError, ValueError, MemoryError) as error:
        print(f"round {round}: left to the aggregation: {error}", file=sys.stderr)
        hand_over(plan, round)
        return False
    return True
