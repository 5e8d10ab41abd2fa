"""Our maps against the real launchers, on made-up nodes. docs/launcher-evidence.md has the same with more maps."""

from pathlib import Path

import pytest

from cluster import require
from hpcflow.experiment.schema import Placement
from hpcflow.placement.launchers import line
from hpcflow.placement.rankmap import plan
from hpcflow.placement.sources import read
from placement.oracles import cluster, slurm_compare
from placement.oracles.compare import Score, compare
from placement.oracles.launchers import LAUNCHERS, cache
from placement.oracles.slurm import FakeSlurm

MAPS = 200
# Forms that must have been met, so that no launcher is judged by its easiest one alone.
EXPECTED = {
    "openmpi4": {"ppr", "rankfile", "ppr, ranked by socket"},
    "openmpi5": {"ppr", "rankfile"},
    "intelmpi": {"K:compact", "K:scatter", "masks", "socket"},
    "mpich": {"core:K", "core:K by domain", "user:"},
    "srun": {"masks", "cores, block:block", "cores, block:cyclic"},
}


def judge(score: Score, key: str) -> None:
    assert not score.differing, "\n".join(score.differing)
    assert not score.silent, "\n".join(score.silent)
    assert set(score.forms) >= EXPECTED[key]
    assert score.guessed > score.compared // 10  # lines made without the nodes' ids
    assert "other" not in score.forms


@pytest.mark.parametrize("key", sorted(LAUNCHERS))
def test_real_launchers_put_every_rank_where_it_was_planned(key: str) -> None:
    score = compare(LAUNCHERS[key], MAPS, cache() / "oracles", most=12)
    assert score.compared == MAPS
    judge(score, key)


@pytest.mark.slurm
def test_srun_puts_every_rank_where_it_was_planned(tmp_path_factory: pytest.TempPathFactory) -> None:
    require("slurmctld", "slurmd")
    folder: Path = tmp_path_factory.mktemp("s") / "s"
    judge(slurm_compare.compare(folder, cache() / "oracles", kinds=8, each=8), "srun")


@pytest.mark.slurm
def test_every_mpirun_starts_through_a_real_slurm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The launchers' daemons come up by srun, hosts and slots from the allocation: nothing here stands for Slurm."""
    require("slurmctld", "slurmd")
    built = cache() / "oracles"
    cluster.build(built)
    # Open MPI 5.0.11's mpirun never ends, one time in six, when every rank ends while the others' starts are still
    # being reported (150 of 150 ended when the ranks lived half a second).
    program = ["timeout", "20", str(built / "show"), "500"]
    node = read(str(Path(__file__).parent / "nodes" / "hwloc2-2x4x2.xml"))
    slurm = FakeSlurm(tmp_path_factory.mktemp("s") / "s", built, [node])
    wrong = []
    try:
        slurm.start()
        for kind in (
            {"ranks_per_socket": 1, "cores_per_rank": 2},
            {"ranks_per_node": 3},
            {"ranks_per_socket": 1, "reserve": {"cores": 1}},
        ):
            made = plan(Placement.model_validate(kind), [node] * 2, slurm.hosts(0, 2))
            for real in LAUNCHERS.values():
                said = line(real.dialect, made, program, version=real.version, scheduler="slurm")
                got = slurm.run(said, made, 0, real.folder)
                wrong += [f"{real.title}: {row}" for row in cluster.differences(said, made, got)]
    finally:
        slurm.stop()
    assert not wrong
