"""What `sweep` means: from one experiment to its trials. Pure; nothing is written or asked.

The specification (tests/experiment/test_sweep.py holds it against a slower and plainer reading of this text):

1. *Rows.* ``zip`` is a list of rows: its i-th row has the i-th value of each of its keys.
2. *Points.* ``matrix`` and ``zip`` are combined: every value of every key of ``matrix`` with every row of ``zip``. The
   last key of ``matrix`` varies faster than those before it, the rows fastest. With neither, there is one point that
   overrides nothing, unless ``include`` names some, which then are all there are.
3. *exclude.* A point that meets any of the conditions is left out. A key in a condition has the point's value, else the
   experiment's. Points that are left out need not be valid experiments.
4. *include.* Its points follow in their order; conditions do not touch them.
5. *Equals.* Of points that override the same keys with the same values the first stays.
6. *Trials.* What is left is numbered from 1. Trial n is the experiment with the point's values laid over it, as a
   further layer above ``--set``: keys that exclude each other (the counts of ranks) unsay those below. A mapping is
   merged into the section it names, any other value replaces. Every trial is checked as a file would be; all problems
   of all trials are raised together, each with the place of its value and the number of the first trial that has it.
7. *scaling.* R is a trial's number of ranks, R0 that of its baseline; R0 is one number for the sweep.
   ``strong``: one step does the same work whatever R is. ``training.batch_size``, said for R0 ranks, becomes
   batch_size * R0 / R, which must be a whole number; where the learning rate is scaled by the ranks, it is multiplied
   by R0 / R first, so that all trials train alike.
   ``weak``: a rank does the same work whatever R is. Its batch stays, and the data grows:
   ``training.data.phantom.subjects`` becomes subjects * R / R0, which must be a whole number. A real data set cannot
   grow: there ``training.limit_batches`` must fix the steps of an epoch, and then nothing is changed.
   Left out: nothing follows the ranks (with a fixed batch_size the batch of all ranks together grows with them).
   A federation's collaborators are no ranks: it cannot be scaled.
8. *baseline.* The trials whose values (point's, else experiment's) are those of ``baseline``, as they are written or,
   if none is, as the schema understands them (60 is 00:01:00); there must be one. Left
   out: those with the fewest ranks; where all have the same, the first. A trial is compared with the baseline that
   agrees with it in most of the swept keys, the first of these.
9. *repeats.* Every trial runs ``repeats`` times. Repeat r (from 0) has ``training.seed + r``, a federation's
   ``federation.seed + r``: repeats of one trial differ in weights and order, and are as many experiments. All trials
   run once before any runs a second time. Seeds that are swept over must not make a repeat of one trial what another
   is.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from hpcflow.errors import InputError, Problem
from hpcflow.experiment.document import Document, Key, shown
from hpcflow.experiment.expression import ExpressionError, parse
from hpcflow.experiment.load import Loaded, check, merge
from hpcflow.experiment.problems import Marks
from hpcflow.experiment.schema import Experiment
from hpcflow.experiment.sweep_section import Sweep

Ranks = Callable[[Loaded], int]

_ENCODE = json.JSONEncoder(default=str).encode  # json.dumps would make an encoder for each call

SEEDS = ("training.seed", "federation.seed")


@dataclass(frozen=True)
class Point:
    """Values of some keys, and where in the section `sweep` each of them stands."""

    values: Mapping[str, Any]
    places: Mapping[str, Key] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Trial:
    """One trial in one of its repeats. ``scaled`` are the values that follow the ranks."""

    number: int
    repeat: int
    point: Point
    experiment: Experiment
    ranks: int
    baseline: int  # the number of the trial that it is compared with
    scaled: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As messages name it."""
        return title(self.number, self.point)


def title(number: int, point: Point) -> str:
    """`trial 3: resources.nodes = 4`."""
    values = ", ".join(
        f"{key} = {shown(json.dumps(value, default=str))}" for key, value in point.values.items()
    )
    return f"trial {number}" + (f": {values}" if values else "")


def points(sweep: Sweep, value_of: Callable[[str], Any]) -> list[Point]:
    """The points of a sweep (1 to 5 above); ``value_of`` tells what the experiment itself has. Raises
    ConditionError.
    """
    combined = [] if sweep.include and not (sweep.matrix or sweep.zip) else list(_combined(sweep))
    kept = [point for point in combined if not _excluded(sweep, point, value_of)]
    for number, values in enumerate(sweep.include):
        kept.append(Point(values, {key: ("sweep", "include", number, key) for key in values}))
    unique: dict[str, Point] = {}
    for point in kept:
        unique.setdefault(_identity(point), point)
    return list(unique.values())


