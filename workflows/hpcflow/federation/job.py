"""The parts of a round as jobs: what each does, and what it then does for the jobs after it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from hpcflow.engines.chain import Chain, chain
from hpcflow.errors import HpcflowError, RunError
from hpcflow.federation import rounds
from hpcflow.federation.cast import BEGIN, Moulds, parse, whose
from hpcflow.federation.concluder import AGGREGATION, claim, conclude_in_its_place, hand_over, may_conclude
from hpcflow.federation.conclusion import conclude, nobody
from hpcflow.federation.contribution import Contribution
from hpcflow.federation.learners import Learner, learner
from hpcflow.federation.plan import HOLDOUT, Plan
from hpcflow.federation.quorum import Quorum
from hpcflow.federation.ranks import ranks as mpi_ranks
from hpcflow.federation.tensorfile import BadFile
from hpcflow.federation.upkeep import (
    close,
    end_late_jobs,
    extend,
    jobs_of,
    note_lost_jobs,
    set_cutoff,
    wait_for_another,
)
from hpcflow.jobs import shell
from hpcflow.storage.publish import publish_json, publish_text, read_published


@dataclass(frozen=True)
class Here:
    """A running job: its run, its own name and task, and where data is.

    ``data`` is the folder that all share. Of a ``confined`` one it is that of ``name``, whose task this is, and the run
    is the view of it that enclosure.py has laid out: no other job of the run is in reach.
    """

    plan: Plan
    job: str
    task: int = 0
    data: str = ""
    cache: str = ""
    name: str = ""
    confined: bool = False

    @property
    def whose(self) -> str:
        """The collaborator, or HOLDOUT, that the task is for."""
        return self.name or whose(self.moulds.moulds, self.plan, self.job, self.task)

    def folder(self, name: str) -> str:
        """Of the data set of ``name``; empty: phantoms. Raises RunError for a variable in it that is not set."""
        if not self.plan.has_data(name):
            return ""
        own = self.plan.own_data(name)
        return self.data if self.confined or own is None else shell.expand(own)

    def learner(self, name: str) -> Learner:
        """Of a collaborator."""
        return learner(self.plan, name, self.folder, self.cache)

    @property
    def moulds(self) -> Moulds:
        """What the run's rounds are cast from."""
        return read_moulds(self.plan)

    @property
    def chain(self) -> Chain:
        """The engine's side."""
        return chain(self.plan.run)


def read_moulds(plan: Plan) -> Moulds:
    """What the rounds of a chained run are cast from. Raises RunError."""
    where = plan.run.job(BEGIN)
    try:
        text = read_published(where.moulds).decode()
        scripts = {
            path.stem: read_published(path).decode()
            for path in where.path.glob("*.sh")
            if path != where.script
        }
        return Moulds.from_json(text, scripts)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{where.moulds} cannot be used: {error}") from None


def begin(here: Here) -> None:
    """Commit round 0."""
    plan = here.plan
    first = here.learner(next(iter(plan.members)))
    rounds.begin(plan, first)
    first.close()
    print("round 0: the initial model is committed")
    if not here.confined:
        release_first(here)


def release_first(here: Here) -> None:
    """Release the collaborators of the first round."""
    here.chain.release(jobs_of(here.plan, 1, "train"))
    set_cutoff(here, 1)


def train(here: Here) -> None:
    """A collaborator's part. Whoever completes the quorum concludes the round, or releases the aggregation."""
    plan, round, name = here.plan, parse(here.job).round, here.whose
    leads = True
    try:
        with reported(plan, round, name):
            mine = here.learner(name)
            leads = mine.leads
            made = Contribution(plan, round, name, mine).make(patience_s=None)
            if leads:
                print(
                    f"round {round}: {name} {'has made its update' if made else 'had made its update before'}"
                )
            mine.close()
    finally:  # a reason is an answer too
        if leads and not here.confined:
            end_if_complete(here, round, name)


@contextlib.contextmanager
def reported(plan: Plan, round: int, name: str) -> Iterator[None]:
    """What goes wrong in the block becomes the reason in the round's record, and is raised."""
    try:
        yield
    except HpcflowError as error:
        rounds.fail(plan, round, name, str(error))
        raise
    except (BadFile, OSError, ArithmeticError, ValueError, MemoryError) as error:
        rounds.fail(plan, round, name, f"{type(error).__name__}: {error}")
        raise RunError(f"round {round}, {name}: {type(error).__name__}: {error}") from error


