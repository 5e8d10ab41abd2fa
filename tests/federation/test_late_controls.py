"""SCAFFOLD with late updates that the next round uses: the server's control stays the mean of the clients'."""

from pathlib import Path

import numpy as np

from federation.federations import BOWL, sets
from hpcflow.experiment import dump, load
from hpcflow.federation import rounds
from hpcflow.federation.conclusion import conclude
from hpcflow.federation.contribution import Contribution
from hpcflow.federation.learners import learner
from hpcflow.federation.plan import Plan
from hpcflow.federation.pruning import choose, prune
from hpcflow.federation.update import CONTROL
from hpcflow.jobs.rundir import RunDir

LATE = sets(
    strategy="scaffold",
    rounds=6,
    stragglers="{policy: quorum, quorum: 0.5, minimum: 2, late: next}",
    retention="{models: 2, updates: 2}",
)


def test_a_late_control_variate_is_the_clients_next_one(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(BOWL)
    run = RunDir(tmp_path / "run")
    loaded = load(config, LATE[1::2])
    run.path.mkdir()
    run.experiment.write_text(dump(loaded.experiment))
    plan = Plan(run, loaded.experiment)
    learners = {name: learner(plan, name, lambda _: "", "") for name in plan.members}
    rounds.begin(plan, learners["north"])
    own: dict[str, Path] = {}

    def contribute(round: int, *names: str) -> None:
        for name in names:
            assert Contribution(plan, round, name, learners[name]).make()

    def concluded(round: int, **made: int) -> None:
        conclude(plan, round)
        found = rounds.manifest(plan, round)
        assert found
        assert {name: said["round"] for name, said in found.about["accepted"].items()} == made
        own.update({name: plan.round(number).control(name) for name, number in made.items()})
        server = rounds.read_tensors(plan.round(round).state, CONTROL)
        clients = [rounds.read_tensors(path)["w"] for path in own.values()]
        assert np.allclose(server["w"], np.sum(clients, axis=0) / 3, rtol=1e-5, atol=1e-6)

    contribute(1, "north", "south")
    concluded(1, north=1, south=1)
    contribute(1, "west")
    contribute(2, "north", "south", "west")
    update, aside = plan.round(2).update("west"), tmp_path / "aside"
    update.rename(aside)  # west is late again
    concluded(2, north=2, south=2, west=1)
    # The second began with the variate that west had before the first was used: it is not added to the server's.
    aside.rename(update)
    contribute(3, "north", "south")
    concluded(3, north=3, south=3)
    prune(choose(run, {}))
    assert not plan.round(1).update("west").exists()
    assert plan.round(1).control("west").exists(), "what it goes on from is kept"
    contribute(4, "north", "west")
    concluded(4, north=4, west=4)
