"""What `federation` may say: who learns together, and by which rules. See docs/federated.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hpcflow.experiment.fields import (
    Complaint,
    Count,
    Natural,
    Number,
    PathText,
    Section,
    Time,
    Word,
    YesNo,
    refuse_all,
)

Share = Annotated[Number, Field(gt=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]
# Names of files beside those of collaborators.
TAKEN = ("aggregate", "holdout")


class Client(Section):
    """What a collaborator does in a round. Optimizers begin anew each round."""

    epochs: Count = Field(1, description="Passes over its training data.")
    batch_size: Count | None = Field(None, description="Samples of a step; left out: training.batch_size.")
    learning_rate: Positive | None = Field(None, description="Left out: training.learning_rate.")
    optimizer: Literal["sgd", "momentum", "adam"] = Field("sgd", description="Optimizer of the local steps.")
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(0.9, description="Of the optimizer `momentum`.")
    mu: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="Weight of FedProx's proximal term; left out: the strategy's own mu, else 0."
    )


class Participation(Section):
    """Who is asked in a round."""

    fraction: Share = Field(1.0, description="Share of the collaborators that a round asks.")
    minimum: Count | None = Field(
        None,
        description="Updates that a round needs; with fewer the run stops and can be resumed. Left out: all that "
        "were asked, or the quorum.",
    )


class Stragglers(Section):
    """What is done about those that are late."""

    policy: Literal["wait", "quorum", "cutoff"] = Field(
        "wait", description="Wait for all, for a quorum, or for a fixed time."
    )
    quorum: Share = Field(0.5, description="Share of those asked that makes a quorum.")
    minimum: Count = Field(1, description="A quorum has at least so many; so has a cut-off.")
    after: Time | None = Field(
        None,
        description="Cut-off, counted from the beginning of the round; the time limit of a collaborator's job too.",
    )
    late: Literal["cancel", "next"] = Field(
        "cancel", description="End late jobs, or use their updates in the next round."
    )
    staleness: Annotated[Number, Field(ge=0)] = Field(
        0.5, description="An update used s rounds late weighs (1 + s) ** -staleness of what it would."
    )

    @model_validator(mode="after")
    def _time_of_a_cutoff(self) -> Stragglers:
        if self.policy == "cutoff" and self.after is None:
            refuse_all([(("after",), "a cut-off needs its time (for example 00:10:00)")])
        return self


class Holdout(Section):
    """Data of nobody's, that the aggregate is judged by."""

    data: PathText | None = Field(None, description="Folder of the data set.")
    fraction: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.2, description="Of the digits: share that is dealt to nobody."
    )
    every: Count = Field(1, description="Rounds between two evaluations; the last round has one in any case.")


class Evaluation(Section):
    """What is measured in a round. Metrics leave a collaborator, its data does not."""

    aggregated: YesNo = Field(
        True,
        description="The aggregate, on every collaborator's validation data (when the next round begins).",
    )
    tuned: YesNo = Field(
        True, description="The locally trained model, on the collaborator's validation data."
    )
    holdout: Holdout | None = Field(None, description="The aggregate, on data that nobody trains on.")


class Dealing(Section):
    """How one data set is dealt to the collaborators."""

    method: Literal["iid", "dirichlet", "labels", "sizes", "institution"] = Field(
        "iid", description="Evenly, by Dirichlet(alpha), so many labels each, by sizes, or by a CSV file."
    )
    alpha: Positive = Field(0.5, description="Of Dirichlet: smaller is more skewed.")
    labels: Count = Field(2, description="Labels that a collaborator has.")
    sizes: tuple[Positive, ...] = Field((), description="Relative sizes, one for each collaborator.")
    file: PathText | None = Field(None, description="CSV of subject and institution.")
    seed: Natural | None = Field(None, description="Left out: federation.seed.")


class Retention(Section):
    """What `hpcflow fed prune` keeps. The last two rounds and all records are always kept."""

    models: Count | Literal["all"] = Field("all", description="Aggregates of the last so many rounds.")
    updates: Natural | Literal["all"] = Field(2, description="Updates of the last so many rounds.")
    every: Count | None = Field(None, description="Keep the aggregate of every n-th round as well.")


class Merging(Section):
    """The aggregation's own job."""

    ranks: Count = Field(1, description="MPI ranks; each reads and writes its part of the files.")
    time: Time = Field("00:30:00", description="Time limit.")


class FederationRules(Section):
    """Everything of a federation but who takes part."""

    rounds: Count = Field(description="Number of rounds.")
    strategy: Word = Field("fedavg", description="How updates are merged (`hpcflow fed aggregate --help`).")
    options: dict[Word, Any] = Field({}, description="Options of the strategy, as in {learning_rate: 0.01}.")
    client: Client = Field(Client(), description="What a collaborator does in a round.")
    participation: Participation = Field(Participation(), description="Who is asked.")
    stragglers: Stragglers = Field(Stragglers(), description="What is done about those that are late.")
    evaluation: Evaluation = Field(Evaluation(), description="What is measured.")
    partition: Dealing = Field(Dealing(), description="How one data set is dealt to all.")
    aggregation: Merging = Field(Merging(), description="The aggregation's own job.")
    execution: Literal["chained", "allocation", "inprocess"] = Field(
        "chained",
        description="A job for each collaborator and round, one allocation for all, or one process.",
    )
    window: Count | None = Field(
        None, description="Rounds that are queued at a time; left out: as many as the site lets you queue."
    )
    seed: Natural = Field(0, description="Seed of the model, the sampling and the order of data.")
    retention: Retention = Field(Retention(), description="What `hpcflow fed prune` keeps.")
    models: tuple[PathText, ...] = Field(
        (), description="`flow: evaluation`: the models (safetensors) that are evaluated."
    )

    @model_validator(mode="after")
    def _strategy_knows_its_options(self) -> FederationRules:
        refuse_all([*strategy_complaints(self.strategy, self.options), *client_complaints(self)])
        return self