class ConditionError(ValueError):
    """A condition that cannot be told: its number in `exclude`, and what is wrong."""

    def __init__(self, number: int, message: str) -> None:
        self.number, self.message = number, message
        super().__init__(message)


def _combined(sweep: Sweep) -> Iterator[Point]:
    lists = [
        [({key: value}, {key: ("sweep", "matrix", key, index)}) for index, value in enumerate(values)]
        for key, values in sweep.matrix.items()
    ]
    length = min(map(len, sweep.zip.values()), default=0)
    if length:
        lists.append(
            [
                (
                    {key: values[row] for key, values in sweep.zip.items()},
                    {key: ("sweep", "zip", key, row) for key in sweep.zip},
                )
                for row in range(length)
            ]
        )
    for parts in itertools.product(*lists):
        values: dict[str, Any] = {}
        places: dict[str, Key] = {}
        for value, place in parts:
            values |= value
            places |= place
        yield Point(values, places)


def _excluded(sweep: Sweep, point: Point, value_of: Callable[[str], Any]) -> bool:
    def lookup(key: str) -> Any:
        return point.values[key] if key in point.values else _inside(point, key, value_of)

    for number, text in enumerate(sweep.exclude):
        try:
            if parse(text).holds(lookup):
                return True
        except ExpressionError as error:
            raise ConditionError(number, str(error)) from None
    return False


def _inside(point: Point, key: str, value_of: Callable[[str], Any]) -> Any:
    """``key`` below a mapping that the point lays over a section, else the experiment's."""
    for above, value in point.values.items():
        if key.startswith(above + ".") and isinstance(value, Mapping):
            try:
                return _at(value, key[len(above) + 1 :])
            except KeyError:
                continue
    return value_of(key)