def end_if_complete(here: Here, round: int, name: str = "") -> None:
    """Once enough have answered, release the aggregation; before that ``name`` concludes the round where it may."""
    plan = here.plan
    if not Quorum(plan, round).complete():
        return
    merging = jobs_of(plan, round, "aggregate")
    if name and may_conclude(plan, round) and claim(plan, round, name):
        if conclude_in_its_place(plan, round):
            print(f"round {round}: committed: {summary(plan, round)}", flush=True)
            close(here, round)
            following = jobs_of(plan, round + 1, "train")
            # That this round's aggregation ends well is nobody's condition any more.
            here.chain.release(jobs_of(plan, round + 1, "aggregate"), after=[*following, *merging])
            here.chain.release(following)
    elif not claim(plan, round, AGGREGATION):
        return  # somebody is at it, who releases the aggregation then
    # One after the other: each may queue more rounds.
    here.chain.release(merging, after=jobs_of(plan, round - 1, "aggregate"))


def aggregate(here: Here) -> None:
    """The end of a round: commit it where that is not done, release the next one, queue one more."""
    plan, round, group = here.plan, parse(here.job).round, mpi_ranks()
    if group.rank == 0 and not here.confined:
        if rounds.manifest(plan, round) is None:
            hand_over(plan, round)
        note_lost_jobs(here, round)
    wait = nobody if here.confined else functools.partial(wait_for_another, here, round)
    committed = conclude(plan, round, group, patience_s=None, another=wait)
    if group.rank:
        return
    print(
        f"round {round}: {'committed' if committed else 'was committed before'}: {summary(plan, round)}",
        flush=True,
    )
    if not here.confined:
        carry_on(here, round)


def carry_on(here: Here, round: int) -> None:
    """What a committed round means for the other jobs."""
    close(here, round)
    here.chain.release(jobs_of(here.plan, round + 1, "train"))
    end_late_jobs(here, round)
    extend(here, round)
    set_cutoff(here, round + 1)


def summary(plan: Plan, round: int) -> str:
    """Who took part, in a line."""
    about = rounds.manifest(plan, round)
    if about is None:
        return "not committed"
    said = about.about
    parts = [", ".join(said["accepted"])]
    parts += [f"refused {', '.join(said['refused'])}"] if said.get("refused") else []
    parts += [f"late {', '.join(said['late'])}"] if said.get("late") else []
    return "; ".join(parts)


def evaluate(here: Here) -> None:
    """The aggregate on somebody's data. Metrics are all that is written."""
    plan, round, name = here.plan, parse(here.job).round, here.whose
    judge(plan, round, name, here.learner(name))


def judge(plan: Plan, round: int, name: str, mine: Learner, patience_s: float | None = None) -> None:
    """Publish what the model of ``round`` is worth on ``name``'s data."""
    where = plan.round(round)
    if where.evaluation(name).exists():
        return
    base = rounds.base_of(plan, round + 1, patience_s)
    metrics = mine.evaluate(base.weights())
    if mine.leads:
        where.evaluations.mkdir(parents=True, exist_ok=True)
        publish_json(where.evaluation(name), {"metrics": metrics, "model": base.digest})
        whom = "the hold-out" if name == HOLDOUT else name
        said = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        print(f"round {round} on the data of {whom}: {said}", flush=True)


def inprocess(here: Here) -> None:
    """All rounds in this process, every collaborator in turn."""
    from hpcflow.federation.inprocess import learn

    learn(here)


def allocation(here: Here) -> None:
    """All rounds in this allocation, by workers that stay up."""
    from hpcflow.federation.allocation import learn

    learn(here)


def worker(here: Here) -> None:
    """One collaborator of an allocation, through all rounds."""
    from hpcflow.federation.allocation import work

    work(here)


def arm(here: Here) -> None:
    """One arm of a comparison, from its first round to what its model is worth."""
    from hpcflow.federation.arms import arms, judges
    from hpcflow.federation.inprocess import learn

    plan = list(arms(here.plan).values())[here.task]
    learn(here, plan)
    for name in judges(here.plan):
        judge(plan, plan.rounds, name, here.learner(name), 0.0)


def evaluations(here: Here) -> None:
    """Given models on one's data. Metrics are all that leaves."""
    from hpcflow.federation.evaluation import evaluate_models

    evaluate_models(here)


def table(here: Here) -> None:
    """The table of a comparison or of an evaluation."""
    plan = here.plan
    if plan.experiment.flow == "comparison":
        from hpcflow.federation.arms import gains, read_rows, to_csv

        rows = read_rows(plan.run, plan)
        publish_text(plan.run.comparison, text := to_csv(rows, gains(rows)))
    else:
        from hpcflow.federation.evaluation import to_csv as evaluation_csv

        publish_text(plan.run.evaluation, text := evaluation_csv(plan))
    print(text, end="")
