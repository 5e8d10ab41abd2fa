"""The sweep's specification (the docstring of experiment/sweep.py), against a plainer reading of it."""

import itertools
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcflow.errors import InputError
from hpcflow.experiment import Experiment, load
from hpcflow.experiment.check import check as check_files
from hpcflow.experiment.expression import ExpressionError, parse
from hpcflow.experiment.load import Loaded
from hpcflow.experiment.sweep import Trial, expand, points
from hpcflow.experiment.sweep_section import Sweep

BASE: dict[str, Any] = {
    "name": "s",
    "placement": {"ranks_per_node": 1},
    "training": {"batch_size": 8, "data": {"phantom": {"subjects": 12}}},
}
# Keys with values that make valid experiments in any combination.
VALUES: dict[str, list[Any]] = {
    "resources.nodes": [1, 2, 4],
    "training.batch_size": [1, 2, 8, 16],
    "training.learning_rate": [0.001, 0.01],
    "training.model.filters": [4, 8],
    "placement.launcher": ["openmpi", "srun"],
    "resources.partition": ["a", "b", None],
    "training.data.phantom": [{"subjects": 4}, {"subjects": 6, "seed": 1}],
}


def loaded(sweep: dict[str, Any], **more: Any) -> Loaded:
    return load(Path("s.yaml"), text=json.dumps({**BASE, **more, "sweep": sweep}))


def nodes(trial: Loaded) -> int:
    """One rank a node."""
    return trial.experiment.resources.nodes


def trials(sweep: dict[str, Any], **more: Any) -> list[Trial]:
    return expand(loaded(sweep, **more), nodes)


def some(key: str) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(VALUES[key]), min_size=1, max_size=4)


@st.composite
def sections(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.permutations(sorted(VALUES)))
    split, end = sorted((draw(st.integers(0, 3)), draw(st.integers(0, 5))))
    matrix = {key: draw(some(key)) for key in keys[:split]}
    length = draw(st.integers(1, 3))
    columns = {
        key: draw(st.lists(st.sampled_from(VALUES[key]), min_size=length, max_size=length))
        for key in keys[split:end]
    }
    point = st.dictionaries(st.sampled_from(sorted(VALUES)), st.none(), max_size=3)
    include = [
        {key: draw(st.sampled_from(VALUES[key])) for key in chosen}
        for chosen in draw(st.lists(point, max_size=3))
    ]
    exclude = draw(
        st.lists(st.sampled_from(["resources.nodes > 2", "training.batch_size == 8 and true"]), max_size=2)
    )
    return {
        "matrix": matrix, "zip": columns, "include": include, "exclude": exclude, "repeats": draw(st.integers(1, 3)),
    }  # fmt: skip


def plainly(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """The points, as rules 1 to 5 read."""
    matrix, columns = sweep["matrix"], sweep["zip"]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] or [{}]
    found = []
    if matrix or columns or not sweep["include"]:
        for values in itertools.product(*matrix.values()):
            for row in rows:
                found.append({**dict(zip(matrix, values, strict=True)), **row})
    for condition in sweep["exclude"]:
        if condition.startswith("resources"):
            found = [point for point in found if not point.get("resources.nodes", 1) > 2]
        else:
            found = [point for point in found if point.get("training.batch_size", 8) != 8]
    unique: list[dict[str, Any]] = []
    for point in [*found, *sweep["include"]]:
        if point not in unique:
            unique.append(point)
    return unique


@given(sections())
@settings(max_examples=50, deadline=None)
def test_points_and_trials_are_those_of_the_specification(sweep: dict[str, Any]) -> None:
    expected = plainly(sweep)
    if not expected:
        with pytest.raises(InputError, match="no trial is left"):
            trials(sweep)
        return
    made = trials(sweep)
    # 6, 9: numbered from 1, every trial once before any a second time.
    assert [(trial.number, trial.repeat) for trial in made] == [
        (number, repeat) for repeat in range(sweep["repeats"]) for number in range(1, len(expected) + 1)
    ]
    for trial in made:
        point = expected[trial.number - 1]
        assert dict(trial.point.values) == point
        # 6: the experiment is what a file with these values would be, through the ordinary loader.
        sets = [
            f"{key}={json.dumps(value)}" for key, value in sorted(point.items(), key=lambda item: item[0])
        ]
        sets.append(f"training.seed={trial.repeat}")
        assert trial.experiment == load(Path("s.yaml"), sets, text=json.dumps(BASE)).experiment
    # 8: a baseline is its own baseline, and has the fewest ranks.
    by_number = {trial.number: trial for trial in made}
    assert all(by_number[trial.baseline].baseline == trial.baseline for trial in made)
    assert all(by_number[trial.baseline].ranks == min(other.ranks for other in made) for trial in made)


