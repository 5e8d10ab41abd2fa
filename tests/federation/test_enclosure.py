"""What a confined task is shown of its run, and what is taken over of what it left. Without an image: its walls are
tests/containers/test_confine.py's business.
"""

import dataclasses
from pathlib import Path

import pytest

from federation.federations import BOWL, about, model, sets, submit
from hpcflow.errors import InputError, RunError
from hpcflow.experiment import dump, load
from hpcflow.federation import enclosure, job
from hpcflow.federation.cast import BEGIN
from hpcflow.federation.job import Here
from hpcflow.federation.plan import plan_of
from hpcflow.flows import graph
from hpcflow.flows.target import Target
from hpcflow.jobs.layout import lay_out
from hpcflow.jobs.rundir import RunDir
from hpcflow.placement.topology import Topology

HERE = Target("local", "/env", False, Topology.from_counts(1, 4), "openmpi", "4.1.8", code="/code/hpcflow")
MEMBERS = "federation.collaborators=[{name: north, data: data/north}, {name: south, data: data/south}]"
IMAGE = "container={image: x.sif}"


def laid_out(folder: Path, *more: str) -> RunDir:
    """A run that is queued nowhere, and its collaborators' folders."""
    config = folder / "c.yaml"
    config.write_text(BOWL)
    data = MEMBERS.replace("data/", f"{folder}/data/")
    loaded = load(config, [IMAGE, data, f"storage.runs={folder}", *more])
    for name in ("north", "south"):
        (folder / "data" / name).mkdir(parents=True)
    run = RunDir(folder / "fed" / "1")
    lay_out(run, graph(loaded, HERE), dump(loaded.experiment), {"engine": "local"}, "fed").write()
    return run


def here(run: RunDir, name: str, task: int = 0) -> Here:
    return Here(plan_of(run), name, task, cache=str(run.path.parents[1] / ".cache"))


def enter(there: Here, capsys: pytest.CaptureFixture[str]) -> Here:
    """The task as it is inside: told what `enter` prints, and its view for a run."""
    capsys.readouterr()
    enclosure.enter(there)
    name, data, cache, _ = capsys.readouterr().out.split("\0")
    view = enclosure.enclosed(there).view
    return dataclasses.replace(
        there, plan=plan_of(RunDir(view)), name=name, data=data, cache=cache, confined=True
    )


def files(view: Path) -> set[str]:
    return {str(path.relative_to(view)) for path in view.rglob("*") if path.is_file()}


def test_a_federation_in_views_ends_in_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SCAFFOLD: collaborators and server have a state as well. Each task sees its own files and public ones."""
    run = laid_out(tmp_path, "federation.strategy=scaffold", "federation.rounds=2")
    seen = {}
    for name, tasks in (
        (BEGIN, 1),
        ("r0001-train", 2),
        ("r0001-aggregate", 1),
        ("r0002-train", 2),
        ("r0002-aggregate", 1),
    ):
        for task in range(tasks):
            there = here(run, name, task)
            inside = enter(there, capsys)
            seen[name, task] = files(inside.plan.run.path)
            if name == BEGIN:
                job.begin(inside)
            elif name.endswith("train"):
                assert inside.data == str(tmp_path / "data" / ("north", "south")[task])
                job.train(inside)
            else:
                for folder in ("updates", "failures"):  # bound there from the run
                    (inside.plan.round(job.parse(name).round).path / folder).rmdir()
                    (inside.plan.round(job.parse(name).round).path / folder).symlink_to(
                        there.plan.round(job.parse(name).round).path / folder
                    )
                job.aggregate(inside)
            enclosure.leave(there)
    before = {f"rounds/0001/{path}" for path in ("manifest.json", "model.safetensors", "state.safetensors")}
    assert seen["r0001-train", 1] == {
        "experiment.yaml", "rounds/0000/manifest.json", "rounds/0000/model.safetensors",
    }  # fmt: skip
    assert seen["r0002-train", 1] == {"experiment.yaml", *before, "rounds/0001/control/south.safetensors"}
    assert seen["r0002-aggregate", 0] == {"experiment.yaml", *before}
    assert not list(run.path.rglob("view"))
    assert (run.job("r0002-aggregate").released).exists()
    caches = list((tmp_path / ".cache").iterdir())
    assert len(caches) == 2
    members = "federation.collaborators=[{name: north}, {name: south}]"
    whole = submit(
        tmp_path / "whole", "--engine", "local", *sets(strategy="scaffold", rounds=2, execution="inprocess"),
        "--set", members,
    )  # fmt: skip
    assert model(run.path, 2) == model(whole, 2)


def test_what_is_done_is_kept_and_links_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = laid_out(tmp_path, "federation.rounds=1", "federation.participation.minimum=1")
    secret = tmp_path / "data" / "south" / "secret"
    secret.write_text("of south")
    for name, part in ((BEGIN, job.begin), ("r0001-train", job.train)):
        part(enter(here(run, name), capsys))
        enclosure.leave(here(run, name))
    update = run.round(1).update("north")
    first = update.read_bytes()
    job.train(enter(here(run, "r0001-train"), capsys))  # again: the update that is there is kept
    assert "had made its update before" in capsys.readouterr().out
    enclosure.leave(here(run, "r0001-train"))
    assert update.read_bytes() == first

    inside = enter(here(run, "r0001-train", 1), capsys)
    updates = inside.plan.round(1).updates
    updates.symlink_to(secret.parent)  # what is south's would be moved away
    (secret.parent / "south.safetensors").write_text("x")
    with pytest.raises(RunError, match=r"updates/south\.safetensors cannot be taken over"):
        enclosure.leave(here(run, "r0001-train", 1))
    assert (secret.parent / "south.safetensors").exists()
    assert "cannot be taken over" in run.round(1).failure("south").read_text()

    # Even where one lies in the run itself, the aggregation reads no link.
    run.round(1).update("south").symlink_to(update)
    job.aggregate(here(run, "r0001-aggregate"))
    assert about(run.path, 1)["refused"] == {"south": "its update is no regular file"}


def test_who_has_no_data_set_is_shown_an_empty_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = laid_out(tmp_path, "federation.collaborators=2")
    inside = enter(here(run, BEGIN), capsys)
    assert inside.data != inside.cache and not list(Path(inside.data).iterdir())
    assert inside.folder("c00") == ""


@pytest.mark.parametrize("what", ["the data of south", "this run"])
def test_a_folder_that_holds_what_is_not_its_own_is_refused(what: str, tmp_path: Path) -> None:
    member = "{name: north, data: %s}, {name: south, data: %s}"
    north = tmp_path if what == "this run" else tmp_path / "data"
    data = member % (north, "/elsewhere" if what == "this run" else tmp_path / "data" / "south")
    run = laid_out(tmp_path, f"federation.collaborators=[{data}]")
    with pytest.raises(RunError, match=f"north would see {what}: it lies in its own folder"):
        enclosure.enter(here(run, BEGIN))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (["federation.execution=inprocess"], "with execution: inprocess a job is shown the data of all"),
        (["flow=comparison"], "with flow: comparison a job is shown the data of all"),
        (["container.binds=[/lustre]"], "container.binds: every collaborator's job would see them"),
        (["container.flags=['--overlay=x']"], "container.flags: --overlay=x could show"),
    ],
)
def test_what_cannot_be_confined_is_refused(said: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        laid_out(tmp_path, *said)
    other = tmp_path / "other"
    other.mkdir()
    laid_out(other, *said, "container.confine=false")
