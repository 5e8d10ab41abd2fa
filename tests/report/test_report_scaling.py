"""Fits of scaling laws: jobs whose times follow a known law with known noise, seeded, again and again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hpcflow.report.advice import Measured, Scaling, examine
from hpcflow.report.recommend import by_deadline, by_efficiency
from hpcflow.report.scaling import AMDAHL, USL, Law, fit

RUNS = 100
HELD = 93
SIZES = (1, 2, 4, 8, 16)


def times(
    sigma: float, kappa: float, noise: float, seed: int, sizes: tuple[int, ...], repeats: int
) -> Measured:
    """An hour's work on one node, by the law, with repeats that scatter by a share of ``noise``."""
    n = np.repeat(sizes, repeats).astype(float)
    exact = 3600 * (1 + sigma * (n - 1) + kappa * n * (n - 1)) / n
    scatter = np.exp(np.random.default_rng(seed).normal(0, noise, len(n)))
    return Measured("nodes", tuple(n), tuple(exact * scatter))


def studies(
    sigma: float, kappa: float, noise: float, sizes: tuple[int, ...] = SIZES, repeats: int = 3
) -> Iterator[Scaling]:
    return (examine(times(sigma, kappa, noise, seed, sizes, repeats)) for seed in range(RUNS))


def test_without_noise_the_parameters_come_back() -> None:
    data = times(0.05, 0.002, 0.0, 0, SIZES, 1)
    found = fit(USL, data.sizes, data.times)
    assert found.sigma_hat == pytest.approx(0.05, abs=1e-6) and found.kappa_hat == pytest.approx(
        0.002, abs=1e-6
    )
    assert found.noise < 1e-6


LAWS = [
    pytest.param(AMDAHL, 0.05, 0.0, 0.05, SIZES, 3, id="amdahl"),
    pytest.param(AMDAHL, 0.01, 0.0, 0.03, (1, 2, 4, 8), 3, id="amdahl, nearly ideal, four sizes"),
    pytest.param(AMDAHL, 0.4, 0.0, 0.02, (1, 2, 4, 8), 2, id="amdahl, much of it serial, two repeats"),
    pytest.param(USL, 0.05, 0.002, 0.05, SIZES, 3, id="usl"),
    pytest.param(USL, 0.03, 0.0005, 0.02, (*SIZES, 32), 3, id="usl, to 32 nodes"),
    pytest.param(USL, 0.0, 0.01, 0.05, (1, 2, 4, 8), 3, id="usl without contention"),
    pytest.param(USL, 0.05, 0.0, 0.05, SIZES, 2, id="usl where amdahl would do"),
]


@pytest.mark.parametrize(("law", "sigma", "kappa", "noise", "sizes", "repeats"), LAWS)
def test_the_law_behind_the_times_is_inside_the_intervals(
    law: Law, sigma: float, kappa: float, noise: float, sizes: tuple[int, ...], repeats: int
) -> None:
    """All parameters at once, in at least 93 of 100 seeded runs."""
    truth = {"time": 3600.0, "sigma": sigma, "kappa": kappa}
    held = 0
    for seed in range(RUNS):
        data = times(sigma, kappa, noise, seed, sizes, repeats)
        found = fit(law, data.sizes, data.times).parameters
        held += all(estimate.holds(truth[name]) for name, estimate in found.items())
    assert held >= HELD


@pytest.mark.parametrize(("sigma", "kappa", "noise"), [(0.05, 0.001, 0.05), (0.05, 0.0, 0.02)])
def test_the_printed_intervals_hold_the_parameters_whichever_law_is_chosen(
    sigma: float, kappa: float, noise: float
) -> None:
    """Where kappa is there and not significant, Amdahl's law is chosen, whose own interval leaves out the true sigma."""
    held = 0
    for found in studies(sigma, kappa, noise):
        parameters = found.parameters
        held += parameters["sigma"].holds(sigma) and parameters["kappa"].holds(kappa)
    assert held >= HELD


@pytest.mark.parametrize(("sigma", "kappa"), [(0.05, 0.0), (0.03, 0.001)])
def test_the_recommended_size_has_an_interval_that_holds_the_true_one(sigma: float, kappa: float) -> None:
    load = [1 + sigma * (n - 1) + kappa * n * (n - 1) for n in range(1, 17)]
    truth = max(n for n in range(1, 17) if 1 / load[n - 1] >= 0.7)
    deadline = 3600 * load[5] / 6 + 1  # six nodes make it
    held = within = 0
    for found in studies(sigma, kappa, 0.03):
        advice, cheapest = by_efficiency(found, 0.7), by_deadline(found, deadline)
        assert advice.size and advice.low and advice.high and cheapest.low and cheapest.high
        assert advice.low <= advice.size <= advice.high
        held += advice.low <= truth <= advice.high
        within += cheapest.low <= 6 <= cheapest.high
    assert held >= HELD and within >= HELD