@given(
    st.sampled_from([1, 2, 4, 8]),
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4, unique=True),
)
@settings(max_examples=30, deadline=None)
def test_scaling_keeps_what_it_says(batch: int, counts: list[int]) -> None:
    counts = sorted(counts)
    strong = {"matrix": {"resources.nodes": counts}, "scaling": "strong"}
    base = counts[0]
    fits = all(batch * base % count == 0 for count in counts)
    training = {**BASE["training"], "batch_size": batch, "learning_rate": 0.5}
    if not fits:
        with pytest.raises(InputError, match="cannot be shared by"):
            trials(strong, training=training)
    else:
        for trial in trials(strong, training=training):
            said = trial.experiment.training
            assert said.batch_size * trial.ranks == batch * base
            assert said.learning_rate * trial.ranks == pytest.approx(0.5 * base)
    for trial in trials({**strong, "scaling": "weak"}) if 12 % base == 0 else ():
        phantom = trial.experiment.training.data.phantom
        assert phantom is not None
        assert phantom.subjects / trial.ranks == 12 / base
        assert trial.experiment.training.batch_size == 8


def test_real_data_cannot_grow_but_steps_can_be_fixed() -> None:
    sweep = {"matrix": {"resources.nodes": [1, 2]}, "scaling": "weak"}
    with pytest.raises(InputError, match=r"training.limit_batches: a real data set cannot grow.*trial 1"):
        trials(sweep, storage={"data": "/data"})
    training = {**BASE["training"], "limit_batches": 10}
    assert [trial.scaled for trial in trials(sweep, storage={"data": "/data"}, training=training)] == [{}, {}]


