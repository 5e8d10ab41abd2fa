"""The end of a round: who answered, whose update is used, the new model, and the manifest that commits it all.

Every rank of an aggregation calls :func:`conclude`. What is decided is decided on rank 0 and shared. Killed at any
moment and begun again it commits the same model from the same updates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcflow.errors import RunError
from hpcflow.federation import rounds
from hpcflow.federation.aggregation import Files, TooFew, aggregate
from hpcflow.federation.contribution import expected, keeps_control
from hpcflow.federation.plan import Plan
from hpcflow.federation.ranks import Alone, Ranks
from hpcflow.federation.rounds import Base
from hpcflow.federation.selection import Candidate, Refusal
from hpcflow.federation.strategies import make, plain
from hpcflow.federation.strategies.base import Strategy
from hpcflow.federation.tensorfile import BadFile
from hpcflow.federation.update import Update, UpdateInfo
from hpcflow.storage import stripes
from hpcflow.storage.publish import publish_json, publish_manifest, remove_leftovers

NO_ANSWER = "left no update and no reason: its job was killed, or never began"


@dataclass(frozen=True)
class Answers:
    """Who answered a round, when the aggregation began."""

    updates: Sequence[Candidate]
    refused: Mapping[str, str] = field(default_factory=dict)
    late: Sequence[str] = ()
    earlier: Mapping[str, int] = field(default_factory=dict)  # of late updates of earlier rounds: which


def nobody(_late: Sequence[str]) -> bool:
    """Of those who are late: none will answer."""
    return False


def conclude(
    plan: Plan,
    round: int,
    ranks: Ranks | None = None,
    *,
    patience_s: float | None = 0.0,
    another: Callable[[Sequence[str]], bool] = nobody,
) -> bool:
    """Commit ``round``; False where it is committed already. Raises RunError when too few updates can be used: the
    run stops there and can be resumed.

    Before that ``another`` is asked, on rank 0, about those who have not answered: it waits until one of them has and
    says True, or says False because none will.
    """
    ranks = ranks or Alone()
    begun = time.time()
    if ranks.share(ranks.rank == 0 and rounds.manifest(plan, round) is not None)[0]:
        return False
    base = rounds.base_of(plan, round, patience_s)
    where, strategy = plan.round(round), _strategy(plan)
    if ranks.rank == 0:
        for folder in (where.path, where.timings):
            folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(where.path, 0.0, time.time())  # of an aggregation that was killed
        size, readers = base.where.model.stat().st_size, len(plan.participants(round))
        striped = stripes.prepare(where.path, size, readers, plan.experiment.storage.stripes).to_json()
    state = base.where.state
    keeps = bool(strategy.server or strategy.control)
    files = Files(
        where.model,
        base.where.model,
        state if keeps and ranks.share(state.exists())[0] else None,
        where.state if keeps else None,
    )
    while True:
        answers: Answers = ranks.share(collect(plan, round, base) if ranks.rank == 0 else None)[0]
        try:
            done = aggregate(
                answers.updates,
                strategy,
                files,
                round=round,
                minimum=plan.needed(round),
                digest=True,
                ranks=ranks,
                patience_s=patience_s,
            )
            break
        except TooFew as error:
            if ranks.share(ranks.rank == 0 and another(answers.late))[0]:
                continue
            refused = {**answers.refused, **_refused(error.refused)}
            if ranks.rank == 0:
                _stop(plan, round, answers, refused)
            raise RunError(_why(plan, round, answers, refused)) from None
    if ranks.rank == 0:
        refused = {**answers.refused, **_refused(done.refused)}
        about = _about(plan, round, base, strategy, answers, refused)
        about["num_samples"] = done.num_samples
        where.stopped.unlink(missing_ok=True)
        times = {"begun": begun, "ended": time.time(), "seconds": dict(done.seconds)}
        publish_json(where.timing("aggregate"), {**times, "stripes": striped})
        publish_manifest(where.path, {path.name: entry for path, entry in done.entries.items()}, about)
        _sweep(plan, round, answers.late)
    ranks.share("committed")  # no rank goes on before it
    return True


def collect(plan: Plan, round: int, base: Base) -> Answers:
    """The updates of a round, late ones of the round before it, and those who have none."""
    where = plan.round(round)
    there, _ = rounds.answered(plan, round)
    said = rounds.failures(plan, round)
    weights = {name: plan.members[name].weight for name in plan.members}
    updates = [
        Candidate(where.update(name), expected(plan, round, name, base), weights[name]) for name in there
    ]
    missing = [name for name in plan.participants(round) if name not in there]
    # Whoever is still at work when the quorum is complete is late; else nobody is left who could answer.
    early = plan.rules.stragglers.policy != "wait" and not plan.single
    late = [name for name in missing if name not in said] if early else []
    refused = {name: said.get(name, NO_ANSWER) for name in missing if name not in late}
    earlier: dict[str, int] = {}
    if early and plan.rules.stragglers.late == "next" and round > 1:
        for candidate in _late_ones(plan, round - 1):
            if candidate.name not in there:
                updates.append(candidate)
                earlier[candidate.name] = round - 1
    return Answers(updates, refused, late, earlier)


def _sweep(plan: Plan, round: int, late: Sequence[str]) -> None:
    """Remove what clients that were killed as they wrote left in the folders of a round that is committed now. Who is
    late may be writing still, and whoever has published its update writes down its times after it: what remains goes
    when the next round is committed.
    """
    before, where = plan.round(round - 1), plan.round(round)
    for folder in (before.updates, before.controls, before.failures, before.timings):
        remove_leftovers(folder, 0.0, time.time())
    for name in set(plan.participants(round)) - set(late):
        for folder in (where.updates, where.controls):
            remove_leftovers(folder, 0.0, time.time(), of=f"{name}.")


def _late_ones(plan: Plan, round: int) -> list[Candidate]:
    """Updates of ``round`` that came after it was committed, with what staleness leaves of their weight."""
    found = rounds.manifest(plan, round)
    there, _ = rounds.answered(plan, round)
    late = [name for name in there if found and name in found.about.get("late", ())]
    if found and keeps_control(plan):
        # One of whom a still earlier update was used in that round began with the variate before it: the server's
        # would no longer be the mean of the clients'.
        late = [name for name in late if name not in found.about["accepted"]]
    if not late:
        return []
    base = rounds.base_of(plan, round)
    factor = 2.0**-plan.rules.stragglers.staleness  # (1 + s) ** -staleness with s = 1 round
    result = []
    for name in late:
        path, said = plan.round(round).update(name), plan.members[name].weight
        samples = _info(path).num_samples
        weight = said if said is not None else float(samples) if samples is not None else None
        if weight is not None:
            result.append(Candidate(path, expected(plan, round, name, base), weight * factor))
    return result


def _info(path: Path) -> UpdateInfo:
    try:
        with Update(path, links=False) as update:
            return update.info
    except (OSError, BadFile):
        return UpdateInfo()


def _strategy(plan: Plan) -> Strategy:
    if plan.single:  # one update a round: the strategies of many are no use
        return make("fedavg")
    options: dict[str, Any] = dict(plan.rules.options)
    if plain(plan.rules.strategy) == "scaffold":
        options.setdefault("collaborators", len(plan.members))
    return make(plan.rules.strategy, options)


def _refused(refusals: Sequence[Refusal]) -> dict[str, str]:
    return {item.name: f"its update {item.reason}" for item in refusals}


def _about(
    plan: Plan, round: int, base: Base, strategy: Strategy, answers: Answers, refused: Mapping[str, str]
) -> dict[str, Any]:
    used = [item for item in answers.updates if item.name not in refused]
    accepted = {}
    for candidate in used:
        info = _info(candidate.path)
        accepted[candidate.name] = {
            "samples": float(info.num_samples or 0),
            "weight": float(candidate.weight if candidate.weight is not None else info.num_samples or 0),
            "round": answers.earlier.get(candidate.name, round),
            "metrics": dict(info.metrics),
        }
    return {
        "round": round,
        "strategy": strategy.name,
        "base": base.digest,
        "asked": list(plan.participants(round)),
        "accepted": accepted,
        "refused": dict(refused),
        "late": list(answers.late),
        "needed": plan.needed(round),
    }


def _stop(plan: Plan, round: int, answers: Answers, refused: Mapping[str, str]) -> None:
    about = {"refused": dict(refused), "late": list(answers.late), "needed": plan.needed(round)}
    publish_json(plan.round(round).stopped, {**about, "asked": list(plan.participants(round))})


def _why(plan: Plan, round: int, answers: Answers, refused: Mapping[str, str]) -> str:
    usable = len(answers.updates) - sum(item.name in refused for item in answers.updates)
    reasons = [f"{name}: {why}" for name, why in refused.items()]
    reasons += [f"{name}: has not answered" for name in answers.late]
    head = f"round {round} stops with {usable} of the {plan.needed(round)} updates that it needs"
    return "\n  ".join([f"{head} (`hpcflow resume {plan.run.name}` goes on from here)", *reasons])
