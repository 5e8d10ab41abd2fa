"""horovodrun over the MPI that it finds: started over Open MPI 5, refused over the MPIs whose binding it drops."""

import os
import sys
from pathlib import Path

import pytest

from commands import hpcflow
from hpcflow.experiment.schema import Placement, Reserve
from hpcflow.placement.launchers import line
from hpcflow.placement.launchers.detect import Found, choose
from hpcflow.placement.rankmap import plan
from hpcflow.placement.sources import read
from placement.oracles import cluster
from placement.oracles.launchers import LAUNCHERS, cache

CONFIG = "name: c\ntraining: {data: {phantom: {subjects: 2}}}\nplacement: {launcher: horovodrun}\n"


@pytest.mark.train
@pytest.mark.parametrize("reserve", [0, 1], ids=["ppr", "rankfile"])
def test_it_starts_and_binds_over_open_mpi_5(monkeypatch: pytest.MonkeyPatch, reserve: int) -> None:
    """Its own words for Open MPI have single dashes, with which version 5 does not start."""
    built, real = cache() / "oracles", LAUNCHERS["openmpi5"]
    cluster.build(built)
    request = Placement(ranks_per_socket=1, cores_per_rank=2, reserve=Reserve(cores=reserve))
    made = plan(request, [read("2x4x2")], ["localhost"])
    said = line("horovodrun", made, [str(built / "show")], version=real.version, scheduler="local")
    assert bool(said.files) == bool(reserve)
    monkeypatch.setenv("PATH", f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}")
    got = cluster.run(said, made, built, real.folder, {"HPCFLOW_FAKE_HOST": "localhost"}, 120)
    assert not cluster.differences(said, made, got)


@pytest.mark.parametrize(("key", "family"), [("intelmpi", "Intel MPI"), ("mpich", "MPICH")])
def test_it_is_refused_over_the_mpi_on_path_whose_binding_it_drops(key: str, family: str) -> None:
    path = f"{LAUNCHERS[key].folder}:/usr/bin:/bin"
    done = hpcflow("map", "--topology", "2x4x2", "--launcher", "horovodrun", env={"PATH": path})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"on {family} horovodrun 0.28.1 drops --binding-args" in done.stderr


def test_it_goes_by_the_mpi_of_the_profile(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    asked = ("c.yaml", "--site", "./s.yaml", "--engine", "local")
    (tmp_path / "s.yaml").write_text("name: s\nlaunchers: {intelmpi: '2021.9'}\n")
    for command in ("map", "render"):
        done = hpcflow(command, *asked, cwd=tmp_path)
        assert done.returncode == 2 and "on Intel MPI horovodrun" in done.stderr
    (tmp_path / "s.yaml").write_text("name: s\nlaunchers: {horovodrun: '0.28.1', openmpi: '5.0.3'}\n")
    done = hpcflow("map", *asked, "--topology", "2x4x2", "--ranks-per-socket", "1", cwd=tmp_path)
    assert done.returncode == 0 and "ppr:1:package:pe=4" in done.stdout


def test_it_calls_mpirun_whatever_other_names_there_are() -> None:
    intel = Found("intelmpi", Path("/bin/mpirun"), "2021.9")
    other = Found("openmpi", Path("/bin/mpirun.openmpi"), "4.1.4")
    assert choose("horovodrun", None, (other, intel), "slurm")[1] == "intelmpi-2021.9"
    assert (
        choose("horovodrun", None, (Found("openmpi", Path("/bin/mpirun"), "4.1.4"), intel), None)[1]
        == "openmpi-4.1.4"
    )