def strategy_complaints(name: str, options: dict[str, Any]) -> Iterator[Complaint]:
    """What is wrong with a strategy's name or options, each at its key."""
    from hpcflow.errors import InputError
    from hpcflow.federation.strategies import make

    try:
        make(name, options)
    except InputError as error:
        for line in str(error).splitlines():
            key = next((key for key in options if f": {key}" in line), None)
            yield (("options", key) if key else ("strategy",)), line


def client_complaints(rules: FederationRules) -> Iterator[Complaint]:
    """Local steps of which a strategy's formulas know nothing: it would compute from them what is not so."""
    from hpcflow.federation.strategies import plain

    name, client = plain(rules.strategy), rules.client
    if name == "scaffold" and client.optimizer != "sgd":
        text = "scaffold takes the change of the weights for a sum of gradients, as sgd makes it (say sgd)"
        yield ("client", "optimizer"), text
    if name == "fednova" and client.optimizer == "adam":
        text = (
            "fednova knows what steps of sgd and momentum add up to, and not those of adam (say one of them)"
        )
        yield ("client", "optimizer"), text
    if name == "fednova" and client.optimizer == "momentum" and client.momentum and client.mu:
        text = "fednova knows a proximal term or momentum, not both at once (say optimizer: sgd, or mu: 0)"
        yield ("client", "mu"), text
    if name == "scaffold" and client.mu:
        text = "scaffold takes the change of the weights for a sum of gradients, without a proximal term (say mu: 0)"
        yield ("client", "mu"), text


def selected(rules: FederationRules, number: int) -> int:
    """How many of ``number`` collaborators a round asks: the fraction, rounded up, and never below the minimum."""
    # 0.1 * 30 is 3.0000000000000004: what is meant to be a whole number is one.
    asked = math.ceil(rules.participation.fraction * number - 1e-9)
    return min(number, max(1, asked, rules.participation.minimum or 1))


def quorum(rules: FederationRules, number: int) -> int:
    """How many usable updates release the aggregation of a round that asks ``number``; never fewer than it needs."""
    late = rules.stragglers
    if late.policy != "quorum":
        return number
    share = math.ceil(late.quorum * number - 1e-9)
    return min(number, max(late.minimum, rules.participation.minimum or 1, share))


def needed(rules: FederationRules, number: int) -> int:
    """How many updates a round that asks ``number`` needs."""
    if rules.participation.minimum is not None:
        return rules.participation.minimum
    if rules.stragglers.policy == "cutoff":
        return min(number, rules.stragglers.minimum)
    return quorum(rules, number)


def names_complaints(names: list[str]) -> Iterator[Complaint]:
    """Collaborators of one name, or of a name that is taken."""
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("collaborators", index, "name"), f"two collaborators are called {name}"
        elif name.lower() in TAKEN:
            yield (
                ("collaborators", index, "name"),
                f"`{name}` is a name that hpcflow needs itself (choose another)",
            )


def rule_complaints(rules: FederationRules, number: int) -> Iterator[Complaint]:
    """Rules that ``number`` collaborators cannot fulfil."""
    from hpcflow.errors import InputError
    from hpcflow.federation.strategies import make

    asked = selected(rules, number)
    minimum = rules.participation.minimum
    if minimum is not None and minimum > number:
        yield (
            ("participation", "minimum"),
            f"a round needs {minimum} updates, and there are {number} collaborators",
        )
    if rules.stragglers.policy != "wait" and rules.stragglers.minimum > asked:
        at = ("stragglers", "minimum")
        yield at, f"asks for {rules.stragglers.minimum} of the {asked} collaborators of a round"
    try:
        least = make(rules.strategy, rules.options).least()
    except InputError:
        return
    if least > needed(rules, asked):
        text = f"{rules.strategy} needs {least} updates, and a round may end with {needed(rules, asked)}"
        yield ("strategy",), f"{text} (raise participation.minimum, or ask more collaborators)"
    if rules.execution != "chained" and rules.stragglers.policy == "cutoff":
        yield (
            ("stragglers", "policy"),
            "a cut-off is the time limit of jobs of their own (say execution: chained)",
        )
    if rules.execution == "inprocess" and rules.stragglers.policy != "wait":
        yield ("stragglers", "policy"), "in one process each waits for the one before it (say wait)"
    sizes = rules.partition.sizes
    if rules.partition.method == "sizes" and len(sizes) != number:
        yield ("partition", "sizes"), f"names {len(sizes)} sizes for {number} collaborators"
    if rules.partition.method == "institution" and rules.partition.file is None:
        yield ("partition", "file"), "the CSV of subject and institution is missing"


def counted(number: int) -> list[str]:
    """Names of collaborators that are only counted: c00, c01, ..."""
    return [f"c{index:0{max(2, len(str(number - 1)))}d}" for index in range(number)]
