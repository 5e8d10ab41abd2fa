"""Intervals: quantiles against the tables of textbooks, the bootstrap against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hpcflow.report.intervals import Estimate, f_quantile, median, ratio, t_quantile


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)]
)
def test_students_t(freedom: int, value: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize(
    ("probability", "above", "below", "value"),
    [
        (0.95, 1, 1, 161.45),
        (0.95, 3, 7, 4.347),
        (0.99, 2, 10, 7.559),
        (0.95, 10, 2, 19.396),
        (0.99, 5, 30, 3.699),
    ],
)
def test_fishers_f(probability: float, above: int, below: int, value: float) -> None:
    assert f_quantile(probability, above, below) == pytest.approx(value, rel=1e-4)


def test_the_median_of_few_repeats_has_their_range_for_an_interval() -> None:
    assert median([3.0]) == Estimate(3.0)
    assert median([3.0, 1.0]) == Estimate(2.0, 1.0, 3.0)
    # Of 27 resamples of three, 7 have the smallest for a median: more than 2.5 %.
    assert median([3.0, 1.0, 2.0]) == Estimate(2.0, 1.0, 3.0)


def test_the_interval_of_a_median_holds_the_true_one_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    held = sum(median(random.lognormal(0.0, 0.3, 25)).holds(1.0) for _ in range(200))
    assert held >= 182, "95 % but for what chance takes, four standard deviations"


def test_a_ratio_is_that_of_the_medians_and_says_the_same_each_time() -> None:
    assert ratio([4.0], [2.0]) == Estimate(2.0)
    assert ratio([4.0, 6.0], [2.0]) == Estimate(2.5, 2.0, 3.0)
    found = ratio([2.0, 2.1, 2.2], [1.0, 1.1, 1.0])
    assert found.value == pytest.approx(2.1) and found.low == pytest.approx(2 / 1.1) and found.high == 2.2
    many = [float(x) for x in np.random.default_rng(1).normal(10, 1, 40)]
    assert ratio(many, many[:20]) == ratio(many, many[:20])
    assert not ratio([1.0], [1.0]).holds(1.0), "without an interval nothing lies in it"
