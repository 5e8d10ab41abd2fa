"""Schema default < site < file < --set, where each key was said, and merge keys."""

from pathlib import Path

import pytest

from hpcflow.errors import InputError
from hpcflow.experiment import load
from hpcflow.experiment.document import read

HEAD = "name: a\ntraining: {data: {phantom: {}}}\n"


@pytest.fixture
def site(tmp_path: Path) -> str:
    path = tmp_path / "site.yaml"
    path.write_text(
        "name: big\nlaunchers: {openmpi: '4.1'}\ndefaults:\n"
        "  resources: {partition: from-site, account: from-site, qos: from-site}\n"
        "  placement: {ranks_per_socket: 2}\n"
    )
    return str(path)


def test_the_order_of_layers(tmp_path: Path, site: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD + "resources:\n  account: from-file\n  qos: from-file\n")
    loaded = load(path, ["resources.qos=from-set"], site)
    resources = loaded.experiment.resources
    assert (resources.nodes, resources.partition, resources.account, resources.qos) == (
        1,
        "from-site",
        "from-file",
        "from-set",
    )
    assert loaded.experiment.placement.ranks_per_socket == 2
    assert loaded.site.name == "big"
    assert loaded.overridden == ("resources.qos",)
    places = {
        key: (problem.file, problem.line, problem.column)
        for key in ("resources.partition", "resources.account", "resources.qos", "resources.nodes")
        for problem in loaded.problem(key, "x").problems
    }
    assert places == {
        "resources.partition": (site, 4, 26),
        "resources.account": (str(path), 4, 12),
        "resources.qos": ("--set", 1, 15),
        "resources.nodes": ("--set", 1, 1),  # not said: where its section was said last
    }


@pytest.mark.parametrize(
    ("said", "sets", "count"),
    [
        ("", [], "ranks_per_socket"),
        ("placement: {ranks_per_node: 1}\n", [], "ranks_per_node"),
        ("placement: {ranks_per_node: 1}\n", ["placement.ranks=4"], "ranks"),
        ("placement: {ranks_per_node: 1}\n", ["placement={ranks: 4}"], "ranks"),
        ("placement: {ranks_per_node: 1}\n", ["placement.smt=true"], "ranks_per_node"),
    ],
)
def test_a_count_of_ranks_unsays_those_of_the_layers_below(
    tmp_path: Path, site: str, said: str, sets: list[str], count: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD + said)
    placement = load(path, sets, site).experiment.placement
    counts = ("ranks_per_node", "ranks_per_socket", "ranks_per_numa", "ranks_per_l3", "ranks")
    assert [key for key in counts if getattr(placement, key) is not None] == [count]


def test_a_site_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """configs/sites here, then the user's own folder, then those of hpcflow; a path is taken as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "a.yaml").write_text(HEAD)
    for folder, name in (
        (tmp_path / "home" / "hpcflow" / "sites", "users"),
        (tmp_path / "configs" / "sites", "here"),
    ):
        folder.mkdir(parents=True)
        folder.joinpath("s.yaml").write_text(f"name: {name}\n")
        assert load(Path("a.yaml"), (), "s").site.name == name
    with pytest.raises(InputError, match=r"--site: t: there is no such profile .*; known: .*s"):
        load(Path("a.yaml"), (), "t")


PROFILE = """\
name: west
defaults:
  resources: {partition: gpu, account: w42, time: "00:20:00"}
  placement: {ranks_per_node: 2, cores_per_rank: 4}
  environment: {modules: [cuda/12], variables: {KEY: west}}
  training: {batch_size: 77}
"""
FEDERATION = """\
name: a
flow: federated
training: {model: {name: digits}}
federation:
  rounds: 1
  collaborators:
    - {name: north}
    - {name: west, site: west.yaml, resources: {time: "00:10:00"}, placement: {ranks_per_socket: 1}}
