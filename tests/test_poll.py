"""The delays between two queries of the scheduler."""

from __future__ import annotations

from itertools import islice

import pytest

from hpcflow.engines.poll import FACTOR, FIRST, JITTER, Poll


@pytest.mark.parametrize(("engine", "longest"), [("slurm", 15.0), ("local", 1.0), ("another", 15.0)])
def test_delays_grow_from_the_first_to_the_longest_within_the_jitter(engine: str, longest: float) -> None:
    for number, delay in enumerate(islice(Poll.of(engine), 40)):
        due = min(FIRST * FACTOR**number, longest)
        assert due * (1 - JITTER) <= delay <= due * (1 + JITTER)


def test_two_watchers_do_not_ask_in_step() -> None:
    assert list(islice(Poll(), 10)) != list(islice(Poll(), 10))


def test_an_hour_costs_the_controller_about_250_queries() -> None:
    elapsed, queries = 0.0, 0
    for delay in Poll.of("slurm"):
        elapsed += delay
        if elapsed > 3600:
            break
        queries += 1
    assert 240 <= queries <= 260