def test_a_law_tells_contention_from_coherency() -> None:
    """Where kappa costs a fifth at the largest size it is found; where there is none it is not made up."""
    assert sum(found.chosen.law is USL for found in studies(0.02, 0.002, 0.02)) >= HELD
    assert sum(found.chosen.law is AMDAHL for found in studies(0.05, 0.0, 0.02)) >= HELD


@pytest.mark.parametrize("sizes", [(4,), (1, 2), (1, 2, 4)])
def test_fewer_than_four_sizes_are_refused(sizes: tuple[int, ...]) -> None:
    found = examine(times(0.05, 0.0, 0.0, 0, sizes, 10))
    advice = by_efficiency(found, 0.7)
    assert advice.size is None and f"{len(sizes)} size" in advice.sentence and "needs 4" in advice.sentence
    assert by_deadline(found, 60).size is None


@pytest.mark.parametrize(("sigma", "noise"), [(0.05, 1.0), (1.0, 1.0), (0.3, 1.5)])
def test_noise_above_the_effect_is_refused(sigma: float, noise: float) -> None:
    refused = [found.refusal for found in studies(sigma, 0.0, noise, (1, 2, 4, 8), 2)]
    assert sum("noise is above the effect" in text for text in refused) >= HELD


def test_little_noise_is_not_refused() -> None:
    for noise in (0.001, 0.02, 0.05):
        assert not any(found.refusal for found in studies(0.05, 0.0, noise))


def test_that_more_nodes_help_nothing_is_an_answer() -> None:
    """The time is the same everywhere: the effect, which is the loss against ideal scaling, is well above the noise."""
    advice = [by_efficiency(found, 0.7) for found in studies(1.0, 0.0, 0.03)]
    assert all(one.size == 1 for one in advice)
    assert "Use 1 node: with more, each runs at less than 70 %" in advice[0].sentence


def test_times_that_follow_no_law_are_refused() -> None:
    """A jump at four nodes, as when ranks share a link, far above what repeats scatter."""
    for seed in range(20):
        data = times(0.02, 0.0, 0.01, seed, SIZES, 3)
        jump = tuple(
            time * (1.6 if size == 4 else 1) for size, time in zip(data.sizes, data.times, strict=True)
        )
        assert "no law describes the times" in examine(Measured("nodes", data.sizes, jump)).refusal


def test_one_sentence_with_its_uncertainty() -> None:
    found = examine(times(0.05, 0.0, 0.01, 3, SIZES, 3))
    assert by_efficiency(found, 0.7).sentence == (
        "Use 9 nodes (of the measured sizes 8): the most that keep parallel efficiency at 70 % or above (it is 71 % (70 "
        "to 73 %) there, 6.4 times (6.3 to 6.6) the speed of 1 node); 95 % interval 9 to 10, by Amdahl's law with serial "
        "share 0.05 (0.042 to 0.054) (a coherency up to 0.0005 beside it)."
    )
    assert by_efficiency(found, 0.5).sentence.startswith("Use 16 nodes: ")
    assert "but no more than 16 were measured" in by_efficiency(found, 0.5).sentence
    assert by_deadline(found, 1200, 0.5, "EUR").sentence.startswith(
        "Cheapest within 0:20:00: 4 nodes, which take 0:1"
    )
    assert by_deadline(found, 10).sentence.startswith(
        "No size up to 16 nodes ends within 0:00:10: that takes 0:06:"
    )


def test_a_law_that_turns_back_is_fastest_before_its_largest_size() -> None:
    """T(4) is the least; by the largest size one would say that it takes much longer than it has to."""
    found = examine(times(0.05, 0.06, 0.0001, 0, SIZES, 3))
    fastest = found.time(4).value
    assert found.fastest() == 4
    refused = by_deadline(found, fastest * 0.99)
    assert refused.size is None
    assert (
        "No size up to 16 nodes ends within" in refused.sentence
        and "the fastest, 4 nodes, takes" in refused.sentence
    )
    assert by_deadline(found, fastest * 1.001).size == 4


def test_sizes_need_not_begin_at_one() -> None:
    data = times(0.01, 0.0, 0.01, 0, (8, 16, 32, 64), 3)
    found = examine(data)
    assert found.measured.reference == 8
    at = found.efficiency(64)
    assert at.holds((1 + 0.01 * 7) / (1 + 0.01 * 63))
