"""Laws that need no data set: each strategy meets another one, or plain gradient descent, where it must."""

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.files import equal, read
from hpcflow.federation import partition
from hpcflow.federation.aggregation import Files, TooFew, aggregate
from hpcflow.federation.client import Control, nova_steps, prox_gradient, zeros_like
from hpcflow.federation.local import LocalPlan, LocalResult, train
from hpcflow.federation.models.digits import Digits, DigitsModel, Weights, split_digits
from hpcflow.federation.selection import Candidate
from hpcflow.federation.strategies import make
from hpcflow.federation.tensorfile import publish_tensors
from hpcflow.federation.update import CONTROL, UpdateInfo, delta, write_update

MODEL = DigitsModel("mlp", 12)
TRAINING, HELD = split_digits()
PARTS = partition.dirichlet(TRAINING.labels.tolist(), 5, 0.5, seed=3)
CLIENTS = {name: TRAINING.take(part) for name, part in PARTS.items()}


class Federation:
    """Rounds of a strategy in a folder, by the files and the code of a real round."""

    def __init__(self, folder: Path, strategy: str, plan: LocalPlan, **options: Any) -> None:
        self.folder, self.plan, self.strategy = folder, plan, make(strategy, options)
        self.round = 0
        self.controls = {name: zeros_like(MODEL.initial(0)) for name in CLIENTS}
        folder.mkdir()
        publish_tensors(self.model, MODEL.initial(0), {})

    @property
    def model(self) -> Path:
        return self.folder / f"model{self.round}"

    @property
    def state(self) -> Path | None:
        path = self.folder / f"state{self.round}"
        return path if path.exists() else None

    def local(self, name: str, data: Digits) -> LocalResult:
        control = None
        if self.strategy.control:
            server = zeros_like(self.controls[name])
            if self.state:
                server = {key.removeprefix(CONTROL): array for key, array in read(self.state).items()}
            control = Control(self.controls[name], server)
        return train(
            MODEL,
            read(self.model),
            data,
            self.plan,
            seed=1,
            round=self.round,
            collaborator=name,
            control=control,
        )

    def step(self, asked: Sequence[str] = ()) -> Weights:
        base, candidates = read(self.model), []
        for name in asked or CLIENTS:
            done = self.local(name, CLIENTS[name])
            path = self.folder / f"{self.round}-{name}"
            info = UpdateInfo(Fraction(done.samples), name, self.round, steps=done.normaliser)
            write_update(path, delta(done.weights, base), info, done.control_change)
            if done.control is not None:
                self.controls[name] = done.control
            candidates.append(Candidate(path))
        following = Files(
            self.folder / f"model{self.round + 1}",
            self.model,
            self.state,
            self.folder / f"state{self.round + 1}",
        )
        aggregate(candidates, self.strategy, following)
        self.round += 1
        return read(self.model)


def rounds(folder: Path, strategy: str, plan: LocalPlan, number: int = 2, **options: Any) -> Weights:
    federation = Federation(folder, strategy, plan, **options)
    for _ in range(number):
        weights = federation.step()
    return weights


def descent(number: int, rate: float, parts: Sequence[Digits] = (TRAINING,)) -> Weights:
    """Centralised full-batch gradient descent in float64; on the mean of the losses of ``parts``."""
    weights = {name: array.astype(np.float64) for name, array in MODEL.initial(0).items()}
    wide: list[Any] = [Digits(part.images.astype(np.float64), part.labels) for part in parts]  # type: ignore[arg-type]
    for _ in range(number):
        found = [MODEL.gradients(weights, part)[1] for part in wide]  # type: ignore[arg-type]
        weights = {
            name: array - rate * np.mean([gradients[name] for gradients in found], axis=0)
            for name, array in weights.items()
        }
    return weights  # type: ignore[return-value]


def distance(left: Weights, right: Weights) -> float:
    return max(float(np.abs(left[name] - right[name]).max()) for name in left)