FILE = """\
name: s
training:
  batch_size: 8
  data: {phantom: {subjects: 12}}
sweep:
  matrix:
    resources.nodes: [1, two, 2]
    training.batch_size: [8, 4]
  include:
    - {training.modle.name: unet2d}
  exclude: ["resources.nodes == 4 and training.batch_size > 4"]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        expand(load(Path("s.yaml"), text=text), nodes)
    return str(caught.value).splitlines()


def test_errors_name_the_trial_and_the_line_once_each() -> None:
    assert problems(FILE) == [
        "s.yaml:7:26: resources.nodes: expected a whole number, not 'two' "
        '[trial 3: resources.nodes = "two", training.batch_size = 8; and 1 more]',
        "s.yaml:10:8: training.modle: there is no such key (did you mean `model`?) "
        '[trial 7: training.modle.name = "unet2d"]',
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[1, two, 2]", "[]", "s.yaml:7:22: sweep.matrix.resources.nodes: expected at least 1 of them"),
        ("resources.nodes: [1, two, 2]", "storage.runs: [a]", "is the same for all trials"),
        ("resources.nodes: [1, two, 2]", "sweep.repeats: [1]", "is the same for all trials"),
        ("resources.nodes: [1, two, 2]", "a b: [1]", "`a b` is no key"),
        (
            '"resources.nodes == 4',
            '"resources.nodes = 4',
            "s.yaml:11:13: sweep.exclude.0: this is no comparison",
        ),
        ('"resources.nodes == 4', '"open(1) == 4', "s.yaml:11:13: sweep.exclude.0: only keys, numbers"),
        (
            "  exclude:",
            "  baseline: {resources.nodes: 9}\n  exclude:",
            "sweep.baseline: no trial has these values",
        ),
        (
            "nodes == 4 and",
            "nides == 4 and",
            "s.yaml:11:13: sweep.exclude.0: there is no key resources.nides",
        ),
        ("== 4 and training.batch_size > 4", "> 'x'", "sweep.exclude.0: 1 and 'x' cannot be compared so"),
        ("  exclude:", "  zip: {training.epochs: [1], training.seed: [1, 2]}\n  exclude:", "2 values, and"),
        ("  exclude:", "  zip: {training.batch_size: [1]}\n  exclude:", "this key is in matrix already"),
        ("  exclude:", "  order: longest\n  exclude:", "sweep.order: expected 'shortest' or 'given'"),
    ],
)
def test_what_a_sweep_may_not_say(old: str, new: str, message: str) -> None:
    text = FILE.replace("modle", "model")
    assert old in text
    text = text.replace(old, new)
    text = text.replace("two, ", "") if "no trial" in message or "exclude" in message else text
    assert message in "\n".join(problems(text))


def test_points_that_are_left_out_need_not_be_valid() -> None:
    sweep = {"matrix": {"resources.nodes": [1, 0]}, "exclude": ["resources.nodes < 1"]}
    assert [trial.point.values for trial in trials(sweep)] == [{"resources.nodes": 1}]


def test_a_count_of_ranks_unsays_the_others() -> None:
    sweep = {"matrix": {"placement.ranks_per_socket": [1, 2]}}
    assert [trial.experiment.placement.ranks_per_node for trial in trials(sweep)] == [None, None]


def test_a_baseline_of_ones_own_and_the_nearest_of_several() -> None:
    sweep = {"matrix": {"resources.nodes": [1, 2], "training.batch_size": [4, 8]}}
    assert [trial.baseline for trial in trials(sweep)] == [1, 2, 1, 2]
    named = {**sweep, "baseline": {"resources.nodes": 2, "training.batch_size": 8}}
    assert [trial.baseline for trial in trials(named)] == [4, 4, 4, 4]


def test_a_baseline_may_be_said_otherwise_than_its_trial() -> None:
    crops = {"matrix": {"training.data.crop": [[16, 16, 8], [32, 32, 16]]}}
    made = trials({**crops, "baseline": {"training.data.crop": [32, 32, 16]}})
    assert [trial.baseline for trial in made] == [2, 2]
    times = {"matrix": {"resources.time": ["00:01:00", "00:02:00"]}, "baseline": {"resources.time": "2:00"}}
    assert [trial.baseline for trial in trials(times)] == [2, 2]
    plain = {"matrix": {"training.epochs": [1, 2]}, "baseline": {"resources.time": "10"}}
    assert [trial.baseline for trial in trials(plain, resources={"time": "00:10:00"})] == [1, 2]
    wrong = {"matrix": {"resources.nodes": [1, 2]}, "baseline": {"resources.node": 1}}
    with pytest.raises(InputError, match=r"no key resources.node \(resources.nodes\?\)"):
        trials(wrong)


def test_a_repeat_that_is_another_trial_is_refused() -> None:
    with pytest.raises(InputError, match="repeat 1 of trial 1 is the same experiment as trial 2"):
        trials({"matrix": {"training.seed": [0, 1]}, "repeats": 2})
    apart = trials({"matrix": {"training.seed": [0, 10]}, "repeats": 2})
    assert [trial.experiment.training.seed for trial in apart] == [0, 10, 1, 11]


def test_validate_refuses_what_submit_does(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "name: s\ntraining: {data: {phantom: {}}}\nsweep:\n  matrix: {training.learning_rate: [0.001, -1]}\n"
    )
    (checked,) = check_files([tmp_path / "s.yaml"])
    assert [(p.line, p.column) for p in checked.problems] == [(4, 44)]
    assert "training.learning_rate" in str(checked.problems[0])


# Conditions: the same truth as Python's own, for what both know; and no way out for what only Python knows.
NUMBERS = {"a.b": 3, "c": 2.5, "d.e": -1}
operands = st.one_of(
    st.sampled_from(sorted(NUMBERS)), st.integers(-9, 9).map(str), st.sampled_from(["0.5", "true", "false"])
)
terms = st.recursive(
    operands,
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({' '.join(t)})"),
    max_leaves=4,
)
compared = st.tuples(terms, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), terms).map(" ".join)
conditions = st.recursive(
    compared,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})"),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=5,
)


@given(conditions)
@settings(max_examples=200, deadline=None)
def test_conditions_mean_what_they_look_like(text: str) -> None:
    python = (
        text.replace("a.b", "a_b").replace("d.e", "d_e").replace("true", "True").replace("false", "False")
    )
    names = {key.replace(".", "_"): value for key, value in NUMBERS.items()}
    try:
        mine = parse(text).holds(NUMBERS.__getitem__)
    except ExpressionError as error:
        assert "expected a number, not" in error.message  # true + 1 is none here
        return
    assert mine == bool(eval(python, {"__builtins__": {}}, names))  # noqa: S307 - the oracle, of our own text


@given(st.text(string.printable, max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    try:
        parse(text).holds(lambda key: 1)
    except ExpressionError as error:
        assert error.character >= 1


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "(lambda: 1)()", "[x for x in [1]]", "a.b[0]", "{1: 2}", "a := 1", "f'{a}'",
     "9 ** 9 ** 9", "1 if a else 2", "'a' * 9", "b'x'", "...", "1j", "a()", "*a", "await a", "(" * 300,
     "not " * 90 + "a"],
)  # fmt: skip
def test_there_is_no_way_out_of_a_condition(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text).holds(lambda key: "x")


def test_a_thousand_points_take_no_time_to_speak_of() -> None:
    sweep = Sweep.model_validate({"matrix": {"training.seed": tuple(range(1000))}})
    assert len(points(sweep, lambda key: None)) == 1000
    assert isinstance(Experiment.model_validate(BASE), Experiment)
