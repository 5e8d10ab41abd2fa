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
