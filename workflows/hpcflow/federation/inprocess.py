"""`execution: inprocess`: every collaborator in turn, in one process. The same steps and files as chained jobs."""

from __future__ import annotations

import sys

from hpcflow.errors import HpcflowError
from hpcflow.federation import job, rounds
from hpcflow.federation.cast import evaluated
from hpcflow.federation.conclusion import conclude
from hpcflow.federation.contribution import Contribution
from hpcflow.federation.learners import Learner, learner
from hpcflow.federation.plan import Plan


def learn(here: job.Here, plan: Plan | None = None) -> None:
    """From the last committed round to the last one, of ``plan`` if it is an arm of a comparison. Raises RunError
    where a round stops.
    """
    plan = plan or here.plan
    made: dict[str, Learner] = {}

    def mine(name: str) -> Learner:
        if name not in made:
            made[name] = learner(plan, name, here.folder, here.cache)
        return made[name]

    rounds.begin(plan, mine(next(iter(plan.members))))
    for round in range(max(1, rounds.last_committed(plan) + 1), plan.rounds + 1):
        for name in plan.participants(round):
            try:
                with job.reported(plan, round, name):
                    Contribution(plan, round, name, mine(name)).make()
            except HpcflowError as error:
                print(f"hpcflow: {error}", file=sys.stderr, flush=True)
        conclude(plan, round)
        print(f"round {round}: committed: {job.summary(plan, round)}", flush=True)
        for name in evaluated(plan, round):
            job.judge(plan, round, name, mine(name), 0.0)
    for name in evaluated(plan, plan.rounds):
        job.judge(plan, plan.rounds, name, mine(name), 0.0)
    for one in made.values():
        one.close()
