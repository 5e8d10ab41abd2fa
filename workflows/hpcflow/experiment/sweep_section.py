"""The section `sweep` of an experiment; experiment/sweep.py says what it means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from hpcflow.experiment.document import shown
from hpcflow.experiment.expression import ExpressionError, parse
from hpcflow.experiment.fields import Complaint, Count, Section, refuse, refuse_all

# What says which experiment it is and where its runs lie: the same for all trials.
FIXED = ("sweep", "name", "flow", "description", "storage.runs")
MOST_TRIALS = 100_000  # more is a slip: a matrix of six keys with ten values each


def _key(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", text):
        refuse(f"`{shown(text)}` is no key (words with dots between them, as in resources.nodes)")
    for fixed in FIXED:
        if text == fixed or text.startswith(fixed + "."):
            refuse(f"{fixed} is the same for all trials (sweep over another key)")
    return text


def _expression(text: str) -> str:
    try:
        parse(text)
    except ExpressionError as error:
        refuse(str(error))
    return text


SweptKey = Annotated[str, AfterValidator(_key), WithJsonSchema({"type": "string", "pattern": r"^[^\s]+$"})]
Condition = Annotated[str, AfterValidator(_expression), WithJsonSchema({"type": "string"})]
Values = Annotated[tuple[Any, ...], Field(min_length=1)]


class Sweep(Section):
    """Trials: the experiment again and again, with other values of some keys."""

    matrix: dict[SweptKey, Values] = Field(
        {}, description="Lists of values by dotted key: every combination is a trial."
    )
    zip: dict[SweptKey, Values] = Field(
        {}, description="Lists of one length, taken together: the first values, then the second ones, ..."
    )
    include: tuple[dict[SweptKey, Any], ...] = Field(
        (), description="Further trials, each by its keys and values; exclude does not touch them."
    )
    exclude: tuple[Condition, ...] = Field(
        (), description="Conditions on keys, as in `resources.nodes > 4`: trials that meet one are left out."
    )
    repeats: Annotated[Count, Field(le=1000)] = Field(
        1, description="How often each trial runs; repeat r trains with training.seed + r."
    )
    scaling: Literal["strong", "weak"] | None = Field(
        None,
        description="strong keeps the batch of all ranks together as the baseline has it, weak lets the data grow "
        "with the ranks; left out: nothing follows the ranks.",
    )
    baseline: dict[SweptKey, Any] = Field(
        {}, description="Keys and values of what the others are compared with; left out: the fewest ranks."
    )
    order: Literal["shortest", "given"] = Field(
        "shortest", description="Which trials are queued first: those of the smallest jobs, or as written."
    )
    max_parallel: Count | None = Field(None, description="At most so many trials at once.")

    @model_validator(mode="after")
    def _fits(self) -> Sweep:
        refuse_all(self._complaints())
        return self

    def _complaints(self) -> Iterator[Complaint]:
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            first = next(iter(lengths))
            for key, length in lengths.items():
                if length != lengths[first]:
                    yield (
                        ("zip", key),
                        f"{length} values, and {first} has {lengths[first]} (zip takes them in pairs)",
                    )
        for key in self.zip:
            if key in self.matrix:
                yield ("zip", key), "this key is in matrix already (keep one of them)"
        number = self.repeats * max(lengths.values(), default=1)
        for values in self.matrix.values():
            number *= len(values)
        if number > MOST_TRIALS:
            yield ("matrix",), f"{number} trials are more than {MOST_TRIALS} (fewer values or keys)"