FULL = LocalPlan(epochs=1, batch_size=0, learning_rate=0.5)
SOME = LocalPlan(epochs=2, batch_size=32, learning_rate=0.1)
# Three rounds of float32 gradients, updates and weights below 2 in size; each rounds to 2^-24 of its size.
BOUND = 3 * 4 * 2.0**-23


def test_fedprox_with_mu_0_is_fedavg_to_the_bit(tmp_path: Path) -> None:
    prox = LocalPlan(2, 32, 0.1, mu=0.0)
    assert equal(rounds(tmp_path / "a", "fedavg", SOME), rounds(tmp_path / "p", "fedprox", prox, mu=0.0))


def test_fedprox_with_mu_is_not_fedavg(tmp_path: Path) -> None:
    prox = LocalPlan(2, 32, 0.1, mu=1.0)
    free, held = rounds(tmp_path / "a", "fedavg", SOME), rounds(tmp_path / "p", "fedprox", prox, mu=1.0)
    start = MODEL.initial(0)
    norm = {
        key: sum(float(np.sum((w[n] - start[n]) ** 2)) for n in start)
        for key, w in (("f", free), ("h", held))
    }
    assert norm["h"] < norm["f"], "the proximal term keeps the model nearer to where it was"


def test_fednova_with_equal_steps_is_fedavg_to_the_bit(tmp_path: Path) -> None:
    plan = LocalPlan(epochs=3, batch_size=0, learning_rate=0.1)  # three steps for everybody
    assert equal(rounds(tmp_path / "a", "fedavg", plan), rounds(tmp_path / "n", "fednova", plan))


def test_fednova_with_unequal_steps_is_not(tmp_path: Path) -> None:
    assert distance(rounds(tmp_path / "a", "fedavg", SOME), rounds(tmp_path / "n", "fednova", SOME)) > 1e-3


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fednova", "scaffold"])
def test_one_full_batch_step_is_centralised_gradient_descent(tmp_path: Path, strategy: str) -> None:
    """Of every strategy whose clients take one step; for SCAFFOLD this is the law that one local step is SGD: the
    control variates cancel in the mean, which is the plain one of the clients' losses, as in the paper.
    """
    parts = list(CLIENTS.values()) if strategy == "scaffold" else [TRAINING]
    assert distance(rounds(tmp_path / "f", strategy, FULL, 3), descent(3, 0.5, parts)) < BOUND


@pytest.mark.parametrize("by", ["uniform", "samples"])
def test_scaffolds_server_control_is_the_mean_of_the_clients(by: str, tmp_path: Path) -> None:
    """Also when a round asks some of them: those that were not asked keep theirs."""
    federation = Federation(tmp_path / "s", "scaffold", SOME, by=by, collaborators=len(CLIENTS))
    for asked in (["c00", "c01"], ["c01", "c04"], [*CLIENTS], ["c02"]):
        federation.step(asked)
    assert federation.state
    for name, array in read(federation.state).items():
        controls = [control[name.removeprefix(CONTROL)] for control in federation.controls.values()]
        assert np.allclose(array, np.mean(controls, axis=0, dtype=np.float64), rtol=1e-5, atol=1e-6)