"""


@pytest.fixture
def west(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "west.yaml").write_text(PROFILE)
    (tmp_path / "a.yaml").write_text(FEDERATION)
    return Path("a.yaml")


def test_the_site_of_a_collaborator_lies_below_what_it_says_itself(west: Path) -> None:
    experiment = load(west).experiment
    assert experiment.federation is not None
    north, member = experiment.federation.members
    assert north.resources is north.placement is north.environment is None
    assert member.resources and member.placement and member.environment
    assert (member.resources.partition, member.resources.account) == ("gpu", "w42")
    assert member.resources.time == "00:10:00"
    # A count of ranks unsays that of the profile, as between any layers.
    assert (member.placement.ranks_per_node, member.placement.ranks_per_socket) == (None, 1)
    assert member.placement.cores_per_rank == 4
    assert (member.environment.modules, member.environment.variables) == (("cuda/12",), {"KEY": "west"})
    assert experiment.training.batch_size != 77


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (
            PROFILE.replace("account", "acount"),
            "west.yaml:3:31: federation.collaborators.1.resources.acount: there is",
        ),
        (PROFILE.replace("name: west\n", "name: [\n"), "west.yaml:"),
        (None, "a.yaml:8:26: federation.collaborators.1.site: west.yaml: there is no such file"),
    ],
)
def test_what_is_wrong_with_the_site_of_a_collaborator(west: Path, profile: str | None, said: str) -> None:
    Path("west.yaml").unlink() if profile is None else Path("west.yaml").write_text(profile)
    with pytest.raises(InputError) as caught:
        load(west)
    (problem,) = caught.value.problems
    assert str(problem).startswith(said)


def test_a_profile_that_is_not_there_is_told_where_it_was_named(west: Path) -> None:
    west.write_text(FEDERATION.replace("west.yaml", "east"))
    with pytest.raises(
        InputError, match=r"^a\.yaml:8:26: federation\.collaborators\.1\.site: there is no such profile"
    ):
        load(west)


@pytest.mark.parametrize("execution", ["inprocess", "allocation"])
def test_a_collaborator_without_a_job_of_its_own_has_no_site(west: Path, execution: str) -> None:
    west.write_text(FEDERATION + f"  execution: {execution}\n")
    with pytest.raises(InputError) as caught:
        load(west)
    (problem,) = caught.value.problems
    assert str(problem).startswith("a.yaml:8:26: federation.collaborators.1.site: has no job of its own")


@pytest.mark.parametrize("defaults", ["[1]", "x", "3", "~"])
def test_defaults_of_a_site_must_be_a_section(tmp_path: Path, defaults: str) -> None:
    (tmp_path / "a.yaml").write_text(HEAD)
    (tmp_path / "s.yaml").write_text(f"name: s\ndefaults: {defaults}\n")
    with pytest.raises(InputError, match=r"s\.yaml:2:11: defaults: expected a part of an experiment"):
        load(tmp_path / "a.yaml", (), str(tmp_path / "s.yaml"))


def test_merge_keys() -> None:
    """The key's own value wins, then the first mapping of the list; marks point at what won."""
    text = (
        "base: &base {nodes: 1, qos: low}\nother: &other {nodes: 2, account: x}\n"
        "resources:\n  <<: [*base, *other]\n  qos: high\n"
    )
    document = read(Path("a.yaml"), text)
    assert document.value["resources"] == {"nodes": 1, "qos": "high", "account": "x"}
    marks = {key: document.values["resources", key] for key in ("nodes", "qos", "account")}
    assert {key: (mark.line, mark.column) for key, mark in marks.items()} == {
        "nodes": (1, 21),
        "qos": (5, 8),
        "account": (2, 35),
    }


def test_numbers_as_text_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD + "environment: {variables: {A: 1.10, B: 08, C: 1e3, D: 3, E: '0'}}\n")
    variables = load(path, ["threads.env.X=2.50"]).experiment
    assert dict(variables.environment.variables) == {"A": "1.10", "B": "08", "C": "1e3", "D": "3", "E": "0"}
    assert dict(variables.threads.env) == {"X": "2.50"}
