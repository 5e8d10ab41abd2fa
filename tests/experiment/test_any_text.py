"""Properties: whatever stands in a file there is an Experiment or an InputError; what is written is read back."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpcflow.errors import InputError
from hpcflow.experiment import Experiment, dump, load, load_resolved
from hpcflow.experiment.document import Document, read, scalar
from hpcflow.experiment.fields import clock, seconds
from hpcflow.experiment.schema import Resources, Storage

HEAD = "name: a\ntraining: {data: {phantom: {}}}\n"
MINIMAL = {"name": "a", "training": {"data": {"phantom": {}}}}
WORDS = (
    "name: resources nodes placement ranks threads env storage data runs environment variables training model crop "
    "extra sweep ? - : , [ ] { } & * ! | > ' \" # % @ ` << <<: &a *a !!int !!str !!map !!python/object: ~ null true yes "
    "0 010 1e3 1e999 .inf .nan 12:30 --- ... \\UFFFFFFFF \\ud800 \n \n  \t %YAML %TAG"
)
TOKENS = WORDS.split(" ")
NUMBERS = "1e3 08 010 0x1F 1_000 12:30 1:2:3 .5 5. .inf .nan NaN ~ null no yes on off y n = << 2024-01-01 +1 -1 1.10"
KEYS = sorted(
    {key for section in (Experiment, Resources, Storage) for key in section.model_fields}
    | {"model", "data", "phantom", "kmp", "env", "variables", "modules", "omp", "a.b", "", "[key]", "0"}
)

texts = st.text() | st.lists(st.sampled_from(TOKENS) | st.text(max_size=3)).map(" ".join)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 40)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["auto", "all", "horovod", "single", "1-00:00:00", "16G", "whole_tumor", "unet3d", "$X", "--a=b"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
line = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30)


@settings(max_examples=400, deadline=None)
@given(texts)
@example('a: "\\ud800"')
@example('"\\ud800": 1')
@example("%YAML " + "9" * 5000 + ".1\n--- a")
@example("a: !!int " + "9" * 5000)
@example("!!set {name: a}")
@example("&a [*a]")
@example("? {a: b}\n: c")
@example("name: a\n<<: [1, {name: b}]")
def test_any_text_is_an_experiment_or_an_input_error(text: str) -> None:
    try:
        document = read(Path("a.yaml"), text)
        load(Path("a.yaml"), (), None, text)
    except InputError as error:
        assert error.problems
        for problem in error.problems:
            assert "\n" not in str(problem)
            assert 0 <= problem.line <= len(re.split("\r\n|[\n\r\x85\u2028\u2029]", text)) + 1
    else:
        assert isinstance(document, Document)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
def test_any_values_are_an_experiment_or_problems_with_places(data: dict[str, object]) -> None:
    text = yaml.safe_dump({**MINIMAL, **data}, allow_unicode=True)
    try:
        load(Path("a.yaml"), (), None, text)
    except InputError as error:
        for problem in error.problems:
            assert problem.file == "a.yaml"
            assert problem.line >= 1
            assert problem.column >= 1
            assert "\n" not in str(problem)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=3))
@example(["name=" + "[" * 3000])
@example(["a=&a [*a]"])
@example(['name="\\UFFFFFFFF"'])
def test_any_set_is_taken_or_refused(sets: list[str]) -> None:
    try:
        load(Path("a.yaml"), sets, None, HEAD)
    except InputError as error:
        assert all("\n" not in str(problem) for problem in error.problems)


@settings(max_examples=200, deadline=None)
@given(
    values,
    st.sampled_from(["resources.nodes", "storage.data", "threads.env", "placement", "environment.modules"]),
)
@example(":0", "resources.nodes")
def test_a_set_says_what_the_file_says(value: object, key: str) -> None:
    """The same value by --set and in the file: the same experiment, or the same problems at other places."""
    # In a list, since what stands in brackets is quoted where it need not be by itself (as `:0`).
    text = yaml.safe_dump([value], default_flow_style=True, width=10**9, allow_unicode=True)
    text = text.rstrip("\n").removeprefix("[").removesuffix("]")
    section, _, leaf = key.rpartition(".")
    said = f"{section}: {{{leaf}: {text}}}" if section else f"{leaf}: {text}"
    assert outcome([], f"{HEAD}{said}\n") == outcome([f"{key}={text}"], HEAD)


def outcome(sets: list[str], text: str) -> object:
    try:
        return load(Path("a.yaml"), sets, None, text).experiment
    except InputError as error:
        return sorted((problem.key, problem.message) for problem in error.problems)


def experiments() -> st.SearchStrategy[Experiment]:
    text = line.filter(bool)
    word = text.filter(lambda word: not re.search(r"\s", word) and not word.startswith("-"))
    name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(
        lambda name: name != "last"
    )
    like_numbers = st.sampled_from(NUMBERS.split())
    value = line | like_numbers
    return st.builds(
        lambda name, about, words, paths, modules, variables, times: Experiment.model_validate(
            {
                "name": name,
                "description": about,
                "resources": {"partition": words[0], "constraint": words[1], "time": times},
                "storage": {"runs": paths[0], "data": paths[1]},
                "environment": {"modules": modules, "variables": {f"X_{k}": v for k, v in variables.items()}},
                "training": {"data": {"phantom": {}}},
            }
        ),
        name | st.sampled_from(["1e3", "08", "no", "12", "1.10"]),
        st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("\n\t")),
        st.tuples(word | like_numbers, value),
        st.tuples(text | like_numbers, text | like_numbers),
        st.lists(word | like_numbers.filter(lambda word: word[0] != "-"), max_size=3),
        st.dictionaries(st.from_regex("[A-Z0-9_]{1,5}", fullmatch=True), value, max_size=3),
        st.integers(1, 10**6).map(clock),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(experiments())
def test_what_is_dumped_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, experiment: Experiment
) -> None:
    path = tmp_path_factory.getbasetemp() / "experiment.yaml"
    path.write_text(dump(experiment), encoding="utf-8")
    assert load_resolved(path) == experiment
    # Other readers of YAML 1.1 get the same texts.
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert plain["name"] == experiment.name
    assert plain["environment"]["variables"] == dict(experiment.environment.variables)
    assert plain["resources"]["time"] == experiment.resources.time


@given(st.integers(1, 10**8))
def test_a_clock_is_read_back(total: int) -> None:
    assert seconds(clock(total)) == total


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1", -1), ("0", 0), ("010", "010"), ("+1", "+1"), ("0x1F", "0x1F"), ("1_000", "1_000"),
        ("12:30", "12:30"), ("1.5", 1.5), ("1e3", 1000.0), ("01.5", "01.5"), (".5", 0.5), ("5.", 5.0), ("true", True),
        ("True", True), ("yes", "yes"), ("no", "no"), ("on", "on"), ("~", None), ("null", None), ("", ""),
        ("2024-01-01", "2024-01-01"), ("=", "="), ("'1'", "1"), ("[1, a]", [1, "a"]), ("{a: 1}", {"a": 1}),
        ("1\n", 1), ("9" * 19, float("9" * 19)),
    ],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    found = scalar(text)
    assert found == value
    assert isinstance(found, type(value))