def test_scaffold_corrects_the_drift_of_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two labels a client and many local steps FedAvg's clients drift apart; SCAFFOLD's do not (Karimireddy et
    al. 2020, section 7): a lower loss over all data after the same rounds.
    """
    parts = partition.by_labels(TRAINING.labels.tolist(), 5, 2, seed=3)
    monkeypatch.setattr(
        sys.modules[__name__], "CLIENTS", {name: TRAINING.take(part) for name, part in parts.items()}
    )
    plan = LocalPlan(epochs=20, batch_size=0, learning_rate=0.2)
    loss = {
        strategy: MODEL.evaluate(rounds(tmp_path / strategy, strategy, plan, 10), TRAINING)["loss"]
        for strategy in ("fedavg", "scaffold")
    }
    assert loss["scaffold"] < 0.7 * loss["fedavg"]


def test_fedavgm_without_momentum_is_fedavg(tmp_path: Path) -> None:
    plain, heavy = (
        rounds(tmp_path / "a", "fedavg", SOME),
        rounds(tmp_path / "m", "fedavgm", SOME, momentum=0.0),
    )
    assert equal(plain, heavy)


def test_trimming_nothing_is_the_mean_and_trimming_all_but_one_is_the_median(tmp_path: Path) -> None:
    assert (
        distance(
            rounds(tmp_path / "t", "trimmedmean", SOME, 1, trim=0.0),
            rounds(tmp_path / "a", "fedavg", SOME, 1, by="uniform"),
        )
        < 2.0**-23
    )
    assert equal(
        rounds(tmp_path / "u", "trimmedmean", SOME, 1, trim=0.4), rounds(tmp_path / "m", "median", SOME, 1)
    )


def test_selecting_everybody_is_the_uniform_mean(tmp_path: Path) -> None:
    many = rounds(tmp_path / "k", "multikrum", SOME, 1, select=5)
    assert equal(many, rounds(tmp_path / "a", "fedavg", SOME, 1, by="uniform"))


def test_training_is_a_function_of_seed_round_and_name() -> None:
    base, data = MODEL.initial(0), CLIENTS["c00"]
    runs = [
        train(MODEL, base, data, SOME, seed=seed, round=number, collaborator=name).weights
        for seed, number, name in ((1, 1, "a"), (1, 1, "a"), (2, 1, "a"), (1, 2, "a"), (1, 1, "b"))
    ]
    assert equal(runs[0], runs[1])
    assert not any(equal(runs[0], other) for other in runs[2:])


def test_nova_normalises_by_what_the_steps_add_up_to() -> None:
    """Against the sum of the vector a of section 4.1, written out."""
    rho, shrink, steps = 0.9, 0.05, 7
    momentum = sum((1 - rho**k) / (1 - rho) for k in range(1, steps + 1))
    assert nova_steps(steps, momentum=rho) == pytest.approx(momentum)
    proximal = sum((1 - shrink) ** k for k in range(steps))
    assert nova_steps(steps, mu=0.5, learning_rate=0.1) == pytest.approx(proximal)
    assert nova_steps(steps) == steps
    assert nova_steps(steps, momentum=rho, mu=0.5) is None, "the paper has no sum for both"


def test_fednova_refuses_what_it_cannot_normalise(tmp_path: Path) -> None:
    both = LocalPlan(epochs=1, batch_size=0, learning_rate=0.1, momentum=0.9, mu=0.5)
    with pytest.raises(TooFew, match="does not say its steps, which FedNova normalises by"):
        rounds(tmp_path / "n", "fednova", both)


def test_prox_gradient_is_the_derivative_of_the_proximal_term() -> None:
    gradient, weight, base = np.array([1.0, -2.0]), np.array([0.5, 0.25]), np.array([0.0, 1.0])
    assert prox_gradient(gradient, weight, base, 2.0).tolist() == [2.0, -3.5]
    assert prox_gradient(gradient, weight, base, 0.0) is gradient


def test_the_models_learn_and_their_gradients_are_right() -> None:
    for kind in ("cnn", "mlp"):
        model = DigitsModel(kind)  # type: ignore[arg-type]
        exact = {name: array.astype(np.float64) + 0.01 for name, array in model.initial(1).items()}
        batch = Digits(TRAINING.images[:20].astype(np.float64), TRAINING.labels[:20])  # type: ignore[arg-type]
        _, gradients = model.gradients(exact, batch)  # type: ignore[arg-type]
        draw = np.random.default_rng(0)
        for name, array in exact.items():
            at = tuple(draw.integers(size) for size in array.shape)
            values = []
            for step in (1e-5, -1e-5):
                moved = {**exact, name: array.copy()}
                moved[name][at] += step
                values.append(model.gradients(moved, batch)[0])  # type: ignore[arg-type]
            assert gradients[name][at] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-7)
        done = train(
            model, model.initial(0), TRAINING, LocalPlan(8, 32, 0.1), seed=0, round=0, collaborator="all"
        )
        assert model.evaluate(done.weights, HELD)["accuracy"] > 0.85