def _at(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if not isinstance(values, Mapping) or part not in values:
            raise KeyError(dotted)
        values = values[part]
    return values


def _identity(point: Point) -> str:
    return _ENCODE(sorted(point.values.items()))


def trial_of(
    loaded: Loaded,
    point: Point,
    more: Mapping[str, Any] | None = None,
    sections: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Experiment | None, Document]:
    """The experiment with a point laid over it (None where the schema refuses it), and the values it was made of.

    ``sections`` are those of the experiment without the point (``sections_of``): what it leaves alone is taken from
    there, checked already, and shared by all trials.
    """
    document = Document(_without_sweep(loaded))
    values = {**point.values, **(more or {})}
    for key, value in sorted(values.items(), key=lambda item: item[0].count(".")):
        merge(document, Document(_nested(key, value)))
    touched = {key.partition(".")[0] for key in values}
    alone = {name: section for name, section in sections.items() if name not in touched}
    try:
        return Experiment.model_validate({**document.value, **alone}), document
    except ValidationError:  # whoever is to be told what is wrong checks the document
        return None, document


def sections_of(loaded: Loaded) -> dict[str, Any]:
    """The sections of the experiment without its sweep, checked, of which a trial changes a few."""
    plain = Experiment.model_validate(_without_sweep(loaded))
    return {name: getattr(plain, name) for name in Experiment.model_fields if name != "sweep"}


def _without_sweep(loaded: Loaded) -> dict[str, Any]:
    return {key: value for key, value in loaded.values.items() if key != "sweep"}


def marked(loaded: Loaded, point: Point) -> Marks:
    """The marks of the experiment with those of a point's values over them."""
    values, keys = dict(loaded.marks.values), dict(loaded.marks.keys)
    for dotted, place in point.places.items():
        path, depth = tuple(dotted.split(".")), len(place)
        for source, target in ((loaded.marks.values, values), (loaded.marks.keys, keys)):
            target.update(
                {(*path, *key[depth:]): mark for key, mark in source.items() if key[:depth] == place}
            )
        keys[path] = values.get(path) or loaded.marks.keys[("sweep",)]
        for above in range(1, len(path)):  # sections that stand nowhere else
            keys.setdefault(path[:above], loaded.marks.keys.get(place) or keys[path])
    return Marks(loaded.marks.file, values, keys)


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def loaded_trial(loaded: Loaded, point: Point, experiment: Experiment) -> Loaded:
    """The trial as if it had been a file of its own, with its places in this one."""
    return replace(loaded, experiment=experiment, marks=marked(loaded, point))


def expand(
    loaded: Loaded, ranks: Ranks, adapt: Callable[[Experiment], Experiment] = lambda made: made
) -> list[Trial]:
    """The trials in the order in which they run (repeats of all after all). Raises InputError with every problem.

    ``ranks`` tells how many ranks an experiment has, or raises InputError; ``adapt`` has the last word on each
    experiment (paths).
    """
    sweep = loaded.experiment.sweep or Sweep()
    plain = loaded.experiment.model_dump()
    try:
        found = points(sweep, lambda key: _at(plain, key))
    except ConditionError as error:
        place = ("sweep", "exclude", error.number)
        raise InputError([loaded.marks.problem(place, error.message)]) from None
    if not found:
        raise loaded.problem("sweep.exclude", "no trial is left (exclude less)")
    complaints = _Complaints(loaded)
    made: list[tuple[int, Point, Experiment, int]] = []
    sections = sections_of(loaded)
    for number, point in enumerate(found, 1):
        experiment, document = trial_of(loaded, point, sections=sections)
        if experiment is None:
            marks = marked(loaded, point)
            complaints.add(number, point, check(Experiment, document, marks)[1])
            continue
        try:
            made.append((number, point, experiment, _ranks(loaded, point, experiment, ranks)))
        except InputError as error:
            complaints.add(
                number, point, error.problems or (Problem(str(loaded.path), 0, 0, "sweep", str(error)),)
            )
    complaints.done()
    baselines = _baselines(loaded, sweep, plain, made)
    return list(_repeated(loaded, sweep, made, baselines, adapt))


def _ranks(loaded: Loaded, point: Point, experiment: Experiment, ranks: Ranks) -> int:
    try:
        return ranks(replace(loaded, experiment=experiment))
    except InputError:  # once more with its own places, which cost more than the rest of it
        return ranks(loaded_trial(loaded, point, experiment))


class _Complaints:
    """Problems of trials, each once, with the first trial that has it."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._found: dict[Problem, tuple[str, int]] = {}

    def add(self, number: int, point: Point, problems: Sequence[Problem]) -> None:
        for problem in problems:
            first, count = self._found.get(problem, (title(number, point), 0))
            self._found[problem] = first, count + 1

    def done(self) -> None:
        if self._found:
            raise InputError(
                replace(p, message=f"{p.message} [{first}{f'; and {count - 1} more' if count > 1 else ''}]")
                for p, (first, count) in self._found.items()
            )


def _baselines(
    loaded: Loaded, sweep: Sweep, plain: Mapping[str, Any], made: Sequence[tuple[int, Point, Experiment, int]]
) -> dict[int, int]:
    """The number of each trial's baseline."""
    if sweep.baseline:
        chosen = [
            number
            for number, point, experiment, _ in made
            if all(_of(point, experiment, key) == value for key, value in sweep.baseline.items())
        ]
        # Said otherwise than in the trial (60 for 00:01:00, a list for a tuple), a value is the same to the schema.
        chosen = chosen or [
            number
            for number, point, experiment, _ in made
            if trial_of(loaded, Point({**point.values, **sweep.baseline}))[0] == experiment
        ]
        if not chosen:
            raise loaded.problem("sweep.baseline", _no_baseline(sweep.baseline, made[0][1], plain))
    else:
        fewest = min(ranks for *_, ranks in made)
        alike = all(ranks == fewest for *_, ranks in made)
        chosen = [number for number, _, _, ranks in made if ranks == fewest][: 1 if alike else None]
    by_number = {number: point.values for number, point, *_ in made}
    result = {}
    for number, point, *_ in made:
        best = max(chosen, key=lambda other: (_agreement(point.values, by_number[other]), -other))
        result[number] = number if number in chosen else best
    return result


def _no_baseline(baseline: Mapping[str, Any], point: Point, plain: Mapping[str, Any]) -> str:
    known = [*point.values, *_dotted(plain)]
    for key in baseline:
        near = difflib.get_close_matches(key, known, 1)
        if key not in known and near:
            return f"no trial has these values: there is no key {shown(key)} ({near[0]}?)"
    return "no trial has these values (name those of one)"


def _dotted(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{key}.")


def _agreement(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(key in other and other[key] == value for key, value in one.items())


def _of(point: Point, experiment: Experiment, key: str) -> Any:
    if key in point.values:
        return point.values[key]
    value: Any = experiment
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return value


def _repeated(
    loaded: Loaded,
    sweep: Sweep,
    made: Sequence[tuple[int, Point, Experiment, int]],
    baselines: Mapping[int, int],
    adapt: Callable[[Experiment], Experiment],
) -> Iterator[Trial]:
    ranks_of = {number: ranks for number, _, _, ranks in made}
    bases = {ranks_of[base] for base in baselines.values()}
    complaints = _Complaints(loaded)
    first: list[Trial] = []
    for number, point, experiment, ranks in made:
        scaled: dict[str, Any] = {}
        try:
            scaled = _scaled(sweep, loaded, experiment, ranks, bases)
        except InputError as error:
            marks = marked(loaded, point)
            where = next((p for p in error.problems), None)
            key = where.key if where else "sweep.scaling"
            complaints.add(
                number, point, [marks.problem(("sweep", "scaling"), f"{key}: {where and where.message}")]
            )
        if scaled:
            experiment = trial_of(loaded, point, scaled)[0] or experiment
        first.append(Trial(number, 0, point, adapt(experiment), ranks, baselines[number], scaled))
    complaints.done()
    _refuse_the_same_twice(loaded, sweep, first)
    for repeat in range(sweep.repeats):
        for trial in first:
            yield (
                replace(trial, repeat=repeat, experiment=_seeded(trial.experiment, repeat))
                if repeat
                else trial
            )


def _refuse_the_same_twice(loaded: Loaded, sweep: Sweep, first: Sequence[Trial]) -> None:
    """A repeat differs by its seed alone: where seeds are swept over, it may be another trial once more."""
    if sweep.repeats == 1 or not any(key in trial.point.values for trial in first for key in SEEDS):
        return
    seen: dict[str, Trial] = {}
    for repeat in range(sweep.repeats):
        for trial in first:
            text = _seeded(trial.experiment, repeat).model_dump_json()
            if other := seen.get(text):
                raise loaded.problem(
                    "sweep.repeats",
                    f"repeat {repeat} of trial {trial.number} is the same experiment as trial {other.number} "
                    "(repeat no trials whose seeds are swept over, or let the seeds lie further apart)",
                )
            seen[text] = trial


def _seeded(experiment: Experiment, repeat: int) -> Experiment:
    training, rules = experiment.training, experiment.federation
    update: dict[str, Any] = {"training": training.model_copy(update={"seed": training.seed + repeat})}
    if rules is not None:
        update["federation"] = rules.model_copy(update={"seed": rules.seed + repeat})
    return experiment.model_copy(update=update)


def _scaled(
    sweep: Sweep, loaded: Loaded, experiment: Experiment, ranks: int, bases: set[int]
) -> dict[str, Any]:
    """The values that follow the ranks (7 above). Raises InputError whose problem has the key that cannot."""
    if sweep.scaling is None:
        return {}
    if experiment.federation is not None:
        raise _cannot(
            "flow", "a federation's collaborators are no ranks, and it cannot be scaled (leave it out)"
        )
    if len(bases) > 1:
        raise _cannot("sweep.baseline", "the baselines have different numbers of ranks (name one)")
    (base,), training = bases, experiment.training
    if sweep.scaling == "strong":
        batch, rest = divmod(training.batch_size * base, ranks)
        if rest or not batch:
            on = f"{base} rank{'' if base == 1 else 's'}"
            message = f"a batch of {training.batch_size} on {on} cannot be shared by {ranks}"
            raise _cannot("training.batch_size", f"{message} (a multiple of {ranks} can)")
        rate = training.learning_rate * base / ranks
        follows = {"training.learning_rate": rate} if training.scale_learning_rate else {}
        return {"training.batch_size": batch, **follows} if ranks != base else {}
    if training.limit_batches is not None:
        return {}
    phantom = training.data.phantom
    if experiment.storage.data is not None or phantom is None:
        message = (
            "a real data set cannot grow with the ranks (fix the steps of an epoch here, or scale strong)"
        )
        raise _cannot("training.limit_batches", message)
    subjects, rest = divmod(phantom.subjects * ranks, base)
    if rest or subjects < 2:
        message = f"{phantom.subjects} subjects for {base} ranks are no whole number for {ranks}"
        raise _cannot("training.data.phantom.subjects", message)
    return {"training.data.phantom.subjects": subjects} if ranks != base else {}


def _cannot(key: str, message: str) -> InputError:
    return InputError([Problem("", 0, 0, key, message)])
